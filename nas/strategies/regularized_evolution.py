"""Regularized evolution: mutate the best of a few drawn from the youngest trials; age ends a trial's turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.history import History
from nas.pareto import standings
from nas.strategies.checks import at_least
from nas.strategies.untried import Untried
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.moves import mutate

TRIES = 20
"""Tournaments whose child was proposed before, until children are given one more mutation."""


@dataclass(frozen=True, kw_only=True)
class RegularizedEvolution:
    """Aging evolution with one-decision mutations.

    With several metrics the best of a tournament is the one in the first front, then the least crowded; trials that
    miss a limit come after all that keep it (`nas.pareto.standings`).

    Args:
        population: so many trials, the last completed, can be parents.
        tournament: so many are drawn from it, with replacement; the best is the parent.
        initial: so many trials are random before the first child; by default as many as the population.
        distinct: propose no architecture twice.

    Source: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", algorithm 1.
    Differs: a child that was proposed before is thrown away and a new tournament held; when `TRIES` of them gave
    nothing new, children get a second mutation, then a third, and at last a random architecture takes their place.
    """

    population: int = 100
    tournament: int = 10
    initial: int | None = None
    distinct: bool = True

    def __post_init__(self) -> None:
        at_least("population", self.population, 1)
        at_least("tournament", self.tournament, 1)
        if self.initial is not None:
            at_least("initial", self.initial, 1)

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        initial = self.population if self.initial is None else self.initial
        untried = Untried(history, self.distinct)
        parents = history.finished.completed[-self.population :]
        places = _places(history, parents)
        proposals: list[Proposal] = []
        while len(proposals) < count and not untried.is_exhausted:
            child: tuple[Architecture, int] | None = None
            if len(parents) and len(history) + len(proposals) >= initial and history.space_size > 1:
                child = self._child(history, parents, places, untried, rng)
            architecture = child[0] if child else untried.random(rng)
            if architecture is None:
                break
            lineage = (child[1],) if child else ()
            proposals.append(Proposal(architecture=untried.take(architecture), lineage=lineage))
        return proposals

    def _child(
        self,
        history: History,
        parents: np.ndarray,
        places: np.ndarray,
        untried: Untried,
        rng: np.random.Generator,
    ) -> tuple[Architecture, int] | None:
        """A mutated winner of a tournament, and its parent's number."""
        for mutations in (1, 2, 3):
            for _ in range(TRIES):
                drawn = rng.integers(len(parents), size=self.tournament)
                parent = int(parents[drawn[places[drawn].argmin()]])
                architecture = history.finished.architecture(parent)
                for _ in range(mutations):
                    architecture = mutate(history.space, architecture, rng)
                if architecture in untried:
                    return architecture, int(history.finished.numbers[parent])
        return None


def _places(history: History, positions: np.ndarray) -> np.ndarray:
    """A number for each of these finished trials; the smaller, the better."""
    losses = history.finished.losses[positions]
    if losses.shape[1] == 1 and history.metrics[0].limit is None:
        single: np.ndarray = losses[:, 0]
        return single
    return standings(losses, history.finished.violations[positions])
