"""ASHA by stopping: trials begin with the full budget, and are ended at a level where too many others did better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.budget import NO_BUDGET
from nas.history import History
from nas.pareto import standings
from nas.proposed import Proposed
from nas.strategies.checks import at_least
from nas.strategies.rungs import share


@dataclass(frozen=True, kw_only=True)
class Asha:
    """Asynchronous successive halving, by stopping.

    At each level of the study's budget that a trial has just reached, it goes on only if it is among the best 1/factor
    of all trials that have reached it so far, itself included. The steps that the evaluator reports are the budget's
    unit. With several metrics the best are those of the first non-dominated fronts, the least crowded first. While
    fewer than `factor` trials have reached a level, none is ended there.

    No checkpoint is needed, and nothing that was ended is ever gone on with: the promoting variant is a strategy.

    Args:
        after: no trial is ended before this step.

    Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar 2020, "A System for Massively Parallel
    Hyperparameter Tuning"; this variant is that of its implementations (Ray Tune, Syne Tune).
    """

    after: int = 0
    #: told to who makes a study: it must have a budget
    needs_budget: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("after", self.after, 0)

    def should_stop(self, trial: Proposed, history: History) -> str | None:
        """See `Stopper.should_stop`."""
        if history.budget is None:
            raise ValueError(f"stopper 'asha' {NO_BUDGET}")
        reported = history.reported
        step = reported.last_step(trial.number)
        reached = [level for level in history.budget.levels if level <= step]
        if not reached or reached[-1] < self.after or reached[-1] >= history.budget.most:
            return None
        numbers, losses = reported.at_level(reached[-1])
        told = ~np.isnan(losses[numbers == trial.number][0])  # what belongs to the architecture is not reported
        comparable = ~np.isnan(losses[:, told]).any(axis=1)
        numbers, losses = numbers[comparable], losses[comparable][:, told]
        if not told.any() or len(numbers) < history.budget.factor:
            return None
        places = standings(losses, np.zeros_like(losses))
        place = int(places[numbers == trial.number][0])
        if place < max(1, share(len(numbers), history.budget.factor)):
            return None
        return f"asha: place {place + 1} of {len(numbers)} at {history.budget.name} {reached[-1]:g}"
