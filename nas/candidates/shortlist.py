"""Shortlist: any of the best-scored candidates, for scores that are right in the large but not in detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas.candidates.ground import Candidate, Ground, Pool, Score, strangers, varied
from nas.strategies.checks import at_least, within


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """One of the best-scored share of `count` candidates, each as likely as the others.

    Half of the candidates are mutations of the best trials, the others are drawn from the space.

    Args:
        count: candidates that are scored.
        parents: so many of the best trials are mutated.
        share: of the candidates that are on the list; at least one is.

    Source: Wu et al. 2021, "Stronger NAS with Weaker Predictors", algorithm 1 (sample from the top of what is
    predicted).
    """

    count: int = 400
    parents: int = 10
    share: float = 0.02
    rescores: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("count", self.count, 1)
        at_least("parents", self.parents, 1)
        within("share", self.share, 0, 1)

    def best(self, ground: Ground, score: Score, rng: np.random.Generator) -> Candidate | None:
        """See `Candidates.best`."""
        pool = Pool(ground.untried)
        parents = ground.parents[: self.parents]
        for place in rng.integers(len(parents), size=self.count // 2).tolist():
            pool.add(Candidate(varied(ground.space, parents[place].architecture, rng), parents[place].lineage))
        pool.extend(strangers(ground, self.count - self.count // 2, rng))
        candidates = pool.candidates
        if not candidates:
            return None
        best = np.argsort(-score([candidate.architecture for candidate in candidates]), kind="stable")
        place = int(rng.integers(max(1, round(self.share * len(candidates)))))
        return candidates[int(best[place])]
