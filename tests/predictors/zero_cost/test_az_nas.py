"""Blocks, and the proxies of AZ-NAS, against explicit computations."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import Proxy
from predictors.zero_cost.blocks import Features, block_outputs
from predictors.zero_cost.channels import channel_axis
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.expressivity import entropies, expressivity
from predictors.zero_cost.fisher import fisher
from predictors.zero_cost.macs import macs
from predictors.zero_cost.parameters import parameters
from predictors.zero_cost.progressivity import progressivity
from predictors.zero_cost.trainability import _aligned, _size, trainability
from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import from_ids, nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.nodes import Op
from search_spaces.space import SearchSpace
from tests.predictors.zero_cost.networks import IMAGE, batch_of, cell

LOSS = functional.cross_entropy


@pytest.mark.parametrize("ids", [(3, 1, 2, 4, 0, 3), (0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1), (0, 0, 0, 3, 0, 0)])
def test_the_blocks_of_a_cell_network_are_stem_cells_and_reductions(ids: tuple[int, ...]) -> None:
    network = build(nas_bench_201(channels=4, cells=2, stages=2), from_ids(ids), IMAGE, 5)
    shapes = [tuple(features.values.shape) for features in block_outputs(network, batch_of(IMAGE, 3).inputs)]
    assert shapes == [(3, 4, 8, 8)] * 3 + [(3, 8, 4, 4)] * 3


def test_the_last_cell_of_a_network_is_a_block_too() -> None:
    network = cell(3, 0, 0, 0, 0, 0).eval()  # nothing reaches the output of its cells
    blocks = block_outputs(network, batch_of(IMAGE, 3).inputs)
    assert [bool((features.values == 0).all()) for features in blocks] == [False, True, True, True]


def test_the_blocks_of_a_residual_network_are_stem_and_residual_blocks() -> None:
    space = residual_cnn(stages=2, blocks=3, widths=(4,), kernels=(3,), block_types=("basic",), training=False)
    architecture = {decision.path: decision.values[-1] for decision in space.decisions if decision.values}
    network = build(space, architecture, IMAGE, 5)
    blocks = block_outputs(network, batch_of(IMAGE, 2).inputs)
    assert [tuple(features.values.shape[1:]) for features in blocks] == [(4, 8, 8)] * 4 + [(8, 4, 4)] * 3


def test_the_blocks_of_any_module_are_its_parts() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 3)))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.inside(x)
            return result

    found = block_outputs(Wrapped(), torch.ones(5, 6))
    assert [tuple(features.values.shape) for features in found] == [(5, 4), (5, 4)]
    with pytest.raises(ProxyError, match="no features between"):
        block_outputs(nn.Linear(6, 4), torch.ones(5, 6))


class Whole(nn.Module):
    """A network in one piece: layers in a list of their own, rectified in place, and a head."""

    def __init__(self, in_features: int, outputs: int, depth: int = 1, skips: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(in_features, 5)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True)) for _ in range(depth)
        )
        self.skips, self.head = skips, nn.Linear(5, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        for layer in self.body:
            y = y + layer(y) if self.skips else layer(y)
        logits: Tensor = self.head(y)
        return logits


def whole(**settings: Any) -> nn.Module:
    """A space's only operation, which is the whole network."""
    space = SearchSpace({"network": [Op(Whole, **settings)]}, name="whole")
    return build(space, {}, (6,), 4, allow=["tests"])


@pytest.mark.parametrize("depth", [1, 2])
def test_where_blocks_are_too_few_they_are_looked_for_inside(depth: int) -> None:
    inputs, network = batch_of((6,)).inputs, whole(depth=depth)
    assert len(block_outputs(network, inputs)) == 1
    inner = block_outputs(network, inputs, least=2)
    assert len(inner) >= 2
    with torch.no_grad():
        again = block_outputs(network, inputs, least=2)
    assert [one.values.tolist() for one in again] == [one.values.tolist() for one in inner]
    for proxy in (expressivity, progressivity, trainability):
        assert math.isfinite(proxy(network, batch_of((6,)), LOSS))
        assert proxy(network, batch_of((6,)), LOSS) == proxy(Whole(6, 4, depth), batch_of((6,)), LOSS)


def test_inside_a_block_only_what_every_path_passes_through_ends_another() -> None:
    assert len(block_outputs(whole(depth=2, skips=True), batch_of((6,)).inputs, least=2)) == 1  # the stem
    assert len(block_outputs(whole(depth=2), batch_of((6,)).inputs, least=2)) >= 3


def images(rectifier: nn.Module, *more: nn.Module) -> nn.Module:
    """A plain network; its weights do not matter, since AZ-NAS draws them."""
    widen, again = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, stride=2)
    rest = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(widen, nn.BatchNorm2d(8), rectifier, again, nn.BatchNorm2d(8), nn.ReLU(), *more, *rest)


