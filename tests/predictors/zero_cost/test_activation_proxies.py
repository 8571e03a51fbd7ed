"""Proxies of what goes through a network, against brute force."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.epe_nas import epe_nas
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.jacob_cov import jacob_cov
from predictors.zero_cost.linear_regions import linear_regions
from predictors.zero_cost.macs import macs
from predictors.zero_cost.naswot import naswot
from predictors.zero_cost.overlap import RECTIFIERS
from predictors.zero_cost.synflow import synflow
from predictors.zero_cost.zen import zen
from tests.predictors.zero_cost.networks import batch_of

LOSS = functional.cross_entropy


def perceptron(*widths: int, seed: int = 0, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation()]
        return nn.Sequential(*layers[:-1])


def codes(network: nn.Sequential, inputs: Tensor) -> list[tuple[bool, ...]]:
    """Which units are on, example by example."""
    found = []
    for example in inputs:
        code: list[bool] = []
        value = example[None]
        for layer in network:
            if isinstance(layer, nn.ReLU):
                code += [bool(one > 0) for one in value.flatten()]
            value = layer(value)
        found.append(tuple(code))
    return found


def test_naswot_is_the_log_determinant_of_the_explicit_hamming_matrix() -> None:
    network, batch = perceptron(6, 30, 20, 4), batch_of((6,), 5)
    patterns = codes(network, batch.inputs)
    units = len(patterns[0])
    matrix = [[units - sum(a != b for a, b in zip(one, two, strict=True)) for two in patterns] for one in patterns]
    assert naswot(network, batch, LOSS) == pytest.approx(np.linalg.slogdet(np.array(matrix, float))[1], rel=1e-6)


def test_naswot_of_one_example_is_the_logarithm_of_the_number_of_units() -> None:
    assert naswot(perceptron(6, 9, 7, 4), batch_of((6,), 1), LOSS) == pytest.approx(math.log(9 + 7))


def test_naswot_prefers_the_network_that_tells_more_examples_apart_even_if_none_tells_all() -> None:
    same = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    scores = [
        naswot(perceptron(6, 30, 4), Batch(inputs=same[list(chosen)], targets=torch.zeros(4).long()), LOSS)
        for chosen in ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 2))
    ]
    assert scores == sorted(scores)
    assert len(set(scores)) == 3


def test_linear_regions_is_the_number_of_different_patterns() -> None:
    network = perceptron(2, 2, 3, 4, seed=3)
    grid = torch.tensor([[x, y] for x, y in product(np.linspace(-2, 2, 9), repeat=2)], dtype=torch.float32)
    found = linear_regions(network, Batch(inputs=grid, targets=torch.zeros(81).long()), LOSS)
    assert found == pytest.approx(len(set(codes(network, grid))))
    assert 2 < found < 32


def test_rectifiers_are_seen_whoever_applies_them() -> None:
    class Applied(nn.Module):
        def __init__(self, function: object) -> None:
            super().__init__()
            self.linear, self.function = nn.Linear(6, 9), function

        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = self.function(self.linear(x))  # type: ignore[operator]
            return values

    slope = nn.PReLU()
    ways = [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(), slope, nn.ELU(), nn.CELU(), nn.GELU()]
    ways += [nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Hardswish(), nn.Threshold(0.0, 0.0), nn.SELU(), torch.relu]
    ways += [torch.relu_, functional.relu, Tensor.relu, functional.rrelu, functional.gelu]
    batch = batch_of((6,), 5)
    first = Applied(functional.relu)
    expected = naswot(first, batch, LOSS)
    for way in ways:
        other = Applied(way)
        other.linear = first.linear
        assert naswot(other, batch, LOSS) == expected, way
    for way in (torch.tanh, torch.sigmoid, nn.Hardtanh(), torch.abs):
        with pytest.raises(ProxyError, match="no rectifier"):
            naswot(Applied(way), batch, LOSS)
    assert "relu" in RECTIFIERS


def jacobian_rows(network: nn.Module, inputs: Tensor) -> np.ndarray:
    """Example by example, by torch's explicit Jacobian."""
    rows = [torch.autograd.functional.jacobian(lambda x: network(x[None])[0], one).sum(0) for one in inputs]
    return torch.stack(rows).numpy()


