"""Proposals made again from stored rows: what a strategy is told when it is asked what it was asked then."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nas.budget import Budget
from nas.history import History
from nas.metric import Metric
from nas.strategies.strategy import Strategy
from nas.trial import Proposal
from nas.trial_rows import FeedRow, TrialAsRow
from search_spaces.space import SearchSpace

TERMINAL = ("completed", "failed", "stopped")


def proposed_again(
    strategy: Strategy,
    space: SearchSpace,
    metrics: Sequence[Metric],
    seed: int,
    rows: Sequence[FeedRow],
    number: int,
    *,
    budget: Budget | None = None,
) -> Proposal:
    """The proposal of trial `number`, from the rows up to the revision it recorded.

    Trials proposed in one batch have one revision and follow each other; the first of them gave the generator.
    """
    by_number = {row.number: row for row in rows}
    revision, first = by_number[number].proposed_revision, number
    while first - 1 in by_number and by_number[first - 1].proposed_revision == revision:
        first -= 1
    history = History(space, metrics, seed=seed, budget=budget)
    history.update([as_of(by_number[before], revision) for before in range(first)])
    return strategy.propose(history, number - first + 1, np.random.default_rng([seed, first]))[-1]


def as_of(row: FeedRow, revision: int) -> Any:
    """A row as it was at a revision at which its trial had been proposed."""
    if row.state in TERMINAL and row.revision <= revision:
        return row
    names = TrialAsRow.__dataclass_fields__
    then = TrialAsRow(**{name: getattr(row, name) for name in names})
    return replace(then, state="waiting", metrics=None, worker=None, revision=min(row.revision, revision))
