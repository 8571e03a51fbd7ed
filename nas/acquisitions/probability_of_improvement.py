"""Probability of improvement: how surely a candidate falls below the best that is believed to be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook, log_probability_below
from nas.strategies.checks import within
from search_spaces.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ProbabilityOfImprovement:
    """The logarithm of the probability of a loss below the best posterior mean.

    Args:
        margin: so much of the losses' standard deviation must be gained to count; without one the sure and tiny step
            is preferred to all others.

    Source: Kushner 1964, "A New Method of Locating the Maximum Point of an Arbitrary Multipeak Curve in the Presence of
    Noise".
    """

    margin: float = 0.01
    several: ClassVar[bool] = False
    scale: ClassVar[str] = "log"
    keeps_limits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        within("margin", self.margin, 0, 100)

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`. Zeros while nothing feasible is known: then only limits tell candidates apart."""
        if not np.isfinite(outlook.best):
            return np.zeros(len(candidates))
        scale = float(outlook.scales[0])
        return log_probability_below(outlook.posteriors[0], candidates, outlook.best - self.margin * scale, scale)
