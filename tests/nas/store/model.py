"""The store as a dictionary: what each call must answer and what it must leave behind. No SQL, no clock of its own.

Written from the promises (the docstrings of `nas.store` and `workers.protocol`), not from the statements, so that a
mistake has to be made twice to pass. Rows carry the names of the columns they are compared with.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.errors import NasError, Outrun
from workers.protocol import Conflict, LeaseLost

TERMINAL = ("completed", "failed", "stopped")
METRICS = ("error", "macs")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a study says about retries and leases."""

    lease_seconds: float
    lost: int
    transient: int
    out_of_memory: int
    backoff_seconds: float


@dataclass(kw_only=True)
class Lease:
    """A row of `leases`."""

    attempt: int
    worker: str
    claim_key: str
    lease_us: int
    expires_at: int
    beat: int = 0
    stop_flag: str | None = None


@dataclass(kw_only=True)
class Try:
    """A row of `attempts`."""

    worker: str
    started: int
    ended: int | None = None
    outcome: str | None = None


@dataclass(kw_only=True)
class Wanted:
    """What a proposal decides."""

    canonical_key: str
    proposal_key: str
    budget: float | None = None
    promoted_from: int | None = None
    repeat: int = 0
    priority: int = 0


@dataclass(kw_only=True)
class Row:
    """A trial with all that hangs on it."""

    number: int
    wanted: Wanted
    created: int
    revision: int
    state: str = "waiting"
    attempt: int = 0
    lost: int = 0
    errors: int = 0
    not_before: int = 0
    metrics: dict[str, float] | None = None
    error_kind: str | None = None
    checkpoint: str | None = None
    checkpoint_step: int = 0
    worker: str | None = None
    started: int | None = None
    ended: int | None = None
    #: what ended it, as it was said: tells a repeated message from another one
    said: object = None
    lease: Lease | None = None
    tries: dict[int, Try] = field(default_factory=dict)
    measured: dict[tuple[int, str, int], float] = field(default_factory=dict)
    checkpoints: set[tuple[int, int, str]] = field(default_factory=set)
    attributes: dict[str, Any] = field(default_factory=dict)


Points = Sequence[tuple[str, int, float]]
"""(metric, step, value) of measurements."""


def judged(metrics: Mapping[str, float], stopped: str | None) -> tuple[str, str | None]:
    """The state and error kind that a worker's metrics lead to."""
    if set(metrics) - set(METRICS):
        return "failed", "bad_result"
    if not all(math.isfinite(value) for value in metrics.values()):
        return "failed", "nan"
    if stopped is not None:
        return "stopped", stopped
    return ("completed", None) if len(metrics) == len(METRICS) else ("failed", "bad_result")


