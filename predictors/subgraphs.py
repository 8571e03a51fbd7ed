"""subgraphs: the features that kernels count (`predictors.kernels.graph_counts`), as graphs again, to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from predictors.kernels.blocks import Block


@dataclass(frozen=True)
class Subtree:
    """A node with what it reads, and what that reads, down to the leaves.

    Args:
        label: of the node: an operation's, "input" or "output" of a block, or "zero" for one that gives nothing.
        reads: one for each value that is summed to the node's input.
    """

    label: str
    reads: tuple[Subtree, ...] = ()

    @cached_property
    def feature(self) -> str:
        """The name it is counted by."""
        return f"{self.label}({','.join(read.feature for read in self.reads)})" if self.reads else self.label

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The labels, the root first, then each reading with all below it."""
        return (self.label, *(label for read in self.reads for label in read.nodes))

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(node, the node that reads it), both as places in `nodes`."""
        found: list[tuple[int, int]] = []
        place = 1
        for read in self.reads:
            found.append((place, 0))
            found += [(start + place, stop + place) for start, stop in read.edges]
            place += len(read.nodes)
        return tuple(found)

    def drawn(self) -> str:
        """Lines for a terminal: what a node reads stands below it."""
        return "\n".join(self._lines("", ""))

    def _lines(self, here: str, below: str) -> Iterator[str]:
        yield here + self.label
        for place, read in enumerate(self.reads):
            last = place + 1 == len(self.reads)
            yield from read._lines(below + ("└── " if last else "├── "), below + ("    " if last else "│   "))


def subtrees(block: Block, depth: int) -> list[Subtree]:
    """The sub-trees of this depth at each node of a block, in the order of its nodes."""
    if not block.output:
        return [Subtree("zero")]
    labels = ["input", *block.labels, "output"]
    reads = [(), *block.reads, block.output]
    trees = [Subtree(label) for label in labels]
    for _ in range(depth):
        trees = [
            Subtree(
                label,
                tuple(sorted((trees[node] for node, times in read for _ in range(times)), key=lambda t: t.feature)),
            )
            for label, read in zip(labels, reads, strict=True)
        ]
    return trees
