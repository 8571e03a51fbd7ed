"""structures: what an architecture's network consists of, as a vector; see `predictors.kernels.graph_counts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from predictors.features import Vectors
from predictors.kernels.likeness import ON_EDGES, Likeness
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Structures:
    """Square roots of the counts of sub-trees and paths, and the coordinates of the decisions that those do not tell.

    Networks are simplified first: those that compute the same have equal vectors. What no finished trial contains has
    no column.

    Args:
        depth: of the deepest sub-trees that are counted; -1 for none.
        paths: whether paths through cells are counted.
    """

    depth: int = 1
    paths: bool = True

    def __post_init__(self) -> None:
        if self.depth < -1:
            raise ValueError(f"depth: at least 0, or -1 for no sub-trees, got {self.depth}")

    def learn(self, space: SearchSpace, architectures: Sequence[Architecture]) -> Vectors:
        """One column for each sub-tree and path that the finished trials have, then the decisions'."""
        likeness = _likeness(space, max(self.depth, 0))
        table = likeness.table(architectures)
        columns, features = table.columns, likeness.names(table)
        kept = [
            place
            for place, name in enumerate(likeness.components)
            if name != ON_EDGES and (self.paths if name == "paths" else self.depth >= 0)
        ]
        names = [f"{likeness.components[place]}: {feature}" for place in kept for feature in features[place]]
        names += [
            coordinates.decision.path
            for coordinates in likeness.decision_points.coordinates
            for _ in range(coordinates.start, coordinates.stop)
        ]

        def encode(asked: Sequence[Architecture]) -> FloatArray:
            found = likeness.table(asked, columns)
            return np.concatenate([*(found.counts[place].toarray() for place in kept), found.points], axis=1)

        return Vectors(tuple(names), encode)


STRUCTURES = Structures()
"""The default: it works on every space."""


@lru_cache(maxsize=4)
def _likeness(space: SearchSpace, depth: int) -> Likeness:
    """One for all fits in a space, since it remembers what it counted."""
    return Likeness(space, depth)
