"""likeness: how far architectures are from each other, part by part, before any parameter of a kernel is known.

What is expensive (counting, distances) is done once; a kernel's parameters only weigh and stretch what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from predictors.kernels.blocks import blocks
from predictors.kernels.decisions import DecisionPoints, wired
from predictors.kernels.graph_counts import Counts, path_counts, subtree_counts
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]

REMEMBERED = 1 << 16
"""So many architectures' counts are remembered at most."""


ON_EDGES = "decisions on edges"
"""The graph component that compares cells as they are drawn, edge by edge.

Sub-trees and paths are those of the simplified network, which is what a loss of accuracy depends on. A latency depends
on what is carried out: an operation that adds nothing to the output takes its time. Which of them counts is learnt.
"""


class Entries(NamedTuple):
    """The counts of one architecture in one graph component.

    Args:
        features: by their numbers.
        roots: of their counts.
        norm: the sum of the roots' squares.
    """

    features: NDArray[np.int64]
    roots: FloatArray
    norm: float


class Description(NamedTuple):
    """One architecture.

    Args:
        counts: for each graph component the square roots of the counts; roots, since the second occurrence of something
            says less than the first. What is decided on an edge counts as a half, so that two different decisions are 1
            apart.
        entries: the same, ready for tables.
        point: its decisions' coordinates.
    """

    counts: tuple[Counts, ...]
    entries: tuple[Entries, ...]
    point: FloatArray


class Table(NamedTuple):
    """n architectures, ready for distances. A feature that has no column differs from all that have one.

    Args:
        columns: for each graph component, the number of each column's feature.
        counts: for each graph component, the counts, sparse: shape (n, number of its columns).
        norms: for each graph component, shape (n,): the sum of squares of all counts, columns or not.
        points: shape (n, width).
    """

    columns: tuple[NDArray[np.int64], ...]
    counts: tuple[Any, ...]
    norms: tuple[FloatArray, ...]
    points: FloatArray


@dataclass(frozen=True)
class Likeness:
    """What a space's architectures are compared by.

    Args:
        space: of the architectures.
        depth: the deepest sub-trees that are counted.
    """

    space: SearchSpace
    depth: int
    _known: dict[Architecture, Description] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def components(self) -> tuple[str, ...]:
        """The names of the graph components."""
        if not self.space.has_network:
            return ()
        names = tuple(f"sub-trees of depth {depth}" for depth in range(self.depth + 1))
        return (*names, "paths", ON_EDGES) if wired(self.space).any_cell else names

    @cached_property
    def decision_points(self) -> DecisionPoints:
        """The decisions' coordinates."""
        return DecisionPoints(self.space)

    def describe(self, architecture: Architecture) -> Description:
        """The architecture's counts and coordinates; computed once."""
        known = self._known.get(architecture)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            counts = self._counts(architecture)
            entries = tuple(_entries(*pair) for pair in zip(counts, self._numbers, strict=True))
            known = self._known[architecture] = Description(counts, entries, self.decision_points.point(architecture))
        return known

    def names(self, table: Table) -> tuple[tuple[str, ...], ...]:
        """For each graph component of a table its columns' features."""
        found = []
        for columns, numbers in zip(table.columns, self._numbers, strict=True):
            features = list(numbers)
            found.append(tuple(features[number] for number in columns.tolist()))
        return tuple(found)

    @cached_property
    def _numbers(self) -> tuple[dict[str, int], ...]:
        """For each graph component the number of each feature, in the order in which they were met."""
        return tuple({} for _ in self.components)

    @cached_property
    def _on_edges(self) -> tuple[str, ...]:
        """The paths of the decisions which piece stands on an edge."""
        chosen = wired(self.space).choices
        return tuple(decision.path for decision in self.space.decisions if id(decision.domain) in chosen)

    def _counts(self, architecture: Architecture) -> tuple[Counts, ...]:
        if not self.components:
            return ()
        totals: tuple[Counts, ...] = tuple({} for _ in self.components)
        for block, times in blocks(self.space, architecture).items():
            parts = subtree_counts(block, self.depth)
            if block.is_cell:
                parts = (*parts, path_counts(block))
            for total, part in zip(totals, parts, strict=False):  # what is no cell has no paths
                for feature, count in part.items():
                    total[feature] = total.get(feature, 0.0) + times * count
        if self.components[-1] == ON_EDGES:
            totals[-1].update((f"{path}={architecture[path]}", 0.5) for path in self._on_edges if path in architecture)
        return tuple({feature: float(np.sqrt(count)) for feature, count in total.items()} for total in totals)

    def table(
        self, architectures: Sequence[Architecture], columns: tuple[NDArray[np.int64], ...] | None = None
    ) -> Table:
        """The architectures side by side; with the columns of another table, or with one for each of their features."""
        found = [self.describe(architecture) for architecture in architectures]
        entries = [[description.entries[component] for description in found] for component in range(len(self._numbers))]
        if columns is None:
            columns = tuple(map(_met, entries))
        return Table(
            columns,
            tuple(
                _sparse(column, chosen, len(numbers))
                for column, chosen, numbers in zip(entries, columns, self._numbers, strict=True)
            ),
            tuple(np.array([entry.norm for entry in column]) for column in entries),
            np.array([description.point for description in found]).reshape(len(found), self.decision_points.width),
        )


