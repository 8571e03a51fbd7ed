"""Ground: what a search for the best candidate starts from, and the seam of those searches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.strategies.untried import Untried
from search_spaces.architecture import Architecture
from search_spaces.moves import mutate, sample
from search_spaces.space import SearchSpace

Score = Callable[[Sequence[Architecture]], NDArray[np.float64]]
"""(c,) how much each of c candidates is worth trying, larger is better."""

TIE = 1e-9
"""Scores that differ by less, relative to their size, are equal: which is larger may be a matter of rounding."""


class Candidate(NamedTuple):
    """An architecture that may be proposed, and the numbers of the trials it was derived from."""

    architecture: Architecture
    lineage: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where the search for the next candidate starts.

    Args:
        space: what is searched.
        untried: what may still be proposed.
        parents: finished architectures with their trial's number, the best first; at least one.
    """

    space: SearchSpace
    untried: Untried
    parents: Sequence[Candidate]


class Candidates(Protocol):
    """Looks for a candidate with a high score. A frozen dataclass.

    `rescores` tells whether candidates of several calls of the score are compared.
    """

    rescores: ClassVar[bool]

    def best(self, ground: Ground, score: Score, rng: np.random.Generator) -> Candidate | None:
        """An untried candidate with a high score; None if none was found."""
        ...


class ManyCandidates(Candidates, Protocol):
    """Candidates that a whole batch may be taken from in one look."""

    def several(self, ground: Ground, score: Score, rng: np.random.Generator, count: int) -> Sequence[Candidate]:
        """Up to `count` different untried candidates with high scores, the highest first: `best`, and what follows.

        The first of them are the same for every `count`.
        """
        ...


class ParticularCandidates(Candidates, Protocol):
    """Candidates that are not for every space."""

    def check(self, space: SearchSpace) -> None:
        """`ValueError` if they are not for this one; asked before a search begins."""
        ...


class Pool:
    """Distinct untried candidates, in the order in which they were added."""

    def __init__(self, untried: Untried) -> None:
        self._untried = untried
        self._found: dict[str, Candidate] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def candidates(self) -> list[Candidate]:
        """All of them."""
        return list(self._found.values())

    def add(self, candidate: Candidate) -> None:
        """Take it in if it is untried and new; the first way to derive an architecture is its lineage."""
        if candidate.architecture in self._untried:
            self._found.setdefault(candidate.architecture.to_json(), candidate)

    def extend(self, candidates: Iterable[Candidate]) -> None:
        """Take in those that are untried and new."""
        for candidate in candidates:
            self.add(candidate)

    def best(self, score: Score) -> Candidate | None:
        """The one with the largest score, the first of those that tie; None in an empty pool."""
        return next(iter(self.several(score, 1)), None)

    def several(self, score: Score, count: int) -> Sequence[Candidate]:
        """Up to `count` with the largest scores, the largest first."""
        candidates = self.candidates
        if not candidates:
            return []
        scores = score([candidate.architecture for candidate in candidates])
        first = first_largest(scores)
        if count == 1:
            return [candidates[first]]
        best = np.argsort(-scores, kind="stable")[:count].tolist()
        others = [place for place in best if place != first]
        return [candidates[place] for place in (first, *others[: count - 1])]


def first_largest(scores: NDArray[np.float64]) -> int:
    """Where the first of the largest scores stands, `TIE` allowed for."""
    largest = scores.max()
    slack = TIE * max(1.0, abs(largest)) if np.isfinite(largest) else 0.0
    return int(np.flatnonzero(scores >= largest - slack)[0])


def strangers(ground: Ground, count: int, rng: np.random.Generator) -> Iterator[Candidate]:
    """Up to `count` untried architectures drawn from the whole space."""
    for _ in range(count):
        architecture = sample(ground.space, rng)
        if architecture in ground.untried:
            yield Candidate(architecture)


def varied(space: SearchSpace, architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """A mutation of it; itself where nothing that it reaches leaves a choice."""
    if all(decision.count <= 1 for decision in space.reached(architecture)):
        return architecture
    return mutate(space, architecture, rng)
