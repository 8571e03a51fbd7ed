"""History: all that is known of a study's trials, as columns that grow by what is new. The input of every strategy.

Every metric is turned to "minimize" on the way in (`nas.finished`); nothing after that asks for a metric's goal.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.budget import Budget
from nas.finished import Finished
from nas.metric import Metric
from nas.proposed import Proposals, Proposed
from nas.reported import Reported
from nas.settings import Part
from nas.trial import Trial, TrialState
from nas.trial_rows import FeedRow, TrialAsRow
from search_spaces.architecture import Architecture
from search_spaces.moves import size
from search_spaces.space import SearchSpace

Fold = TypeVar("Fold")

_TERMINAL = frozenset(str(state) for state in TrialState if state.is_terminal)


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


@contextmanager
def no_collection() -> Iterator[None]:
    """For reading a large study: meanwhile the garbage collector does not walk through all that was read so far.

    It would do so again and again, a sixth of the time; rows make no cycles.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class History:
    """The trials of one study up to a revision.

    Args:
        space: what is searched.
        metrics: what is optimised.
        seed: the study's seed, for strategies whose own generator runs through the whole study (Optuna's samplers).
        budget: how far trials are trained, for strategies that promote; None where the study does not say.
        data: what networks are trained on, for strategies that look at untrained ones; None where there are none.

    `cache` is a place where strategies keep what they folded from the rows. It may be emptied at any moment: that costs
    time and never changes a proposal.
    """

    def __init__(
        self,
        space: SearchSpace,
        metrics: Sequence[Metric],
        *,
        seed: int = 0,
        budget: Budget | None = None,
        data: Part | None = None,
    ) -> None:
        self.space = space
        self.metrics = tuple(metrics)
        self.seed = seed
        self.budget = budget
        self.data = data
        self.revision = 0
        self._proposals = Proposals()
        self.finished = Finished(self.metrics, self._proposals)
        #: what trials said on their way; read by whoever asks a stopper, not needed to propose
        self.reported = Reported(self.metrics, () if budget is None else budget.levels)
        self.cache: dict[object, Any] = {}
        #: architecture -> number of its first trial
        self._known: dict[str, int] = {}
        self._failed: set[str] = set()
        self._holders: dict[int, str | None] = {}
        self._resting: set[int] = set()
        self._pending: Pending | None = None
        self._next_number = 0

    @classmethod
    def of(cls, space: SearchSpace, metrics: Sequence[Metric], trials: Sequence[Trial], *, seed: int = 0) -> History:
        """The history of these trials. Where none of them has a revision, they count as done one after the other."""
        history = cls(space, metrics, seed=seed)
        serial = not any(trial.revision for trial in trials)
        rows: list[FeedRow] = []
        for index, trial in enumerate(trials):
            given = {"revision": index + 1, "proposed": index} if serial else {}
            rows.append(TrialAsRow.of(trial, **given))
        history.update(rows)
        return history

    def __len__(self) -> int:
        return len(self._proposals)

    @property
    def next_number(self) -> int:
        """The number the next trial will get."""
        return self._next_number

    @property
    def pending(self) -> Pending:
        """Waiting and running trials, but for those that rest."""
        if self._pending is None:
            awaited = sorted(self._holders.keys() - self._resting)
            self._pending = Pending(trials=tuple(map(self._proposals.trial, awaited)))
        return self._pending

    def rest(self, number: int, *, is_resting: bool) -> None:
        """Say of a trial that has not finished that nobody awaits its result, or that somebody does again.

        For histories that are made of another one (`nas.strategies.view`): a trial that was trained part of the way
        and may be promoted later is known, but neither pending nor finished.
        """
        (self._resting.add if is_resting else self._resting.discard)(number)
        self._pending = None

    @property
    def holders(self) -> Mapping[int, str | None]:
        """Number of each pending trial -> the worker that runs it, None while it waits.

        For whoever hands out work. A strategy must not look: who runs what, and whether it runs yet, is not recorded
        for the revision a proposal is made from, so that the proposal could not be made again.
        """
        return MappingProxyType(self._holders)

    @cached_property
    def space_size(self) -> int | float:
        """How many architectures the space has."""
        return size(self.space)

    @property
    def distinct_count(self) -> int:
        """How many different architectures were proposed."""
        return len(self._known)

    @property
    def furthest(self) -> NDArray[np.int64]:
        """Positions of the completed trials that were trained furthest, in completion order: results that compare."""
        positions = self.finished.completed
        budgets = self.trained(positions)
        found: NDArray[np.int64] = positions[budgets == budgets.max(initial=0.0)]
        return found

    @property
    def limits(self) -> NDArray[np.float64]:
        """(m,) the largest loss of each metric that is allowed; infinity where there is no limit."""
        return np.array([math.inf if metric.limit is None else metric.sign * metric.limit for metric in self.metrics])

    def trained(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """How far the trials at these positions were trained; infinity for a full budget that the study leaves open."""
        budgets, full = self.finished.budgets[positions], math.inf if self.budget is None else self.budget.most
        return np.where(np.isnan(budgets), full, budgets)

    def trial(self, number: int) -> Proposed:
        """What was proposed as trial `number`."""
        return self._proposals.trial(number)

    def __contains__(self, number: int) -> bool:
        return number in self._proposals

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

    def update(self, rows: Iterable[FeedRow]) -> None:
        """Take in the rows that changed since `revision`; a row already known as finished is ignored.

        Raises:
            ValueError: a row that ended before rows already taken in, or before it was proposed: the feed was not read
                in order.
        """
        fresh = self._fresh(rows)
        if not fresh:
            return
        new = [row for row in fresh if row.number not in self._proposals]
        self._proposals.extend(new)
        known = self._known
        for row in new:
            # the smallest number, not the one read first: those read at once stand in another order than one by one
            if known.setdefault(row.architecture, row.number) > row.number:
                known[row.architecture] = row.number
        self._next_number = max(self._next_number, 1 + max((row.number for row in new), default=-1))
        holders, finished = self._holders, []
        for row in fresh:
            if row.state in _TERMINAL:
                holders.pop(row.number, None)
                finished.append(row)
                if row.state == TrialState.FAILED:
                    self._failed.add(row.architecture)
            else:
                holders[row.number] = row.worker if row.state == TrialState.RUNNING else None
        self.revision = max(self.revision, fresh[-1].revision)
        self._pending = None
        self.finished.extend(finished)

    def _fresh(self, rows: Iterable[FeedRow]) -> list[FeedRow]:
        """The rows of trials that had not finished, in the order of the feed; checked before anything is changed."""
        ordered = sorted(rows, key=attrgetter("revision", "number"))
        fresh = [row for row in ordered if row.number not in self._proposals or row.number in self._holders]
        newest = int(self.finished.revisions[-1]) if len(self.finished) else 0
        for row in fresh:
            if row.state not in _TERMINAL:
                continue
            if row.revision < newest:
                raise ValueError(
                    f"trial {row.number} ended at revision {row.revision}, but revision {newest} was read already; "
                    "read changes in the order of their revision"
                )
            if row.revision <= row.proposed_revision:
                raise ValueError(
                    f"trial {row.number} ended at revision {row.revision}, but was proposed from revision "
                    f"{row.proposed_revision}; a trial ends later than it begins"
                )
        return fresh
