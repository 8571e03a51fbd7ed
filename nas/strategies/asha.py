"""ASHA: whenever a worker is free, promote what has earned it, or else begin something new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np

from nas.history import History
from nas.strategies.budgets import OverBudgets, promotion
from nas.strategies.rungs import Rungs, share
from nas.trial import Proposal


@dataclass(frozen=True, kw_only=True)
class Asha(OverBudgets):
    """Asynchronous successive halving, by promotion.

    A trial is promoted to the next level of the study's budget when it is among the best 1/factor of those that have
    completed at its level, and was not promoted before; higher levels first. While there is none, a new architecture
    begins at the lowest level. Nobody ever waits. Failed and stopped trials are not promoted, and count for nothing.

    With several metrics the best are those of the first non-dominated fronts, the least crowded first; trials that miss
    a limit come last.

    Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar 2020, "A System for Massively Parallel
    Hyperparameter Tuning", algorithm 2. Schmucker, Donini, Zafar, Salinas, Archambeau 2021, "Multi-objective
    Asynchronous Successive Halving".
    Differs: with several metrics, crowding distance orders a front, not an epsilon net.
    """

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        rungs = Rungs.of(history)
        proposals = list(islice(promotable(history, rungs), count))
        return [*proposals, *self.new(history, repeat(rungs.levels[0]), count - len(proposals), rng)]


def promotable(history: History, rungs: Rungs) -> Iterator[Proposal]:
    """The promotions that are due, those from higher levels first, within a level the best first."""
    for level in reversed(range(len(rungs.levels) - 1)):
        rung = rungs.rungs[level]
        for position in rung.open_among_best(history, share(len(rung.positions), rungs.factor)):
            yield promotion(history, rungs, position, level + 1)
