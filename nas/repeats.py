"""Repeats: what was measured of the same architecture more than once, taken together.

Letters: n finished trials, g architectures (each at one budget), m metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.history import History


@dataclass(frozen=True, kw_only=True)
class Averages:
    """The completed trials by architecture and budget, in the order in which the first of each completed.

    Args:
        positions: (g,) of the first completed trial of each.
        losses: (g, m) means over its completed trials.
        counts: (g,) how many those are.
        is_feasible: (g,) whether the means keep all limits.
        groups: (n,) which of them each finished trial belongs to; -1 for what has not completed.
    """

    positions: NDArray[np.int64]
    losses: NDArray[np.float64]
    counts: NDArray[np.int64]
    is_feasible: NDArray[np.bool_]
    groups: NDArray[np.int64]


def averages(history: History) -> Averages:
    """The means over repeats: one measurement under noise is partly luck, its repeats with other seeds less so."""
    finished = history.finished
    groups = np.full(len(finished), -1)
    places: dict[tuple[str, float | None], int] = {}
    first: list[int] = []
    for position in finished.completed.tolist():
        trial = finished.trial(position)
        group = places.setdefault((trial.architecture_json, trial.budget), len(places))
        if group == len(first):
            first.append(position)
        groups[position] = group
    members = groups[finished.completed]
    counts = np.bincount(members, minlength=len(first))
    losses = np.stack(
        [np.bincount(members, column, len(first)) / counts for column in finished.losses[finished.completed].T], axis=1
    )
    return Averages(
        positions=np.array(first, dtype=np.int64),
        losses=losses,
        counts=counts,
        is_feasible=np.asarray((losses <= history.limits).all(axis=1)),
        groups=groups,
    )
