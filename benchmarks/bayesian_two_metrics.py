"""Two metrics on NAS-Bench-201 (HW-NAS-Bench): which share of the true hypervolume a search has after some evaluations.

    python benchmarks/bayesian_two_metrics.py --data FOLDER [--seeds 50] [--strategy bayesian] [--setting KEY=VALUE]
    python benchmarks/bayesian_two_metrics.py --data FOLDER --tries 2

FOLDER (or NAS_BENCHMARK_DATA) holds `nasbench201/nb201_core.npz` and `nasbench201/hw_nas_bench_nb201.npz`. The metrics
are the error on cifar10's validation set after 200 epochs (percent, mean over seeds) and an edge GPU's latency (ms);
the reference point is (20, 7.177). Printed are mean and standard error of the share after 100, 150 and 300 evaluations.

Many cells compute the same, and of those the table has the luckiest training on the front. `--tries` says how much of
the front that is: nothing is searched, of every network at every latency (within 1 %) so many cells are drawn.
"""

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from driven import driven, settings_of
from nas_bench_201_queries import PLACES, mean_and_error

from nas import catalogue
from nas.metric import Metric
from nas.pareto import hypervolume
from search_spaces.canonical import canonical_key
from search_spaces.catalogue.nas_bench_201 import EDGES, OPERATIONS, from_ids, nas_bench_201, to_ids

REFERENCE = (20.0, 7.177)
MOMENTS = (100, 150, 300)


def table(data: Path) -> np.ndarray:
    """(15625, 2) error in percent and latency in ms, by a cell's six digits in base five."""
    with np.load(data / "nasbench201" / "nb201_core.npz", allow_pickle=False) as core:
        operations = np.array([OPERATIONS.index(str(name)) for name in core["op_names"]])[core["ops"]]
        edges = [f"{i}->{j}" for i, j in core["edges"].tolist()]
        codes = operations[:, [edges.index(edge) for edge in EDGES]] @ PLACES
        column = [str(name) for name in core["datasets"]].index("cifar10")
        errors = 100.0 - core["val200"][:, column].astype(np.float64)
    with np.load(data / "nasbench201" / "hw_nas_bench_nb201.npz", allow_pickle=False) as hardware:
        measured = [str(name) for name in hardware["metrics"]].index("edgegpu_latency")
        latencies = hardware["cifar10"][:, measured].astype(np.float64)
    values = np.empty((len(codes), 2))
    values[codes] = np.stack([errors, latencies], axis=1)
    return values


def by_luck(data: Path, tries: int, draws: int = 50) -> tuple[int, np.ndarray]:
    """(draws,) shares of so many cells of each network at each latency; and how many cells those are."""
    values, space = table(data), nas_bench_201()
    networks: dict[str, list[int]] = {}
    for ids in product(range(len(OPERATIONS)), repeat=len(EDGES)):
        networks.setdefault(canonical_key(space, from_ids(ids)), []).append(int(np.array(ids) @ PLACES))
    alike: list[list[int]] = []
    for cells in networks.values():
        slowest = 0.0
        for cell in sorted(cells, key=lambda cell: values[cell, 1]):
            if values[cell, 1] > slowest:
                alike.append([])
                slowest = 1.01 * values[cell, 1]
            alike[-1].append(cell)
    rng, whole = np.random.default_rng(0), hypervolume(values, REFERENCE)
    drawn = [np.concatenate([rng.permutation(cells)[:tries] for cells in alike]) for _ in range(draws)]
    return len(drawn[0]), np.array([hypervolume(values[cells], REFERENCE) / whole for cells in drawn])


def shares(
    name: str, settings: dict[str, Any], limited: bool, data: Path, moments: Sequence[int], seed: int
) -> tuple[list[float], float]:
    """Of one run, after each of the moments; and its seconds."""
    values = table(data)
    limits = REFERENCE if limited else (None, None)
    metrics = [Metric("error", limit=limits[0]), Metric("latency_ms", limit=limits[1])]
    strategy = catalogue.load("strategy", name, settings, allow=["tests"])
    whole, found = hypervolume(values, REFERENCE), []

    def measure(architecture: Any) -> dict[str, float]:
        error, latency = values[int(np.array(to_ids(architecture)) @ PLACES)].tolist()
        return {"error": error, "latency_ms": latency}

    began = time.perf_counter()
    for history in driven(strategy, nas_bench_201(), metrics, measure, seed):
        if len(history) in moments:
            found.append(hypervolume(history.finished.losses, REFERENCE) / whole)
        if len(history) == moments[-1]:
            return found, time.perf_counter() - began
    raise AssertionError("a driven search has no end")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--strategy", action="append", help="one or several; by default bayesian and nsga2")
    parser.add_argument("--setting", action="append", default=[], help="KEY=VALUE of the strategies")
    parser.add_argument(
        "--limited", action="store_true", help="tell the strategy the reference, as the metrics' limits"
    )
    parser.add_argument("--most", type=int, default=MOMENTS[-1], help="end after so many evaluations")
    parser.add_argument("--tries", type=int, help="no search: so many cells of each network at each latency")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    if arguments.tries is not None:
        cells, found = by_luck(Path(arguments.data), arguments.tries)
        print(f"{arguments.tries} of each: {cells:,} cells, {found.mean():.4f}, standard deviation {found.std():.4f}")
        return
    settings = settings_of(arguments.setting)
    moments = [moment for moment in MOMENTS if moment <= arguments.most]
    print(f"{'strategy':22}" + "".join(f"{moment:>17}" for moment in moments) + f"{'ms/trial':>10}")
    for name in arguments.strategy or ["bayesian", "nsga2"]:
        given = settings if name != "nsga2" else {"population": 20}
        run = partial(shares, name, given, arguments.limited, Path(arguments.data), moments)
        with ProcessPoolExecutor(arguments.processes) as pool:
            runs = list(pool.map(run, range(arguments.seeds)))
        columns = np.array([share for share, _ in runs]).T
        texts = [f"{mean:.4f} ± {error:.4f}" for mean, error in (mean_and_error(column) for column in columns)]
        milliseconds = 1000 * sum(seconds for _, seconds in runs) / (len(runs) * moments[-1])
        print(f"{name:22}" + "".join(f"{text:>17}" for text in texts) + f"{milliseconds:10.1f}", flush=True)


if __name__ == "__main__":
    main()
