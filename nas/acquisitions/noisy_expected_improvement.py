"""Noisy log expected improvement: the best known loss is itself in doubt, and varies together with the candidates'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook
from nas.acquisitions.draws import joint_draws, log_mean_improvement
from nas.strategies.checks import at_least
from search_spaces.architecture import Architecture

WIDTH = 1e-6
"""Of the rounded corner, in standard deviations of the losses: the value of BoTorch's qLogEI."""


@dataclass(frozen=True, kw_only=True)
class NoisyExpectedImprovement:
    """The logarithm of the improvement on the best of the known architectures, in the mean over joint draws of both.

    Args:
        draws: how many; the error falls with its square root.

    Source: Letham, Karrer, Ottoni, Bakshy 2019, "Constrained Bayesian Optimization with Noisy Experiments"; in
    logarithms after Ament et al. 2023 (qLogNEI).
    """

    draws: int = 128
    several: ClassVar[bool] = False
    scale: ClassVar[str] = "log"
    keeps_limits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("draws", self.draws, 1)

    def score(self, outlook: Outlook, candidates: Sequence[Architecture], rng: np.random.Generator) -> FloatArray:
        """See `Acquisition.score`. Zeros while nothing feasible is known: then only limits tell candidates apart."""
        if not outlook.is_feasible.any():
            return np.zeros(len(candidates))
        known, drawn = joint_draws(outlook, candidates, self.draws, rng)
        best = known[:, outlook.is_feasible, 0].min(axis=1)
        return log_mean_improvement(best, drawn[:, :, 0], WIDTH * float(outlook.scales[0]))
