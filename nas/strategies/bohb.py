"""BOHB: budgets by halving, new architectures from kernel densities of what did well at one level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from nas.history import History
from nas.strategies.asha import Asha
from nas.strategies.budgets import Named, OverBudgets
from nas.strategies.checks import one_of
from nas.strategies.hyperband import Hyperband
from nas.trial import Proposal


@dataclass(frozen=True, kw_only=True)
class Bohb(OverBudgets):
    """Hyperband, or asynchronous halving, whose new architectures come from `nas.strategies.kde.Kde`.

    Args:
        strategy: see `OverBudgets`; the settings of `kde` may be given in a table.
        halving: "hyperband" as published, or "asha", which promotes without waiting.

    Source: Falkner, Klein, Hutter 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale".
    """

    strategy: Named = field(default="kde", hash=False)
    halving: Literal["hyperband", "asha"] = "hyperband"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("halving", self.halving, ("hyperband", "asha"))

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        return self._halves.propose(history, count, rng)

    @cached_property
    def _halves(self) -> Asha | Hyperband:
        made = Asha if self.halving == "asha" else Hyperband
        return made(strategy=self.strategy, enough=self.enough).allowing(self._allow)
