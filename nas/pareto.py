"""Sets of trade-offs: who is dominated, in which front, how crowded, and how much a set dominates. Pure functions.

Letters: n points, m metrics. Every column is a loss, to be minimised. A point dominates another when it is nowhere
larger and somewhere smaller; equal points do not dominate each other, so duplicates share their fate. A row with a NaN
has no place in any order: it neither dominates nor belongs to a front.
"""

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def non_dominated(losses: ArrayLike) -> NDArray[np.bool_]:
    """(n,) True for the points that no other dominates; all copies of such a point are kept, rows with NaN never.

    Args:
        losses: (n, m). Takes O(n log n) for m <= 2, else O(n · size of the result).
    """
    points = _points(losses)
    mask = np.zeros(len(points), dtype=bool)
    valid = np.flatnonzero(~np.isnan(points).any(axis=1))
    if not len(valid):
        return mask
    points = points[valid]
    if points.shape[1] == 0:
        mask[valid] = True
    elif points.shape[1] == 1:
        mask[valid] = points[:, 0] == points[:, 0].min()
    elif points.shape[1] == 2:
        mask[valid[_staircase(points)]] = True
    else:
        mask[valid[_survivors(points)]] = True
    return mask


def fronts(losses: ArrayLike) -> list[Integers]:
    """Indexes of the points front by front: the first is not dominated, the next only by the ones before, and so on.

    Rows with NaN are in none.

    Source: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", section III.A.
    Differs: for m <= 2 all fronts are found at once, in O(n log n); above, `non_dominated` sets are peeled.
    """
    points = _points(losses)
    left = np.flatnonzero(~np.isnan(points).any(axis=1))
    if len(left) and points.shape[1] in (1, 2):
        ranks = np.unique(points[left, 0], return_inverse=True)[1] if points.shape[1] == 1 else _ranks(points[left])
        order = np.argsort(ranks, kind="stable")
        return np.split(left[order], np.flatnonzero(np.diff(ranks[order])) + 1)
    found = []
    while len(left):
        first = non_dominated(points[left])
        found.append(left[first])
        left = left[~first]
    return found


def _ranks(points: Floats) -> Integers:
    """(n,) which front each of the points (n, 2) is in, from 0.

    By the first metric, then the second: then a point is dominated by those before it whose second metric is not
    larger, unless they equal it. Of each front the smallest second metric so far is kept; these rise from front to
    front, so that a binary search finds the first front that leaves the point alone.

    Source: Jensen 2003, "Reducing the run-time complexity of multiobjective EAs", section III (two metrics).
    """
    ranks = np.zeros(len(points), dtype=np.int64)
    smallest: list[float] = []
    before = (math.nan, math.nan)
    rank = 0
    for place in np.lexsort((points[:, 1], points[:, 0])).tolist():
        first, second = points[place].tolist()
        if (first, second) != before:
            rank = bisect_right(smallest, second)
            smallest[rank : rank + 1] = [second]
            before = (first, second)
        ranks[place] = rank
    return ranks


def constrained_fronts(losses: ArrayLike, violations: ArrayLike) -> list[Integers]:
    """Fronts under constrained domination: feasible points first, then the others by their total violation.

    Args:
        losses: (n, m).
        violations: (n, c), 0 where a limit is kept. Each column counts relative to the largest violation in it, since
            the limits' units differ (milliseconds, bytes).

    Source: Deb et al. 2002, section VI.
    """
    points, missed = _points(losses), _points(violations)
    valid = ~(np.isnan(points).any(axis=1) | np.isnan(missed).any(axis=1))
    feasible = np.flatnonzero(valid & (missed <= 0).all(axis=1))
    infeasible = np.flatnonzero(valid & (missed > 0).any(axis=1))
    ordered = [feasible[front] for front in fronts(points[feasible])]
    if len(infeasible):
        largest = missed[infeasible].max(axis=0)
        total = (missed[infeasible] / np.where(largest > 0, largest, 1.0)).sum(axis=1)
        ordered += [infeasible[total == value] for value in np.unique(total)]
    return ordered


def dominates(losses: ArrayLike, violations: ArrayLike, other_losses: ArrayLike, other_violations: ArrayLike) -> bool:
    """Whether the first of two points (each (m,) losses and (c,) violations) dominates the second, limits first."""
    pair = (
        np.array([losses, other_losses], dtype=np.float64),
        np.array([violations, other_violations], dtype=np.float64),
    )
    order = constrained_fronts(*pair)
    return len(order) == 2 and int(order[0][0]) == 0


def standings(losses: ArrayLike, violations: ArrayLike) -> Integers:
    """(n,) each point's place, 0 the best: by constrained front, within a front the least crowded first.

    Points that tie on both stand in the order given; rows with NaN come last.
    """
    points = _points(losses)
    keys = np.full((2, len(points)), np.inf)  # rows: minus the crowding distance, the front
    for rank, front in enumerate(constrained_fronts(points, violations)):
        keys[0, front] = -crowding_distance(points[front])
        keys[1, front] = rank
    places = np.empty(len(points), dtype=np.int64)
    places[np.lexsort(keys)] = np.arange(len(points))
    return places


