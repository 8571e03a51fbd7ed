"""Thompson sampling: act as if one draw of the loss were the truth; the doubt itself makes the search explore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook
from search_spaces.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Thompson:
    """Minus the losses of one function drawn from the posterior, at all candidates jointly, in units of their spread.

    Of a Gaussian process that takes memory for the square of the candidates: some thousands are many.

    Source: Thompson 1933, "On the Likelihood that One Unknown Probability Exceeds Another"; Kandasamy et al. 2018,
    "Parallelised Bayesian Optimisation via Thompson Sampling".
    """

    several: ClassVar[bool] = False
    scale: ClassVar[str] = "drawn"
    keeps_limits: ClassVar[bool] = False

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`."""
        drawn: FloatArray = outlook.posteriors[0].sample(candidates, 1, rng)[0]
        return -drawn / float(outlook.scales[0])


@dataclass(frozen=True, kw_only=True)
class IndependentThompson:
    """Minus a loss drawn for each candidate by itself, in units of the losses' spread.

    Explores more than a joint draw among candidates that are alike.

    Source: White, Neiswanger, Savani 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural
    Architecture Search", section 4.
    """

    several: ClassVar[bool] = False
    scale: ClassVar[str] = "drawn"
    keeps_limits: ClassVar[bool] = False

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`."""
        mean, sd = outlook.belief(candidates)
        return -(mean + sd * rng.standard_normal(len(candidates))) / float(outlook.scales[0])
