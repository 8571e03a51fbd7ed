"""A study without a store: rows in a dict, with revisions as the store would give them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from nas.budget import Budget
from nas.history import History
from nas.metric import Metric
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.nodes import Boolean, Choice, Float, Integer
from search_spaces.space import SearchSpace

FLAT = SearchSpace(
    {"a": Choice(["x", "y", "z"]), "n": Integer(1, 8), "b": Boolean(), "c": Choice([1, 2, 4])}, name="flat"
)
CONDITIONAL = SearchSpace(
    {
        "kind": Choice({"small": {"width": Integer(1, 6)}, "large": {"depth": Integer(1, 3), "skip": Boolean()}}),
        "activation": Choice(["relu", "gelu", None]),
    },
    name="conditional",
)
FLOATS = SearchSpace(
    {
        "rate": Float(1e-4, 1.0, log=True),
        "width": Integer(4, 64, log=True),
        "dropout": Choice({"off": {}, "on": {"p": Float(0.1, 0.9)}}),
    },
    name="floats",
)


def loss(architecture: Architecture) -> float:
    """Some number that depends on every decision."""
    total = 0.0
    for path, value in architecture.items():
        if isinstance(value, bool) or value is None or isinstance(value, str):
            total += (sum(map(ord, f"{path}{value}")) % 17) / 17
        else:
            total += abs(float(value) - 0.3) / (1 + abs(float(value)))
    return total


def size(architecture: Architecture) -> float:
    """Another one, in conflict with it."""
    return 10.0 - 2 * loss(architecture) + (sum(map(ord, architecture.to_json())) % 5) / 5


NINE_EPOCHS = Budget(name="epochs", least=1, most=9)


@dataclass
class Simulated:
    space: SearchSpace
    metrics: Sequence[Metric] = (Metric("error"),)
    seed: int = 0
    budget: Budget | None = NINE_EPOCHS
    rows: dict[int, SimpleNamespace] = field(default_factory=dict)
    revision: int = 0

    def history(self) -> History:
        """A fresh one, from the rows alone."""
        history = History(self.space, self.metrics, seed=self.seed, budget=self.budget)
        history.update(self.changes(0))
        return history

    def changes(self, after: int) -> list[SimpleNamespace]:
        found = [SimpleNamespace(**vars(row)) for row in self.rows.values() if row.revision > after]
        return sorted(found, key=lambda row: (row.revision, row.number))

    def refresh(self, history: History) -> History:
        history.update(self.changes(history.revision))
        return history

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, len(self.rows)])

    def add(self, proposals: Sequence[Proposal], proposed_revision: int | None = None) -> list[int]:
        made_from = self.revision if proposed_revision is None else proposed_revision
        self.revision += 1
        numbers = []
        for proposal in proposals:
            number = len(self.rows)
            self.rows[number] = SimpleNamespace(
                number=number,
                state="waiting",
                architecture=proposal.architecture.to_json(),
                canonical_key=proposal.architecture.key,
                budget=proposal.budget,
                promoted_from=proposal.promoted_from,
                repeat=proposal.repeat,
                lineage=json.dumps(list(proposal.lineage)),
                metrics=None,
                worker=None,
                started=None,
                ended=None,
                revision=self.revision,
                proposed_revision=made_from,
            )
            numbers.append(number)
        return numbers

    def enqueue(self, architecture: Architecture) -> int:
        return self.add([Proposal(architecture=architecture)])[0]

    def run(self, number: int) -> None:
        self.revision += 1
        self.rows[number].state, self.rows[number].revision = "running", self.revision

    def finish(self, number: int, state: str = "completed", metrics: dict[str, float] | None = None) -> None:
        row = self.rows[number]
        if metrics is None and state != "failed":
            architecture = Architecture.from_json(row.architecture)
            metrics = {"error": loss(architecture), "size": size(architecture)}
            metrics = {metric.name: metrics[metric.name] for metric in self.metrics}
        self.revision += 1
        row.state, row.revision, row.metrics = state, self.revision, json.dumps(metrics) if metrics else None

    def architecture(self, number: int) -> Architecture:
        return Architecture.from_json(self.rows[number].architecture)

    def begun(self) -> list[Architecture]:
        """The architectures in the order in which their training began: those of promoted trials only once."""
        return [self.architecture(number) for number, row in self.rows.items() if row.promoted_from is None]


def mixed_outcome(number: int) -> str:
    """Most trials complete, some fail, some are stopped."""
    return "failed" if number % 7 == 5 else "stopped" if number % 11 == 8 else "completed"


def always_completed(number: int) -> str:
    return "completed"


def search(
    study: Simulated,
    strategy: Any,
    trials: int,
    outcome: Callable[[int], str] = always_completed,
    history: History | None = None,
) -> list[Architecture]:
    """A serial search of one process; ends early when the strategy has nothing left."""
    history = study.history() if history is None else history
    while len(study.rows) < trials:
        proposals = strategy.propose(study.refresh(history), 1, study.rng())
        if not proposals:
            break
        for number in study.add(proposals):
            study.finish(number, outcome(number))
    study.refresh(history)
    return [study.architecture(number) for number in study.rows]
