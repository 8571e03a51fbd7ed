"""quality: how good beliefs are, held against losses that the predictor has not seen.

Letters: m architectures, q levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import kendalltau, rankdata

from predictors.distinct import distinct
from predictors.predictor import Belief, Predictor, PredictorError
from search_spaces.architecture import Architecture

FloatArray = NDArray[np.float64]

LEVELS = tuple(round(0.1 * level, 1) for level in range(1, 10))
"""Of the calibration curve."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of one predictor.

    Args:
        kendall_tau: tau-b between mean and loss, in [-1, 1]; NaN if either is constant.
        spearman: rank correlation likewise.
        rmse: root mean squared error of the mean, in units of the losses.
        negative_log_likelihood: mean over the losses, natural logarithm; NaN if the predictor is certain of something.
        calibration: shape (q,): for each of `LEVELS` the share of losses below that quantile of their belief; equal to
            the level itself if beliefs are calibrated.
        count: m, how many losses that was.
    """

    kendall_tau: float
    spearman: float
    rmse: float
    negative_log_likelihood: float
    calibration: tuple[float, ...]
    count: int

    @property
    def calibration_error(self) -> float:
        """Mean absolute distance of the calibration curve from the diagonal."""
        return float(np.mean(np.abs(np.array(self.calibration) - LEVELS)))


def kendall_tau(first: FloatArray, second: FloatArray) -> float:
    """Kendall's tau-b; NaN if either is constant."""
    return float(kendalltau(first, second).statistic)


def spearman(first: FloatArray, second: FloatArray) -> float:
    """Spearman's rank correlation, ties at the middle of their ranks; NaN if either is constant."""
    a, b = rankdata(first), rankdata(second)
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0.0 else float("nan")


def rmse(means: FloatArray, losses: FloatArray) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.mean((means - losses) ** 2)))


def negative_log_likelihood(means: FloatArray, variances: FloatArray, losses: FloatArray) -> float:
    """Mean negative log density of losses under normal beliefs; NaN if a variance is 0: the belief has no density."""
    if not (variances > 0.0).all():
        return float("nan")
    return float(np.mean(0.5 * (np.log(2.0 * np.pi * variances) + (losses - means) ** 2 / variances)))


def calibration_curve(
    means: FloatArray, variances: FloatArray, losses: FloatArray, levels: Sequence[float] = LEVELS
) -> FloatArray:
    """For each level the share of losses not above that quantile of their normal belief: shape (q,)."""
    deviations = np.sqrt(variances)
    return np.array([np.mean(losses <= means + ndtri(level) * deviations) for level in levels])


def judge(belief: Belief, noise: float, losses: FloatArray) -> Quality:
    """Beliefs about m architectures held against one loss of each; `noise` is the posterior's."""
    variances = belief.variance + noise
    return Quality(
        kendall_tau=kendall_tau(belief.mean, losses),
        spearman=spearman(belief.mean, losses),
        rmse=rmse(belief.mean, losses),
        negative_log_likelihood=negative_log_likelihood(belief.mean, variances, losses),
        calibration=tuple(calibration_curve(belief.mean, variances, losses).tolist()),
        count=len(losses),
    )


def cross_validated(
    predictor: Predictor,
    architectures: Sequence[Architecture],
    losses: FloatArray,
    rng: np.random.Generator,
    folds: int = 5,
) -> Quality:
    """Judge each loss by the belief of a fit to the other folds. Repeats of an architecture share a fold.

    Raises:
        PredictorError: fewer than three different architectures: a fit needs two, and one to be judged.
    """
    values = np.asarray(losses, dtype=np.float64)
    fold_of, folds = fold_numbers(architectures, folds, rng)
    means, variances = np.empty(len(values)), np.empty(len(values))
    for fold in range(folds):
        seen, unseen = np.flatnonzero(fold_of != fold).tolist(), np.flatnonzero(fold_of == fold)
        posterior = predictor.fit([architectures[place] for place in seen], values[seen])
        belief = posterior.predict([architectures[place] for place in unseen.tolist()])
        means[unseen], variances[unseen] = belief.mean, belief.variance + posterior.noise
    return judge(Belief(means, variances), 0.0, values)


def fold_numbers(
    architectures: Sequence[Architecture], folds: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], int]:
    """For each trial its fold, drawn by architecture; and the number of folds, at most one per architecture."""
    different, places = distinct(architectures)
    count = len(different)
    if count < 3:
        raise PredictorError(f"cross-validation needs trials of at least three different architectures, got {count}")
    if folds < 2:
        raise ValueError(f"folds: at least two are needed, got {folds}")
    folds = 3 if count == 3 else min(folds, count)  # two are left to learn from
    return rng.permutation(count)[places] % folds, folds
