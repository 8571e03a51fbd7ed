"""composition: the covariance of losses, put together from a space's likenesses, with the slopes for its parameters.

With M the Matern-5/2 correlation, d a squared distance between two architectures:

    sum over graph components c       w_c M(d_c / s_c)
    + sum over vector components v    w_v M(sum over groups g of v: d_g / s_g)
    + w_p (mean over c: M(d_c / s_c)) M(first vector component)          where there are both

so that a loss is a sum of what the network is made of, what the decisions beside it do, and how the two go together;
the marginal likelihood decides how much of each. Weights w, scales s and the noise are learnt as logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from predictors.kernels.matern import matern, matern_and_slope, matern_curvature

FloatArray = NDArray[np.float64]


class Distances(NamedTuple):
    """Squared distances between pairs of architectures; `pairs` is any shape, the same for all.

    Args:
        graph: for each graph component: shape pairs.
        vectors: for each vector component: shape (its groups, *pairs).
    """

    graph: tuple[FloatArray, ...]
    vectors: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Composition:
    """Which components there are.

    Args:
        graphs: c, the number of graph components.
        groups: for each vector component its number of groups.
        has_product: whether the network and the first vector component also go together.
    """

    graphs: int
    groups: tuple[int, ...]
    has_product: bool

    @property
    def weights(self) -> int:
        """The number of weights: they are the first parameters. The scales follow: of graphs, then of groups."""
        return self.graphs + len(self.groups) + self.has_product

    @property
    def parameters(self) -> int:
        """The number of parameters, without the noise."""
        return self.weights + self.graphs + sum(self.groups)

    def start(self, distances: Distances) -> FloatArray:
        """Where learning starts, and what the prior is centred on: equal weights, scales by the median distances."""
        scales = [np.log(_median(squared)) for squared in distances.graph]
        for vector in distances.vectors:
            scales.extend(np.log(len(vector) * _median(squared)) for squared in vector)
        return np.array([-np.log(self.weights)] * self.weights + scales)

    def variance(self, parameters: FloatArray) -> float:
        """The variance before any trial, the same for all architectures."""
        return float(np.exp(parameters[: self.weights]).sum())

    def covariance(self, parameters: FloatArray, distances: Distances) -> FloatArray:
        """The covariance: shape pairs."""
        pairs = zip(self.group_scales(parameters), distances.vectors, strict=True)
        stretches = tuple(np.tensordot(1.0 / scales, vector, 1) for scales, vector in pairs)
        return self.covariance_of_stretches(parameters, distances.graph, stretches)

    def group_scales(self, parameters: FloatArray) -> tuple[FloatArray, ...]:
        """For each vector component the scales of its groups."""
        _, scales = self._split(parameters)
        ends = self.graphs + np.cumsum([0, *self.groups])
        return tuple(scales[start:end] for start, end in pairwise(ends))

    def covariance_of_stretches(
        self, parameters: FloatArray, graph: Sequence[FloatArray], stretches: Sequence[FloatArray]
    ) -> FloatArray:
        """The covariance: shape pairs.

        Args:
            parameters: of the kernel.
            graph: for each graph component the squared distances.
            stretches: for each vector component the sum over its groups of squared distances by scales.
        """
        weights, scales = self._split(parameters)
        total = np.zeros(np.shape(graph[0] if graph else stretches[0]))
        graph_mean = np.zeros_like(total) if self.has_product else total
        for weight, scale, squared in zip(weights, scales, graph, strict=False):
            correlation = matern(squared / scale)
            if self.has_product:
                graph_mean += correlation
            correlation *= weight
            total += correlation
        for component, stretch in enumerate(stretches):
            correlation = matern(stretch)
            if component == 0 and self.has_product:
                graph_mean *= correlation
                graph_mean *= weights[-1] / self.graphs
                total += graph_mean
            correlation *= weights[self.graphs + component]
            total += correlation
        return total

    def covariance_and_slopes(
        self, parameters: FloatArray, distances: Distances
    ) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        """The covariance, and what a function of it rises by with each parameter.

        The second takes the derivative of that function with respect to the covariance of each pair.
        """
        weights, scales = self._split(parameters)
        ends = self.graphs + np.cumsum([0, *self.groups])
        stretches = [squared / scale for squared, scale in zip(distances.graph, scales, strict=False)]
        stretches += [
            np.tensordot(1.0 / scales[start : start + len(vector)], vector, 1)
            for start, vector in zip(ends, distances.vectors, strict=False)
        ]
        correlations, steepness = zip(*map(matern_and_slope, stretches), strict=True)
        graph_mean = sum(correlations[: self.graphs]) / self.graphs if self.has_product else np.zeros(())
        covariance = weights[0] * correlations[0]
        for weight, correlation in zip(weights[1:], correlations[1:], strict=False):
            covariance += weight * correlation
        if self.has_product:
            covariance += weights[-1] * graph_mean * correlations[self.graphs]

        def slopes(inner: FloatArray) -> FloatArray:
            found = np.empty(self.parameters)
            outers = []  # for each component, the slope for its stretched distance
            for component, (correlation, steep) in enumerate(zip(correlations, steepness, strict=True)):
                found[component] = weights[component] * np.vdot(inner, correlation)
                outer = weights[component] * inner
                if self.has_product and component < self.graphs:
                    outer = outer + (weights[-1] / self.graphs) * inner * correlations[self.graphs]
                elif self.has_product and component == self.graphs:
                    outer = outer + weights[-1] * inner * graph_mean
                outers.append(outer * steep)
            if self.has_product:
                found[self.weights - 1] = weights[-1] * np.vdot(inner, graph_mean * correlations[self.graphs])
            rises = found[self.weights :]
            for component in range(self.graphs):
                rises[component] = -np.vdot(outers[component], stretches[component])
            for start, vector, outer in zip(ends, distances.vectors, outers[self.graphs :], strict=False):
                span = slice(start, start + len(vector))
                rises[span] = -np.tensordot(vector, outer, outer.ndim) / scales[span]
            return found

        return covariance, slopes

    def graph_slopes(self, parameters: FloatArray, distances: Distances) -> tuple[tuple[FloatArray, FloatArray], ...]:
        """For each graph component the covariance's first and second derivative by its distance, shapes pairs."""
        weights, scales = self._split(parameters)
        product = np.zeros(())
        if self.has_product:
            own = self.group_scales(parameters)[0]
            product = weights[-1] / self.graphs * matern(np.tensordot(1.0 / own, distances.vectors[0], 1))
        found = []
        for weight, scale, squared in zip(weights, scales, distances.graph, strict=False):
            stretched = squared / scale
            _, slope = matern_and_slope(stretched)
            found.append(
                ((weight + product) * slope / scale, (weight + product) * matern_curvature(stretched) / scale**2)
            )
        return tuple(found)

    def _split(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        values = np.exp(parameters)
        return values[: self.weights], values[self.weights :]


def _median(squared: FloatArray) -> float:
    """The median distance of the pairs that differ; 1 if none does."""
    apart = squared[squared > 1e-12]
    return float(np.median(apart)) if len(apart) else 1.0


def condensed(distances: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
    """The pairs above the diagonal of each square matrix."""
    if not distances:
        return ()
    rows, columns = np.triu_indices(distances[0].shape[-1], 1)
    return tuple(squared[..., rows, columns] for squared in distances)
