"""History: all that is known of a study's trials, as columns that grow by what is new. The input of every strategy.

Here every metric is turned to "minimize", once; nothing after this file asks for a metric's goal. Letters: n finished
trials, m metrics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.metric import Metric
from nas.trial import Trial, TrialState
from search_spaces.architecture import Architecture
from search_spaces.moves import size
from search_spaces.space import SearchSpace

Fold = TypeVar("Fold")


class TrialRow(Protocol):
    """A row of the store's change feed: texts stay texts until somebody asks."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def architecture(self) -> str: ...  # noqa: D102
    @property
    def canonical_key(self) -> str: ...  # noqa: D102
    @property
    def budget(self) -> float | None: ...  # noqa: D102
    @property
    def promoted_from(self) -> int | None: ...  # noqa: D102
    @property
    def repeat(self) -> int: ...  # noqa: D102
    @property
    def lineage(self) -> str: ...  # noqa: D102
    @property
    def metrics(self) -> str | None: ...  # noqa: D102
    @property
    def started(self) -> int | None: ...  # noqa: D102
    @property
    def ended(self) -> int | None: ...  # noqa: D102
    @property
    def revision(self) -> int: ...  # noqa: D102
    @property
    def proposed_revision(self) -> int: ...  # noqa: D102


class Proposed:
    """What of a trial is settled when it is proposed; architecture and lineage are parsed when first asked for."""

    def __init__(self, row: TrialRow) -> None:
        self.number = int(row.number)
        self.architecture_json = row.architecture
        self.canonical_key = row.canonical_key
        self.budget = row.budget
        self.promoted_from = row.promoted_from
        self.repeat = int(row.repeat)
        #: the history's revision it was proposed from
        self.revision = int(row.proposed_revision)
        self._lineage_json = row.lineage

    @cached_property
    def architecture(self) -> Architecture:
        """The parsed architecture."""
        return Architecture.from_json(self.architecture_json)

    @cached_property
    def lineage(self) -> tuple[int, ...]:
        """Numbers of the trials its architecture was derived from."""
        return tuple(json.loads(self._lineage_json)) if self._lineage_json else ()


