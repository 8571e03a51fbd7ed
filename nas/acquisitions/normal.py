"""The normal distribution's tails in logarithms: what improvement is to be expected, where it is nearly none as well.

Letters: z, a number of standard deviations; f, a loss believed to be normal with mean mu and standard deviation sigma.
"""

from __future__ import annotations

import numpy as np

from nas.acquisitions.acquisition import FloatArray
from predictors.normal_tails import log_h


def log_expected_improvement(mean: FloatArray, sd: FloatArray, best: float | FloatArray) -> FloatArray:
    """The logarithm of E[max(best - f, 0)]; finite for every finite mean and sd > 0."""
    return log_h((best - mean) / sd) + np.log(sd)
