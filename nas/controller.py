"""The controller: the loop around the database, on one screen, and the rules that end it."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.errors import Outrun
from nas.history import History
from nas.settings import StopRules
from nas.stoppers.stopper import Stopper
from nas.stopping import Improvement, reason_to_end
from nas.store import NewTrial, Store
from nas.strategies.strategy import Strategy
from nas.trial import TrialState
from search_spaces import canonical_key
from workers.pool import Pool
from workers.processes import is_alive, this_process

logger = logging.getLogger(__name__)

REAP_SECONDS = 1.0
"""How often trials of workers that are gone are looked for."""

WATCH_SECONDS = 0.25
"""How often a watcher is told."""

AHEAD_SECONDS = 0.2
"""So much work waits in the queue beyond what runs: none for trials of minutes, several per worker for trials of
milliseconds. Proposals made ahead know less, so no more is proposed ahead than keeps the workers busy."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a watcher is told once a round."""

    state: str
    #: trials per `TrialState`
    counts: dict[str, int]
    #: trials in all that the search was asked for, or None
    trials: int | None
    #: best value of each metric among feasible completed trials, None while there is none
    best: dict[str, float | None]
    elapsed_seconds: float


@dataclass(kw_only=True)
class Controller:
    """Proposes trials, lets a pool evaluate them, and ends when a rule says so. Holds no truth of its own."""

    store: Store
    study_id: int
    seed: int
    history: History
    strategy: Strategy
    pool: Pool
    stop: StopRules
    stoppers: Sequence[Stopper] = ()
    watch: Callable[[Progress], None] | None = None
    #: longest wait for news
    round_seconds: float = 0.5
    _started: float = field(default_factory=time.monotonic)
    _finished_before: int = 0
    _watched: float = float("-inf")
    _improvement: Improvement = field(default_factory=Improvement)

    def __post_init__(self) -> None:
        self._finished_before = len(self.history.finished)

    def run(self) -> str:
        """Search until a rule ends it; returns why. An interrupt returns running trials to the queue."""
        reaper, here, reaped = self.store.reaper(self.study_id), this_process(), -REAP_SECONDS
        with self.pool:
            while True:
                self.pool.tend()
                if time.monotonic() - reaped >= REAP_SECONDS:
                    reaped = time.monotonic()
                    reaper.reap()
                    reaper.release_dead(here.host, here.boot, is_alive)
                state = self.refresh()
                if state == "completed":  # by another controller's rules; ours say to go on, or we end it again below
                    self.store.set_study_state(self.study_id, state := "active")
                reason = self.was_halted(state) or self.reason_to_end()
                if reason is None and state == "active":
                    self.ask_stoppers()
                    reason = self.propose()
                self.tell_watcher(state if reason is None else "ended")
                if reason is not None:
                    if state == "active":
                        self.store.set_study_state(self.study_id, "completed")
                    return reason
                self.pool.work(self.round_seconds, self.wait_for_news)

    def refresh(self) -> str:
        """Read the rows that changed since the last time; returns the study's state."""
        state, rows = self.store.news(self.study_id, self.history.revision)
        self.history.update(rows)
        return state

    def wait_for_news(self, seconds: float) -> bool:
        """Sleep until the study changed, at most `seconds`; True if it did."""
        return self.store.wait(self.study_id, self.history.revision, seconds)

    def propose(self) -> str | None:
        """Fill the queue up to what the workers need; returns why nothing more will ever come, if that is so."""
        count = self.pool.size + self.ahead() - len(self.history.pending)
        number = self.history.next_number
        if self.stop.trials is not None:
            count = min(count, self.stop.trials - number)
        if count <= 0:
            return None
        rng = np.random.default_rng([self.seed, number])
        proposals = self.strategy.propose(self.history, count, rng)
        if not proposals:
            return None if len(self.history.pending) else "the strategy has nothing more to propose"
        trials = [
            NewTrial(proposal, canonical_key(self.history.space, proposal.architecture)) for proposal in proposals
        ]
        try:
            self.store.propose(self.study_id, trials, first_number=number, proposed_revision=self.history.revision)
        except Outrun:
            logger.info("study %d: another controller proposed trial %d first", self.study_id, number)
        return None

    def ahead(self) -> int:
        """How many trials to keep waiting beyond those the workers hold; see `AHEAD_SECONDS`."""
        if self.pool.size <= 1:
            return 0  # a serial search is exactly reproducible: each proposal knows all results before it
        finished = len(self.history.finished) - self._finished_before
        seconds_per_trial = self.pool.size * self.elapsed_seconds / max(finished, 1)
        return int(min(8.0, AHEAD_SECONDS / seconds_per_trial) * self.pool.size)

    def ask_stoppers(self) -> None:
        """Let each stopper look at each running trial; the worker learns of it with its next beat."""
        if not self.stoppers:
            return
        for number in self.history.pending.numbers.tolist():
            trial = self.store.trial(self.study_id, number)
            if trial.state is not TrialState.RUNNING:
                continue
            reason = next((r for stopper in self.stoppers if (r := stopper.should_stop(trial, self.history))), None)
            if reason is not None:
                self.store.stop_trial(self.study_id, number, reason)

    def was_halted(self, state: str) -> str | None:
        """Why others, or the breaker, ended the search. A person's pause is waited out: they may resume."""
        if state == "stopped":
            return "the study was stopped"
        if state == "paused" and (note := self.store.breaker_note(self.study_id)) is not None:
            return f"the study is paused: {note}"
        return None

    def reason_to_end(self) -> str | None:
        """The first stop rule that holds, in words."""
        worker_seconds = 0.0 if self.stop.worker_hours is None else self.store.worker_seconds(self.study_id)
        return reason_to_end(
            self.stop,
            self.history,
            elapsed_seconds=self.elapsed_seconds,
            worker_seconds=worker_seconds,
            improvement=self._improvement,
        )

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self._started

    def tell_watcher(self, state: str) -> None:
        """Show a snapshot, not more often than a person can read."""
        now = time.monotonic()
        if self.watch is None or (now - self._watched < WATCH_SECONDS and state == "active"):
            return
        self._watched = now
        finished = self.history.finished
        losses = finished.losses[finished.completed[finished.is_feasible[finished.completed]]]
        best = {
            metric.name: float(metric.sign * losses[:, index].min()) if len(losses) else None
            for index, metric in enumerate(self.history.metrics)
        }
        self.watch(
            Progress(
                state=state,
                counts=self.store.counts(self.study_id),
                trials=self.stop.trials,
                best=best,
                elapsed_seconds=self.elapsed_seconds,
            )
        )
