"""batch: the graphs of many architectures as one, ready for messages.

Letters: n architectures, v nodes, l labels.

The graph of an architecture is that of its simplified blocks (`predictors.kernels.blocks`), each with an "input" and an
"output" of its own. A block that several architectures have, or one has several times, stands in a batch once; how
often who has it is in `pool`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from predictors.kernels.blocks import Block, blocks
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

Bag = Counter[Block]
"""An architecture's blocks with how often they stand in it."""


def bags(space: SearchSpace, architectures: Sequence[Architecture]) -> list[Bag]:
    """One for each architecture; empty where the space has no network."""
    return [blocks(space, architecture) if space.has_network else Counter() for architecture in architectures]


@dataclass(frozen=True, eq=False)
class Batch:
    """n architectures' nodes.

    Args:
        labels: shape (v, l), sparse: a one where a node has that label; a label that was not learnt has no column.
        reads: shape (v, v), sparse: how often the node of a row reads that of a column.
        read_by: the same the other way round.
        pool: shape (n, v), sparse: how often a node stands in an architecture, in units of the mean number of nodes of
            the architectures that were learnt from.
    """

    labels: Tensor
    reads: Tensor
    read_by: Tensor
    pool: Tensor


@dataclass(frozen=True, eq=False)
class Graphs:
    """What was learnt of the graphs of n architectures.

    Args:
        labels: label -> its column.
        nodes: mean number of nodes of an architecture, at least 1.
    """

    labels: dict[str, int]
    nodes: float

    @classmethod
    def learn(cls, found: Sequence[Bag]) -> Graphs:
        """The labels that these architectures have, in order of appearance."""
        labels: dict[str, int] = {}
        for bag in found:
            for block in bag:
                for label in _labels(block):
                    labels.setdefault(label, len(labels))
        sizes = [sum(times * len(_labels(block)) for block, times in bag.items()) for bag in found]
        return cls(labels, max(float(np.mean(sizes)), 1.0))

    def of(self, asked: Sequence[Bag]) -> Batch:
        """The batch of n architectures; what its rows say depends on each architecture alone."""
        first: dict[Block, int] = {}
        ones: list[tuple[int, int, float]] = []
        edges: list[tuple[int, int, float]] = []
        count = 0
        for bag in asked:
            for block in bag:
                if block in first:
                    continue
                first[block] = count
                names = _labels(block)
                ones += [(count + at, self.labels[name], 1.0) for at, name in enumerate(names) if name in self.labels]
                edges += [
                    (count + at, count + node, float(times))
                    for at, read in enumerate((*block.reads, block.output), start=1)
                    for node, times in read
                ]
                count += len(names)
        pool = [
            (row, first[block] + at, times / self.nodes)
            for row, bag in enumerate(asked)
            for block, times in bag.items()
            for at in range(len(_labels(block)))
        ]
        reads = _sparse(edges, count, count)
        return Batch(
            _sparse(ones, count, len(self.labels)),
            reads,
            reads.t().coalesce(),
            _sparse(pool, len(asked), count),
        )


def _labels(block: Block) -> tuple[str, ...]:
    """Of the nodes: the input, the operations, the output. A block that gives zero has the two ends, and no edge."""
    return ("input", *block.labels, "output")


def _sparse(entries: Sequence[tuple[int, int, float]], rows: int, columns: int) -> Tensor:
    table = np.array(entries, dtype=np.float64).reshape(len(entries), 3)
    places, values = torch.from_numpy(table[:, :2].T.astype(np.int64)), torch.from_numpy(table[:, 2].copy())
    return torch.sparse_coo_tensor(places, values, (rows, columns), check_invariants=True).coalesce()
