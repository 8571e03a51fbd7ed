"""The controller: the loop around the database, on one screen, and the rules that end it."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nas.errors import DatabaseAway, Outrun
from nas.history import History
from nas.settings import StopRules
from nas.stoppers.reading import Reading
from nas.stoppers.stopper import Stopper
from nas.stopping import Improvement, reason_to_end
from nas.store import ASKED, NewTrial, Store
from nas.strategies.strategy import Strategy
from nas.termination import sigterm_interrupts
from search_spaces import canonical_key
from workers.pool import Pool
from workers.processes import is_alive, this_process

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

TEND_SECONDS = 1.0
"""How often workers are looked after: those that are gone, and those of others."""

PRESENT_SECONDS = 60.0
"""A worker that was heard of within this time is there; idle ones register anew three times as often."""

AWAY_SECONDS = 3600.0
"""How long a search waits for a database that does not answer; its workers wait as long with what they measured."""

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.5, 10.0
"""Between two attempts to reach it: doubled each time, half as long up to half as long again by chance."""

WATCH_SECONDS = 0.25
"""How often a watcher is told."""

READ_SECONDS = 0.25
"""How often measurements are read, where a stopper wants them."""

SWEEP_SECONDS = 60.0
"""How often checkpoints that are not kept are looked for; workers delete those of their own trials at once."""

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
    #: how many trials a worker takes at once
    group: int = 1
    #: what ends running trials that lead nowhere
    stopper: Stopper | None = None
    #: deletes checkpoints of trials that have ended, where the study does not keep them
    sweep: Callable[[], None] | None = None
    watch: Callable[[Progress], None] | None = None
    #: longest wait for news
    round_seconds: float = 0.5
    #: monotonic seconds
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._finished_before = len(self.history.finished)
        self._improvement = Improvement()
        self._reaper = self.store.reaper(self.study_id, monotonic=self.clock)
        self._tended = self._watched = float("-inf")
        self._swept = self.clock()
        self._others = False
        #: the study's revision as last read: news is what makes it larger
        self._revision = 0
        #: trials per terminal state
        self._ended = Counter(self.history.finished.states.tolist())
        self._random = random.SystemRandom()
        self._reading: Reading | None = None
        if self.stopper is not None:
            self._reading = Reading(
                store=self.store, study_id=self.study_id, history=self.history, stopper=self.stopper
            )
        self._read = float("-inf")

    def run(self) -> str:
        """Search until a rule ends it; returns why. An interrupt, or SIGTERM, returns running trials to the queue."""
        with sigterm_interrupts():
            if (reason := self.insist(self.over_already)) is not None:
                return reason
            with self.pool:
                while (reason := self.insist(self.one_round)) is None:
                    self.insist(lambda: self.pool.work(self.round_seconds, self.wait_for_news))
                return reason

    def insist(self, step: Callable[[], Answer]) -> Answer:
        """Take a step, again and again while the database is away: every step may be taken twice."""
        away_since, pause = None, FIRST_PAUSE_SECONDS
        while True:
            try:
                return step()
            except DatabaseAway as error:
                now = self.clock()
                away_since = now if away_since is None else away_since
                if now - away_since > AWAY_SECONDS:
                    raise
                logger.warning("the search waits for its database: %s", error)
            time.sleep(pause * (0.5 + self._random.random()))
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def over_already(self) -> str | None:
        """Why the search is over before it begins, if it is: no worker is started for it."""
        self.look_around()
        return self.over(self.refresh())

    def one_round(self) -> str | None:
        """Take back what dead workers held, read the news, and propose; returns why the search is over, if it is."""
        self.pool.tend()
        self.look_around()
        state = self.refresh()
        self.stop_hopeless()
        if (reason := self.over(state)) is not None:
            return reason
        if state == "completed":  # by the rules of another controller; ours say to go on
            self.store.set_study_state(self.study_id, state := "active")
        if state == "active" and (reason := self.propose()) is not None:
            self.conclude(state)
            return reason
        self.tell_watcher(state)
        return None

    def over(self, state: str) -> str | None:
        """Why the search is over, by what is known; then it is concluded."""
        reason = self.was_halted(state) or self.reason_to_end()
        if reason is not None:
            self.conclude(state)
        return reason

    def conclude(self, state: str) -> None:
        """Say that it is over, to who watches and in the database."""
        self.tell_watcher("ended")
        if state == "active":
            self.store.set_study_state(self.study_id, "completed")

    def look_around(self) -> None:
        """About once a second: requeue trials of workers that are gone, and see whether others' workers are there."""
        now = self.clock()
        if now - self._tended < TEND_SECONDS:
            return
        self._tended = now
        if self.sweep is not None and now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self.sweep()
        here = this_process()
        self._reaper.reap()
        self._reaper.release_dead(here.host, here.boot, is_alive)
        self._others = any(
            not self.pool.owns(other.worker)
            and ((other.host, other.boot) != (here.host, here.boot) or is_alive(other.pid, other.started))
            for other in self.store.present_workers(PRESENT_SECONDS)
        )

    def refresh(self) -> str:
        """Read the rows that changed since the last time; returns the study's state."""
        news = self.store.news(self.study_id, self.history.revision)
        self._revision = news.revision
        known = len(self.history.finished)
        self.history.update(news.rows)
        self._ended.update(self.history.finished.states[known:].tolist())
        self._improvement.follow(self.history)
        return news.state

    def stop_hopeless(self) -> None:
        """About four times a second: read what trials have reported, and stop those that the stopper gives up."""
        now = self.clock()
        if self._reading is not None and now - self._read >= READ_SECONDS:
            self._read = now
            self._reading.stop_hopeless()

    def wait_for_news(self, seconds: float) -> bool:
        """Sleep until the study changed, at most `seconds`; True if it did."""
        return self.store.wait(self.study_id, self._revision, seconds)

    def propose(self) -> str | None:
        """Fill the queue up to what the workers need; returns why nothing more will ever come, if that is so."""
        number = self.history.next_number
        count = self.wanted()
        if self.stop.trials is not None:
            count = min(count, self.stop.trials - number)
        if count <= 0:
            return None
        rng = np.random.default_rng([self.seed, number])
        proposals = self.strategy.propose(self.history, count, rng)
        if not proposals:
            return None if self.history.holders else "the strategy has nothing more to propose"
        trials = [
            NewTrial(proposal, canonical_key(self.history.space, proposal.architecture)) for proposal in proposals
        ]
        try:
            self.store.propose(self.study_id, trials, first_number=number, proposed_revision=self.history.revision)
        except Outrun:
            logger.info("study %d: another controller proposed trial %d first", self.study_id, number)
        return None

    def wanted(self) -> int:
        """How many more trials should wait: one (or a group) per idle worker of ours, some ahead, one for others'.

        What others run is no concern of ours: trials a person asked for, or workers of another terminal, which find one
        waiting and, as soon as they have taken it, the next.
        """
        holders = [worker for worker in self.history.holders.values() if worker is not None]
        own = sum(map(self.pool.owns, holders))
        others = self._others or len(holders) - own - holders.count(ASKED) > 0
        waiting = len(self.history.holders) - len(holders)
        return max(0, self.capacity - own) + self.ahead() + others - waiting

    def ahead(self) -> int:
        """How many trials to keep waiting beyond those the workers hold; see `AHEAD_SECONDS`."""
        finished = len(self.history.finished) - self._finished_before
        if self.capacity <= 1 or not finished:
            return 0  # a serial search is exactly reproducible: each proposal knows all results before it
        seconds_per_trial = self.capacity * self.elapsed_seconds / finished
        return int(min(8.0, AHEAD_SECONDS / seconds_per_trial) * self.capacity)

    @property
    def capacity(self) -> int:
        """How many trials our workers evaluate at once."""
        return self.pool.size * self.group

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
            asked=list(self.history.holders.values()).count(ASKED),
            elapsed_seconds=self.elapsed_seconds,
            worker_seconds=worker_seconds,
            improvement=self._improvement,
        )

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since this run began."""
        return self.clock() - self._started

    def tell_watcher(self, state: str) -> None:
        """Show a snapshot, not more often than a person can read."""
        now = self.clock()
        if self.watch is None or (now - self._watched < WATCH_SECONDS and state == "active"):
            return
        self._watched = now
        best = self._improvement.best
        holders = self.history.holders
        running = sum(worker is not None for worker in holders.values())
        self.watch(
            Progress(
                state=state,
                counts={**self._ended, "running": running, "waiting": len(holders) - running},
                trials=self.stop.trials,
                best={
                    metric.name: None if best is None else float(metric.sign * best[index])
                    for index, metric in enumerate(self.history.metrics)
                },
                elapsed_seconds=self.elapsed_seconds,
            )
        )
