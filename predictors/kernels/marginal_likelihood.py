"""marginal_likelihood: how well parameters explain the scores that were seen, and the search for the best ones.

With K the covariance of n scores z, noise included, L its Cholesky factor:

    -log p(z) = z' K^-1 z / 2 + sum_i log L_ii + n log(2 pi) / 2
    d/dt      = sum_ij (K^-1 - a a')_ij (dK/dt)_ij / 2,                a = K^-1 z

Source: Rasmussen, Williams, "Gaussian Processes for Machine Learning", 2006, equations 2.30 and 5.9.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack
from scipy.optimize import minimize
from scipy.spatial.distance import squareform

from predictors.kernels.composition import Composition, Distances, condensed
from predictors.one_thread import on_one_thread
from predictors.predictor import PredictorError

FloatArray = NDArray[np.float64]

FIRST_NOISE = 0.05
"""Variance of the noise that learning starts from, in units of the scores' variance."""

LEAST_NOISE = 1e-6
"""Smaller noise than this is not told from rounding."""

PRIOR_SD = 2.0
"""Of a log weight, a log noise, and half a log scale (a scale is a length squared) around where learning starts."""

STEPS, TOLERANCE = 30, 1e-4
"""The most steps of L-BFGS, and how little a step must gain, as a share, to be the last; the likelihood is flat around
its top: what is left is a tenth of a nat of some hundred."""

_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


def factor(covariance: FloatArray) -> FloatArray:
    """The lower Cholesky factor; a covariance that rounding made indefinite gets as little on its diagonal as helps."""
    scale = float(np.mean(np.diag(covariance)))
    for jitter in _JITTERS:
        shifted = covariance if jitter == 0.0 else covariance + jitter * scale * np.eye(len(covariance))
        lower, failed = lapack.dpotrf(shifted, lower=True, clean=True)
        if failed == 0 and np.isfinite(lower[-1, -1]):
            return np.asarray(lower)
    raise PredictorError(
        f"the covariance of {len(covariance)} trials is not positive definite, even with {_JITTERS[-1]:g} of its "
        "diagonal added; features that are not finite or hugely different in scale do this: check them"
    )


def objective(
    parameters: FloatArray, composition: Composition, pairs: Distances, scores: FloatArray, first: FloatArray
) -> tuple[float, FloatArray]:
    """Minus the logarithm of likelihood times prior, without its constants, and its gradient.

    Args:
        parameters: those of the composition, then the logarithm of the noise's variance.
        composition: of the kernel.
        pairs: condensed distances of the n trials.
        scores: shape (n,).
        first: the prior's centre, of the parameters' shape.
    """
    above, slopes_of = composition.covariance_and_slopes(parameters[:-1], pairs)
    covariance = squareform(above, checks=False)
    noise = float(np.exp(parameters[-1]))
    np.fill_diagonal(covariance, composition.variance(parameters[:-1]) + noise)
    lower = factor(covariance)
    explained = cho_solve((lower, True), scores, check_finite=False)
    inverse, _ = lapack.dpotri(lower, lower=True)  # its lower triangle
    inner = squareform(inverse.T - explained[:, None] * explained, checks=False)  # reads what is above the diagonal
    diagonal = 0.5 * float(np.trace(inverse) - explained @ explained)

    width = np.full(len(parameters), PRIOR_SD)
    width[composition.weights : -1] *= 2.0
    away = (parameters - first) / width
    value = 0.5 * float(scores @ explained) + float(np.log(np.diag(lower)).sum()) + 0.5 * float(away @ away)
    slopes = np.append(slopes_of(inner), diagonal * noise)
    slopes[: composition.weights] += diagonal * np.exp(parameters[: composition.weights])
    return value, slopes + away / width


@on_one_thread
def learn(composition: Composition, distances: Distances, scores: FloatArray) -> FloatArray:
    """The parameters that explain the scores best, the last one the logarithm of the noise's variance.

    Args:
        composition: of the kernel.
        distances: between n trials, square.
        scores: shape (n,), of about mean 0 and variance 1. Of constant ones nothing is learnt: any weight would do, and
            the smallest would leave no doubt.
    """
    first = np.append(composition.start(distances), np.log(FIRST_NOISE))
    if (scores == scores[0]).all():
        return first
    pairs = Distances(condensed(distances.graph), tuple(condensed([vector])[0] for vector in distances.vectors))
    bounds = [(value - 12.0, value + 12.0) for value in first]
    bounds[-1] = (np.log(LEAST_NOISE), np.log(4.0))
    found = minimize(
        objective,
        first,
        args=(composition, pairs, scores, first),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS, "maxfun": 2 * STEPS, "ftol": TOLERANCE},
    )
    return np.asarray(found.x)
