"""Reported: what trials said of the study's metrics on their way, step by step, as losses.

Letters: n trials, k steps, m metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.metric import Metric


class Measured(Protocol):
    """A measurement as the store reads it."""

    @property
    def number(self) -> int:
        """Of the trial."""

    @property
    def metric(self) -> str:
        """Its name."""

    @property
    def step(self) -> int:
        """In the evaluator's own unit, that of a budget where there is one."""

    @property
    def value(self) -> float:
        """In the metric's own unit."""


class Reported:
    """Losses by trial and step. Grows by `take_in`; a step that is reported anew counts as said last.

    Args:
        metrics: the study's.
        levels: steps that trials are compared at.
    """

    def __init__(self, metrics: Sequence[Metric], levels: Sequence[float] = ()) -> None:
        self._columns = {metric.name: (column, metric.sign) for column, metric in enumerate(metrics)}
        self._steps: dict[int, dict[int, list[float]]] = {}
        #: level -> number of a trial -> the first step at or beyond the level that it has reported
        self._reached: dict[float, dict[int, int]] = {level: {} for level in levels}

    def __contains__(self, number: int) -> bool:
        return number in self._steps

    def take_in(self, measurements: Iterable[Measured]) -> set[int]:
        """Add measurements; returns the trials of which they say something new. Other metrics are left alone."""
        changed = set()
        for one in measurements:
            if one.metric in self._columns:
                column, sign = self._columns[one.metric]
                steps = self._steps.setdefault(one.number, {})
                if one.step not in steps:
                    steps[one.step] = [math.nan] * len(self._columns)
                    self._reach(one.number, one.step)
                before, steps[one.step][column] = steps[one.step][column], sign * one.value
                if before != sign * one.value and not (math.isnan(before) and math.isnan(one.value)):
                    changed.add(one.number)
        return changed

    def _reach(self, number: int, step: int) -> None:
        for level, reached in self._reached.items():
            if step >= level and reached.setdefault(number, step) > step:
                reached[number] = step

    def last_step(self, number: int) -> int:
        """The last step a trial has reported; -1 if none."""
        return max(self._steps.get(number, ()), default=-1)

    def losses(self, number: int, until: float = math.inf) -> NDArray[np.float64]:
        """(k, m) of the steps up to `until`, in order; NaN for a metric that was not reported at a step."""
        steps = self._steps.get(number, {})
        rows = [steps[step] for step in sorted(steps) if step <= until]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self._columns))

    def at_level(self, level: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers (n,) of the trials that have reached a level, and their losses (n, m) at the first step there."""
        reached = self._reached[level]
        rows = [self._steps[number][step] for number, step in reached.items()]
        numbers = np.fromiter(reached, dtype=np.int64, count=len(reached))
        return numbers, np.array(rows, dtype=np.float64).reshape(len(rows), len(self._columns))
