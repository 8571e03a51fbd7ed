"""The torments: one implementation each, with a size; the suite runs them small, `make chaos` in full."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.studies import delete_study
from nas.study import Study
from tests.chaos import tormented
from tests.chaos.crew import Crew
from tests.chaos.journal import Progress
from tests.chaos.oracle import Findings, judge
from tests.chaos.server import Server

LONGEST_SECONDS = 900.0
"""A run that takes longer hangs."""

LAST_SHARE = 0.9
"""No harm is done after this share of the trials, so that all of it is done while there is work."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done to a study, and what the oracle found."""

    done: dict[str, int]
    findings: Findings
    seconds: float


def schedule(rng: random.Random, trials: int, **harms: int) -> list[tuple[int, str]]:
    """When each harm is done, in acknowledged trials: at random, in order."""
    return sorted(
        (rng.randrange(1, max(2, int(LAST_SHARE * trials))), harm) for harm in harms for _ in range(harms[harm])
    )


def torment(
    url: str,
    folder: Path,
    *,
    seed: int,
    trials: int,
    strategy: str = "random_search",
    workers: int = 4,
    controllers: int = 1,
    worker_kills: int = 0,
    worker_stops: int = 0,
    controller_kills: int = 0,
    restarts: int = 0,
    server: Server | None = None,
    stop_seconds: tuple[float, float] = (1.0, 4.0),
    trial_seconds: float = 0.04,
    reproduce: bool = False,
) -> Outcome:
    """Workers and controllers in processes of their own, killed, paused and cut off while they search.

    Args:
        url: an empty database, or one without a study of this name.
        folder: where journals are kept.
        seed: of the study and of what is done to it when.
        trials: in all.
        strategy: a short name.
        workers: processes that evaluate.
        controllers: processes that propose and reap, all for the same study.
        worker_kills: SIGKILLs of workers.
        worker_stops: SIGSTOPs of workers, each followed by a SIGCONT.
        controller_kills: SIGKILLs of controllers.
        restarts: crashes of the database `server`.
        server: of the URL.
        stop_seconds: shortest and longest pause.
        trial_seconds: mean length of a trial.
        reproduce: whether each proposal is made again from the rows.
    """
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    study = tormented.create(url, strategy=strategy, trials=trials, seed=seed)
    began = time.monotonic()
    harms = schedule(
        rng, trials, kill=worker_kills, stop=worker_stops, headless=controller_kills, restart=restarts
    )  # fmt: skip
    done = dict.fromkeys(("kill", "stop", "headless", "restart"), 0)
    progress = Progress(folder, "acknowledged")
    leaders = Crew(
        controllers, "controller", tormented.lead, lambda name: (url, max(1, workers // controllers)), once=True
    )
    hands = Crew(workers, "worker", tormented.work, lambda name: (url, folder, name, trial_seconds))
    with closing(study):
        with leaders, hands:
            while not leaders.is_done:
                _check_time(began)
                leaders.tend()
                hands.tend()
                if not harms or progress.count() < harms[0][0]:
                    time.sleep(0.01)
                    continue
                time.sleep(rng.uniform(0.0, 0.03))
                harm = harms[0][1]
                crew = leaders if harm == "headless" else hands
                victims = crew.victims()
                if harm != "restart" and not victims:
                    time.sleep(0.01)  # all are paused
                    continue
                harms.pop(0)
                if harm == "restart":
                    assert server is not None
                    server.crash()
                    server.start()
                    done[harm] += 1
                elif harm == "stop":
                    hands.pause(rng.choice(victims), rng.uniform(*stop_seconds))
                    done[harm] += 1
                else:
                    done[harm] += crew.kill(rng.choice(victims))
            _let_zombies_speak(hands)
        return _judged(study, folder, done, began, trials, reproduce=reproduce)


def headless(
    url: str, folder: Path, *, seed: int, trials: int, kills: int, strategy: str, trial_seconds: float = 0.004
) -> Outcome:
    """A serial search in one process, killed again and again and resumed; beside the same search left alone."""
    undisturbed = tormented.create(url, strategy=strategy, trials=trials, seed=seed)
    (folder / "undisturbed").mkdir(parents=True)
    with closing(undisturbed):
        tormented.serial(url, folder / "undisturbed", "undisturbed", 0.0)
        plan = told(undisturbed)
    delete_study(tormented.STUDY, url)

    rng = random.Random(seed)
    study = tormented.create(url, strategy=strategy, trials=trials, seed=seed)
    began = time.monotonic()
    harms = schedule(rng, len(plan), headless=kills)
    progress, killed = Progress(folder, "acknowledged"), 0
    crew = Crew(1, "search", tormented.search, lambda name: (url, folder, name, trial_seconds), once=True)
    with closing(study):
        with crew:
            while not crew.is_done:
                _check_time(began)
                crew.tend()
                if harms and progress.count() >= harms[0][0]:
                    time.sleep(rng.uniform(0.0, 0.03))
                    if crew.victims():
                        harms.pop(0)
                        killed += crew.kill(0)
                time.sleep(0.002)
        again = told(study)
        diverged = sum(left != right for left, right in zip(plan, again, strict=False)) + abs(len(plan) - len(again))
        outcome = _judged(study, folder, {"headless": killed}, began, len(plan), reproduce=False)
        return replace(outcome, findings=replace(outcome.findings, diverged=diverged))


def told(study: Study) -> list[tuple[Any, ...]]:
    """What was proposed and what came of it."""
    return [
        (t.number, t.architecture, t.lineage, t.budget, t.state, dict(t.metrics or {}), t.error_kind)
        for t in study.trials
    ]


@contextmanager
def databases(names: list[str], folder: Path) -> Iterator[Callable[[str], tuple[str, Server | None]]]:
    """An empty database per call: name of the kind -> URL, and the server where it has one."""
    servers: dict[str, Server] = {}
    if "postgresql" in names:
        servers["postgresql"] = Server.open()
    made = iter(range(1_000_000))

    def make(kind: str) -> tuple[str, Server | None]:
        if kind == "sqlite":
            return f"sqlite:///{folder}/{next(made)}.db", None
        return servers[kind].schema(f"chaos_{next(made)}"), servers[kind]

    try:
        yield make
    finally:
        for server in servers.values():
            server.close()


def _let_zombies_speak(hands: Crew) -> None:
    """Whoever is paused still holds a result: it must be refused, not written."""
    deadline = time.monotonic() + 10.0
    while hands.paused_now and time.monotonic() < deadline:
        hands.tend()
        time.sleep(0.02)
    time.sleep(2 * tormented.LEASE_SECONDS)


def _check_time(began: float) -> None:
    if time.monotonic() - began > LONGEST_SECONDS:
        raise TimeoutError(f"the search did not end within {LONGEST_SECONDS:.0f} s")


def _judged(study: Study, folder: Path, done: dict[str, int], began: float, wanted: int, *, reproduce: bool) -> Outcome:
    seconds = time.monotonic() - began
    findings = judge(study, folder, wanted=wanted, reproduce=reproduce)
    shutil.rmtree(folder)
    return Outcome(done=done, findings=findings, seconds=seconds)