class Finished:
    """Completed, failed and stopped trials in completion order: by (revision at which they ended, number).

    The arrays are read-only views; they stay as they are when later trials are appended.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._signs = np.array([metric.sign for metric in metrics])
        self._limits = np.array([math.inf if m.limit is None else m.sign * m.limit for m in metrics])
        self._names = tuple(metric.name for metric in metrics)
        width = len(self._names)
        self._numbers = _Column(np.int64)
        self._losses = _Column(np.float64, width)
        self._violations = _Column(np.float64, width)
        self._budgets = _Column(np.float64)
        self._states = _Column("U9")
        self._repeats = _Column(np.int64)
        self._revisions = _Column(np.int64)
        self._seconds = _Column(np.float64)
        self._feasible = _Column(np.bool_)
        self._is_completed = _Column(np.bool_)
        self._completed = _Column(np.int64)
        self._trials: list[Proposed] = []
        self._position: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(n,) trial numbers."""
        return self._numbers.view

    @property
    def losses(self) -> NDArray[np.float64]:
        """(n, m) values to be minimised, in the metrics' own units; NaN where there is no value."""
        return self._losses.view

    @property
    def violations(self) -> NDArray[np.float64]:
        """(n, m) by how much each limit is missed, 0 where it is kept or absent; NaN where a limited value is."""
        return self._violations.view

    @property
    def budgets(self) -> NDArray[np.float64]:
        """(n,) budgets; NaN stands for the study's own full budget."""
        return self._budgets.view

    @property
    def states(self) -> NDArray[np.str_]:
        """(n,) values of `TrialState`."""
        return self._states.view

    @property
    def repeats(self) -> NDArray[np.int64]:
        """(n,) which repetition of its architecture and budget each is, from 0."""
        return self._repeats.view

    @property
    def revisions(self) -> NDArray[np.int64]:
        """(n,) the study's revision at which each ended; never falls."""
        return self._revisions.view

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(n,) wall-clock seconds from the last claim to the end; NaN where the trial was never claimed."""
        return self._seconds.view

    @property
    def is_feasible(self) -> NDArray[np.bool_]:
        """(n,) whether a trial has all its values and keeps all limits."""
        return self._feasible.view

    @property
    def is_completed(self) -> NDArray[np.bool_]:
        """(n,) whether a trial completed with a value of every metric."""
        return self._is_completed.view

    @property
    def completed(self) -> NDArray[np.int64]:
        """Positions where `is_completed`, in completion order."""
        return self._completed.view

    def trial(self, position: int) -> Proposed:
        """What was proposed: architecture, lineage and so on."""
        return self._trials[position]

    def architecture(self, position: int) -> Architecture:
        """The architecture at a position."""
        return self._trials[position].architecture

    def lineage(self, position: int) -> tuple[int, ...]:
        """Numbers of the trials it was derived from."""
        return self._trials[position].lineage

    def canonical_key(self, position: int) -> str:
        """The canonical key at a position."""
        return self._trials[position].canonical_key

    def position_of(self, number: int) -> int | None:
        """Where trial `number` stands; None while it has not finished."""
        return self._position.get(number)

    def extend(self, rows: Sequence[TrialRow], trials: Sequence[Proposed]) -> None:
        """Append finished rows, already in completion order. Called by `History.update` only."""
        if not rows:
            return
        values = [json.loads(row.metrics) if row.metrics else {} for row in rows]
        reported = np.array([[_number(v.get(name)) for name in self._names] for v in values])
        losses = reported * self._signs + 0.0  # + 0.0 turns -0.0 into 0.0
        violations = np.maximum(losses - self._limits, 0.0)  # -inf where there is no limit
        violations[:, np.isinf(self._limits)] = 0.0
        valued = ~np.isnan(losses).any(axis=1)
        completed = np.array([row.state == TrialState.COMPLETED for row in rows]) & valued
        start = len(self)
        self._numbers.extend([trial.number for trial in trials])
        self._losses.extend(losses)
        self._violations.extend(violations)
        self._budgets.extend([math.nan if trial.budget is None else trial.budget for trial in trials])
        self._states.extend([str(row.state) for row in rows])
        self._repeats.extend([trial.repeat for trial in trials])
        self._revisions.extend([row.revision for row in rows])
        self._seconds.extend([_seconds(row) for row in rows])
        self._feasible.extend(valued & (violations <= 0.0).all(axis=1))
        self._is_completed.extend(completed)
        self._completed.extend(start + np.flatnonzero(completed))
        self._position.update((trial.number, start + offset) for offset, trial in enumerate(trials))
        self._trials.extend(trials)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Waiting and running trials, ordered by number."""

    trials: tuple[Proposed, ...]

    def __len__(self) -> int:
        return len(self.trials)

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Trial numbers, rising."""
        return np.array([trial.number for trial in self.trials], dtype=np.int64)

    @cached_property
    def budgets(self) -> NDArray[np.float64]:
        """Budgets; NaN stands for the study's own full budget."""
        return np.array([math.nan if t.budget is None else t.budget for t in self.trials], dtype=np.float64)

    def architecture(self, position: int) -> Architecture:
        """The architecture at a position."""
        return self.trials[position].architecture

    def lineage(self, position: int) -> tuple[int, ...]:
        """Numbers of the trials it was derived from."""
        return self.trials[position].lineage


