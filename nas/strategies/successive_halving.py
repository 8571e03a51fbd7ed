"""Successive halving: many trainings begin at the lowest level, one of them reaches the full budget."""

from __future__ import annotations

from dataclasses import dataclass

from nas.strategies.brackets import InBrackets, Plan, halved
from nas.strategies.checks import at_least


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving(InBrackets):
    """Brackets that begin at the lowest level; see `InBrackets`.

    Args:
        size: trainings of a bracket; by default so many that one of them reaches the full budget.

    Source: Jamieson, Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization".
    Differs: a rung that waits for its last trials keeps no worker idle: the next bracket begins.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            at_least("size", self.size, 1)

    def plan(self, number: int, levels: int, factor: float) -> Plan:
        """The plan of bracket `number`, from 0, for so many levels."""
        size = round(factor ** (levels - 1)) if self.size is None else self.size
        return Plan(start=0, sizes=halved(size, levels, factor))
