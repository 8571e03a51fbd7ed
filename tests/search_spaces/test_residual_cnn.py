import numpy as np
import pytest
import torch

from search_spaces.build import build
from search_spaces.catalogue.residual_cnn import BLOCKS, residual_cnn
from search_spaces.moves import sample, size
from search_spaces.nodes import SpaceError
from search_spaces.space import SearchSpace


@pytest.mark.slow
@pytest.mark.parametrize("input_shape", [(1, 8, 8), (3, 32, 32)])
def test_networks_fit_small_and_large_images(input_shape: tuple[int, int, int]) -> None:
    space = residual_cnn()
    for seed in range(2):
        network = build(space, sample(space, np.random.default_rng(seed)), input_shape, 10)
        assert network(torch.randn(2, *input_shape)).shape == (2, 10)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_type_can_stand_alone(block: str) -> None:
    space = residual_cnn(block_types=[block], blocks=1, stages=2)
    assert build(space, sample(space, np.random.default_rng(0)), (1, 8, 8), 3)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_a_stage_has_one_width_and_every_stage_but_the_first_halves_the_image() -> None:
    space = residual_cnn(widths=(4, 6), block_types=["basic"], kernels=[3])
    values = {"network/stage1/more/count": 2, "network/stage2/more/count": 0, "network/stage3/more/count": 1}
    widths = {"width1": 6, "width2": 8, "width3": 24}
    rng = np.random.default_rng(0)
    architecture = {**sample(space, rng), **widths}
    reached = {}
    for decision in space.reached(reached):
        fixed = values.get(decision.path, architecture.get(decision.path))
        reached[decision.path] = fixed if fixed is not None else (decision.values or (None,))[0]
    network = build(space, reached, (1, 8, 8), 10)
    assert [name for name in network.operations] == [
        "stem",
        "stage1_first",
        "stage1_more_0",
        "stage1_more_1",
        "stage2_first",
        "stage3_first",
        "stage3_more_0",
        "head",
    ]
    shapes = []
    for module in network.operations.values():
        module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.zeros(2, 1, 8, 8))
    assert shapes == [(6, 8, 8)] * 4 + [(8, 4, 4)] + [(24, 2, 2)] * 2 + [(10,)]


def test_momentum_is_decided_for_sgd_only() -> None:
    space = residual_cnn()
    for seed in range(20):
        training = space.decided(sample(space, np.random.default_rng(seed)))["training"]
        assert ("momentum" in training["optimizer"]) == (training["optimizer"]["option"] == "sgd")


def test_the_training_can_be_left_out_and_then_the_space_is_finite() -> None:
    space = residual_cnn(stages=1, blocks=2, widths=[8, 16], training=False)
    # a block: basic and separable with 2 kernels, bottleneck and inverted with 2 x 2 each
    blocks = 2 + 4 + 4 + 2
    assert size(space) == 2 * blocks * (1 + blocks)


def test_the_space_survives_being_stored() -> None:
    space = residual_cnn()
    assert SearchSpace.from_document(space.to_document()) == space


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": 0}, "stages must be a whole number >= 1, got 0"),
        ({"blocks": True}, "blocks must be a whole number >= 1, got True"),
        ({"widths": []}, r"widths must be a list with at least one value, got \[\]"),
        ({"widths": [0]}, "widths must be whole numbers >= 1, got 0"),
        ({"kernels": [2]}, "kernels must be odd whole numbers >= 1, got 2"),
        ({"kernels": "3"}, "kernels must be a list"),
        ({"block_types": ["basik"]}, "unknown block type 'basik'; known are basic, bottleneck, inverted, separable"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        residual_cnn(**settings)
