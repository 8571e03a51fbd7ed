"""encodings: architectures as numbers (numpy only), for predictors and for strategies over vectors.

Letters: n architectures, d features, v nodes of a graph.

`Encoding` is the vector encoding of a space's decisions, of fixed length. A `Choice` is one column per option; a number
is its place in [0, 1] on its own scale; a `Boolean` is 0 or 1. A decision that is not always reached has one more
column, "reached"; where that is 0 its other columns are 0 as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture
from search_spaces.graph import Graph
from search_spaces.moves import to_unit, value_at
from search_spaces.nodes import Boolean, Choice, Float, Integer, Scalar
from search_spaces.space import Decision, SearchSpace

FloatArray = NDArray[np.float64]


def encode(space: SearchSpace, architectures: Sequence[Mapping[str, Scalar]]) -> FloatArray:
    """The architectures as the rows of an ``n x d`` array; see `Encoding`, which also names the columns."""
    return Encoding(space).encode(architectures)


class Columns(NamedTuple):
    """Where one decision stands in a vector: [start, stop), the first of them "reached" if `conditional`."""

    decision: Decision
    start: int
    stop: int
    conditional: bool


@dataclass(frozen=True)
class Encoding:
    """The one-hot and continuous vector encoding of a space."""

    space: SearchSpace

    @cached_property
    def columns(self) -> tuple[Columns, ...]:
        """The columns of each decision, in the space's order."""
        found, start = [], 0
        for decision in self.space.decisions:
            conditional = decision.when != ((),)
            width = len(decision.domain.labels) if isinstance(decision.domain, Choice) else 1
            found.append(Columns(decision, start, start + conditional + width, conditional))
            start = found[-1].stop
        return tuple(found)

    @property
    def width(self) -> int:
        """d, the number of features."""
        return self.columns[-1].stop if self.columns else 0

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """For each column the decision's path; with "=label" for an option, "?" for "reached"."""
        names: list[str] = []
        for decision, _, _, conditional in self.columns:
            path, domain = decision.path, decision.domain
            names.extend([f"{path}?"] if conditional else [])
            names.extend([f"{path}={label}" for label in domain.labels] if isinstance(domain, Choice) else [path])
        return tuple(names)

    def encode(self, architectures: Sequence[Mapping[str, Scalar]]) -> FloatArray:
        """The architectures as rows, ``n x d``."""
        rows = np.zeros((len(architectures), self.width))
        for row, architecture in zip(rows, architectures, strict=True):
            for decision, start, _, conditional in self.columns:
                if decision.path not in architecture:
                    continue
                value = architecture[decision.path]
                if conditional:
                    row[start] = 1.0
                if isinstance(decision.domain, Choice):
                    row[start + conditional + decision.domain.labels.index(value)] = 1.0
                else:
                    row[start + conditional] = to_unit(decision, value)
        return rows

    def decode(self, row: FloatArray) -> Architecture:
        """The architecture nearest to a vector of d features.

        Options take the largest of their columns, numbers are clipped and rounded, and which decisions are reached
        follows from the decisions before them, whatever "reached" says: every vector stands for some architecture.
        """
        if row.shape != (self.width,):
            raise ValueError(f"a vector of this space has shape ({self.width},), got {row.shape}")
        at = {columns.decision.path: columns for columns in self.columns}
        values: dict[str, Scalar] = {}
        for decision in self.space.reached(values):
            _, start, stop, conditional = at[decision.path]
            values[decision.path] = _nearest(decision, row[start + conditional : stop])
        return Architecture(values)


def _nearest(decision: Decision, features: FloatArray) -> Scalar:
    domain = decision.domain
    if isinstance(domain, Choice):
        return domain.labels[int(np.argmax(features))]
    place = min(max(float(features[0]), 0.0), 1.0)
    if isinstance(domain, Boolean):
        return place >= 0.5
    if isinstance(domain, Float):
        return value_at(decision, place)
    return _nearest_integer(domain, place)


def _nearest_integer(domain: Integer, place: float) -> int:
    low, high = float(domain.low), float(domain.high)
    return round(low * (high / low) ** place if domain.log else low + place * (high - low))


def adjacency(graph: Graph) -> tuple[FloatArray, tuple[str, ...]]:
    """A graph's adjacency matrix and what stands at its nodes.

    Returns:
        ``v x v``, where [i, j] counts how often node j reads node i (the nodes are in topological order, so it is upper
        triangular); and the v names: "input", "sum", "concat" or an Op's label. The last node is "output", which reads
        the graph's output.
    """
    nodes = graph.nodes
    matrix = np.zeros((len(nodes) + 1, len(nodes) + 1))
    for index, node in enumerate(nodes):
        for read in node.inputs:
            matrix[read, index] += 1.0
    matrix[graph.output, len(nodes)] = 1.0
    return matrix, (*(node.kind if node.call is None else node.call.op.label for node in nodes), "output")


def paths(graph: Graph, limit: int = 100_000) -> Counter[tuple[str, ...]]:
    """The labels of the Ops on each way from input to output, and how many ways have them.

    Source: White, Neiswanger, Savani, "BANANAS", AAAI 2021, section 3 (path encoding).
    Differs: ways are counted; an encoding of ones and zeros asks which are positive.

    Args:
        graph: any graph; in a deep one the number of different ways can grow exponentially.
        limit: refuse a graph with more different ways to one node.
    """
    ways: list[Counter[tuple[str, ...]]] = []
    for node in graph.nodes:
        arriving: Counter[tuple[str, ...]] = Counter({(): 1} if node.kind == "input" else {})
        for read in node.inputs:
            step = () if node.call is None else (node.call.op.label,)
            for way, count in ways[read].items():
                arriving[way + step] += count
        if len(arriving) > limit:
            raise ValueError(f"{node.name}: more than {limit} different ways lead here; encode a part of the network")
        ways.append(arriving)
    return ways[graph.output]


def encode_paths(graphs: Sequence[Graph]) -> tuple[FloatArray, tuple[tuple[str, ...], ...]]:
    """Graphs as the rows of an ``n x d`` array that counts paths, and the d paths: all that occur, shortest first."""
    found = [paths(graph) for graph in graphs]
    known = sorted({way for counter in found for way in counter}, key=lambda way: (len(way), way))
    rows = np.array([[float(counter[way]) for way in known] for counter in found])
    return rows.reshape(len(found), len(known)), tuple(known)
