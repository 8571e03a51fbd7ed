"""Hyperband: successive halving from several levels in turn, since nobody knows how early a look is worth anything."""

from __future__ import annotations

from dataclasses import dataclass

from nas.strategies.brackets import InBrackets, Plan, halved


@dataclass(frozen=True, kw_only=True)
class Hyperband(InBrackets):
    """Brackets in turn: the first begins many trainings at the lowest level, the last a few at the full budget.

    Each spends about as much as the others. For the rest, see `InBrackets`.

    Source: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar 2018, "Hyperband: A Novel Bandit-Based Approach to
    Hyperparameter Optimization", algorithm 1.
    Differs: the share of the spending is rounded down first, as for the paper's table 1. A rung that waits for its last
    trials keeps no worker idle: the next bracket begins.
    """

    def plan(self, number: int, levels: int, factor: float) -> Plan:
        """The plan of bracket `number`, from 0, for so many levels."""
        steps = levels - 1 - number % levels
        size = round(levels // (steps + 1) * factor**steps)
        return Plan(start=levels - 1 - steps, sizes=halved(size, steps + 1, factor))