class Model:
    """One study."""

    def __init__(self, rules: Rules, *, now: int, id_of: Callable[[int], int]) -> None:
        self.rules = rules
        self.now = now
        #: the row id of a trial's number: chosen by the database
        self.id_of = id_of
        self.state = "active"
        self.revision = 0
        self.worker_us = 0
        self.breaker_from = 0
        #: whether it is the breaker who paused it
        self.is_broken = False
        self.rows: dict[int, Row] = {}

    # writing trials down

    def propose(self, wanted: Sequence[Wanted], *, first_number: int | None = None) -> list[int]:
        numbers, fresh = self._numbers(wanted)
        if fresh and first_number not in (None, len(self.rows)):
            raise Outrun
        self.revision += 1
        for number, new in fresh.items():
            self.rows[number] = Row(number=number, wanted=new, created=self.now, revision=self.revision)
        return numbers

    def add_finished(self, wanted: Sequence[Wanted], metrics: Mapping[str, float]) -> list[int]:
        numbers, fresh = self._numbers(wanted)
        self.revision += 1
        for number, new in fresh.items():
            times = {"created": self.now, "ended": self.now}
            ended = {"state": "completed", "metrics": dict(metrics)}
            self.rows[number] = Row(number=number, wanted=new, revision=self.revision, **times, **ended)  # type: ignore[arg-type]
        return numbers

    def _numbers(self, wanted: Sequence[Wanted]) -> tuple[list[int], dict[int, Wanted]]:
        known = {identity: row.number for row in self.rows.values() for identity in _identities(row.wanted)}
        numbers: list[int] = []
        fresh: dict[int, Wanted] = {}
        for new in wanted:
            found = [known[identity] for identity in _identities(new) if identity in known]
            number = found[0] if found else len(self.rows) + len(fresh)
            if not found:
                if new.promoted_from is not None and not 0 <= new.promoted_from < number:
                    raise ValueError
                fresh[number] = new
                known |= dict.fromkeys(_identities(new), number)
            numbers.append(number)
        return numbers, fresh

    def ask(self, new: Wanted, *, first_number: int | None, worker: str, lease_seconds: float) -> Any:
        numbers, _ = self._numbers([new])
        if numbers[0] in self.rows and self.rows[numbers[0]].state != "waiting":
            raise NasError
        try:
            self.propose([new], first_number=first_number)
        except Outrun:
            return None
        self.revision += 1
        row = self.rows[numbers[0]]
        # its claim key is the store's own
        self._take(row, worker, "", round(lease_seconds * 1e6))
        return self.handed_out(row)

    # claiming

    def claim(self, worker: str, count: int, claim_key: str) -> list[Any]:
        held = [
            row for row in self.rows.values() if row.lease and (row.lease.claim_key, row.worker) == (claim_key, worker)
        ]
        if not held and self.state == "active":
            free = [row for row in self.rows.values() if row.state == "waiting" and row.not_before <= self.now]
            held = sorted(free, key=_claim_order)[:count]
            self.revision += bool(held)
            for row in held:
                self._take(row, worker, claim_key, round(self.rules.lease_seconds * 1e6))
        return [self.handed_out(row) for row in sorted(held, key=_claim_order)]

    def _take(self, row: Row, worker: str, claim_key: str, lease_us: int) -> None:
        row.state, row.worker, row.started, row.revision = "running", worker, self.now, self.revision
        row.attempt += 1
        expires_at = self.now + lease_us
        row.lease = Lease(
            attempt=row.attempt, worker=worker, claim_key=claim_key, lease_us=lease_us, expires_at=expires_at
        )
        row.tries[row.attempt] = Try(worker=worker, started=self.now)

    def handed_out(self, row: Row) -> Any:
        """What a claim says of a trial: (number, attempt, checkpoint, start step, known from, known metrics)."""
        wanted = row.wanted
        known = [
            other
            for number, other in sorted(self.rows.items())
            if other.state == "completed"
            and other.wanted.repeat == wanted.repeat == 0
            and (other.wanted.canonical_key, other.wanted.budget) == (wanted.canonical_key, wanted.budget)
        ]
        start = row
        while start.checkpoint is None and start.wanted.promoted_from is not None:
            start = self.rows[start.wanted.promoted_from]
        first = (known[0].number, known[0].metrics) if known else (None, None)
        return (row.number, row.attempt, start.checkpoint, start.checkpoint_step, *first)

    # what a worker says

    def beat(self, held: Sequence[tuple[int, int]]) -> dict[int, str | None]:
        answer: dict[int, str | None] = {}
        for number, attempt in held:
            row = self.rows[number]
            if row.lease and row.lease.attempt == attempt and self.id_of(number) not in answer:
                answer[self.id_of(number)] = self._renew(row, attempt)
        return answer

    def _renew(self, row: Row, attempt: int) -> str | None:
        if row.lease is None or row.lease.attempt != attempt:
            raise LeaseLost
        row.lease.beat += 1
        row.lease.expires_at = self.now + row.lease.lease_us
        return row.lease.stop_flag

    def report(self, number: int, attempt: int, points: Points) -> str | None:
        stop = self._renew(self.rows[number], attempt)
        self._measure(self.rows[number], attempt, points)
        return stop

    def _measure(self, row: Row, attempt: int, points: Points) -> None:
        for metric, step, value in points:
            row.measured.setdefault((attempt, metric, step), value)

    def checkpoint(self, number: int, attempt: int, *, step: int, key: str) -> None:
        row = self.rows[number]
        self._renew(row, attempt)
        row.checkpoints.add((attempt, step, key))
        row.checkpoint, row.checkpoint_step = key, step

    def finish(
        self,
        number: int,
        attempt: int,
        metrics: Mapping[str, float],
        *,
        stopped: str | None = None,
        points: Points = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        row = self.rows[number]
        state, kind = judged(metrics, stopped)
        said = ("finish", state, kind, sorted(metrics.items()) if state != "failed" else repr(metrics))
        if not self._holds(row, attempt):
            if self._answered(row, attempt, said) in ("retried", "released"):
                raise LeaseLost
            return False
        self._end(row, state, kind=kind, metrics=None if state == "failed" else dict(metrics), said=said)
        self._measure(row, attempt, points)
        row.attributes |= attributes or {}
        return True

    def fail(
        self,
        number: int,
        attempt: int,
        kind: str,
        text: str,
        *,
        transient: bool,
        jitter: float,
        points: Points = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        row = self.rows[number]
        said = ("fail", kind, text)
        if not self._holds(row, attempt):
            outcome = self._answered(row, attempt, said)
            if outcome == "released":
                raise LeaseLost
            return outcome == "retried"
        state = self._settle(row, kind, said=said, transient=transient, jitter=jitter)
        self._measure(row, attempt, points)
        row.attributes |= attributes or {}
        return state == "waiting"

    def release(self, number: int, attempt: int) -> bool:
        row = self.rows[number]
        if not self._holds(row, attempt):
            if self._answered(row, attempt, None) != "released":
                raise LeaseLost
            return row.state != "stopped"
        assert row.lease is not None
        if row.lease.stop_flag is not None:
            self._end(row, "stopped", kind=row.lease.stop_flag, outcome="released")
            return False
        self._wait_again(row, "released")
        return True

    def _holds(self, row: Row, attempt: int) -> bool:
        return row.lease is not None and row.lease.attempt == attempt

    def _answered(self, row: Row, attempt: int, said: object) -> str:
        """How an attempt ended that holds nothing any more; a message that was not its last one is refused."""
        outcome = row.tries[attempt].outcome if attempt in row.tries else None
        if outcome in (None, "lost") or attempt != row.attempt:
            raise LeaseLost
        if outcome in TERMINAL and said is not None and said != row.said:
            raise Conflict
        assert outcome is not None
        return outcome

    # endings

    def _settle(
        self, row: Row, kind: str, *, said: object, transient: bool, jitter: float, outcome: str | None = None
    ) -> str:
        """What becomes of a trial whose attempt failed: the table of retries."""
        rules, delay = self.rules, 0.0
        again = {
            "lost": row.lost + 1 < rules.lost,
            "out_of_memory": row.errors < rules.out_of_memory,
            "exception": transient and row.errors < rules.transient,
        }.get(kind, False)
        assert row.lease is not None
        if again and row.lease.stop_flag is not None:
            self._end(row, "stopped", kind=row.lease.stop_flag, said=said, outcome=outcome)
        elif not again:
            self._end(row, "failed", kind=kind, said=said, outcome=outcome)
        else:
            if kind == "lost":
                delay = jitter * min(600.0, rules.backoff_seconds * 2**row.lost)
                row.lost += 1
            else:
                row.errors += 1
                row.checkpoint, row.checkpoint_step = None, 0
            self._wait_again(row, outcome or "retried", delay)
        return row.state

    def _close(self, row: Row, outcome: str) -> None:
        attempt = row.tries[row.attempt]
        attempt.ended, attempt.outcome = self.now, outcome
        self.worker_us += max(0, self.now - attempt.started)
        self.revision += 1
        row.lease, row.revision = None, self.revision

    def _wait_again(self, row: Row, outcome: str, delay_seconds: float = 0.0) -> None:
        self._close(row, outcome)
        delay = round(delay_seconds * 1e6)
        row.state, row.started, row.not_before = "waiting", None, self.now + delay if delay else 0

    def _end(
        self,
        row: Row,
        state: str,
        *,
        kind: str | None,
        metrics: dict[str, float] | None = None,
        said: object = None,
        outcome: str | None = None,
    ) -> None:
        self._close(row, outcome or state)
        row.state, row.error_kind, row.metrics, row.said, row.ended = state, kind, metrics, said, self.now
        if state == "failed":
            self._break()

    def _break(self) -> None:
        ended = [row for row in self.rows.values() if row.state in TERMINAL and row.attempt > 0]
        recent = sorted((row for row in ended if row.revision > self.breaker_from), key=lambda row: -row.revision)[:10]
        if sum(row.state == "failed" for row in recent) >= 8 and self.state == "active":
            self.state, self.is_broken = "paused", True

    # people, and workers that are gone

    def set_state(self, state: str) -> None:
        if state == self.state:
            return
        self.revision += 1
        self.state, self.is_broken = state, False
        if state == "active":
            self.breaker_from = self.revision

    def stop_trial(self, number: int, reason: str) -> bool:
        row = self.rows[number]
        if row.lease is not None and row.lease.stop_flag is None:
            row.lease.stop_flag = reason
            return True
        if row.state != "waiting":
            return False
        self._stop_waiting([row], reason)
        return True

    def stop_all(self, reason: str) -> int:
        flagged = [row.lease for row in self.rows.values() if row.lease is not None and row.lease.stop_flag is None]
        for lease in flagged:
            lease.stop_flag = reason
        waiting = [row for row in self.rows.values() if row.state == "waiting"]
        self._stop_waiting(waiting, reason)
        return len(flagged) + len(waiting)

    def _stop_waiting(self, rows: Sequence[Row], reason: str) -> None:
        self.revision += bool(rows)
        for row in rows:
            row.state, row.error_kind, row.ended, row.revision = "stopped", reason, self.now, self.revision

    def lose(self, numbers: Iterable[int], jitter: float) -> list[tuple[int, int, str, str]]:
        """Take these trials from their workers, in this order: (number, attempt, worker, new state)."""
        taken = []
        for number in numbers:
            row = self.rows[number]
            assert row.lease is not None
            assert row.worker is not None
            attempt, worker = row.lease.attempt, row.worker
            state = self._settle(row, "lost", said=None, transient=False, jitter=jitter, outcome="lost")
            taken.append((number, attempt, worker, state))
        return taken


class Watch:
    """Which leases a reaper may take: expired, and seen to stand still for a whole lease time without a gap."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], tuple[int, float]] = {}
        self._last: float | None = None

    def look(self, model: Model, monotonic: float) -> set[int]:
        gap = 0.0 if self._last is None else monotonic - self._last
        self._last = monotonic
        before, self._seen, dead = self._seen, {}, set()
        for row in model.rows.values():
            if row.lease is None:
                continue
            watch = min(row.lease.lease_us / 1e6, 600.0)
            beat, since = before.get((row.number, row.lease.attempt), (None, monotonic))
            if beat != row.lease.beat or gap > watch / 2:
                since = monotonic
            self._seen[row.number, row.lease.attempt] = (row.lease.beat, since)
            if row.lease.expires_at < model.now and monotonic - since >= watch:
                dead.add(row.number)
        return dead


def _identities(wanted: Wanted) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [("key", wanted.proposal_key)]
    if wanted.promoted_from is not None and wanted.budget is not None:
        found.append(("promotion", wanted.promoted_from, wanted.budget))
    return found


def _claim_order(row: Row) -> tuple[int, int]:
    return (-row.wanted.priority, row.number)