class History:
    """The trials of one study up to a revision.

    Args:
        space: what is searched.
        metrics: what is optimised.
        seed: the study's seed, for strategies whose own generator runs through the whole study (Optuna's samplers).

    `cache` is a place where strategies keep what they folded from the rows. It may be emptied at any moment: that costs
    time and never changes a proposal.
    """

    def __init__(self, space: SearchSpace, metrics: Sequence[Metric], *, seed: int = 0) -> None:
        self.space = space
        self.metrics = tuple(metrics)
        self.seed = seed
        self.revision = 0
        self.finished = Finished(self.metrics)
        self.cache: dict[object, Any] = {}
        self._trials: dict[int, Proposed] = {}
        self._known: dict[str, int] = {}
        self._failed: set[str] = set()
        self._waiting: dict[int, Proposed] = {}
        self._pending: Pending | None = None
        self._next_number = 0

    @classmethod
    def of(cls, space: SearchSpace, metrics: Sequence[Metric], trials: Sequence[Trial], *, seed: int = 0) -> History:
        """The history of these trials. Where none of them has a revision, they count as done one after the other."""
        history = cls(space, metrics, seed=seed)
        serial = not any(trial.revision for trial in trials)
        rows = [
            _Row.of(trial, revision=i + 1, proposed=i) if serial else _Row.of(trial) for i, trial in enumerate(trials)
        ]
        history.update(rows)
        return history

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def next_number(self) -> int:
        """The number the next trial will get."""
        return self._next_number

    @property
    def pending(self) -> Pending:
        """Waiting and running trials."""
        if self._pending is None:
            self._pending = Pending(trials=tuple(self._waiting[number] for number in sorted(self._waiting)))
        return self._pending

    @cached_property
    def space_size(self) -> int | float:
        """How many architectures the space has."""
        return size(self.space)

    @property
    def distinct_count(self) -> int:
        """How many different architectures were proposed."""
        return len(self._known)

    def trial(self, number: int) -> Proposed:
        """What was proposed as trial `number`."""
        return self._trials[number]

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def knows(self, architecture: Architecture) -> bool:
        """Whether it was ever proposed, whatever became of it."""
        return architecture.to_json() in self._known

    def number_of(self, architecture: Architecture) -> int | None:
        """The first trial of it; None if it was never proposed."""
        return self._known.get(architecture.to_json())

    def has_failed(self, architecture: Architecture) -> bool:
        """Whether a trial of it failed."""
        return architecture.to_json() in self._failed

    def cached(self, key: object, begin: Callable[[], Fold]) -> Fold:
        """What `cache` holds under `key`; `begin()` if there is nothing yet."""
        if key not in self.cache:
            self.cache[key] = begin()
        found: Fold = self.cache[key]
        return found

    def update(self, rows: Iterable[TrialRow]) -> None:
        """Take in the rows that changed since `revision`; a row already known as finished is ignored.

        Raises:
            ValueError: a row that ended before rows already taken in, or before it was proposed: the feed was not read
                in order.
        """
        finished: list[TrialRow] = []
        for row in sorted(rows, key=lambda row: (row.revision, row.number)):
            if row.number in self._trials and row.number not in self._waiting:
                continue
            if row.number not in self._trials:
                trial = self._trials[row.number] = self._waiting[row.number] = Proposed(row)
                self._known.setdefault(trial.architecture_json, trial.number)
                self._next_number = max(self._next_number, trial.number + 1)
                self._pending = None
            if TrialState(row.state).is_terminal:
                if row.revision <= row.proposed_revision:
                    raise ValueError(
                        f"trial {row.number} ended at revision {row.revision}, but was proposed from revision "
                        f"{row.proposed_revision}; a trial ends later than it begins"
                    )
                if len(self.finished) and row.revision < self.finished.revisions[-1]:
                    raise ValueError(
                        f"trial {row.number} ended at revision {row.revision}, but revision "
                        f"{self.finished.revisions[-1]} was read already; read changes in the order of their revision"
                    )
                finished.append(row)
                del self._waiting[row.number]
                self._pending = None
                if row.state == TrialState.FAILED:
                    self._failed.add(row.architecture)
            self.revision = max(self.revision, row.revision)
        self.finished.extend(finished, [self._trials[row.number] for row in finished])


class _Column:
    """A numpy array that grows by doubling; `view` is the filled part, read-only."""

    def __init__(self, dtype: Any, width: int | None = None) -> None:
        self._buffer = np.empty((16,) if width is None else (16, width), dtype=dtype)
        self._length = 0
        self.view: NDArray[Any] = self._slice()

    def extend(self, values: Sequence[Any] | NDArray[Any]) -> None:
        needed = self._length + len(values)
        if needed > len(self._buffer):
            grown = np.empty((max(needed, 2 * len(self._buffer)), *self._buffer.shape[1:]), dtype=self._buffer.dtype)
            grown[: self._length] = self._buffer[: self._length]
            self._buffer = grown
        if len(values):
            self._buffer[self._length : needed] = values
        self._length = needed
        self.view = self._slice()

    def _slice(self) -> NDArray[Any]:
        view = self._buffer[: self._length]
        view.flags.writeable = False
        return view


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A `Trial` as the store's row would be."""

    number: int
    state: str
    architecture: str
    canonical_key: str
    budget: float | None
    promoted_from: int | None
    repeat: int
    lineage: str
    metrics: str | None
    started: int | None
    ended: int | None
    revision: int
    proposed_revision: int

    @classmethod
    def of(cls, trial: Trial, *, revision: int | None = None, proposed: int | None = None) -> _Row:
        return cls(
            number=trial.number,
            state=trial.state,
            architecture=trial.architecture.to_json(),
            canonical_key=trial.canonical_key,
            budget=trial.budget,
            promoted_from=trial.promoted_from,
            repeat=trial.repeat,
            lineage=json.dumps(list(trial.lineage)),
            metrics=json.dumps(dict(trial.metrics)) if trial.metrics else None,
            started=trial.started_us,
            ended=trial.ended_us,
            revision=trial.revision if revision is None else revision,
            proposed_revision=trial.proposed_revision if proposed is None else proposed,
        )


def _seconds(row: TrialRow) -> float:
    return math.nan if row.started is None or row.ended is None else (row.ended - row.started) / 1e6


def _number(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan
