"""ensemble: the posterior of several functions that were learnt from the same trials.

Letters: k functions, n trials, m architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predictors.distinct import distinct
from predictors.predictor import Belief
from predictors.warping import Warp
from search_spaces.architecture import Architecture

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsemblePosterior:
    """Beliefs from k functions, each a draw of what the loss may be.

    Args:
        scores: m architectures -> what each function gives and its own doubt (a variance), both of shape (k, m), on the
            scale of the warp.
        warp: from losses to scores.
        is_constant: all losses were equal: nothing was learnt but that.
        shared: a variance of the scores that the functions do not know they err by, all together. It widens beliefs and
            leaves their means.
        left_out: the beliefs about the n trials from the functions that have not seen them, if there are such.
    """

    scores: Callable[[Sequence[Architecture]], tuple[FloatArray, FloatArray]]
    warp: Warp
    is_constant: bool = False
    left_out: Belief | None = None
    shared: float = 0.0

    @property
    def noise(self) -> float:
        """0: what repeats differ by is not told from what the functions do not know."""
        return 0.0

    def predict(self, architectures: Sequence[Architecture]) -> Belief:
        """See `Posterior.predict`: mean and variance of the mixture (law of total variance)."""
        belief = self._latent(architectures)
        believed = self.warp.belief(belief.mean, belief.variance)
        if self.shared:
            widened = self.warp.belief(belief.mean, belief.variance + self.shared)
            return Belief(believed.mean, widened.variance)
        return believed

    def log_improvement(self, architectures: Sequence[Architecture], best: float) -> FloatArray:
        """See `WarpedPosterior.log_improvement`: of a normal distribution with the mixture's mean and variance."""
        belief = self._latent(architectures)
        return self.warp.log_improvement(belief.mean, belief.variance + self.shared, best)

    def log_probability_below(self, architectures: Sequence[Architecture], limit: float) -> FloatArray:
        """See `WarpedPosterior.log_probability_below`: likewise."""
        belief = self._latent(architectures)
        return self.warp.log_probability_below(belief.mean, belief.variance + self.shared, limit)

    def _latent(self, architectures: Sequence[Architecture]) -> Belief:
        """What is believed of the scores."""
        different, places = distinct(architectures)
        scores, doubts = self.scores(different)
        if self.is_constant:
            return Belief(np.zeros(len(places)), np.ones(len(places)))
        variance = scores.var(axis=0, ddof=1) + doubts.mean(axis=0)
        return Belief(scores.mean(axis=0)[places], variance[places])

    def leaving_out(self, scores: FloatArray, doubts: FloatArray, unseen: NDArray[np.bool_]) -> EnsemblePosterior:
        """The same with what it believed about its own trials before it saw them.

        Args:
            scores: shape (k, n), what the functions give at the trials.
            doubts: shape (k, n), their own variances there.
            unseen: shape (k, n), which function has not seen which trial. A trial that fewer than two have not seen is
                believed to be like any other.
        """
        counts = unseen.sum(axis=0)
        mean = np.where(unseen, scores, 0.0).sum(axis=0) / np.maximum(counts, 1)
        spread = np.where(unseen, (scores - mean) ** 2, 0.0).sum(axis=0) / np.maximum(counts - 1, 1)
        doubt = np.where(unseen, doubts, 0.0).sum(axis=0) / np.maximum(counts, 1)
        known = counts >= 2
        left_out = self.warp.belief(np.where(known, mean, 0.0), np.where(known, spread + doubt, 1.0))
        return replace(self, left_out=left_out)

    def sample(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> FloatArray:
        """See `Posterior.sample`: one of the k functions each time, whole, and its doubts, drawn one by one.

        How doubts of different architectures go together nobody knows: the variances are those of `predict`.
        """
        if self.is_constant:
            level = self.warp.slopes[0] * rng.standard_normal((count, 1))
            return self.warp.inverse(np.zeros((count, len(architectures)))) + level
        different, places = distinct(architectures)
        scores, doubts = self.scores(different)
        chosen = rng.integers(len(scores), size=count)
        drawn = scores[chosen] + np.sqrt(doubts[chosen] + self.shared) * rng.standard_normal((len(different), count)).T
        return self.warp.inverse(drawn[:, places])


def unexplained(wanted: FloatArray, scores: FloatArray, unseen: NDArray[np.bool_]) -> float:
    """The variance that the functions' errors have beyond their spread, of trials that they have not seen; at least 0.

    Functions that all learnt the same way err together. 0 as well where no trial has two functions to judge it.

    Args:
        wanted: shape (n,), the trials' scores.
        scores: shape (k, n), what the functions give.
        unseen: shape (k, n), which function has not seen which trial.
    """
    counts = unseen.sum(axis=0)
    known = counts >= 2
    if not known.any():
        return 0.0
    told = np.where(unseen, scores, 0.0)[:, known]
    mean = told.sum(axis=0) / counts[known]
    spread = (np.where(unseen[:, known], told - mean, 0.0) ** 2).sum(axis=0) / (counts[known] - 1)
    return max(0.0, float(np.mean((wanted[known] - mean) ** 2 - spread)))


def with_constant(rows: FloatArray) -> FloatArray:
    """A column of zeros more: a space may have no columns at all, which scikit-learn refuses."""
    return np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)
