"""Acquisition: the seam between what is believed of candidates and which of them is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

from predictors.predictor import Belief, Posterior
from search_spaces.architecture import Architecture

FloatArray = NDArray[np.float64]

LEAST_SD = 1e-9
"""Smallest standard deviation that scores divide by, relative to the spread of the losses."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is believed when the next architecture is chosen. Letters: m metrics, k known architectures.

    Args:
        posteriors: one for each metric, each of a loss to be minimised; what is pending was taken in.
        known: the best of the finished architectures, and the pending ones: what a candidate must improve on.
        is_feasible: shape (k,), which of the known ones keep all limits.
        limits: shape (m,), the largest loss that is allowed; infinity where there is no limit.
        scales: shape (m,), the spread of the losses that were learnt, above 0.
        worst: shape (m,), the largest losses that were learnt.
    """

    posteriors: tuple[Posterior, ...]
    known: tuple[Architecture, ...]
    is_feasible: NDArray[np.bool_]
    limits: FloatArray
    scales: FloatArray
    worst: FloatArray

    @cached_property
    def means(self) -> FloatArray:
        """(k, m) the posterior mean of each known architecture: noise makes the best observed one look too good."""
        return np.stack([posterior.predict(self.known).mean for posterior in self.posteriors], axis=1)

    @cached_property
    def best(self) -> float:
        """The smallest posterior mean of the first metric among the feasible known ones; infinity if there is none."""
        return float(self.means[self.is_feasible, 0].min(initial=np.inf))

    def belief(self, candidates: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
        """(c,) mean and (c,) standard deviation, above 0, of the first metric's loss."""
        return moments(self.posteriors[0].predict(candidates), float(self.scales[0]))


class Acquisition(Protocol):
    """Judges candidates. A frozen dataclass.

    Class attributes tell what it can do: `several` whether it takes several metrics, `scale` how its score is read:
    "log" is the logarithm of something to be gained (so that the logarithm of a probability may be added), "loss" is
    minus a loss, "drawn" is minus a loss that is drawn anew at each call (candidates of two calls do not compare);
    `keeps_limits` whether limits on metrics are part of the score already.
    """

    several: ClassVar[bool]
    scale: ClassVar[str]
    keeps_limits: ClassVar[bool]

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """(c,) the larger, the rather a candidate is to be tried; no NaN."""
        ...


def moments(belief: Belief, scale: float) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation, the latter at least `LEAST_SD` of the losses' spread."""
    return belief.mean, np.sqrt(np.maximum(belief.variance, (LEAST_SD * scale) ** 2))


def log_probability_below(
    posterior: Posterior, candidates: Sequence[Architecture], limit: float, scale: float
) -> FloatArray:
    """(c,) the logarithm of the probability of a loss of at most `limit`; `scale` is the spread of the losses.

    Where a predictor sees losses through a warp, it is the one that the predictor itself knows.
    """
    exact = getattr(posterior, "log_probability_below", None)
    if exact is not None:
        told: FloatArray = exact(candidates, limit)
        return told
    mean, sd = moments(posterior.predict(candidates), scale)
    found: FloatArray = log_ndtr((limit - mean) / sd)
    return found


def averaged(acquisition: Acquisition, scores: Sequence[FloatArray]) -> FloatArray:
    """(c,) the mean over several fantasies of what is pending: of what is gained, or of the loss.

    Source: Snoek, Larochelle, Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", section 3.
    """
    if len(scores) == 1:
        return scores[0]
    if acquisition.scale == "log":
        gained: FloatArray = logsumexp(scores, axis=0) - np.log(len(scores))
        return gained
    mean: FloatArray = np.mean(scores, axis=0)
    return mean
