"""How soon halving finds what random search finds with 200 full trainings: learning curves of TaskSet, 4 workers.

    python benchmarks/asha_taskset.py [--data FOLDER] [--seeds 100] [--strategy asha --strategy bohb]

FOLDER (or the environment variable NAS_BENCHMARK_DATA) holds `taskset/taskset_text12.npz`: 12 tasks, 1,000
settings of Adam with eight hyper-parameters, validation losses at 51 points of each training. A trial's budget is how
many of the 50 steps between those points it is trained; one step is one unit of time; a promoted trial pays for what it
adds. The space is continuous: eight numbers on logarithmic scales between the smallest and largest value in the table
(of beta1 and beta2 it is their distance from 1), and an architecture's curve is that of the nearest setting. So all
strategies draw from the same space. A setting that is met again at a budget costs no time, as in a study, which takes
over results of the same computation. A loss that is not finite fails the trial at the first step at which it is not.

Random search trains 200 architectures fully, which takes 200 x 50 / 4 units. The goal is the smallest validation loss
that it has seen at the end of a training. Printed is the time until a strategy has seen a loss as small at the end of
any of its trials, as a share of random search's time: the median over seeds for each task, and over all. A strategy
that has not seen it by then counts with 1.
"""

import argparse
import heapq
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from results import save

from nas import catalogue
from nas.budget import Budget
from nas.history import History
from nas.metric import Metric
from search_spaces.architecture import Architecture
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

STEPS = 50
WORKERS = 4
MOST_TRIALS = 5000
FULL_TRAININGS = 200
BUDGET = Budget(name="steps", least=1, most=STEPS)
RESULTS = Path(__file__).parent / "results" / "asha_taskset.txt"
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "asha": {"name": "asha"},
    "bohb": {"name": "bohb", "halving": "asha"},
    "bohb_hyperband": {"name": "bohb"},
    "hyperband": {"name": "hyperband"},
    "successive_halving": {"name": "successive_halving"},
    "asha_evolution": {"name": "asha", "strategy": {"name": "regularized_evolution", "population": 50}},
}


class Task:
    """The curves of one task, by architecture."""

    def __init__(self, settings: np.ndarray, curves: np.ndarray, names: list[str]) -> None:
        distances = [
            1.0 - column if name.startswith("beta") else column for name, column in zip(names, settings.T, strict=True)
        ]
        logs = np.log(np.stack(distances, axis=1))
        self._low, self._high = logs.min(axis=0), logs.max(axis=0)
        self._points = (logs - self._low) / (self._high - self._low)
        self.curves = curves
        self.space = SearchSpace(
            {
                name: Float(math.exp(low), math.exp(high), log=True)
                for name, low, high in zip(names, self._low.tolist(), self._high.tolist(), strict=True)
            },
            name="taskset",
        )
        self._names = names

    def setting(self, architecture: Architecture) -> int:
        """The row of the nearest setting."""
        logs = np.log([float(architecture[name]) for name in self._names])
        point = (logs - self._low) / (self._high - self._low)
        return int(((self._points - point) ** 2).sum(axis=1).argmin())


def load(folder: Path) -> list[Task]:
    """The twelve tasks."""
    with np.load(folder / "taskset" / "taskset_text12.npz", allow_pickle=False) as tables:
        names = [str(name) for name in tables["hp_names"]]
        valid = tables["splits"].tolist().index("valid")
        return [
            Task(tables[f"hp_{index}"], tables[f"curves_{index}"][:, valid], names)
            for index in range(len(tables["tasks"]))
        ]


def goal_of_random_search(task: Task, seed: int) -> float:
    """The smallest loss at the end of 200 full trainings."""
    strategy = catalogue.load("strategy", "random_search", {})
    drawn = strategy.propose(History(task.space, [Metric("loss")]), FULL_TRAININGS, np.random.default_rng([seed, 0]))
    ends = [task.curves[task.setting(proposal.architecture), STEPS] for proposal in drawn]
    return float(np.nanmin(np.where(np.isfinite(ends), ends, np.nan)))


