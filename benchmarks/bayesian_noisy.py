"""One noisy measurement per cell of NAS-Bench-201: how good is the cell that is recommended after 150 evaluations?

    python benchmarks/bayesian_noisy.py --data FOLDER [--seeds 50] [--strategy bayesian] [--setting KEY=VALUE]

FOLDER (or NAS_BENCHMARK_DATA) holds `nasbench201/nb201_core.npz`. A search sees the validation accuracy, after 200
epochs, of one training seed, drawn for each cell and search. Printed are mean and standard error of the regret in the
mean validation accuracy over the training seeds (percent): of the cell with the best posterior mean, and of the one
that measured best; then the former's test accuracy. A strategy without a predictor recommends what measured best.

With `--confirm 3` the last 6 of the evaluations measure the 3 cells believed to be best twice more, each time with
another training seed (the last one again where the table has no more), and the best mean of them is recommended.
"""

import argparse
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from driven import driven, settings_of
from nas_bench_201_queries import PLACES, mean_and_error

from nas import catalogue
from nas.metric import Metric
from nas.recommended import recommended
from nas.settings import StopRules
from nas.strategies.confirming import confirming
from search_spaces.catalogue.nas_bench_201 import EDGES, OPERATIONS, nas_bench_201, to_ids

SETS = ("cifar10", "cifar100", "ImageNet16-120")


def tables(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(15625, 3) validation accuracies of the training seeds, NaN where there is none; (15625,) test accuracies."""
    with np.load(data / "nasbench201" / "nb201_core.npz", allow_pickle=False) as core:
        operations = np.array([OPERATIONS.index(str(name)) for name in core["op_names"]])[core["ops"]]
        edges = [f"{i}->{j}" for i, j in core["edges"].tolist()]
        codes = operations[:, [edges.index(edge) for edge in EDGES]] @ PLACES
        column = [str(dataset) for dataset in core["datasets"]].index(name)
        of_seeds, tests = core["val200_seeds"], core["test200"]  # cells x data sets x seeds
        accuracies, test = np.empty((len(codes), of_seeds.shape[2])), np.empty(len(codes))
        accuracies[codes] = of_seeds[:, column]
        test[codes] = tests[:, column]
    return accuracies, test


def regrets(
    name: str, settings: dict[str, Any], data: Path, dataset: str, trials: int, confirm: int, seed: int
) -> tuple[float, float, float]:
    """Of the recommended and of the best-measured cell of one run; the recommended one's test accuracy."""
    accuracies, test = tables(data, dataset)
    means = np.nanmean(accuracies, axis=1)
    chance = np.random.default_rng([201, seed])
    drawn = chance.random(accuracies.shape)
    drawn[np.isnan(accuracies)] = -1.0
    seen = np.take_along_axis(accuracies, np.argsort(-drawn, axis=1, kind="stable"), axis=1)  # NaN last
    known = (~np.isnan(accuracies)).sum(axis=1)
    measured_before: Counter[int] = Counter()
    strategy = catalogue.load("strategy", name, settings, allow=["tests"])

    def code(architecture: Any) -> int:
        return int(np.array(to_ids(architecture)) @ PLACES)

    def measure(architecture: Any) -> dict[str, float]:
        place = code(architecture)
        repeat = min(measured_before[place], int(known[place]) - 1)
        measured_before[place] += 1
        return {"accuracy": float(seen[place, repeat])}

    searching = confirming(strategy, confirm, StopRules(trials=trials))
    run = driven(searching, nas_bench_201(), [Metric("accuracy")], measure, seed)
    (history,) = islice(run, trials - 1, trials)
    measured = history.finished.architecture(int(history.finished.losses[:, 0].argmin()))
    chosen = measured
    if confirm or hasattr(strategy, "believed"):
        chosen = history.trial(recommended(strategy, history, confirm=confirm).number).architecture
    best = float(means.max())
    return best - means[code(chosen)], best - means[code(measured)], float(test[code(chosen)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--confirm", type=int, default=0, help="so many finalists are measured twice more")
    parser.add_argument("--strategy", action="append", help="one or several; by default bayesian and local_search")
    parser.add_argument("--setting", action="append", default=[], help="KEY=VALUE of bayesian")
    parser.add_argument("--set", choices=SETS, action="append", dest="sets")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    settings = settings_of(arguments.setting)
    print(f"{'strategy':22} {'data':15} {'recommended':>16} {'best measured':>16} {'test accuracy':>16}")
    for name in arguments.strategy or ["bayesian", "local_search"]:
        given = settings if name == "bayesian" else {}
        for dataset in arguments.sets or SETS:
            run = partial(regrets, name, given, Path(arguments.data), dataset, arguments.trials, arguments.confirm)
            with ProcessPoolExecutor(arguments.processes) as pool:
                columns = np.array(list(pool.map(run, range(arguments.seeds)))).T
            texts = [f"{mean:.3f} ± {error:.3f}" for mean, error in (mean_and_error(column) for column in columns)]
            print(f"{name:22} {dataset:15}" + "".join(f"{text:>17}" for text in texts), flush=True)


if __name__ == "__main__":
    main()