@pytest.mark.parametrize("proxy", [expressivity, progressivity, trainability])
@pytest.mark.parametrize(
    "other",
    [
        images(nn.ReLU(inplace=True)),
        images(nn.ReLU(), nn.Identity()),
        images(nn.ReLU(), nn.Dropout(0.0), nn.Identity()),
        images(nn.ReLU(), nn.Flatten(2, 2)),
    ],
    ids=["in place", "identity", "no dropout", "nothing to flatten"],
)
def test_scores_are_the_same_with_modules_that_change_nothing_or_write_in_place(proxy: Proxy, other: nn.Module) -> None:
    expected = proxy(images(nn.ReLU()), batch_of(IMAGE), LOSS)
    assert math.isfinite(expected)
    assert proxy(other, batch_of(IMAGE), LOSS) == expected


def test_an_operation_of_a_space_that_hands_on_what_it_gets_is_no_block() -> None:
    def network(*more: Op) -> nn.Module:
        linear = Op("torch.nn:Linear", in_features=8, out_features=8)
        stem = Op("torch.nn:Linear", in_features=6, out_features=8)
        head = Op("torch.nn:Linear", in_features=8, out_features=4)
        space = SearchSpace({"network": [stem, Op("torch.nn:Tanh"), *more, linear, head]}, name="rows")
        return build(space, {}, (6,), 4)

    without, with_it = network(), network(Op("torch.nn:Dropout", p=0.0))
    for proxy in (expressivity, progressivity, trainability):
        assert proxy(with_it, batch_of((6,)), LOSS) == proxy(without, batch_of((6,)), LOSS)


def test_expressivity_is_the_entropy_of_principal_components() -> None:
    network, batch = cell(3, 1, 2, 4, 0, 3), batch_of(IMAGE, 4, seed=5)
    found = expressivity(network, batch, LOSS)
    entropy_of = entropies(network, batch)  # draws the weights that the scores are of
    assert found == pytest.approx(sum(entropy_of))
    expected = []
    generator = torch.Generator().manual_seed(5)
    for weight in (one for one in network.parameters() if one.dim() > 1):
        torch.empty_like(weight).normal_(generator=generator)  # the weights are drawn before the inputs
    for features in block_outputs(network, torch.randn(4, *IMAGE, generator=generator)):
        rows = features.values.detach().double().numpy().transpose(0, 2, 3, 1).reshape(-1, features.values.shape[1])
        shares = np.linalg.eigvalsh(np.cov(rows.T))
        shares = np.clip(shares / shares.sum(), 0, None)
        expected.append(-(shares * np.log(shares + 1e-8)).sum())
    assert entropy_of == pytest.approx(expected, rel=1e-5)
    steps = np.diff(expected)
    assert progressivity(network, batch, LOSS) == pytest.approx(steps.min(), rel=1e-4)


def test_features_of_one_direction_have_no_entropy_and_independent_ones_the_most() -> None:
    class Same(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.only, self.width, self.head = nn.Linear(6, 1), width, nn.Linear(width, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.only(x).repeat(1, self.width))
            return logits

    assert expressivity(Same(5), batch_of((6,), 50), LOSS) == pytest.approx(0.0, abs=1e-6)
    wide = nn.Sequential(nn.Linear(400, 8), nn.Linear(8, 2))
    assert expressivity(wide, batch_of((400,), 20_000), LOSS) == pytest.approx(math.log(8), abs=0.05)


def test_a_network_of_one_block_has_an_expressivity_and_no_steps() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    assert math.isfinite(expressivity(network, batch_of((6,)), LOSS))
    for proxy in (progressivity, trainability):
        with pytest.raises(ProxyError, match=r"ability: |ressivity: the network has a single block"):
            proxy(network, batch_of((6,)), LOSS)


def largest(gradient: np.ndarray, signs: np.ndarray) -> float:
    """Of the covariance of two tables, positions x channels, by a plain singular value decomposition."""
    return float(np.linalg.svd(gradient.T @ signs / len(signs))[1].max())


def test_trainability_is_that_of_the_explicit_covariance_of_signs_and_gradients() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 7), nn.Linear(7, 2))
    batch = batch_of((6,), 40, seed=3)
    generator = torch.Generator().manual_seed(3)
    torch.empty(5, 6).normal_(generator=generator)
    weight = torch.empty(7, 5).normal_(0, math.sqrt(2 / 5), generator=generator)
    torch.empty(2, 7).normal_(generator=generator)
    torch.randn(40, 6, generator=generator)  # the inputs, which the gradient of a linear map does not depend on
    draws = [torch.randint(2, (40, 7), generator=generator) * 2.0 - 1 for _ in range(3)]
    signs = torch.cat(draws)  # 16 rows for each of 7 channels, and no more
    s = largest((signs @ weight).numpy(), signs.numpy())
    assert trainability(network, batch, LOSS) == pytest.approx(2 - s - 1 / (s + 1e-6), rel=1e-4)


def size(block: nn.Module, *shape: int) -> float:
    """The s of a block for features of this shape."""
    before = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = _size(Features(before, 1), Features(block(before), 1), torch.Generator().manual_seed(1))
    assert found is not None
    return found