def time_to(goal: float, task: Task, strategy: Any, seed: int, most: float) -> float:
    """Units of time until four workers have seen a loss as small; `most` if they have not by then."""
    history, rows = History(task.space, [Metric("loss")], seed=seed, budget=BUDGET), {}
    running: list[tuple[float, int]] = []
    known: set[tuple[int, int]] = set()
    revision, now, number = itertools.count(1), 0.0, 0

    def told(row: SimpleNamespace) -> None:
        row.revision = next(revision)
        history.update([SimpleNamespace(**vars(row))])

    while now < most and number < MOST_TRIALS:
        while len(running) < WORKERS:
            (proposal,) = strategy.propose(history, 1, np.random.default_rng([seed, 1, number]))
            budget = int(proposal.budget)
            done = 0 if proposal.promoted_from is None else int(rows[proposal.promoted_from].budget)
            setting = task.setting(proposal.architecture)
            curve = task.curves[setting, done + 1 : budget + 1]
            lost = np.flatnonzero(~np.isfinite(curve))
            row = rows[number] = SimpleNamespace(
                number=number,
                state="waiting",
                architecture=proposal.architecture.to_json(),
                canonical_key=str(setting),
                budget=proposal.budget,
                promoted_from=proposal.promoted_from,
                repeat=0,
                lineage=json.dumps(list(proposal.lineage)),
                metrics=None,
                worker=None,
                started=None,
                ended=None,
                proposed_revision=history.revision,
            )
            told(row)
            steps = int(lost[0]) + 1 if len(lost) else budget - done
            if (setting, budget) in known:
                steps = 0
            known.add((setting, budget))
            row.metrics = None if len(lost) else json.dumps({"loss": float(curve[-1])})
            row.state = "failed" if len(lost) else "completed"
            heapq.heappush(running, (now + steps, number))
            number += 1
        now, ended = heapq.heappop(running)
        told(rows[ended])
        if rows[ended].metrics is not None and json.loads(rows[ended].metrics)["loss"] <= goal:
            return min(now, most)
    return most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--strategy", choices=list(STRATEGIES), action="append")
    parser.add_argument("--task", type=int, action="append", help="one of the twelve only, from 0")
    parser.add_argument("--save", action="store_true", help=f"append what is printed to {RESULTS.name}")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    tasks = load(Path(arguments.data))
    wanted = arguments.task or range(len(tasks))
    most = FULL_TRAININGS * STEPS / WORKERS
    goals = {(at, seed): goal_of_random_search(tasks[at], seed) for at in wanted for seed in range(arguments.seeds)}
    lines = [f"share of random search's time, medians over {arguments.seeds} seeds; tasks {' '.join(map(str, wanted))}"]
    print(lines[0])
    for name in arguments.strategy or ("asha", "bohb"):
        settings = dict(STRATEGIES[name])
        began, shares = time.perf_counter(), {}
        for at in wanted:
            strategy = catalogue.load(
                "strategy", str(settings["name"]), {k: settings[k] for k in settings if k != "name"}
            )
            shares[at] = [
                time_to(goals[at, seed], tasks[at], strategy, seed, most) / most for seed in range(arguments.seeds)
            ]
        everything = [share for some in shares.values() for share in some]
        medians = " ".join(f"{statistics.median(some):.3f}" for some in shares.values())
        lines.append(
            f"{name:20} {statistics.median(everything):.3f} (mean {statistics.fmean(everything):.3f}, "
            f"not reached {sum(share >= 1 for share in everything)} of {len(everything)})  by task: {medians}"
        )
        print(f"{lines[-1]}  [{time.perf_counter() - began:.0f} s]", flush=True)
    if arguments.save:
        save(RESULTS, lines)


if __name__ == "__main__":
    main()
