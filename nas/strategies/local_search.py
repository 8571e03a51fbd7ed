"""Local search: from the best of a few random architectures step to the first better neighbour, until there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.history import History
from nas.pareto import dominates, standings
from nas.strategies.checks import at_least
from nas.strategies.untried import Untried
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.moves import neighbours


@dataclass(frozen=True, kw_only=True)
class LocalSearch:
    """First improvement over untried neighbours, with restarts.

    A climb begins at the best of `initial` random architectures. The untried neighbours of the current one are tried in
    random order; the first that is better becomes the current one. Once all its neighbours have finished, a new climb
    begins. Where a climb stands is folded from the finished trials in completion order: a trial without lineage is a
    start, one derived from the running climb is a step of it. No architecture is proposed twice.

    While neighbours are pending and none is left to try, a random architecture is proposed: a start for the next
    climb. So are architectures a person enqueued. With several metrics "better" means: dominates, limits first.

    Args:
        initial: random architectures at the start of each climb.

    Source: White, Nolen and Savani 2021, "Exploring the Loss Landscape in Neural Architecture Search", the variant that
    moves at the first improvement.
    """

    initial: int = 10

    def __post_init__(self) -> None:
        at_least("initial", self.initial, 1)

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        climb = history.cached(self, lambda: _Climb(history, self.initial))
        climb.advance()
        untried = Untried(history)
        open_neighbours = [neighbour for neighbour in climb.unfinished.values() if neighbour in untried]
        proposals: list[Proposal] = []
        while len(proposals) < count:
            if open_neighbours:
                architecture: Architecture | None = open_neighbours.pop(int(rng.integers(len(open_neighbours))))
                lineage: tuple[int, ...] = (int(history.finished.numbers[climb.current]),)
            else:
                architecture, lineage = untried.random(rng), ()
            if architecture is None:
                break
            proposals.append(Proposal(architecture=untried.take(architecture), lineage=lineage))
        return proposals


@dataclass
class _Climb:
    """The fold: where the climb stands after the first `folded` finished trials."""

    history: History
    initial: int
    folded: int = 0
    #: canonical JSON of what has finished so far
    seen: set[str] = field(default_factory=set)
    #: finished trials without lineage that no climb has begun from: how many, and the positions of the completed ones
    started: int = 0
    starts: list[int] = field(default_factory=list)
    #: position of the architecture whose neighbours are tried; -1 while starts are gathered
    current: int = -1
    #: numbers of the trials this climb has stood on
    path: set[int] = field(default_factory=set)
    #: the current one's neighbours that have not finished, by canonical JSON
    unfinished: dict[str, Architecture] = field(default_factory=dict)

    def advance(self) -> None:
        """Fold what has finished since."""
        finished = self.history.finished
        for position in range(self.folded, len(finished)):
            trial = finished.trial(position)
            self.seen.add(trial.architecture_json)
            self.unfinished.pop(trial.architecture_json, None)
            if not trial.lineage:
                self.started += 1
                if finished.is_completed[position]:
                    self.starts.append(position)
            elif self.current >= 0 and not self.path.isdisjoint(trial.lineage) and self._is_better(position):
                self._stand_on(position)
            while not self.unfinished:  # at the top, or not yet climbing
                self.current, self.path = -1, set()
                if not self._begin():
                    break
        self.folded = len(finished)

    def _begin(self) -> bool:
        """Start a climb from the best start, if there are enough of them and one has completed."""
        if self.started < self.initial or not self.starts:
            return False
        finished = self.history.finished
        places = standings(finished.losses[self.starts], finished.violations[self.starts])
        best = self.starts[int(places.argmin())]
        self.started, self.starts = 0, []
        self._stand_on(best)
        return True

    def _stand_on(self, position: int) -> None:
        finished = self.history.finished
        self.current = position
        self.path.add(int(finished.numbers[position]))
        around = {n.to_json(): n for n in neighbours(self.history.space, finished.architecture(position))}
        self.unfinished = {text: neighbour for text, neighbour in around.items() if text not in self.seen}

    def _is_better(self, position: int) -> bool:
        finished, here = self.history.finished, self.current
        if not finished.is_completed[position]:
            return False
        if len(self.history.metrics) == 1 and self.history.metrics[0].limit is None:
            return bool(finished.losses[position, 0] < finished.losses[here, 0])
        return dominates(
            finished.losses[position], finished.violations[position], finished.losses[here], finished.violations[here]
        )