@pytest.mark.parametrize(("width", "examples"), [(8, 64), (64, 64), (256, 64), (64, 16)])
def test_a_block_that_keeps_gradients_has_a_size_of_about_one_whatever_its_width(width: int, examples: int) -> None:
    block = nn.utils.parametrizations.orthogonal(nn.Linear(width, width))
    assert 1 <= size(block, examples, width) < 1.7


def delta(channels: int, **settings: Any) -> nn.Module:
    """A convolution of 3 x 3 pixels that gives the middle one, in other channels."""
    block = nn.Conv2d(channels, channels, 3, **settings)
    with torch.no_grad():
        block.weight.zero_()
        block.weight[:, :, 1, 1] = torch.eye(channels).roll(1, 0)
    return block


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (delta(4, padding=1), 1),
        (delta(4), 1),  # 16 -> 14 pixels
        (delta(4, stride=2, padding=1), 1),
        (delta(4, stride=2), 1),  # 16 -> 7
        (nn.AvgPool2d(2), 0.5),
        (nn.Upsample(scale_factor=2), 2),  # a pixel becomes four
        (nn.ConstantPad2d(1, 0.0), 1),
    ],
)
def test_positions_are_aligned_whatever_a_block_does_to_the_shape(block: nn.Module, expected: float) -> None:
    assert size(block, 16, 4, 16, 16) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("inside", [(6, 6), (5, 5), (6, 5)])
def test_a_striding_block_sees_the_pixels_of_its_windows_as_channels(inside: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(2, 3, *inside, generator=generator)
    signs = torch.randn(2, 4, 3, 3, generator=generator)
    padded = functional.pad(gradient, (0, 6 - inside[1], 0, 6 - inside[0]))
    windows = functional.unfold(padded, 2, stride=2)  # examples x (channels of pixels) x positions
    back, ahead = _aligned(Features(gradient, 1), Features(signs, 1))
    assert torch.equal(back, windows.transpose(1, 2).reshape(18, -1))
    assert torch.equal(ahead, signs.permute(0, 2, 3, 1).reshape(18, 4))


def test_blocks_without_common_positions_are_seen_example_by_example() -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(9, 3, 16, 16, generator=generator)
    for signs in (torch.randn(9, 5, generator=generator), torch.randn(9, 3, 9, 9, generator=generator)):
        back, ahead = _aligned(Features(gradient, 1), Features(signs, 1))
        assert torch.equal(back, gradient.flatten(1))
        assert torch.equal(ahead, signs.flatten(1))


class Permute(nn.Module):
    """To channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Mean(nn.Module):
    """Over the positions of images, and a head."""

    def __init__(self, *positions: int) -> None:
        super().__init__()
        self.positions, self.head = positions, nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.mean(self.positions))
        return logits


@pytest.mark.parametrize("proxy", [fisher, expressivity, progressivity, trainability])
def test_linear_layers_on_channels_last_score_as_convolutions_of_one_pixel(proxy: Proxy) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        sizes = ((3, 8), (8, 12), (12, 12))
        head, same = Mean(1, 2), Mean(2, 3)
        linears = [nn.Linear(*one) for one in sizes]
    convolutions = [nn.Conv2d(*one, 1) for one in sizes]
    for convolution, linear in zip(convolutions, linears, strict=True):
        convolution.load_state_dict({"weight": linear.weight[:, :, None, None], "bias": linear.bias})
    same.load_state_dict(head.state_dict())
    last, first = nn.Sequential(Permute(), *linears, head), nn.Sequential(*convolutions, same)
    batch = batch_of((3, 6, 10), 6)
    assert proxy(last, batch, LOSS) == pytest.approx(proxy(first, batch, LOSS), rel=1e-4)


def test_channels_are_where_the_module_puts_them() -> None:
    images, steps = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4)
    for module in (None, nn.ReLU(), nn.Conv2d(3, 3, 1), nn.LayerNorm((3, 4, 5))):
        assert channel_axis(module, images) == 1
    for module in (nn.Linear(5, 5), nn.LayerNorm(5), nn.RMSNorm(5)):
        assert channel_axis(module, images) == 3
    assert [channel_axis(module, steps) for module in (None, nn.Linear(4, 4), nn.Conv1d(3, 3, 1))] == [2, 2, 1]


def test_cells_that_only_hand_on_have_nothing_to_train() -> None:
    assert trainability(cell(0, 0, 0, 1, 0, 0), batch_of(IMAGE), LOSS) == -math.inf


def test_parameters_and_macs_are_counted() -> None:
    network, batch = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)), batch_of((6,))
    assert parameters(network, batch, LOSS) == 6 * 5 + 5 + 5 * 2 + 2
    assert parameters(nn.Sequential(*network).requires_grad_(False), batch, LOSS) == 6 * 5 + 5 + 5 * 2 + 2
    assert macs(network, batch, LOSS) == 6 * 5 + 5 * 2
