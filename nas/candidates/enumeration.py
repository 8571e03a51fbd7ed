"""Enumeration: every untried architecture of a small space is scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.candidates.ground import Candidate, Ground, Pool, Score
from nas.strategies.checks import at_least
from search_spaces.moves import enumerate_all, size
from search_spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Enumeration:
    """The best-scored of all that was not tried.

    Args:
        limit: a space with more architectures is refused: each proposal takes time for all of them.
    """

    limit: int = 20_000
    rescores: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("limit", self.limit, 1)

    def best(self, ground: Ground, score: Score, rng: np.random.Generator) -> Candidate | None:
        """See `Candidates.best`. Draws nothing."""
        return self._pool(ground).best(score)

    def several(self, ground: Ground, score: Score, rng: np.random.Generator, count: int) -> Sequence[Candidate]:
        """See `ManyCandidates.several`. Draws nothing."""
        return self._pool(ground).several(score, count)

    def check(self, space: SearchSpace) -> None:
        """See `ParticularCandidates.check`."""
        count = size(space)
        if count > self.limit:
            many = "infinitely many" if count == math.inf else f"{count:,}"
            raise ValueError(
                f"space {space.name!r} has {many} architectures, enumeration scores at most {self.limit:,}; "
                "use candidates 'mutation_pool', or raise candidates.limit"
            )

    def _pool(self, ground: Ground) -> Pool:
        self.check(ground.space)
        pool = Pool(ground.untried)
        pool.extend(map(Candidate, enumerate_all(ground.space)))
        return pool
