"""NSGA-II: generations of children of the least dominated, least crowded parents; limits by constrained domination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.history import History
from nas.pareto import standings
from nas.strategies.checks import at_least, within
from nas.strategies.untried import Untried
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.moves import crossover, mutate

TRIES = 50
"""Children that were proposed before, until a random architecture takes their place."""


@dataclass(frozen=True, kw_only=True)
class Nsga2:
    """Elitist evolution for several metrics.

    A generation is the next `population` completed trials, in completion order; the parents of the following one are
    the best `population` among them and their own parents. Proposals made before the first generation is complete are
    random; no worker waits for a generation to end.

    Args:
        population: size of a generation and of the set of parents.
        crossover_probability: that a child takes its decisions from two parents; otherwise it copies one.
        mutations: mean number of one-decision mutations of a child (Poisson); a mere copy gets at least one.
        distinct: propose no architecture twice.

    Source: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    Differs: a child proposed before is thrown away; crossover is uniform, a mutation changes one decision, since spaces
    are trees.
    """

    population: int = 50
    crossover_probability: float = 0.9
    mutations: float = 1.0
    distinct: bool = True

    def __post_init__(self) -> None:
        at_least("population", self.population, 2)
        within("crossover_probability", self.crossover_probability, 0, 1)
        within("mutations", self.mutations, 0, 1000)

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        generations = history.cached(self, lambda: _Generations(self.population))
        parents = generations.advance(history)  # positions, best first
        untried = Untried(history, self.distinct)
        proposals: list[Proposal] = []
        while len(proposals) < count and not untried.is_exhausted:
            child: tuple[Architecture, tuple[int, ...]] | None = None
            if len(parents) and history.space_size > 1:
                child = self._child(history, parents, untried, rng)
            architecture, lineage = child or (untried.random(rng), ())
            if architecture is None:
                break
            proposals.append(Proposal(architecture=untried.take(architecture), lineage=lineage))
        return proposals

    def _child(
        self, history: History, parents: Sequence[int], untried: Untried, rng: np.random.Generator
    ) -> tuple[Architecture, tuple[int, ...]] | None:
        finished = history.finished
        for _ in range(TRIES):
            # binary tournaments: parents stand best first, so the smaller of two places wins
            first, second = (parents[int(rng.integers(len(parents), size=2).min())] for _ in range(2))
            child = finished.architecture(first)
            lineage: tuple[int, ...] = (int(finished.numbers[first]),)
            if rng.random() < self.crossover_probability and first != second:
                child = crossover(history.space, child, finished.architecture(second), rng)
                lineage = (*lineage, int(finished.numbers[second]))
            is_copy = child in (finished.architecture(first), finished.architecture(second))
            for _ in range(max(int(is_copy), int(rng.poisson(self.mutations)))):
                child = mutate(history.space, child, rng)
            if child in untried:
                return child, lineage
        return None


@dataclass
class _Generations:
    """The fold: the parents after the first `folded` completed trials, a whole number of generations."""

    population: int
    folded: int = 0
    parents: list[int] = field(default_factory=list)

    def advance(self, history: History) -> Sequence[int]:
        finished = history.finished
        while self.folded + self.population <= len(finished.completed):
            generation = finished.completed[self.folded : self.folded + self.population].tolist()
            candidates = np.array([*self.parents, *generation], dtype=np.int64)
            places = standings(finished.losses[candidates], finished.violations[candidates])
            self.parents = candidates[np.argsort(places)][: self.population].tolist()
            self.folded += self.population
        return self.parents
