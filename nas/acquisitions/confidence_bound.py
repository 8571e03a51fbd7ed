"""Confidence bound: a candidate counts as good as it may well be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook
from nas.strategies.checks import within
from search_spaces.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ConfidenceBound:
    """Minus the lower bound of the loss, `width` standard deviations below the mean (UCB, had it to be maximised).

    In units of the losses' spread.

    Args:
        width: standard deviations; 0 takes the smallest mean.

    Source: Srinivas, Krause, Kakade, Seeger 2010, "Gaussian Process Optimization in the Bandit Setting".
    Differs: the width is a constant; the schedule of the proof explores far more than pays in hundreds of trials.
    """

    width: float = 1.0
    several: ClassVar[bool] = False
    scale: ClassVar[str] = "loss"
    keeps_limits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        within("width", self.width, 0, 100)

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`."""
        mean, sd = outlook.belief(candidates)
        return (self.width * sd - mean) / float(outlook.scales[0])