def crowding_distance(losses: ArrayLike) -> Floats:
    """(n,) how far apart the neighbours of each point of one front are: the sum over metrics, each scaled to its range.

    Infinity for the ends of every metric's range. A metric in which all points are equal says nothing.

    Source: Deb et al. 2002, section III.B.
    """
    points = _points(losses)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        span = ordered[-1] - ordered[0] if len(ordered) else 0.0
        if span <= 0:
            continue
        distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
        distance[order[[0, -1]]] = np.inf
    if not np.isinf(distance).any():  # all points are equal
        distance[:] = np.inf
    return distance


def hypervolume(losses: ArrayLike, reference: ArrayLike) -> float:
    """The exact volume that is dominated by the points and dominates the reference point.

    Points that are not better than the reference in every metric, and rows with NaN, add nothing.

    Args:
        losses: (n, m), m >= 1.
        reference: (m,), finite.

    Source: for m = 2 a sweep; m = 3 a sweep over slices (both exact); above, While, Bradstreet and Barone 2012, "A fast
    way of calculating exact hypervolumes" (WFG), with the last metrics as slices.
    """
    points, corner = _points(losses), np.asarray(reference, dtype=np.float64)
    if corner.ndim != 1 or (len(points) and points.shape[1] != len(corner)) or not len(corner):
        raise ValueError(
            f"reference must hold one number for each metric, got {corner.shape} for losses {points.shape}"
        )
    if not np.isfinite(corner).all():
        raise ValueError(f"reference must be finite, got {corner.tolist()}")
    if not len(points):
        return 0.0
    points = points[(points < corner).all(axis=1)]
    points = np.unique(points[non_dominated(points)], axis=0)
    return _volume(points, corner)


def _volume(points: Floats, corner: Floats) -> float:
    """Of distinct points, none dominated, sorted by the first column, all below `corner`."""
    if not len(points):
        return 0.0
    if len(points) == 1:
        return float(np.prod(corner - points[0]))
    if points.shape[1] == 1:
        return float(corner[0] - points[:, 0].min())
    if points.shape[1] == 2:
        widths = np.append(points[1:, 0], corner[0]) - points[:, 0]
        return float(widths @ (corner[1] - points[:, 1]))
    if points.shape[1] == 3:
        return _sliced(points, corner)
    total = 0.0
    order = np.argsort(-points[:, -1], kind="stable")  # WFG: worst in the last metric first keeps limited sets small
    for index, point in enumerate(points[order]):
        limited = np.maximum(points[order[index + 1 :]], point)
        limited = np.unique(limited[non_dominated(limited)], axis=0) if len(limited) else limited
        total += float(np.prod(corner - point)) - _volume(limited, corner)
    return total


def _sliced(points: Floats, corner: Floats) -> float:
    """Three metrics: between two neighbouring values of the last one, the area of all points below."""
    ordered = points[np.argsort(points[:, 2], kind="stable")]
    heights = np.append(ordered[1:, 2], corner[2]) - ordered[:, 2]
    area_of, volume = np.empty((0, 2)), 0.0
    for point, height in zip(ordered[:, :2], heights, strict=True):
        area_of = np.vstack([area_of, point])
        area_of = area_of[_staircase(area_of)]
        if height > 0:
            area_of = np.unique(area_of, axis=0)
            volume += height * _volume(area_of, corner[:2])
    return float(volume)


def _staircase(points: Floats) -> Integers:
    """Indexes of the non-dominated points of two columns, duplicates kept."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    x, y = points[order, 0], points[order, 1]
    first_of_x = np.searchsorted(x, x, side="left")  # y is sorted within equal x, so this one has the smallest y
    best_before = np.concatenate(([np.inf], np.minimum.accumulate(y)))[first_of_x]
    has_before = first_of_x > 0
    keep: Integers = order[(y == y[first_of_x]) & (~has_before | (y < best_before))]
    return keep


def _survivors(points: Floats) -> Integers:
    """Indexes of the non-dominated points of any number of columns, duplicates kept."""
    left = np.lexsort(points.T[::-1])  # lexicographic: a point is never dominated by a later one
    kept: list[int] = []
    while len(left):
        first, rest = left[0], left[1:]
        kept.append(int(first))
        left = rest[(points[rest] < points[first]).any(axis=1) | (points[rest] == points[first]).all(axis=1)]
    return np.array(kept, dtype=np.int64)


def _points(values: ArrayLike) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim == 1 and not len(points):
        return points.reshape(0, 0)
    if points.ndim != 2:
        raise ValueError(f"expected one row per point and one column per metric, got an array of shape {points.shape}")
    return points
