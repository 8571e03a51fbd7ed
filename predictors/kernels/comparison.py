"""comparison: everything that architectures are compared by in one fit: networks, decisions, quantities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from predictors.features import Features, Vectors
from predictors.kernels.composition import Composition, Distances
from predictors.kernels.likeness import Likeness, Table, graph_distances, point_distances
from predictors.warping import Warp, normal_ranks
from search_spaces.architecture import Architecture

FloatArray = NDArray[np.float64]
Groups = tuple[NDArray[np.int64], ...]


class Rows(NamedTuple):
    """Architectures ready to be compared: their table, and their quantities (n, q) on the scale of the fit."""

    table: Table
    quantities: FloatArray


@dataclass(frozen=True, eq=False)
class Comparison:
    """How architectures are compared.

    Args:
        likeness: of networks and decisions.
        vectors: q quantities beside them, if any.
        warps: for each quantity what brings it to normal quantiles of its rank among the trials.
    """

    likeness: Likeness
    vectors: Vectors | None = None
    warps: tuple[Warp, ...] = ()

    @classmethod
    def of(cls, likeness: Likeness, beside: Features | None, trials: Sequence[Architecture]) -> Comparison:
        """What a fit to these trials compares by."""
        if beside is None:
            return cls(likeness)
        vectors = beside.learn(likeness.space, trials)
        return cls(likeness, vectors, tuple(normal_ranks(column) for column in vectors.of(trials).T))

    @cached_property
    def groups(self) -> tuple[Groups, ...]:
        """For each vector component (decisions, quantities) the columns of each of its groups."""
        found: list[Groups] = []
        decisions = self.likeness.decision_points.groups
        if decisions or not (self.likeness.components or self.warps):
            found.append(decisions or (np.array([], dtype=np.int64),))  # nothing to compare: all are alike
        if self.warps:  # all on one scale, so one length does; one for each is learnt badly from few trials
            found.append((np.arange(len(self.warps)),))
        return tuple(found)

    @cached_property
    def composition(self) -> Composition:
        """The kernel's components."""
        has_decisions = bool(self.likeness.components and self.likeness.decision_points.groups)
        return Composition(
            len(self.likeness.components), tuple(len(groups) for groups in self.groups), has_product=has_decisions
        )

    def rows(self, architectures: Sequence[Architecture], like: Rows | None = None) -> Rows:
        """The architectures' rows, to be compared with one another, or with those of `like`."""
        quantities = np.zeros((len(architectures), len(self.warps)))
        if self.vectors is not None:
            raw = self.vectors.of(architectures)
            for column, warp in enumerate(self.warps):
                quantities[:, column] = warp.forward(raw[:, column])
        return Rows(self.likeness.table(architectures, None if like is None else like.table.columns), quantities)

    def distances(self, first: Rows, second: Rows) -> Distances:
        """Squared distances between any of the first and any of the second."""
        points = zip(self._points(first), self._points(second), self.groups, strict=True)
        return Distances(
            graph_distances(first.table, second.table),
            tuple(point_distances(a, b, groups) for a, b, groups in points),
        )

    def covariance(self, parameters: FloatArray, first: Rows, second: Rows) -> FloatArray:
        """The composition's covariance between any of the first and any of the second.

        The distances are not kept group by group: once the scales are known, one product of matrices adds them up.
        """
        stretches = []
        scales = self.composition.group_scales(parameters)
        for a, b, groups, own in zip(self._points(first), self._points(second), self.groups, scales, strict=True):
            columns = np.concatenate(groups)
            narrowed = np.repeat(own**-0.5, [len(group) for group in groups])
            together = (np.arange(len(columns)),)
            stretches.append(point_distances(a[:, columns] * narrowed, b[:, columns] * narrowed, together)[0])
        graph = graph_distances(first.table, second.table)
        return self.composition.covariance_of_stretches(parameters, graph, stretches)

    def _points(self, rows: Rows) -> tuple[FloatArray, ...]:
        """For each vector component the rows' points."""
        decisions = (rows.table.points,) * (len(self.groups) - bool(self.warps))
        return (*decisions, rows.quantities) if self.warps else decisions
