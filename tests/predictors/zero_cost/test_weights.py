"""What is drawn anew, and what is left."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import Proxy
from predictors.zero_cost.synflow import synflow
from predictors.zero_cost.trainability import trainability
from predictors.zero_cost.weights import biases, draw_weights
from predictors.zero_cost.zen import zen
from tests.predictors.zero_cost.networks import batch_of

LOSS = functional.cross_entropy


class HandWritten(nn.Module):
    """A layer normalisation of one's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class Scale(nn.Module):
    """As in LayerScale."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def rows(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), *between, nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("proxy", [zen, trainability])
def test_a_hand_written_normalisation_scores_as_the_one_it_copies(proxy: Proxy) -> None:
    expected = proxy(rows(nn.LayerNorm(8)), batch_of((6,)), LOSS)
    assert math.isfinite(expected)
    assert proxy(rows(HandWritten(8)), batch_of((6,)), LOSS) == expected


def test_weights_are_drawn_biases_are_zero_scales_one_and_what_else_there_is_stays() -> None:
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    network = nn.ModuleList([nn.BatchNorm1d(4), nn.GRU(4, 3), attention, nn.PReLU(4), Scale(4, 0.5), HandWritten(4)])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(3.0)
    draw_weights(network, lambda empty: empty.fill_(7.0))
    found = {name: set(value.flatten().tolist()) for name, value in network.named_parameters()}
    assert found.pop("0.weight") == {1.0}
    left = {name: found.pop(name) for name in ("3.weight", "4.gamma", "5.weight", "5.bias")}
    assert left == {"3.weight": {3.25}, "4.gamma": {3.5}, "5.weight": {4.0}, "5.bias": {3.0}}
    rows_of_their_own = {"2.bias_k", "2.bias_v"}  # a key and a value that attention learns
    assert found == {name: {0.0 if "bias" in name and name not in rows_of_their_own else 7.0} for name in found}
    assert len(biases(network)) == 1 + 2 + 2


def test_synflow_beyond_the_range_of_floating_point_knows_scales_from_biases() -> None:
    layers = [layer for _ in range(220) for layer in (nn.Linear(1, 1), Scale(1, 0.5))]
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight.fill_(200.0)
            layer.bias.zero_()
    expected = math.log(220) + 220 * math.log(100)
    assert synflow(nn.Sequential(*layers), batch_of((1,)), LOSS) == pytest.approx(expected)
