"""matern: the Matern-5/2 correlation as a function of squared distance, and its slope.

With u = sqrt(5 s), s the squared distance in length scales: ``(1 + u + u^2 / 3) exp(-u)``.
Source: Rasmussen, Williams, "Gaussian Processes for Machine Learning", 2006, equation 4.17.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def matern(squared: FloatArray) -> FloatArray:
    """The correlation at squared distances in length scales."""
    u = np.sqrt(5.0 * squared)
    result = u * (1.0 / 3.0)
    result += 1.0
    result *= u
    result += 1.0
    np.negative(u, out=u)
    result *= np.exp(u, out=u)
    return result


def matern_and_slope(squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The correlation and its derivative with respect to the squared distance, which is finite at 0 too."""
    u = np.sqrt(5.0 * squared)
    decay = np.exp(-u)
    slope = 1.0 + u
    correlation = (slope + u * u * (1.0 / 3.0)) * decay
    slope *= decay
    slope *= -5.0 / 6.0
    return correlation, slope


def matern_curvature(squared: FloatArray) -> FloatArray:
    """The second derivative of the correlation with respect to the squared distance: ``25 / 12 exp(-u)``."""
    return np.asarray(25.0 / 12.0 * np.exp(-np.sqrt(5.0 * squared)))
