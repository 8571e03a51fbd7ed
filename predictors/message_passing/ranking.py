"""ranking: learning an order from pairs, and what a score that knows only the order says about a loss.

Letters: k networks, n trials.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]

PRIOR_TRIALS = 2.0
"""What is believed of a score before any trial tested it weighs as many trials: a slope of 1, an error of 1."""

LEAST_SLOPE = 0.05
"""Of losses by scores: a score may be worth little, it does not turn round the order it was trained for."""


def pairwise_hinge(scores: Tensor, worse: Tensor, margin: float) -> Tensor:
    """How much k networks fall short of the margin, in the mean over the pairs that each sees: shape (k,).

    Source: Ning et al., "A Generic Graph-based Neural Architecture Encoding Scheme for Predictor-based NAS", ECCV 2020,
    section 3.3 (GATES).

    Args:
        scores: shape (k, n).
        worse: shape (k, n, n), 1 where a network sees that the trial of the row has a larger loss than that of the
            column, else 0.
        margin: between the two scores.
    """
    short = torch.relu(margin - (scores[:, :, None] - scores[:, None, :]))
    return (short * worse).sum((1, 2)) / worse.sum((1, 2)).clamp(min=1.0)


class Line(NamedTuple):
    """loss = offset + slope * score + an error of that variance."""

    offset: float
    slope: float
    variance: float


def line(scores: FloatArray, losses: FloatArray) -> Line:
    """The line from scores, shape (n,), to losses they have not seen, both of about mean 0 and variance 1; n may be 0.

    Least squares with `PRIOR_TRIALS` more trials, half of them at score 1 and loss 1, half at -1 and -1; those
    have an error of 1 in the variance.
    """
    half = PRIOR_TRIALS / 2.0
    count = len(scores) + PRIOR_TRIALS
    centre, level = scores.sum() / count, losses.sum() / count
    across = (scores * losses).sum() + 2.0 * half - count * centre * level
    along = (scores * scores).sum() + 2.0 * half - count * centre * centre
    slope = max(float(across / along), LEAST_SLOPE)
    offset = float(level - slope * centre)
    errors = losses - offset - slope * scores
    return Line(offset, slope, float(((errors * errors).sum() + PRIOR_TRIALS) / count))
