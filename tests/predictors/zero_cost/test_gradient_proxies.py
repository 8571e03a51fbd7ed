"""Proxies of gradients, against closed forms and explicit Jacobians."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.fisher import fisher
from predictors.zero_cost.grad_norm import grad_norm
from predictors.zero_cost.gradsign import gradsign
from predictors.zero_cost.grasp import grasp
from predictors.zero_cost.l2_norm import l2_norm
from predictors.zero_cost.ntk_condition import ntk_condition
from predictors.zero_cost.snip import snip
from predictors.zero_cost.zico import zico

X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [2.0, 1.0, 1.0], [-1.0, 0.5, 2.0]])
Y = torch.tensor([[1.0], [-1.0], [0.5], [2.0]])
W = torch.tensor([[0.3, -0.7, 1.1]])


def one_layer() -> nn.Module:
    layer = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(W)
    return layer


def two_layers(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


BATCH = Batch(inputs=X, targets=Y)
CLASSES = Batch(inputs=X, targets=torch.tensor([0, 1, 1, 0]))
GRADIENT = 2 / 4 * (X @ W.T - Y).T @ X
"""Of the mean squared error of `one_layer`, by hand."""


def test_snip_of_one_layer_is_weight_times_gradient_by_hand() -> None:
    assert snip(one_layer(), BATCH, functional.mse_loss) == pytest.approx(float((W * GRADIENT).abs().sum()))


def test_grad_norm_of_one_layer_is_the_gradients_length_by_hand() -> None:
    assert grad_norm(one_layer(), BATCH, functional.mse_loss) == pytest.approx(float(GRADIENT.norm()))


def test_l2_norm_adds_the_lengths_of_weights_and_not_of_biases_or_normalisations() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.LayerNorm((2, 4, 4)), nn.Flatten())
    network.append(nn.Linear(32, 2))
    expected = float((network[0].weight.norm() + network[4].weight.norm()).detach())
    batch = Batch(inputs=torch.zeros(2, 3, 4, 4), targets=torch.zeros(2).long())
    assert l2_norm(network, batch, functional.cross_entropy) == pytest.approx(expected)


def test_grasp_of_one_layer_is_that_of_the_quadratic() -> None:
    hessian = 2 / 4 * X.T @ X
    expected = -float(W @ hessian @ GRADIENT.T)
    assert grasp(one_layer(), BATCH, functional.mse_loss) == pytest.approx(expected)


def test_grasp_of_a_curved_loss_is_that_of_the_explicit_hessian() -> None:
    network = two_layers().double()
    shapes = [tuple(network[0].weight.shape), tuple(network[2].weight.shape)]
    flat = torch.cat([network[0].weight.flatten(), network[2].weight.flatten()]).detach()

    def loss(vector: Tensor) -> Tensor:
        first, second = vector.split([math.prod(shape) for shape in shapes])
        given = {"0.weight": first.view(shapes[0]), "2.weight": second.view(shapes[1])}
        return functional.cross_entropy(functional_call(network, given, (X.double(),)), CLASSES.targets)

    gradient = torch.autograd.functional.jacobian(loss, flat)
    hessian = torch.autograd.functional.hessian(loss, flat)
    batch = Batch(inputs=X.double(), targets=CLASSES.targets)
    assert grasp(network, batch, functional.cross_entropy) == pytest.approx(-float(flat @ hessian @ gradient))


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.project, self.head = fused, nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x)[:, None].chunk(3, -1)  # of one head
        if self.fused:
            found = functional.scaled_dot_product_attention(query, key, value)
        else:
            found = (query @ key.mT / 2).softmax(-1) @ value
        logits: Tensor = self.head(found[:, 0].mean(1))
        return logits


def test_grasp_of_attention_is_that_of_its_matrix_products() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        fused, products = Attention(True), Attention(False)
    products.load_state_dict(fused.state_dict())
    steps = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(inputs=steps, targets=CLASSES.targets)
    expected = grasp(products, batch, functional.cross_entropy)
    assert grasp(fused, batch, functional.cross_entropy) == pytest.approx(expected, rel=1e-3)


def test_fisher_of_one_layer_is_that_of_its_output_by_hand() -> None:
    outputs = X @ W.T
    felt = outputs * 2 / 4 * (outputs - Y)
    assert fisher(one_layer(), BATCH, functional.mse_loss) == pytest.approx(float(felt.square().sum()) / 8)


def test_fisher_adds_positions_before_it_squares_and_channels_after() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        convolution, head = nn.Conv2d(2, 3, 3), nn.Linear(3, 2)
    images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = convolution, head

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(functional.relu_(self.convolution(x)).mean((2, 3)))
            return logits

    before = convolution(images)
    logits = head(functional.relu(before).mean((2, 3)))
    loss = functional.cross_entropy(logits, CLASSES.targets)
    by_channel, by_logit = torch.autograd.grad(loss, [before, logits])
    before, logits = before.detach(), logits.detach()
    expected = 0.0
    for example in range(4):
        for channel in range(3):
            expected += float((before[example, channel] * by_channel[example, channel]).sum()) ** 2
        expected += float((logits[example] * by_logit[example]).square().sum())
    batch = Batch(inputs=images, targets=CLASSES.targets)
    assert fisher(Network(), batch, functional.cross_entropy) == pytest.approx(expected / 8, rel=1e-5)


def gradients_of_examples(network: nn.Module) -> dict[str, Tensor]:
    """Of each example's own loss, by functional transforms: weight name -> examples x shape."""
    values = dict(network.named_parameters())

    def loss(given: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(network, given, (x[None],)), y[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(values, CLASSES.inputs, CLASSES.targets)
    return {name: value.detach() for name, value in found.items() if value.dim() > 2}


def test_gradsign_counts_the_signs_of_every_examples_own_gradient() -> None:
    network = two_layers()
    expected = sum(float(g.sign().sum(0).abs().sum()) for g in gradients_of_examples(network).values())
    assert gradsign(network, CLASSES, functional.cross_entropy) == expected


def test_zico_of_two_examples_is_that_of_their_own_gradients() -> None:
    network = two_layers()
    expected = 0.0
    for gradients in gradients_of_examples(network).values():
        sizes = gradients[:2].abs().numpy().astype(np.float64)
        expected += float(np.log((sizes.mean(0) / sizes.std(0)).sum()))
    pair = Batch(inputs=X[:2], targets=CLASSES.targets[:2])
    assert zico(network, pair, functional.cross_entropy) == pytest.approx(expected, rel=1e-4)


def test_zico_compares_the_halves_of_a_larger_batch() -> None:
    network = two_layers()
    expected = 0.0
    for gradients in gradients_of_examples(network).values():
        halves = torch.stack([gradients[:2].mean(0), gradients[2:].mean(0)]).abs().numpy().astype(np.float64)
        expected += float(np.log((halves.mean(0) / halves.std(0)).sum()))
    assert zico(network, CLASSES, functional.cross_entropy) == pytest.approx(expected, rel=1e-4)


def test_zico_of_equal_halves_has_nothing_to_compare() -> None:
    twice = Batch(inputs=torch.cat([X, X]), targets=CLASSES.targets.repeat(2))
    assert zico(two_layers(), twice, functional.cross_entropy) == -math.inf
    drawing = nn.Sequential(nn.RReLU(), two_layers())  # its slopes are random
    assert zico(drawing, twice, functional.cross_entropy) == -math.inf


def test_ntk_condition_is_that_of_the_explicit_jacobian() -> None:
    network = two_layers().double()
    values = {name: value.detach() for name, value in network.named_parameters()}
    jacobians = jacrev(lambda given: functional_call(network, given, (X.double(),)).sum(1))(values)
    rows = torch.cat([value.flatten(1) for name, value in jacobians.items() if "weight" in name], 1).numpy()
    batch = Batch(inputs=X.double(), targets=CLASSES.targets)
    expected = -np.log(np.linalg.cond(rows @ rows.T))
    assert ntk_condition(network, batch, functional.cross_entropy) == pytest.approx(expected, rel=1e-6)


def test_ntk_condition_never_has_the_gradients_of_all_examples_in_one_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Largest(TorchDispatchMode):
        numbers = 0  # in any tensor

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self.numbers = max([self.numbers, *sizes])
            return result

    expected = ntk_condition(two_layers(), CLASSES, functional.cross_entropy)
    monkeypatch.setattr("predictors.zero_cost.ntk_condition.COLUMNS", 6)
    with Largest() as largest:
        assert ntk_condition(two_layers(), CLASSES, functional.cross_entropy) == pytest.approx(expected)
    assert largest.numbers == 3 * 5 + 5 * 2  # the gradient of one


def test_a_kernel_of_equal_examples_is_singular() -> None:
    same = Batch(inputs=X[:1].repeat(4, 1), targets=CLASSES.targets)
    assert ntk_condition(two_layers(), same, functional.cross_entropy) == -math.inf


def test_a_kernel_of_one_example_is_perfect() -> None:
    one = Batch(inputs=X[:1], targets=CLASSES.targets[:1])
    assert ntk_condition(two_layers(), one, functional.cross_entropy) == 0.0


def test_a_loss_that_depends_on_no_weight_scores_nothing() -> None:
    def constant(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(())

    for proxy in (snip, grad_norm, grasp, fisher):
        assert proxy(two_layers(), CLASSES, constant) == 0.0
