"""Findings: what the finished trials of a study come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.pareto import hypervolume, non_dominated
from nas.repeats import averages
from nas.trial import Trial

if TYPE_CHECKING:
    import pandas


def best(history: History) -> int | None:
    """The number of the feasible completed trial with the best first metric; None while there is none.

    Only those that were trained furthest compare. Of an architecture that was measured several times the mean counts,
    and its first trial is named.
    """
    measured = averages(history)
    feasible = np.flatnonzero(measured.is_feasible & np.isin(measured.positions, history.furthest))
    if not len(feasible):
        return None
    found = feasible[np.argmin(measured.losses[feasible, 0])]
    return int(history.finished.numbers[measured.positions[found]])


def front(history: History) -> list[int]:
    """The numbers of the feasible completed trials that no other one beats in all metrics, by the first metric.

    Only those that were trained furthest compare.
    """
    numbers, losses = _feasible(history)
    places = np.flatnonzero(non_dominated(losses))
    found: list[int] = numbers[places[np.lexsort(losses[places].T[::-1])]].tolist()
    return found


def dominated_volume(history: History, reference: Mapping[str, float]) -> float:
    """Volume dominated by the Pareto front up to a reference point, given per metric in its own units."""
    names = [metric.name for metric in history.metrics]
    if set(reference) != set(names):
        raise ValueError(
            f"the reference needs a value for each of {', '.join(names)}, got {', '.join(reference) or 'none'}"
        )
    point = np.array([metric.sign * reference[metric.name] for metric in history.metrics])
    return hypervolume(_feasible(history)[1], point)


def as_dataframe(trials: Iterable[Trial]) -> pandas.DataFrame:
    """One row per trial: number, state, attempt, budget, seconds, metrics, then one column per decision path."""
    import pandas

    records = [
        {
            "number": trial.number,
            "state": str(trial.state),
            "attempt": trial.attempt,
            "budget": trial.budget,
            "seconds": trial.seconds,
            **trial.metrics,
            **trial.architecture,
        }
        for trial in trials
    ]
    return pandas.DataFrame.from_records(records)


def _feasible(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers and losses of the completed trials within all limits, of those that were trained furthest."""
    finished, positions = history.finished, history.furthest
    positions = positions[finished.is_feasible[positions]]
    return finished.numbers[positions], finished.losses[positions]
