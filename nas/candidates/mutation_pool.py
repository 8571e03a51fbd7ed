"""Mutation pool: mutations of the best few, one or two decisions away, and some random architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.candidates.ground import Candidate, Ground, Pool, Score, strangers, varied
from nas.strategies.checks import at_least, within

TRIES = 4
"""Draws for each wanted candidate; many are known already once a search is far."""


@dataclass(frozen=True, kw_only=True)
class MutationPool:
    """The best-scored of `count` candidates around the best trials.

    A candidate is a mutation of a parent drawn from the `parents` best, the better the likelier (the i-th with weight
    1 / i; with several metrics the ends of the front come first), by one decision, or with probability `two` by two; a
    share of `random` are drawn from the space.

    Args:
        count: candidates that are scored.
        parents: so many of the best trials are mutated.
        two: probability that two decisions are mutated rather than one.
        random: share of candidates drawn from the whole space.

    Source: Ru, Wan, Dong, Osborne 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with
    Weisfeiler-Lehman Kernels" (NAS-BOWL), appendix; Schneider, Pfisterer, Binder, Bischl 2021, "Mutation is all you
    need".
    """

    count: int = 200
    parents: int = 10
    two: float = 0.3
    random: float = 0.2
    rescores: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("count", self.count, 1)
        at_least("parents", self.parents, 1)
        within("two", self.two, 0, 1)
        within("random", self.random, 0, 1)

    def best(self, ground: Ground, score: Score, rng: np.random.Generator) -> Candidate | None:
        """See `Candidates.best`."""
        return self.pool(ground, rng).best(score)

    def several(self, ground: Ground, score: Score, rng: np.random.Generator, count: int) -> Sequence[Candidate]:
        """See `ManyCandidates.several`."""
        return self.pool(ground, rng).several(score, count)

    def pool(self, ground: Ground, rng: np.random.Generator) -> Pool:
        """What is scored."""
        pool = Pool(ground.untried)
        strays = round(self.random * self.count)
        parents = ground.parents[: self.parents]
        weights = 1.0 / np.arange(1, len(parents) + 1)
        drawn = rng.choice(len(parents), size=TRIES * self.count, p=weights / weights.sum())
        for place, twice in zip(drawn.tolist(), rng.random(len(drawn)) < self.two, strict=True):
            if len(pool) >= self.count - strays:
                break
            parent = parents[place]
            child = varied(ground.space, parent.architecture, rng)
            if twice:
                child = varied(ground.space, child, rng)
            pool.add(Candidate(child, parent.lineage))
        pool.extend(strangers(ground, strays, rng))
        return pool
