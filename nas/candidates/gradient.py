"""Gradient: the best of a mutation pool, their continuous decisions then moved to where the score is largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from nas.candidates.ground import Candidate, Ground, Score, first_largest
from nas.candidates.mutation_pool import MutationPool
from nas.strategies.checks import at_least
from search_spaces.architecture import Architecture
from search_spaces.moves import to_unit, value_at
from search_spaces.nodes import Float
from search_spaces.space import Decision

FloatArray = NDArray[np.float64]

APART = 1e-4
"""How far, as a share of a decision's range, the neighbours are that slopes are taken from: far enough for scores that
are exact to some ten digits, near enough for the shortest lengths over which a loss changes."""

TOLERANCE = 1e-7
"""A step that gains less than this share of the score is the last one; slopes are not exact enough for more."""


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """The best-scored of a `MutationPool`, after steps of L-BFGS-B over its `Float` decisions.

    The other decisions are held. Slopes are differences of scores: an architecture and its neighbours in all directions
    are scored in one call, whatever the predictor. Where the score is flat or has steps (trees), nothing moves. In a
    space without Floats this is the mutation pool.

    Args:
        count: candidates of the pool.
        starts: so many of the best-scored are moved.
        steps: at most so many each.

    Source: Byrd, Lu, Nocedal, Zhu 1995, "A Limited Memory Algorithm for Bound Constrained Optimization".
    """

    count: int = 200
    starts: int = 3
    steps: int = 20
    rescores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("count", "starts", "steps"):
            at_least(name, getattr(self, name), 1)

    def best(self, ground: Ground, score: Score, rng: np.random.Generator) -> Candidate | None:
        """See `Candidates.best`."""
        pool = MutationPool(count=self.count).pool(ground, rng)
        candidates = pool.candidates
        if not candidates:
            return None
        scores = score([candidate.architecture for candidate in candidates])
        tops = [(candidates[first_largest(scores)], float(scores.max()))]
        for place in np.argsort(-scores, kind="stable")[: self.starts].tolist():
            start = candidates[place]
            tops.extend(
                (Candidate(architecture, start.lineage), height)
                for architecture, height in self._climbed(ground, start.architecture, score)
            )
        return tops[first_largest(np.array([height for _, height in tops]))][0]

    def _climbed(self, ground: Ground, start: Architecture, score: Score) -> list[tuple[Architecture, float]]:
        """What may be proposed of all that was scored on the way up, in that order, with its score."""
        decisions = [decision for decision in ground.space.reached(start) if isinstance(decision.domain, Float)]
        if not decisions:
            return []
        directions = np.eye(len(decisions), dtype=bool)
        met: list[tuple[Architecture, float]] = []

        def loss_and_slopes(places: FloatArray) -> tuple[float, FloatArray]:
            # on both sides, within the bounds: slopes from one side are off by as much as the last steps gain
            below, above = np.maximum(places - APART, 0.0), np.minimum(places + APART, 1.0)
            rows = [places, *(np.where(one, side, places) for side in (below, above) for one in directions)]
            around = [_at(start, decisions, row) for row in rows]
            heights = score(around)
            met.extend(pair for pair in zip(around, heights.tolist(), strict=True) if pair[0] in ground.untried)
            if not np.isfinite(heights).all():  # nothing to be gained here: stay
                return np.inf, np.zeros(len(places))
            lower, upper = np.split(heights[1:], 2)
            return -float(heights[0]), (lower - upper) / (above - below)

        minimize(
            loss_and_slopes,
            np.array([to_unit(decision, start[decision.path]) for decision in decisions]),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * len(decisions),
            options={"maxiter": self.steps, "maxfun": 2 * self.steps, "ftol": TOLERANCE},
        )
        return met


def _at(architecture: Architecture, decisions: Sequence[Decision], places: FloatArray) -> Architecture:
    """The architecture with these decisions at these places of their ranges."""
    values = {decision.path: value_at(decision, place) for decision, place in zip(decisions, places, strict=True)}
    return Architecture({**architecture, **values})
