"""Joint search for architecture and hyper-parameters on FCNet: regret after 100 evaluations, beside Optuna's samplers.

    python benchmarks/joint_fcnet.py --data FOLDER [--seeds 20] [--task protein_structure] [--method bayesian]

FOLDER (or NAS_BENCHMARK_DATA) holds `fcnet/hpolib_fcnet.npz`: a perceptron's two layers (widths, activations, dropout)
and its training (rate, schedule, batch size) on four regression tasks. An evaluation is a setting's validation error
(mean square, the mean of its four trainings). Regret is the smallest of them so far less the smallest of all.
Printed are its mean and standard error over the seeds, in units of the task's smallest error; then how many standard
errors of the difference ours is ahead of each peer (of the same seeds; below -2 it would be behind).

Optuna's peers are its TPE, its GPSampler and random sampling, with their defaults. They are told the order of widths,
rates and batch sizes as well: those are whole numbers to them, the place in the list.
"""

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from driven import driven, settings_of
from nas_bench_201_queries import mean_and_error
from results import save

from nas import catalogue
from nas.metric import Metric
from search_spaces.nodes import Choice, Integer, Scalar
from search_spaces.space import SearchSpace
from workers.evaluators.tables import fcnet
from workers.evaluators.tables.table import Table

TASKS = ("slice_localization", "protein_structure", "naval_propulsion", "parkinsons_telemonitoring")
OURS = "bayesian"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: (OURS, {}),
    "tpe": ("optuna", {"sampler": "tpe"}),
    "gp": ("optuna", {"sampler": "gp"}),
    "random": ("optuna", {"sampler": "random"}),
}
"""Name -> strategy and settings."""

ORDERED = {
    path: decision.domain.labels
    for path, decision in fcnet.space.by_path.items()
    if isinstance(decision.domain, Choice) and all(isinstance(label, int | float) for label in decision.domain.labels)
}
"""The decisions of numbers, and those numbers, rising."""

PLACES = SearchSpace(
    {
        path: Integer(0, len(ORDERED[path]) - 1) if path in ORDERED else decision.domain
        for path, decision in fcnet.space.by_path.items()
    },
    name="fcnet_places",
)
"""The same space with a number's place in its list instead of the number."""


@cache
def losses_of(data: Path, task: str) -> tuple[Table, np.ndarray]:
    """The table of a task, and (62208,) mean validation losses."""
    table = fcnet.fcnet(str(data / fcnet.USUAL_FILE), task, "validation", None)
    return table, table.columns["loss"].mean(axis=1)


def numbers(architecture: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """An architecture of `PLACES` as one of `fcnet.space`."""
    return {
        path: ORDERED[path][value] if path in ORDERED and isinstance(value, int) else value
        for path, value in architecture.items()
    }


def regrets(
    method: str, settings: Mapping[str, Any], data: Path, task: str, moments: tuple[int, ...], seed: int
) -> list[float]:
    """Of one run, after each of the moments, in units of the task's smallest loss."""
    name, own = METHODS[method]
    table, losses = losses_of(data, task)
    space, to_numbers = (fcnet.space, dict) if method == OURS else (PLACES, numbers)
    strategy = catalogue.load("strategy", name, {**own, **settings} if method == OURS else own, allow=["benchmarks"])

    def measure(architecture: Mapping[str, Scalar]) -> dict[str, float]:
        return {"loss": float(losses[table.row(to_numbers(architecture))])}

    *_, history = islice(driven(strategy, space, [Metric("loss")], measure, seed), moments[-1])
    found = np.minimum.accumulate(history.finished.losses[:, 0])
    return [float(found[moment - 1] / losses.min() - 1.0) for moment in moments]


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--task", choices=TASKS, action="append", dest="tasks")
    parser.add_argument("--method", choices=list(METHODS), action="append", dest="methods")
    parser.add_argument("--setting", action="append", default=[], help="KEY=VALUE of bayesian")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    parser.add_argument("--save", type=Path, help="append the lines to this file, with date and machine")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    if arguments.seeds < 2:
        parser.error("--seeds: a spread needs at least two")
    moments = tuple(sorted({max(1, arguments.trials // 2), arguments.trials}))
    settings = settings_of(arguments.setting)
    lines = [f"{'task':26} {'method':10}" + "".join(f"{moment:>20}" for moment in moments) + f"{'ours ahead by':>16}"]
    print(lines[0])
    for task in arguments.tasks or TASKS:
        ours: np.ndarray | None = None
        for method in arguments.methods or METHODS:
            run = partial(regrets, method, settings, Path(arguments.data), task, moments)
            with ProcessPoolExecutor(arguments.processes) as pool:
                found = np.array(list(pool.map(run, range(arguments.seeds))))
            texts = [f"{mean:.4f} ± {error:.4f}" for mean, error in map(mean_and_error, found.T.tolist())]
            ahead = ""
            if method == OURS:
                ours = found[:, -1]
            elif ours is not None:
                mean, error = mean_and_error((found[:, -1] - ours).tolist())
                ahead = f"{mean / error if error > 0.0 else 0.0:.1f} errors"
            lines.append(f"{task:26} {method:10}" + "".join(f"{text:>20}" for text in texts) + f"{ahead:>16}")
            print(lines[-1], flush=True)
    if arguments.save:
        save(arguments.save, lines)


if __name__ == "__main__":
    main()
