"""Hypervolume improvement: how much more of the metrics' space a candidate would dominate together with the known ones.

Letters: s draws, m metrics, k known architectures, c candidates, b boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook
from nas.acquisitions.draws import joint_draws
from nas.pareto import non_dominated
from nas.strategies.checks import at_least
from search_spaces.architecture import Architecture

MARGIN = 0.1
"""The reference lies beyond the worst by this share of the range, as in BoTorch."""

BEHIND = -1e6
"""The score of a candidate that improves in no draw begins here, and falls with how far it stays behind."""


@dataclass(frozen=True, kw_only=True)
class HypervolumeImprovement:
    """The logarithm of the noisy expected hypervolume improvement.

    The reference lies a little (`MARGIN`) beyond the worst that was learnt (warped: hopeless losses do not stretch it),
    so that the ends of the front gain something too. A smaller limit takes its place: what lies beyond gains nothing.

    Args:
        draws: from the joint posteriors of known architectures and candidates.

    Source: Daulton, Balandat, Bakshy 2021, "Parallel Bayesian Optimization of Multiple Noisy Objectives with Expected
    Hypervolume Improvement" (qNEHVI), for one candidate after the other.
    Differs: candidates are compared, not moved along a gradient, so nothing is smoothed; those that gain nothing in any
    draw are ordered by how far their means stay behind the front.
    """

    draws: int = 64
    several: ClassVar[bool] = True
    scale: ClassVar[str] = "log"
    keeps_limits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("draws", self.draws, 1)

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`. Zeros while nothing feasible is known: then only limits tell candidates apart."""
        if not outlook.is_feasible.any():
            return np.zeros(len(candidates))
        reference = reference_point(outlook)
        known, drawn = joint_draws(outlook, candidates, self.draws, rng)
        known = known[:, outlook.is_feasible]
        gained = improvements(known, drawn, reference).mean(axis=0)
        behind = gained <= 0.0
        scores = np.log(np.where(behind, 1.0, gained))
        if behind.any():
            front, others = (draws.mean(axis=0, keepdims=True) for draws in (known, drawn[:, behind]))
            scores[behind] = BEHIND - shortfalls(front, others, reference, outlook.scales)[0]
        return scores


def reference_point(outlook: Outlook) -> FloatArray:
    """(m,) a little beyond the worst that was learnt of each metric, or its limit if that is less.

    Not beyond the front that is known: a front that is narrow yet would stay so, since what widens it lies outside.
    """
    low = outlook.means[outlook.is_feasible].min(axis=0)
    beyond = outlook.worst + MARGIN * np.maximum(outlook.worst - low, 0.0)
    reference: FloatArray = np.minimum(outlook.limits, beyond)
    return reference


def improvements(known: FloatArray, candidates: FloatArray, reference: FloatArray) -> FloatArray:
    """(s, c) by how much each candidate alone enlarges the hypervolume of the known ones, in each draw. Exact.

    Args:
        known: (s, k, m) losses.
        candidates: (s, c, m) losses.
        reference: (m,), finite.
    """
    gained = np.zeros(candidates.shape[:2])
    for draw, points in enumerate(candidates):
        lower, upper = boxes(known[draw], reference)
        inside = np.maximum(upper - np.maximum(lower, points[:, None]), 0.0)
        gained[draw] = inside.prod(axis=2).sum(axis=1)
    return gained


def shortfalls(known: FloatArray, candidates: FloatArray, reference: FloatArray, scales: FloatArray) -> FloatArray:
    """(s, c) by how much all losses of a candidate must fall, in units of `scales`, until it begins to gain something.

    Source: the additive epsilon indicator of Zitzler et al. 2003, "Performance assessment of multiobjective
    optimizers".
    """
    beyond = ((candidates - reference) / scales).max(axis=2)
    found = np.empty(candidates.shape[:2])
    for draw, points in enumerate(candidates):
        # each known point must be beaten in its easiest metric; the hardest of the points decides
        found[draw] = ((points[:, None] - known[draw]) / scales).min(axis=2).max(axis=1)
    hardest: FloatArray = np.maximum(found, beyond)
    return hardest


def boxes(known: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(b, m) lower and upper corners of disjoint boxes that fill what is below the reference and not dominated.

    Slabs between neighbouring values of the last metric: in each of them the points that lie below it count, with one
    metric less. At most k + 1 boxes for two metrics, O(k^(m - 1)) for more.

    Args:
        known: (k, m), k may be 0.
        reference: (m,).

    Source: Lacour, Klamroth, Fonseca 2017, "A box decomposition algorithm to compute the hypervolume indicator", whose
    boxes are fewer; slabs need no bookkeeping.
    """
    points = known[(known < reference).all(axis=1)]
    points = points[non_dominated(points)] if len(points) else points
    if len(reference) == 1:
        return np.full((1, 1), -np.inf), points.min(axis=0, initial=float(reference[0])).reshape(1, 1)
    points = points[np.argsort(points[:, -1], kind="stable")]
    if len(reference) == 2:
        heights = np.concatenate([[-np.inf], points[:, 1], reference[1:]])
        widths = np.minimum.accumulate(np.concatenate([reference[:1], points[:, 0]]))
        lower = np.stack([np.full(len(widths), -np.inf), heights[:-1]], axis=1)
        return lower, np.stack([widths, heights[1:]], axis=1)
    floors, ceilings = [-np.inf, *points[:, -1]], [*points[:, -1], reference[-1]]
    slabs = []
    for below, (floor, ceiling) in enumerate(zip(floors, ceilings, strict=True)):
        if floor == ceiling:
            continue
        lower, upper = boxes(points[:below, :-1], reference[:-1])
        ends = np.full((len(lower), 2), [floor, ceiling])
        slabs.append((np.hstack([lower, ends[:, :1]]), np.hstack([upper, ends[:, 1:]])))
    return np.concatenate([lower for lower, _ in slabs]), np.concatenate([upper for _, upper in slabs])
