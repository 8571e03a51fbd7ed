"""Rungs: which trials have completed at which level of the budget, and which of them were promoted already."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan

import numpy as np
from numpy.typing import NDArray

from nas.budget import NO_BUDGET, Budget
from nas.history import History
from nas.strategies.lessons import best_first

IntArray = NDArray[np.int64]


@dataclass(kw_only=True)
class Rung:
    """The trials that completed with one budget."""

    #: positions of finished trials, in completion order
    positions: list[int] = field(default_factory=list)
    #: whether each was not promoted yet
    is_open: list[bool] = field(default_factory=list)
    _order: IntArray | None = None

    def open_among_best(self, history: History, count: int) -> list[int]:
        """Positions of those of the `count` best that were not promoted, best first.

        By non-dominated fronts and crowding where there are several metrics.
        """
        positions = np.array(self.positions, dtype=np.int64)
        if self._order is None or len(self._order) != len(positions):
            self._order = best_first(history, positions)
        best = self._order[:count]
        found: list[int] = positions[best[np.array(self.is_open, dtype=bool)[best]]].tolist()
        return found


class Rungs:
    """The fold over a history: each trial is looked at when it was proposed and when it has finished.

    A training is a trial with all that were promoted from it; it is known by the number of its first trial. Repeats of
    a measured architecture take part in no rung.
    """

    def __init__(self, budget: Budget) -> None:
        self.factor = budget.factor
        self.levels = budget.levels
        self.rungs = [Rung() for _ in self.levels]
        #: numbers of the first trials of trainings, rising
        self.first: list[int] = []
        #: number of a trial -> place in `first` of its training
        self.training_of: dict[int, int] = {}
        #: place in `first` -> number of the training's newest trial
        self.newest: list[int] = []
        #: number of a trial -> the number of the one that was promoted from it
        self.promoted: dict[int, int] = {}
        #: number of a completed trial -> its rung and its place there
        self._stands: dict[int, tuple[Rung, int]] = {}
        self._level_of = {level: index for index, level in enumerate(self.levels)}
        self._seen = 0
        self._folded = 0

    @classmethod
    def of(cls, history: History) -> Rungs:
        """Of this history, up to now."""
        if history.budget is None:
            raise ValueError(f"a strategy over budgets {NO_BUDGET}")
        if ("rungs",) not in history.cache:
            history.cache[("rungs",)] = cls(history.budget)
        rungs: Rungs = history.cache[("rungs",)]
        rungs.advance(history)
        return rungs

    def level_of(self, budget: float | None) -> int | None:
        """The level with this budget, None or NaN for the full one; None for a budget between the levels."""
        return len(self.levels) - 1 if budget is None or isnan(budget) else self._level_of.get(budget)

    def advance(self, history: History) -> None:
        """Take in what is new."""
        for number in range(self._seen, history.next_number):
            if number in history:
                self._take_in(history, number)
        self._seen = history.next_number
        finished = history.finished
        for position in range(self._folded, len(finished)):
            level = self.level_of(float(finished.budgets[position]))
            if level is not None and finished.is_completed[position] and not finished.repeats[position]:
                self._stand(self.rungs[level], int(finished.numbers[position]), position)
        self._folded = len(finished)

    def _take_in(self, history: History, number: int) -> None:
        origin = history.trial(number).promoted_from
        if origin is None:
            self.training_of[number] = len(self.first)
            self.first.append(number)
            self.newest.append(number)
        else:
            self.training_of[number] = training = self.training_of[origin]
            self.newest[training] = number
            self.promoted[origin] = number
            if origin in self._stands:
                rung, place = self._stands[origin]
                rung.is_open[place] = False

    def _stand(self, rung: Rung, number: int, position: int) -> None:
        self._stands[number] = (rung, len(rung.positions))
        rung.positions.append(position)
        rung.is_open.append(number not in self.promoted)


def share(count: int, factor: float) -> int:
    """How many of so many are the best 1/factor: rounded down, whatever a division leaves behind the point."""
    return int(count / factor + 1e-9)
