"""The study that is tormented, and what its processes run: real workers and real controllers on a real database."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nas import catalogue
from nas.controller import Controller
from nas.metric import Metric
from nas.settings import Limits, StopRules
from nas.store import open_queue
from nas.studies import create_study, open_study
from nas.study import Study
from search_spaces import Choice, Float, Integer, SearchSpace
from tests.chaos.journal import Journal
from workers.in_process import InProcess
from workers.local_pool import LocalPool
from workers.pool import GRACE_SECONDS, Pool, WorkerDied
from workers.protocol import ClaimedTrial, LeaseLost, TrialQueue
from workers.worker import Worker

STUDY = "chaos"
WORKER_PREFIX = "chaos-"
LEASE_SECONDS = 0.5
LOSS_LIMIT = 10
ALLOWED = ("tests",)

METRICS = (Metric("error"), Metric("size"))
STRATEGIES: dict[str, dict[str, Any]] = {
    "random_search": {},
    "grid": {"points": 12},
    "regularized_evolution": {"population": 10, "tournament": 3},
    "local_search": {"initial": 3},
    "nsga2": {"population": 6},
    "stage_zero": {"proxies": ["tests.nas.strategies.look_ups:PERFECT"], "initial": 8, "candidates": 20},
    "optuna": {"settings": {"n_startup_trials": 5, "n_ei_candidates": 8}},
}
"""Settings under which a strategy shows all it does within few trials; others run with their defaults."""

#: large enough that no strategy runs out of it, with decisions of every kind
SPACE = SearchSpace(
    {
        "rate": Float(1e-4, 1.0, log=True),
        "width": Integer(1, 512),
        "kind": Choice({"plain": {}, "deep": {"depth": Integer(1, 40)}}),
    },
    name="chaos",
)


def values(architecture: Mapping[str, Any]) -> dict[str, float]:
    """What every evaluation must give; the oracle computes it again from the architecture alone."""
    depth = architecture.get("kind/deep/depth", 0)
    rate, width = architecture["rate"], architecture["width"]
    return {"error": abs(rate - 0.03) + 1.0 / width + 0.01 * depth, "size": float(width * (1 + depth))}


@dataclass(frozen=True)
class Evaluation:
    """Takes about `seconds`, most of them shorter and some longer, and reports on the way."""

    seconds: float

    def evaluate(self, assignment: Any, report: Any) -> dict[str, float]:
        share = (assignment.seed % 1000) / 1000
        for step in range(2):
            time.sleep(self.seconds * share)
            report(step, error=float(step))
        return values(assignment.architecture)


def create(
    url: str,
    *,
    strategy: str,
    trials: int,
    seed: int,
    lease_seconds: float = LEASE_SECONDS,
    evaluator: str | None = None,
) -> Study:
    """A study as STORE.md's table has it: lease 0.5 s, no back-off, loss limit 10."""
    made = catalogue.load("strategy", strategy, STRATEGIES.get(strategy, {}))
    return create_study(
        STUDY,
        space=SPACE,
        metrics=METRICS,
        strategy=made,
        storage=url,
        seed=seed,
        stop=StopRules(trials=trials),
        evaluator=evaluator,
        budget="epochs:1:9" if getattr(made, "needs_budget", False) else None,
        allow=ALLOWED,
        limits=Limits(
            lease_seconds=lease_seconds, beat_seconds=lease_seconds / 6, report_seconds=0.1, lost=LOSS_LIMIT,
            backoff_seconds=0.0,
        ),
    )  # fmt: skip


class JournalledQueue:
    """The real queue; writes down what it was told, once it was told it."""

    def __init__(self, queue: TrialQueue, journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self._numbers: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def claim(self, worker: str, count: int, *, claim_key: str) -> Sequence[ClaimedTrial]:
        claimed = self._queue.claim(worker, count, claim_key=claim_key)
        for trial in claimed:
            self._numbers[trial.trial_id] = trial.number
            self._journal.write("claimed", trial.number, trial.attempt)
        return claimed

    def finish(self, trial_id: int, attempt: int, metrics: Mapping[str, float], **more: Any) -> bool:
        try:
            new = self._queue.finish(trial_id, attempt, metrics, **more)
        except LeaseLost:
            self._journal.write("refused", self._numbers[trial_id], attempt)
            raise
        self._journal.write("acknowledged", self._numbers[trial_id], attempt, metrics["error"])
        return new


def open_journalled(url: str, folder: Path, name: str) -> Any:
    """The study's queue with a journal of this name."""
    return JournalledQueue(open_queue(url, STUDY), Journal(folder, name))


@dataclass(frozen=True)
class Elsewhere:
    """A pool whose workers are the harness's own processes, which die and come back without being asked."""

    size: int

    def owns(self, worker: str) -> bool:
        return worker.startswith(WORKER_PREFIX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to stop."""

    def tend(self) -> Sequence[WorkerDied]:
        return ()

    def work(self, seconds: float, wait: Callable[[float], object]) -> None:
        wait(seconds)

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing to free."""


def join_the_crew() -> None:
    """What each process of the harness begins with: it ends when the harness is killed, and is quiet.

    Lost leases and broken connections are what is wanted here, by the hundred; what ends a process still shows.
    """
    logging.disable(logging.ERROR)
    harness = parent_process()
    if harness is None:
        return

    def watch() -> None:
        harness.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="harness").start()


def work(url: str, folder: Path, name: str, seconds: float) -> None:
    """A worker's process: ends by being killed."""
    join_the_crew()
    worker = Worker(
        open_journalled(url, folder, name),
        InProcess(Evaluation(seconds), space=SPACE),
        name=f"{WORKER_PREFIX}{name}",
    )
    worker.run()


def control(url: str, pool: Pool, *, stop: StopRules | None = None) -> str:
    """What `Study.run` does, with a pool of the harness's choice; returns why the search ended."""
    study = open_study(STUDY, url, allow=ALLOWED)
    controller = Controller(
        store=study.store,
        study_id=study.id,
        seed=study.seed,
        history=study.history,
        strategy=study.strategy,
        pool=pool,
        stop=stop or study.stop,
    )
    try:
        return controller.run()
    finally:
        study.close()


def lead(url: str, size: int) -> None:
    """A controller's process, for workers in other processes."""
    join_the_crew()
    control(url, Elsewhere(size))


def search(url: str, folder: Path, name: str, seconds: float) -> None:
    """A serial search in one process, its worker included: the controller of `nas search --workers 1`."""
    join_the_crew()
    serial(url, folder, name, seconds)


def serial(url: str, folder: Path, name: str, seconds: float) -> str:
    """The same in this process."""
    opened = partial(open_journalled, url, folder, name)
    return control(url, LocalPool(opened, Evaluation(seconds), space=SPACE))
