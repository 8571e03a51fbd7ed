"""A strategy driven over a table, one trial after the other, as the controller would; no database, no workers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from nas.history import History
from nas.metric import Metric
from nas.settings import override
from nas.strategies.strategy import Strategy
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


def driven(
    strategy: Strategy,
    space: SearchSpace,
    metrics: Sequence[Metric],
    measure: Callable[[Architecture], Mapping[str, float]],
    seed: int,
) -> Iterator[History]:
    """The history after each trial, for as long as it is asked for."""
    history = History(space, metrics, seed=seed)
    number = 0
    while True:
        (proposal,) = strategy.propose(history, 1, np.random.default_rng([seed, number]))
        row = SimpleNamespace(
            number=number,
            state="completed",
            architecture=proposal.architecture.to_json(),
            canonical_key=proposal.architecture.to_json(),  # nothing is reused of what computes the same
            budget=None,
            promoted_from=None,
            repeat=proposal.repeat,
            lineage=json.dumps(list(proposal.lineage)),
            metrics=json.dumps(dict(measure(proposal.architecture))),
            worker=None,
            started=None,
            ended=None,
            revision=number + 1,
            proposed_revision=number,
        )
        history.update([row])
        number += 1
        yield history


def settings_of(assignments: Sequence[str]) -> dict[str, Any]:
    """The settings of a strategy that KEY=VALUE texts say, as the command line's ``--set strategy.KEY=VALUE`` does."""
    document: dict[str, Any] = {"strategy": {"name": ""}}
    for assignment in assignments:
        override(document, f"strategy.{assignment}")
    return {key: value for key, value in document["strategy"].items() if key != "name"}
