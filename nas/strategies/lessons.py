"""Lessons: which finished trials a predictor learns from, and what of their losses.

Letters: n trials, m metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.pareto import standings
from nas.trial import TrialState
from search_spaces.architecture import Architecture

FloatArray = NDArray[np.float64]

Warp = Literal["half_ranks", "none"]


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What is learnt.

    Args:
        positions: (n,) of finished trials, in completion order.
        losses: (n, m) as learnt, warped; no warp moves one across the limit of its metric.
        order: (n,) places among these trials, the best measured first, limits before all.
        failed: positions of failed trials, in completion order.
    """

    positions: NDArray[np.int64]
    losses: FloatArray
    order: NDArray[np.int64]
    failed: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def scales(self) -> FloatArray:
        """(m,) standard deviations of the losses, 1 where they are all the same."""
        spread = self.losses.std(axis=0)
        return np.where(spread > 0.0, spread, 1.0)


def lessons(history: History, most: int, warp: Warp) -> Lessons:
    """What is learnt from completed trials at the full budget; of failed ones, that they failed.

    Trials at a budget of their own are left out once one at the study's own full budget has completed; before that, the
    largest budget counts as the full one. Stopped trials are not learnt from.

    Args:
        history: all that is known.
        most: of more than so many trials, those with the best losses fill one half, the youngest others the rest; the
            same for failed trials, the youngest of them.
        warp: what to do with the losses; see `half_ranks`.
    """
    finished = history.finished
    positions = history.furthest
    order = best_first(history, positions)
    if len(positions) > most:
        best = order[: most // 2]
        rest = np.setdiff1d(np.arange(len(positions)), best)
        positions = positions[np.sort(np.concatenate([best, rest[len(rest) - (most - len(best)) :]]))]
        order = best_first(history, positions)
    measured = finished.losses[positions]
    losses = np.array(measured)
    if warp == "half_ranks" and len(losses):
        for column, limit in enumerate(history.limits.tolist()):
            losses[:, column] = half_ranks(measured[:, column], limit)
    failed = np.flatnonzero(finished.states == TrialState.FAILED)
    failed = failed[max(0, len(failed) - most) :]
    return Lessons(positions=positions, losses=losses, order=order, failed=failed)


def best_first(history: History, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of these finished trials, the best first."""
    finished = history.finished
    if len(history.metrics) == 1 and history.metrics[0].limit is None:
        return np.argsort(finished.losses[positions, 0], kind="stable")
    return np.argsort(standings(finished.losses[positions], finished.violations[positions]), kind="stable")


def half_ranks(losses: FloatArray, limit: float = math.inf) -> FloatArray:
    """The losses, those that are hopeless replaced by what a normal distribution would have at their rank.

    Hopeless is what lies above the median, or beyond the limit where there is one and it lies higher: up to there
    somebody wants to know what a loss is, and a hypervolume counts it. The better half gives the distribution its
    width. So a few networks that learn nothing neither stretch the scale nor drown what tells good ones apart; the
    order is kept, and who keeps the limit.

    Source: Song et al. 2024, "The Vizier Gaussian Process Bandit Algorithm", section 3.2 (half-rank warping).
    Differs: limits.
    """
    ordered = np.sort(losses)
    low, high = ordered[(len(losses) - 1) // 2], ordered[len(losses) // 2]
    median = max(low, 0.5 * low + 0.5 * high)  # halved first: no overflow; halves of the least loss are zero
    end = median if math.isinf(limit) else max(median, limit)
    hopeless, better = losses > end, losses[losses <= median]
    # on a scale on which squares neither overflow nor vanish; a power of two, so that nothing is rounded
    exponent = int(np.frexp(max(abs(median), np.abs(better).max()))[1])
    width = float(np.sqrt(np.mean((np.ldexp(better, -exponent) - np.ldexp(median, -exponent)) ** 2)))
    if width == 0.0 or not hopeless.any():
        return losses
    _, places = np.unique(losses, return_inverse=True)
    counts = np.bincount(places)
    quantiles = (np.cumsum(counts) - 0.5 * counts) / len(losses)  # of each distinct loss: the middle of its ties
    normal = NormalDist()
    begin = 0.5 if end == median else float(quantiles[places[~hopeless]].max())
    beyond = np.array([normal.inv_cdf(max(float(quantile), begin)) for quantile in quantiles]) - normal.inv_cdf(begin)
    with np.errstate(over="ignore"):  # what overflows lies above the loss itself, which is then kept
        replaced = end + np.ldexp(width * beyond, exponent)
    replaced = np.maximum(replaced, np.nextafter(end, math.inf))  # beyond a limit, however narrow the better half
    # a loss of a large tie around the median keeps its place above it
    return np.where(hopeless, np.minimum(replaced[places], losses), losses)


def architectures(history: History, positions: NDArray[np.int64]) -> Sequence[Architecture]:
    """The architectures of finished trials."""
    return [history.finished.architecture(position) for position in positions.tolist()]
