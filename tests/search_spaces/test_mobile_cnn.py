import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from search_spaces.architecture import Architecture
from search_spaces.build import build
from search_spaces.canonical import canonical_key
from search_spaces.catalogue.mobile_cnn import mobile_cnn
from search_spaces.cost import cost
from search_spaces.encodings import encode
from search_spaces.moves import mutate, sample, size
from search_spaces.nodes import SpaceError
from search_spaces.operations.mobile import mobile_block, mobile_stem
from search_spaces.operations.residual import InvertedResidual
from search_spaces.operations.squeeze_excite import SqueezeExcite
from search_spaces.space import SearchSpace

TWO_STAGES = {
    "width1": 4,
    "width2": 8,
    "network/stage1/first/kernel_size": 3,
    "network/stage1/first/expansion": 2,
    "network/stage1/first/squeeze_excite": False,
    "network/stage1/more/count": 0,
    "network/stage2/first/kernel_size": 7,
    "network/stage2/first/expansion": 3,
    "network/stage2/first/squeeze_excite": True,
    "network/stage2/more/count": 1,
    "network/stage2/more/0/kernel_size": 5,
    "network/stage2/more/0/expansion": 2,
    "network/stage2/more/0/squeeze_excite": False,
}


def small(**settings: object) -> SearchSpace:
    return mobile_cnn(**{"stages": 2, "blocks": 2, "widths": (4,), "expansions": (2, 3), "features": 5, **settings})


def block_cost(channels: int, out: int, kernel: int, expansion: int, gated: bool, rows: int, after: int) -> np.ndarray:
    """(parameters, macs) in closed form; images have `rows` rows and columns before and `after` behind."""
    middle, squeezed = channels * expansion, max(1, channels * expansion // 4)
    weights = np.array([channels * middle, kernel**2 * middle, middle * out])
    macs = int(weights @ [rows**2, after**2, after**2])
    gates = 2 * middle * squeezed
    return np.array(
        [
            weights.sum() + 4 * middle + 2 * out + gated * (gates + middle + squeezed),
            macs + gated * gates,
        ]
    )


def test_parameters_and_macs_are_those_of_the_closed_form() -> None:
    space = small(training=False)
    network = build(space, space.validate(TWO_STAGES), (3, 8, 8), 10)
    expected = np.array([27 * 4 + 2 * 4, 27 * 4 * 64])  # the stem
    expected += block_cost(4, 4, 3, 2, False, 8, 8)
    expected += block_cost(4, 8, 7, 3, True, 8, 4)
    expected += block_cost(8, 8, 5, 2, False, 4, 4)
    expected += np.array([8 * 5 + 2 * 5, 8 * 5 * 16]) + np.array([5 * 10 + 10, 5 * 10])
    found = cost(network, (3, 8, 8))
    assert (found.parameters, found.macs) == tuple(expected)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, [1, 1, 1, 1, 1]), (8, [8, 8, 4, 4, 4]), (32, [32, 32, 16, 8, 4]), (64, [32, 32, 16, 8, 4])],
)
def test_strides_adapt_to_the_image(rows: int, expected: list[int]) -> None:
    space = mobile_cnn(blocks=1, widths=(2,), kernels=(7,), expansions=(1,), features=3)
    network = build(space, sample(space, np.random.default_rng(0)), (1, rows, rows), 4)
    seen: list[int] = []
    for module in network.operations.values():
        module.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    assert network(torch.zeros(2, 1, rows, rows)).shape == (2, 4)
    assert seen[:5] == expected


def test_the_shorter_side_of_an_image_decides() -> None:
    assert mobile_stem((3, 64, 40), 4).convolution.stride == (1, 1)
    assert mobile_stem((3, 64, 64), 4).convolution.stride == (2, 2)
    assert mobile_block((3, 7, 30), 4, shrinks=True).depthwise.convolution.stride == (1, 1)
    assert mobile_block((3, 8, 30), 4, shrinks=True).depthwise.convolution.stride == (2, 2)
    assert mobile_block((3, 8, 30), 4).depthwise.convolution.stride == (1, 1)


def test_a_block_has_a_shortcut_only_where_the_shape_stays() -> None:
    x = torch.randn(2, 4, 8, 8)
    block = mobile_block((4, 8, 8), 4).eval()
    without = block.project(block.depthwise(block.expand(x)))
    torch.testing.assert_close(block(x), without + x)
    for other in (mobile_block((4, 8, 8), 6), mobile_block((4, 8, 8), 4, shrinks=True)):
        other.eval()
        torch.testing.assert_close(other(x), other.project(other.depthwise(other.expand(x))))
    assert InvertedResidual(4, 6).shortcut is not None


def test_squeeze_and_excite_is_the_formula_of_its_paper() -> None:
    module, x = SqueezeExcite(8, reduction=4), torch.randn(3, 8, 5, 6)
    first, second = module.squeeze.weight.flatten(1), module.excite.weight.flatten(1)
    means = x.mean((2, 3))
    hidden = functional.relu(means @ first.T + module.squeeze.bias)
    gates = 1 / (1 + torch.exp(-(hidden @ second.T + module.excite.bias)))
    torch.testing.assert_close(module(x), x * gates[:, :, None, None])
    assert SqueezeExcite(2).squeeze.out_channels == 1


def test_the_space_has_the_decisions_it_says_and_no_others() -> None:
    space = mobile_cnn(stages=1, blocks=2, widths=[8, 16], training=False)
    block = 3 * 3 * 2
    assert size(space) == 2 * block * (1 + block)
    assert size(mobile_cnn(stages=1, blocks=1, widths=[8], squeeze_excite=False, training=False)) == 9
    assert {decision.path.rpartition("/")[2] for decision in space.decisions} == {
        *("width1", "kernel_size", "expansion", "squeeze_excite", "count")
    }


def test_architectures_encode_to_distinct_rows_and_have_keys_of_their_own() -> None:
    space, rng = small(), np.random.default_rng(0)
    drawn = [sample(space, rng) for _ in range(20)]
    drawn += [mutate(space, one, rng) for one in drawn]
    rows = encode(space, drawn)
    for i, first in enumerate(drawn):
        for j, second in enumerate(drawn):
            assert (first == second) == (rows[i] == rows[j]).all() == math.isclose(abs(rows[i] - rows[j]).sum(), 0)
    gated = Architecture(TWO_STAGES)
    plain = Architecture({**TWO_STAGES, "network/stage2/first/squeeze_excite": False})
    space = small(training=False)
    assert canonical_key(space, gated) != canonical_key(space, plain)
    assert canonical_key(space, gated) == canonical_key(space, Architecture(dict(reversed(TWO_STAGES.items()))))


def test_the_space_survives_being_stored() -> None:
    space = mobile_cnn()
    assert SearchSpace.from_document(space.to_document()) == space


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": 0}, "stages must be a whole number >= 1, got 0"),
        ({"blocks": True}, "blocks must be a whole number >= 1, got True"),
        ({"widths": [0]}, "widths must be whole numbers >= 1, got 0"),
        ({"kernels": [2]}, "kernels must be odd whole numbers >= 1, got 2"),
        ({"expansions": [1.5]}, "expansions must be whole numbers >= 1, got 1.5"),
        ({"features": 0}, "features must be a whole number >= 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        mobile_cnn(**settings)
