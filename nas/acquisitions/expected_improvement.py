"""Log expected improvement: by how much a candidate is expected to fall below the best that is believed to be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook
from nas.acquisitions.normal import log_expected_improvement
from search_spaces.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class LogExpectedImprovement:
    """The logarithm of the expected improvement on the smallest posterior mean among known architectures.

    Source: Ament et al. 2023, "Unexpected Improvements to Expected Improvement for Bayesian Optimization".
    Where a predictor sees losses through a warp, theirs is no normal distribution, and the expectation is the one that
    the predictor itself knows (`predictors.predictor.WarpedPosterior`).

    Differs: the best is the smallest posterior mean, not the smallest loss that was measured, which under noise is
    mostly luck.
    """

    several: ClassVar[bool] = False
    scale: ClassVar[str] = "log"
    keeps_limits: ClassVar[bool] = False

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`. Zeros while nothing feasible is known: then only limits tell candidates apart."""
        if not np.isfinite(outlook.best):
            return np.zeros(len(candidates))
        exact = getattr(outlook.posteriors[0], "log_improvement", None)
        if exact is not None:
            improvement: FloatArray = exact(candidates, outlook.best)
            return improvement
        mean, sd = outlook.belief(candidates)
        return log_expected_improvement(mean, sd, outlook.best)
