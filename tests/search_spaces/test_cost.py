from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import EDGES, OPERATIONS, PATHS, nas_bench_201
from search_spaces.cost import Cost, cost

CIFAR = (3, 32, 32)


class Function(nn.Module):
    """A network that is one function of its own."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, **self.layers)


def first_of(x: Tensor, layer: nn.Module) -> Tensor:
    output: Tensor = layer(x)[0]
    return output


@pytest.mark.parametrize(
    ("network", "input_shape", "macs"),
    [
        (nn.Linear(5, 7), (5,), 35),
        (nn.Linear(5, 7), (11, 5), 11 * 35),
        (nn.Conv2d(3, 8, 5, stride=2, padding=2), (3, 9, 9), 25 * 3 * 8 * 25),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 6, 6), 9 * 8 * 36),
        (nn.Conv2d(8, 12, 3, padding=1, groups=4), (8, 6, 6), 9 * 2 * 12 * 36),
        (nn.Conv1d(4, 6, 3), (4, 10), 3 * 4 * 6 * 8),
        (nn.Conv3d(2, 4, 3), (2, 5, 5, 5), 27 * 2 * 4 * 27),
        (nn.ConvTranspose2d(3, 4, 2), (3, 5, 5), 4 * 3 * 4 * 25),
        (Function(lambda x: x @ x.transpose(1, 2)), (5, 7), 5 * 7 * 5),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.AvgPool2d(2)), (3, 4, 4), 0),
        (Function(first_of, layer=nn.LSTM(8, 16, batch_first=True)), (5, 8), 5 * 4 * 16 * (8 + 16)),
        (Function(first_of, layer=nn.GRU(8, 16, batch_first=True)), (5, 8), 5 * 3 * 16 * (8 + 16)),
        (nn.TransformerEncoderLayer(8, 2, 32, batch_first=True), (5, 8), 4 * 5 * 64 + 2 * 25 * 8 + 2 * 5 * 8 * 32),
        (Function(lambda x: nn.functional.scaled_dot_product_attention(x, x, x)), (2, 5, 4), 2 * 2 * 25 * 4),
    ],
)
def test_macs_are_those_of_the_closed_form(network: nn.Module, input_shape: tuple[int, ...], macs: int) -> None:
    assert cost(network, input_shape).macs == macs


@pytest.mark.parametrize(
    ("network", "values"),
    [
        (nn.Linear(8, 32), 8 + 32),
        (nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2)), 32 + 32),
        (nn.Sequential(nn.Linear(8, 32), nn.ReLU(inplace=True), nn.Linear(32, 2)), 8 + 32),
        (nn.Sequential(nn.Linear(8, 32), nn.Unflatten(1, (4, 8)), nn.Flatten()), 8 + 32),
        (Function(lambda x: x + (x + 1).exp()), 3 * 8),
        (Function(lambda x: (x + 1) + (x + 2)), 3 * 8),
        (Function(lambda x: ((x + 1).exp(), x + 2)[0]), 3 * 8),
        (Function(lambda x: x), 8),
        (Function(lambda x: x.double() + 1), 2 * 16),
    ],
)
def test_activation_memory_is_the_peak_of_what_is_still_read(network: nn.Module, values: int) -> None:
    assert cost(network, (8,)).activation_bytes == 4 * values


def test_a_tied_parameter_is_counted_once() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    assert cost(network, (4,)) == Cost(parameters=16 + 8, macs=32, activation_bytes=32)


def test_the_network_is_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cost(network, (4,))
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_whose_control_flow_depends_on_data_has_a_cost_too() -> None:
    layer = nn.Linear(4, 4)
    network = Function(lambda x, layer: layer(x) if x.sum() > 0 else layer(layer(x)), layer=layer)
    assert cost(network, (4,)).macs == 32


@pytest.fixture(scope="module")
def published(benchmark_data: Path) -> dict[str, np.ndarray]:
    """`ops` (cells x edges, ids of `OPERATIONS`), parameters in millions on CIFAR-10, and FLOPs in millions."""
    with np.load(benchmark_data / "nasbench201" / "nb201_core.npz", allow_pickle=False) as table:
        assert tuple(table["op_names"]) == OPERATIONS
        return {
            "ops": table["ops"],
            "parameters": table["params_M"][:, 0].astype(np.float64) * 1e6,
            "flops": table["flops_M_nb201_cifar10"].astype(np.float64) * 1e6,
        }


def cell_cost(operations: tuple[str, ...]) -> Cost:
    return cost(build(nas_bench_201(), dict(zip(PATHS, operations, strict=True)), CIFAR, 10), CIFAR)


@pytest.mark.slow
def test_costs_of_nas_bench_201_are_the_published_ones_for_cells_with_every_operation(
    published: dict[str, np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.choice(len(published["ops"]), 3, replace=False)
    assert set(published["ops"][rows].ravel()) == set(range(len(OPERATIONS)))
    for row in rows:
        found = cell_cost(tuple(OPERATIONS[index] for index in published["ops"][row]))
        assert found.parameters == round(published["parameters"][row])
        # The benchmark counts the 10 biases of the last layer, too; its table has single precision.
        assert found.macs + 10 == pytest.approx(published["flops"][row], rel=1e-7)


@pytest.mark.slow
def test_costs_of_nas_bench_201_are_the_published_ones_for_all_cells(published: dict[str, np.ndarray]) -> None:
    """Costs add up over edges, so networks with one operation on one edge give those of all 15,625 cells."""
    none = OPERATIONS[0]
    empty = cell_cost((none,) * len(EDGES))
    parameters = np.full(len(published["ops"]), float(empty.parameters))
    macs = np.full(len(published["ops"]), float(empty.macs))
    for index, operation in enumerate(OPERATIONS[1:], start=1):
        one = cell_cost((none,) * (len(EDGES) - 1) + (operation,))
        count = (published["ops"] == index).sum(1)
        parameters += count * (one.parameters - empty.parameters)
        macs += count * (one.macs - empty.macs)
    np.testing.assert_array_equal(parameters, np.round(published["parameters"]))
    np.testing.assert_allclose(macs + 10, published["flops"], rtol=1e-6)