def _entries(counts: Counts, numbers: dict[str, int]) -> Entries:
    features = np.array([numbers.setdefault(feature, len(numbers)) for feature in counts], dtype=np.int64)
    roots = np.array(list(counts.values()), dtype=np.float64)
    return Entries(features, roots, sum(root * root for root in roots.tolist()))


def _met(entries: Sequence[Entries]) -> NDArray[np.int64]:
    """The features in the order in which they are met here, whatever was met before."""
    features, first = np.unique(_joined([entry.features for entry in entries], np.int64), return_index=True)
    found: NDArray[np.int64] = features[np.argsort(first)]
    return found


def _sparse(entries: Sequence[Entries], columns: NDArray[np.int64], features: int) -> Any:
    column_of = np.full(features, -1, dtype=np.int32)
    column_of[columns] = np.arange(len(columns), dtype=np.int32)
    indices = column_of[_joined([entry.features for entry in entries], np.int64)]
    roots = _joined([entry.roots for entry in entries], np.float64)
    ends = np.cumsum([0, *(len(entry.features) for entry in entries)])
    here = indices >= 0
    starts = np.concatenate([[0], np.cumsum(here)])[ends].astype(np.int32)
    return sparse.csr_array((roots[here], indices[here], starts), shape=(len(entries), len(columns)))


def _joined(arrays: Sequence[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=kind), *arrays])


def graph_distances(first: Table, second: Table) -> tuple[FloatArray, ...]:
    """For each graph component the squared distances: shape (n of first, n of second); both with the same columns."""
    found = []
    for counts, norms, others, other_norms in zip(first.counts, first.norms, second.counts, second.norms, strict=True):
        squared = counts @ np.ascontiguousarray(others.toarray().T)
        squared *= -2.0
        squared += norms[:, None]
        squared += other_norms[None, :]
        found.append(np.maximum(squared, 0.0, out=squared))
    return tuple(found)


def point_distances(first: FloatArray, second: FloatArray, groups: Sequence[NDArray[np.int64]]) -> FloatArray:
    """The squared distances in each group of columns: shape (groups, n of first, n of second)."""
    found = np.empty((len(groups), len(first), len(second)))
    for squared, columns in zip(found, groups, strict=True):
        a, b = first[:, columns], second[:, columns]
        if len(columns) == 1:
            np.subtract(a, b.T, out=squared)
            squared *= squared
        else:
            np.matmul(a, b.T, out=squared)
            squared *= -2.0
            squared += np.einsum("ij,ij->i", a, a)[:, None]
            squared += np.einsum("ij,ij->i", b, b)[None, :]
            np.maximum(squared, 0.0, out=squared)
    return found
