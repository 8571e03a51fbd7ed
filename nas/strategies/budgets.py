"""What the strategies over several budgets share: a proposer of new architectures, and how promotions are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from nas import catalogue
from nas.history import History
from nas.metric import Metric
from nas.settings import part
from nas.strategies.allowing import Allowing
from nas.strategies.checks import at_least
from nas.strategies.rungs import Rungs
from nas.strategies.strategy import Strategy
from nas.strategies.view import View
from nas.trial import Proposal

Named = str | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OverBudgets(Allowing):
    """A strategy that trains many architectures a little and few of them far.

    Args:
        strategy: what proposes new architectures: name or path of a strategy, or a table of its name and settings. It
            sees each training once, with the result at one level of the budget; see `nas.strategies.view.View`.
        enough: so many trainings must have completed at a level for its results to be the ones seen; by default twice
            as many as the space has decisions, and two. A very large number shows the lowest level for ever.
    """

    strategy: Named = field(default="random_search", hash=False)
    enough: int | None = None
    #: told to who makes a study: it must have a budget
    needs_budget: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.enough is not None:
            at_least("enough", self.enough, 1)
        stated = part(self.strategy, "strategy")
        catalogue.path_of("strategy", stated.name)

    @cached_property
    def proposer(self) -> Strategy:
        """What proposes new architectures."""
        stated = part(self.strategy, "strategy")
        found: Strategy = catalogue.load("strategy", stated.name, stated.settings, allow=self._allow)
        if getattr(found, "needs_budget", False):
            raise ValueError(
                f"{stated.name!r} promotes trials itself; what proposes new ones must know one budget only"
            )
        return found

    def check(self, space: Any, metrics: Sequence[Metric]) -> None:
        """Make the proposer; `ValueError` says what does not fit."""
        if hasattr(self.proposer, "check"):
            self.proposer.check(space, metrics)

    def view(self, history: History) -> View:
        """What the proposer sees."""
        enough = 2 * (len(history.space.decisions) + 1) if self.enough is None else self.enough
        return View.of(history, enough)

    def new(
        self, history: History, budgets: Iterator[float], count: int, rng: np.random.Generator
    ) -> Sequence[Proposal]:
        """Up to `count` new architectures of the proposer, with the next of these budgets each."""
        if not count:
            return []
        view = self.view(history)
        proposed = view.outside(history, self.proposer.propose(view.history, count, rng))
        return [replace(one, budget=budget) for one, budget in zip(proposed, budgets, strict=False)]


def promotion(history: History, rungs: Rungs, position: int, level: int) -> Proposal:
    """The finished trial at a position, further on to a level."""
    finished = history.finished
    return Proposal(
        architecture=finished.architecture(position),
        budget=rungs.levels[level],
        promoted_from=int(finished.numbers[position]),
        lineage=(int(finished.numbers[position]),),
    )