def test_jacob_cov_is_that_of_explicit_jacobians() -> None:
    network = perceptron(12, 20, 4).double()
    batch = Batch(inputs=batch_of((12,), 6).inputs.double(), targets=torch.zeros(6).long())
    values = np.linalg.eigvals(np.corrcoef(jacobian_rows(network, batch.inputs))).real + 1e-5
    expected = -np.sum(np.log(values) + 1 / values)
    assert jacob_cov(network, batch, LOSS) == pytest.approx(expected, rel=1e-6)


def test_epe_nas_is_that_of_explicit_jacobians_class_by_class() -> None:
    network, inputs = perceptron(12, 20, 4).double(), batch_of((12,), 7).inputs.double()
    targets = torch.tensor([0, 2, 0, 2, 2, 3, 0])
    rows, expected = jacobian_rows(network, inputs), 0.0
    for label in (0, 2, 3):
        correlations = np.atleast_2d(np.corrcoef(rows[targets.numpy() == label]))
        expected += abs(np.log(np.abs(correlations) + 1e-5).sum())
    found = epe_nas(network, Batch(inputs=inputs, targets=targets), LOSS)
    assert found == pytest.approx(expected, rel=1e-6)


def test_epe_nas_of_many_classes_compares_pairs_of_them() -> None:
    network, inputs = perceptron(12, 20, 120).double(), batch_of((12,), 7).inputs.double()
    targets = torch.tensor([0, 110, 0, 110, 110, 3, 0])
    rows, terms = jacobian_rows(network, inputs), []
    for label in (0, 3, 110):
        correlations = np.atleast_2d(np.corrcoef(rows[targets.numpy() == label]))
        terms.append(np.log(np.abs(correlations) + 1e-5).sum() / len(correlations))
    expected = sum(abs(one - other) for one, other in product(terms, repeat=2)) / 3
    assert epe_nas(network, Batch(inputs=inputs, targets=targets), LOSS) == pytest.approx(expected, rel=1e-6)


def test_epe_nas_needs_classes() -> None:
    batch = Batch(inputs=torch.zeros(3, 6), targets=torch.zeros(3, 1))
    with pytest.raises(ProxyError, match=r"^epe_nas: the targets must be class numbers"):
        epe_nas(perceptron(6, 5, 1), batch, functional.mse_loss)


