"""How soon halving finds what random search finds with 200 full trainings: learning curves of TaskSet, 4 workers.

    python benchmarks/asha_taskset.py [--data FOLDER] [--seeds 100] [--strategy asha --strategy bohb] [--pairs]

FOLDER (or the environment variable NAS_BENCHMARK_DATA) holds `taskset/taskset_text12.npz`: 12 tasks, 1,000
settings of Adam with eight hyper-parameters, validation losses at 51 points of each training. A trial's budget is how
many of the 50 steps between those points it is trained; one step is one unit of time; a promoted trial pays for what it
adds. A loss that is not finite fails the trial at the first step at which it is not.

The space is continuous: eight numbers on logarithmic scales between the smallest and largest value in the table (of
beta1 and beta2 it is their distance from 1). What a strategy proposes stands for the nearest setting that it has not
begun yet, and is written down with that setting's own numbers: so every training is another one, as in a space without
end, and what a strategy learns is true. All strategies, random search too, draw from the table in this way.

Random search trains 200 architectures fully, which takes 200 x 50 / 4 units. The goal is the smallest validation loss
that it has seen at the end of a training. Printed is the time until a strategy has seen a loss as small at the end of
any of its trials, as a share of random search's time: the median over seeds for each task, and over all. A strategy
that has not seen it by then counts with 1.

With --pairs each study has two metrics: the losses of a setting on two of the tasks (all have the same settings), each
task with the next one. The goal is the hypervolume that random search has seen at the ends of its trainings, up to the
medians of both losses at the end.
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
from nas.pareto import hypervolume
from search_spaces.architecture import Architecture
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

STEPS = 50
WORKERS = 4
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
    "asha_bayesian": {"name": "asha", "strategy": "bayesian"},
    "asha_nsga2": {"name": "asha", "strategy": {"name": "nsga2", "population": 20}},
}


class Task:
    """What each setting of the table does on one task, or on several at once.

    Letters: n settings, p points of a training, m metrics.

    Args:
        settings: (n, 8).
        curves: (n, p, m) losses.
        names: of the eight hyper-parameters.
    """

    def __init__(self, settings: np.ndarray, curves: np.ndarray, names: list[str]) -> None:
        distances = [
            1.0 - column if name.startswith("beta") else column for name, column in zip(names, settings.T, strict=True)
        ]
        logs = np.log(np.stack(distances, axis=1))
        self._low, self._high = logs.min(axis=0), logs.max(axis=0)
        self.points = (logs - self._low) / (self._high - self._low)
        self.curves = curves
        self.metrics = [Metric(f"loss{index}") for index in range(curves.shape[2])]
        ends = curves[:, STEPS]
        self.reference = np.median(ends[np.isfinite(ends).all(axis=1)], axis=0)
        domains = {
            name: Float(math.exp(low), math.exp(high), log=True)
            for name, low, high in zip(names, self._low.tolist(), self._high.tolist(), strict=True)
        }
        self.space = SearchSpace(domains, name="taskset")
        self.architectures = [
            Architecture(
                {
                    name: min(max(math.exp(value), domain.low), domain.high)
                    for (name, domain), value in zip(domains.items(), row, strict=True)
                }
            )
            for row in logs.tolist()
        ]
        self._names = names

    def nearest(self, architecture: Architecture, begun: np.ndarray) -> int:
        """The row of the nearest setting that is not begun; marks it."""
        logs = np.log([float(architecture[name]) for name in self._names])
        distances = ((self.points - (logs - self._low) / (self._high - self._low)) ** 2).sum(axis=1)
        row = int(np.where(begun, np.inf, distances).argmin())
        begun[row] = True
        return row


def load(folder: Path, at_once: int = 1) -> list[Task]:
    """The twelve tasks, or each with the next ones."""
    with np.load(folder / "taskset" / "taskset_text12.npz", allow_pickle=False) as tables:
        names = [str(name) for name in tables["hp_names"]]
        valid = tables["splits"].tolist().index("valid")
        count = len(tables["tasks"])
        curves = [tables[f"curves_{index}"][:, valid].astype(np.float64) for index in range(count)]
        return [
            Task(
                tables[f"hp_{index}"],
                np.stack([curves[(index + more) % count] for more in range(at_once)], axis=2),
                names,
            )
            for index in range(count)
        ]


def goal_of_random_search(task: Task, seed: int) -> float:
    """The hypervolume that 200 full trainings have seen at their ends; of one loss, how far below the reference."""
    strategy = catalogue.load("strategy", "random_search", {})
    drawn = strategy.propose(History(task.space, task.metrics), FULL_TRAININGS, np.random.default_rng([seed, 0]))
    begun = np.zeros(len(task.points), dtype=bool)
    ends = np.array([task.curves[task.nearest(proposal.architecture, begun), STEPS] for proposal in drawn])
    return hypervolume(ends[np.isfinite(ends).all(axis=1)], task.reference)


def time_to(goal: float, task: Task, strategy: Any, seed: int, most: float) -> float:
    """Units of time until four workers have seen as much; `most` if they have not by then."""
    history = History(task.space, task.metrics, seed=seed, budget=BUDGET)
    running: list[tuple[float, int]] = []
    settings: list[int] = []
    losses: dict[int, np.ndarray] = {}
    front = np.empty((0, len(task.metrics)))
    begun = np.zeros(len(task.points), dtype=bool)
    rows: list[SimpleNamespace] = []
    revision, now = itertools.count(1), 0.0

    def tell(row: SimpleNamespace) -> None:
        row.revision = next(revision)
        history.update([SimpleNamespace(**vars(row))])

    def begin() -> bool:
        """Whether the strategy has something more to do."""
        number = len(rows)
        proposals = strategy.propose(history, 1, np.random.default_rng([seed, 1, number]))
        if not proposals or (proposals[0].promoted_from is None and begun.all()):
            return False
        (proposal,) = proposals
        budget, origin = int(proposal.budget), proposal.promoted_from
        done = 0 if origin is None else int(rows[origin].budget)
        setting = task.nearest(proposal.architecture, begun) if origin is None else settings[origin]
        settings.append(setting)
        curve = task.curves[setting, done + 1 : budget + 1]
        lost = np.flatnonzero(~np.isfinite(curve).all(axis=1))
        rows.append(
            SimpleNamespace(
                number=number,
                state="waiting",
                architecture=task.architectures[setting].to_json(),
                canonical_key=str(setting),
                budget=proposal.budget,
                promoted_from=origin,
                repeat=0,
                lineage=json.dumps(list(proposal.lineage)),
                metrics=None,
                worker=None,
                started=None,
                ended=None,
                proposed_revision=history.revision,
            )
        )
        tell(rows[-1])
        if not len(lost):
            losses[number] = curve[-1]
        heapq.heappush(running, (now + (int(lost[0]) + 1 if len(lost) else budget - done), number))
        return True

    while now < most:
        while len(running) < WORKERS and begin():
            pass
        if not running:
            return most
        now, ended = heapq.heappop(running)
        rows[ended].state = "completed" if ended in losses else "failed"
        if ended in losses:
            names = [metric.name for metric in task.metrics]
            rows[ended].metrics = json.dumps(dict(zip(names, losses[ended].tolist(), strict=True)))
        tell(rows[ended])
        if ended in losses and not np.any(np.all(front <= losses[ended], axis=1)):
            front = np.vstack([front[~np.all(losses[ended] <= front, axis=1)], losses[ended]])
            if hypervolume(front, task.reference) >= goal:
                return min(now, most)
    return most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--strategy", choices=list(STRATEGIES), action="append")
    parser.add_argument("--task", type=int, action="append", help="one of the twelve only, from 0")
    parser.add_argument("--pairs", action="store_true", help="two metrics: the losses on a task and on the next one")
    parser.add_argument("--save", action="store_true", help=f"append what is printed to {RESULTS.name}")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    tasks = load(Path(arguments.data), 2 if arguments.pairs else 1)
    wanted = arguments.task or range(len(tasks))
    most = FULL_TRAININGS * STEPS / WORKERS
    goals = {(at, seed): goal_of_random_search(tasks[at], seed) for at in wanted for seed in range(arguments.seeds)}
    what = "two tasks at once, from" if arguments.pairs else "tasks"
    lines = [
        f"share of random search's time, medians over {arguments.seeds} seeds; {what} {' '.join(map(str, wanted))}"
    ]
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
