from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.build import build
from search_spaces.catalogue import CATALOGUE, load_space
from search_spaces.cost import cost
from search_spaces.moves import sample
from workers.operators import OperatorReader, Pool, UnreadableNetwork

SMALL = {
    "nas_bench_201": ({"channels": 2, "cells": 1}, (3, 8, 8)),
    "residual_cnn": ({"widths": (4,), "blocks": 1, "stages": 2}, (3, 8, 8)),
    "mobile_cnn": ({"widths": (4,), "blocks": 1, "stages": 2}, (3, 8, 8)),
    "mlp": ({"widths": (4, 8)}, (5,)),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_operators_of_a_network_have_its_macs_and_compute_what_they_are(name: str) -> None:
    settings, shape = SMALL[name]
    space, reader, pool = load_space(name, **settings), OperatorReader(), Pool(torch.device("cpu"))
    for seed in range(2):
        network = build(space, sample(space, np.random.default_rng(seed)), shape, 3)
        operators = reader.read(network, shape)
        assert sum(operator.macs for operator in operators) == cost(network, shape).macs
        assert operators == reader.read(network, shape) == OperatorReader().read(network, shape)
        with torch.no_grad():
            for operator in operators:
                operator.prepared(pool)()
        assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_every_operator_counts_with_its_shapes_batch_and_precision() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 5, groups=4), nn.ReLU(), nn.ReLU())
    reader = OperatorReader()
    found = reader.read(network, (2, 6, 6), batch_size=3, precision="bfloat16")
    assert Counter(operator.kind for operator in found) == {
        "aten.convolution 3x3": 1,
        "aten.convolution 5x5 grouped": 1,
        "aten.relu": 2,
    }
    assert found[2].signature == found[3].signature == "aten.relu.default(bfloat16[3,4,2,2])"
    assert found[2].bytes == 2 * (2 * 3 * 4 * 2 * 2)
    assert [operator.macs for operator in found] == [3 * 36 * 9 * 2 * 4, 3 * 4 * 25 * 4, 0, 0]
    for other in ({"batch_size": 2}, {"precision": "float16"}):
        assert reader.read(network, (2, 6, 6), **{"batch_size": 3, "precision": "bfloat16", **other}) != found


def test_what_stands_between_modules_counts_and_views_do_not() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.view(-1, 4)
            return torch.cat([self.linear(y) + y, y.relu_()], 1)

    kinds = [operator.kind for operator in OperatorReader().read(Skip(), (4,))]
    assert kinds == ["aten.addmm", "aten.add", "aten.relu_", "aten.cat"]


def test_tensors_of_one_kind_are_made_once() -> None:
    (first, second) = OperatorReader().read(nn.Sequential(nn.ReLU(), nn.Tanh()), (5,))
    pool = Pool(torch.device("cpu"))
    made = [operator.prepared(pool)() for operator in (first, second, first)]
    assert len({id(tensor) for tensor in pool._made.values()}) == 1
    assert all(torch.equal(tensor, torch.zeros(1, 5)) for tensor in made)


def test_a_network_that_needs_values_is_refused_with_what_to_do() -> None:
    class Asking(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(UnreadableNetwork, match=r'cannot be read on the meta device.*latency_source = "measured"'):
        OperatorReader().read(Asking(), (3,))
