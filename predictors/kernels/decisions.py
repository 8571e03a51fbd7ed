"""decisions: an architecture's decisions as points between which distances mean something.

Each decision that the kernel reads has coordinates of its own:

* a number, and a `Choice` of numbers (by rank), stands at its place v in [0, 1] on its own scale;
* any other `Choice` or `Boolean` stands at one corner of a simplex: two different options are 1 apart;
* a number that is not always reached stands on a quarter of a circle, ``(sin(v pi / 2), cos(v pi / 2)) * 2 / pi``, and
  at the circle's centre while it is not reached: equally far from all its values. Options that are not reached are the
  origin, equally far from all corners. Two architectures that both do not reach a decision do not differ in it.
  Source: Hutter, Osborne, "A Kernel for Hierarchical Parameter Spaces", 2013, equation 7.

Read are the decisions that the counts of sub-trees and paths do not tell: all that is no option of a piece of the
network, and which piece stands where in a chain. Which piece is on which edge of a cell is left to the counts, since
cells that are drawn differently may compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.moves import to_unit
from search_spaces.nodes import Cell, Choice, Float, Integer, Op, Repeat, Scalar, Shared, parts
from search_spaces.space import Decision, SearchSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Coordinates:
    """Where a decision stands in a point: columns [start, stop)."""

    decision: Decision
    start: int
    stop: int

    @property
    def conditional(self) -> bool:
        """Whether some architectures do not reach it."""
        return self.decision.when != ((),)

    def write(self, row: FloatArray, value: Scalar) -> None:
        """Set a row's columns to those of a value."""
        place = _place(self.decision, value)
        if place is None:
            labels = self.decision.values or ()
            row[self.start + labels.index(value)] = math.sqrt(0.5)
        elif self.conditional:
            row[self.start] = math.sin(place * math.pi / 2) * 2 / math.pi
            row[self.start + 1] = math.cos(place * math.pi / 2) * 2 / math.pi
        else:
            row[self.start] = place


@dataclass(frozen=True)
class DecisionPoints:
    """The coordinates of a space's decisions; those of one node of the space (a repeated one, say) are one group."""

    space: SearchSpace

    @cached_property
    def coordinates(self) -> tuple[Coordinates, ...]:
        """Of each decision that is read, in the space's order."""
        chosen = wired(self.space).choices
        found: list[Coordinates] = []
        start = 0
        for decision in self.space.decisions:
            if decision.count < 2 or id(decision.domain) in chosen:
                continue
            ordered = _place(decision, (decision.values or (None,))[0]) is not None
            width = 1 + (decision.when != ((),)) if ordered else len(decision.values or ())
            found.append(Coordinates(decision, start, start + width))
            start += width
        return tuple(found)

    @cached_property
    def groups(self) -> tuple[NDArray[np.int64], ...]:
        """For each group the columns of its decisions: they have one length scale."""
        columns: dict[int, list[int]] = {}
        for coordinates in self.coordinates:
            columns.setdefault(id(coordinates.decision.domain), []).extend(range(coordinates.start, coordinates.stop))
        return tuple(np.array(group) for group in columns.values())

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.coordinates[-1].stop if self.coordinates else 0

    def point(self, architecture: Mapping[str, Scalar]) -> FloatArray:
        """The architecture's coordinates: shape (width,)."""
        row = np.zeros(self.width)
        for coordinates in self.coordinates:
            if coordinates.decision.path in architecture:
                coordinates.write(row, architecture[coordinates.decision.path])
        return row


def _place(decision: Decision, value: Scalar) -> float | None:
    """A value's place in [0, 1] if its decision is ordered, else None."""
    domain = decision.domain
    if isinstance(domain, Integer | Float):
        return to_unit(decision, domain.low if value is None else value)
    if isinstance(domain, Choice) and all(_is_number(label) for label in domain.labels):
        return sorted(domain.labels, key=float).index(value) / max(1, len(domain.labels) - 1)  # type: ignore[arg-type]
    return None


def _is_number(label: Scalar) -> bool:
    return isinstance(label, int | float) and not isinstance(label, bool)


class Wired(NamedTuple):
    """What a network's cells are made of.

    Args:
        any_cell: whether there is a cell at all.
        choices: the ids of the Choices of pieces on the cells' edges.
    """

    any_cell: bool
    choices: frozenset[int]


def wired(space: SearchSpace) -> Wired:
    """Look through a space's network for cells."""
    choices: set[int] = set()
    seen: set[tuple[int, bool]] = set()
    cells: list[Cell] = []

    def visit(node: Any, in_cell: bool) -> None:
        if (id(node), in_cell) in seen:
            return
        seen.add((id(node), in_cell))
        below, inside = _below(node), in_cell
        if isinstance(node, Cell):
            cells.append(node)
            inside = True
        elif isinstance(node, Op):  # its settings are its own, not what stands on the edge
            inside = False
        elif isinstance(node, Choice) and in_cell and any(isinstance(option, _PIECES) for option in below):
            choices.add(id(node))
        for part in below:
            visit(part, inside)

    if space.has_network:
        root = space.root
        visit(root["network"] if isinstance(root, Mapping) and "network" in root else root, False)
    return Wired(bool(cells), frozenset(choices))


_PIECES = (Op, Cell, Repeat, Shared, Mapping, list, tuple)


def _below(node: Any) -> list[Any]:
    if isinstance(node, Choice):
        return list(node.options.values())
    if isinstance(node, Repeat):
        return [node.body]
    if isinstance(node, Shared):
        return [node.node]
    return [part for _, part in parts(node)]
