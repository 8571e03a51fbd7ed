"""What is known of NAS-Bench-201's cells before any training, looked up: costs, and zero-cost scores as published.

A strategy finds them by path, for example

    python benchmarks/bayesian_nas_bench_201.py --setting 'features=["published_scores:COSTS"]'

NAS_BENCHMARK_DATA names the folder of the tables, as everywhere here. `SCORES_CIFAR10` and `SCORES_IMAGENET16` are the
13 proxies of `nasbench201/nb201_zc13.npz`; a cell that was not scored has the scores of one that computes the same, or
the medians: that nobody looked at it says nothing of it. `COSTS` are millions of parameters and of
multiply-accumulates (cifar10), of all cells.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from predictors.features import Quantities
from search_spaces.architecture import Architecture


@dataclass(frozen=True)
class Table:
    """Rows of numbers by cell; NaN where there are none."""

    names: tuple[str, ...]
    rows: dict[Architecture, np.ndarray]


def folder() -> Path:
    """Where the tables are."""
    named = os.environ.get("NAS_BENCHMARK_DATA")
    if not named:
        raise SystemExit("say where the tables are: set NAS_BENCHMARK_DATA")
    return Path(named) / "nasbench201"


@cache
def cells() -> tuple[tuple[Architecture, ...], np.ndarray]:
    """All cells in the benchmark's order, and for each the first of those that compute the same."""
    with np.load(folder() / "nb201_core.npz", allow_pickle=False) as core:
        operations = [str(name) for name in core["op_names"]]
        paths = [f"cell/{i}->{j}" for i, j in core["edges"].tolist()]
        made = (
            Architecture({path: operations[digit] for path, digit in zip(paths, row, strict=True)})
            for row in core["ops"].tolist()
        )
        return tuple(made), core["iso_rep"]


@cache
def scores(data: str) -> Table:
    """The published scores on "cifar10" or "imagenet16"."""
    everything, same = cells()
    with np.load(folder() / "nb201_zc13.npz", allow_pickle=False) as published:
        names = tuple(str(name) for name in published["proxies"])
        rows = np.full((len(everything), len(names)), np.nan)
        scored = published[f"index_{data}"]
        rows[scored] = published[data]
        of_class = dict(zip(same[scored].tolist(), published[data], strict=True))
    medians = np.nanmedian(rows, axis=0)
    for place in np.flatnonzero(np.isnan(rows).all(axis=1)).tolist():
        rows[place] = of_class.get(int(same[place]), medians)
    return Table(names, dict(zip(everything, rows, strict=True)))


@cache
def costs() -> Table:
    """Parameters and multiply-accumulates, in millions."""
    everything, _ = cells()
    with np.load(folder() / "nb201_core.npz", allow_pickle=False) as core:
        rows = np.stack([core["params_M"][:, 0], core["flops_M_nb201_cifar10"]], axis=1)
    return Table(("parameters", "macs"), dict(zip(everything, rows, strict=True)))


def _scores_of(data: str) -> Quantities:
    def measure(architectures: Sequence[Architecture]) -> np.ndarray:
        table = scores(data)
        return np.array([table.rows[one] for one in architectures], dtype=np.float64).reshape(-1, len(table.names))

    return Quantities(PROXIES, measure)


def _costs_of(architectures: Sequence[Architecture]) -> np.ndarray:
    return np.array([costs().rows[one] for one in architectures], dtype=np.float64).reshape(-1, 2)


PROXIES = (
    *("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm"),
    *("nwot", "params", "plain", "snip", "synflow", "zen"),
)
SCORES_CIFAR10 = _scores_of("cifar10")
SCORES_IMAGENET16 = _scores_of("imagenet16")
COSTS = Quantities(("parameters", "macs"), _costs_of)
