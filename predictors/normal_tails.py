"""normal_tails: what a normal distribution is expected to fall below a bound by, in logarithms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

FloatArray = NDArray[np.float64]

_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)
_FAR = -1e4
"""Below this z the bracket of `log_h` is smaller than what rounding leaves of it; its limit 1 / z² serves."""


def log_h(z: FloatArray) -> FloatArray:
    """log(phi(z) + z Phi(z)), the logarithm of what a standard normal is expected to fall below z by.

    For z > -1 as it stands; below that phi(z) is taken out, so that what cancels is the well-scaled
    1 + z sqrt(pi / 2) erfcx(-z / sqrt 2).

    Source: Ament, Daulton, Eriksson, Balandat, Bakshy 2023, "Unexpected Improvements to Expected Improvement for
    Bayesian Optimization", equation 9 and appendix A.1.
    """
    z = np.asarray(z, dtype=np.float64)
    near = np.maximum(z, -1.0)
    middle = np.clip(z, _FAR, -1.0)
    far = np.minimum(z, _FAR)
    above = np.log(np.exp(-0.5 * near**2 - _LOG_ROOT_TAU) + near * ndtr(near))
    # 1 - t with t near 1: log1p(-t) keeps what is left
    t = -middle * math.sqrt(math.pi / 2.0) * erfcx(-middle / math.sqrt(2.0))
    between = -0.5 * middle**2 - _LOG_ROOT_TAU + np.log1p(-t)
    below = -0.5 * far**2 - _LOG_ROOT_TAU - 2.0 * np.log(-far)
    found: FloatArray = np.where(z > -1.0, above, np.where(z > _FAR, between, below))
    return found