def chain(*sizes: int, scale: float = 1.0) -> nn.Sequential:
    layers = [nn.Linear(before, after, bias=False) for before, after in pairwise(sizes)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(scale)
    return nn.Sequential(*layers)


def test_synflow_of_a_chain_is_layers_times_the_product_of_absolute_weights() -> None:
    network = chain(4, 6, 5, 3)
    flow = np.ones(4)
    for layer in network:
        flow = np.abs(layer.weight.detach().double().numpy()) @ flow
    assert synflow(network, batch_of((4,)), LOSS) == pytest.approx(math.log(3 * flow.sum()))


def test_synflow_passes_over_normalisation_and_dropout_and_takes_biases_absolutely() -> None:
    plain = perceptron(4, 6, 3)
    dressed = nn.Sequential(plain[0], nn.BatchNorm1d(6), nn.LayerNorm(6), nn.ReLU(), nn.Dropout(0.9), plain[2])
    inner = np.abs(plain[0].weight.detach().double().numpy()) @ np.ones(4)
    bias = np.abs(plain[0].bias.detach().double().numpy())
    head = np.abs(plain[2].weight.detach().double().numpy()).sum(0)
    expected = math.log(head @ inner + head @ (inner + bias))
    assert synflow(plain, batch_of((4,)), LOSS) == pytest.approx(expected)
    assert synflow(dressed, batch_of((4,)), LOSS) == pytest.approx(expected)


def test_normalisations_that_need_more_than_one_example_are_passed_over_too() -> None:
    plain, batch = perceptron(4, 6, 3), batch_of((4,))
    for norm in (nn.BatchNorm1d(6, track_running_stats=False), nn.BatchNorm1d(6)):
        dressed = nn.Sequential(plain[0], norm, *plain[1:])
        for proxy in (synflow, macs):
            assert proxy(dressed, batch, LOSS) == proxy(plain, batch, LOSS)
            assert dressed(batch.inputs).shape == (6, 3)


@pytest.mark.parametrize("exponent", [-1.0, 1.0, 2.0, 2.5])
def test_synflow_is_right_beyond_the_range_of_floating_point(exponent: float) -> None:
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(220)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(10.0**exponent if parameter.dim() > 1 else 0.0)
    expected = math.log(220) + 220 * exponent * math.log(10)
    assert synflow(network, batch_of((1,)), LOSS) == pytest.approx(expected)


def test_synflow_beyond_even_that_is_an_error_and_without_flow_the_worst() -> None:
    network = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(220)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1e6)
    with pytest.raises(ProxyError, match=r"^synflow: the score is nan"):
        synflow(network, batch_of((1,)), LOSS)
    with torch.no_grad():
        next(network.parameters()).zero_()
        for parameter in list(network.parameters())[1:]:
            parameter.fill_(1.0)
    assert synflow(network, batch_of((1,)), LOSS) == -math.inf


def test_zen_is_the_way_of_the_features_and_the_scale_that_normalisation_took() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.pool(torch.relu(self.norm(self.convolution(x)))).flatten(1))
            return logits

    batch = batch_of((2, 6, 6), 5, seed=4)
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, 2, 3, 3, generator=generator)
    torch.randn(4, 3, generator=generator)  # the head's, which the features do not reach
    x = torch.randn(5, 2, 6, 6, generator=generator)
    moved = x + 0.01 * torch.randn(5, 2, 6, 6, generator=generator)
    features, scales = [], []
    for inputs in (x, moved):
        values = functional.conv2d(inputs, weight).double().numpy()
        mean, variance = values.mean((0, 2, 3), keepdims=True), values.var((0, 2, 3), keepdims=True)
        features.append(np.maximum((values - mean) / np.sqrt(variance + 1e-5), 0))
        scales.append(math.sqrt(variance.mean()))
    expected = math.log(np.abs(features[0] - features[1]).sum((1, 2, 3)).mean()) + math.log(scales[0])
    assert zen(Network(), batch, LOSS) == pytest.approx(expected, rel=1e-4)


class Dropping(nn.Module):
    """Drops by a function, which nobody but itself can switch off."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, self.training)


def test_zen_is_no_measure_of_what_the_network_draws_itself() -> None:
    layers = list(perceptron(6, 40, 40, 4))
    dropping = nn.Sequential(*layers[:2], Dropping(), *layers[2:])
    # masks that differed would bring about 5
    assert zen(dropping, batch_of((6,)), LOSS) == pytest.approx(
        zen(perceptron(6, 40, 40, 4), batch_of((6,)), LOSS), abs=1
    )


def test_zen_without_normalisation_is_the_way_alone() -> None:
    batch = batch_of((6,), 3, seed=2)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(9, 6, generator=generator)
    torch.randn(4, 9, generator=generator)
    x = torch.randn(3, 6, generator=generator)
    step = 0.01 * torch.randn(3, 6, generator=generator)
    way = (torch.relu((x + step) @ weight.T) - torch.relu(x @ weight.T)).abs().sum(1).mean()
    assert zen(perceptron(6, 9, 4), batch, LOSS) == pytest.approx(math.log(float(way)), rel=1e-4)
