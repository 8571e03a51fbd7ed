"""Costs counted piece by piece are those of the whole network."""

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.build import BuildError, build
from search_spaces.catalogue import load_space
from search_spaces.cost import cost
from search_spaces.moves import sample
from search_spaces.nodes import Choice, Integer, Op, Repeat
from search_spaces.space import SearchSpace
from search_spaces.tally import Tally


class Twice(nn.Module):
    """Applies a piece of a network two times: its parameters count once, its products twice."""

    def __init__(self, piece: nn.Module) -> None:
        super().__init__()
        self.piece = piece

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.piece(self.piece(x))


INNER = Choice([Op(nn.Identity), Op(nn.Linear, label="own", in_features=6, out_features=6)])
PIECES = SearchSpace(
    [
        Op(nn.Linear, out_features=6),
        Repeat(Choice([Op(nn.ReLU), Op(nn.Linear, out_features=Integer(6, 8))]), Integer(1, 3)),
        Op(nn.Linear, out_features=6),
        Op(Twice, piece=INNER),
        Op(Twice, label="fixed", piece=Op(nn.Linear, out_features=6)),
    ],
    name="pieces",
)


@pytest.mark.parametrize(
    ("name", "settings", "shape"),
    [
        ("nas_bench_201", {"channels": 2, "cells": 1}, (3, 8, 8)),
        ("residual_cnn", {}, (1, 8, 8)),
        ("mobile_cnn", {"stages": 2, "widths": (4, 8), "blocks": 2}, (1, 8, 8)),
        ("mlp", {}, (5,)),
    ],
)
def test_the_tally_is_the_cost_of_the_built_network(
    name: str, settings: dict[str, int], shape: tuple[int, ...]
) -> None:
    space = load_space(name, **settings)
    tally, rng = Tally(space=space, input_shape=shape, outputs=3), np.random.default_rng(0)
    for _ in range(6):
        architecture = sample(space, rng)
        whole = cost(build(space, architecture, shape, 3), shape)
        for _ in range(2):
            assert tally.count(architecture) == (whole.parameters, whole.macs)


def test_pieces_within_an_operation_are_counted_as_it_uses_them() -> None:
    tally, rng = Tally(space=PIECES, input_shape=(4,), outputs=3), np.random.default_rng(0)
    for _ in range(12):
        architecture = sample(PIECES, rng)
        whole = cost(build(PIECES, architecture, (4,), 3), (4,))
        assert tally.count(architecture) == (whole.parameters, whole.macs)


def test_a_network_that_cannot_be_built_has_no_cost() -> None:
    space = SearchSpace([Op(nn.Conv2d, out_channels=2, kernel_size=Choice([1, 9]))], name="too small")
    tally = Tally(space=space, input_shape=(3, 4, 4), outputs=3)
    (path,) = space.by_path
    assert tally.count({path: 1}) == (8, 2 * 3 * 16)
    with pytest.raises(BuildError, match="too small"):
        tally.count({path: 9})
