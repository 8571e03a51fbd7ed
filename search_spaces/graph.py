"""graph: the labelled directed graph of an architecture's network, the one lowering that everything else reads.

`lower` is the only place that knows what a decided list, Cell, mapping or None means for a network. It speaks to an
`Algebra`, so the same reading gives the `Graph` that `build` turns into modules node by node and the simplified terms
of the canonical key: the two cannot disagree.

* A list, a Repeat or a mapping of pieces is a chain in order; None in it is nothing. An empty chain is its input.
* A Cell's node sums (or concatenates, in the order of the edges) what its edges bring. An edge decided to be None does
  not exist; a node that no edge reaches does not exist, nor do the edges that leave it. If that takes the output away,
  the cell gives zero in the shape of its input.
* An Op is one node, whatever stands in its settings: pieces there have inputs of their own, known to the Op alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from search_spaces.nodes import Op, Scalar, SpaceError
from search_spaces.space import SearchSpace
from search_spaces.walk import Call, Wiring

ZERO = Call(
    Op("search_spaces.operations.basic:Zero", label="none", traits=("zero", "weightless", "zero_preserving")), {}
)
"""What stands for the output of a cell that no edge reaches."""


@dataclass(frozen=True)
class GraphNode:
    """One node.

    Args:
        kind: "input", "op" (one input), "sum" or "concat" (any number of inputs, in order).
        inputs: the nodes it reads, all before it.
        call: the decided Op of an "op".
        name: where it stands in the network, for instance ``stages/0/cell/0->1``; unique in its graph.
    """

    kind: str
    inputs: tuple[int, ...]
    call: Call | None = None
    name: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, the first of them the input, and the index of the output."""

    nodes: tuple[GraphNode, ...]
    output: int


_SEQUENCES = (list, tuple)

Value = TypeVar("Value")


class Algebra(Protocol[Value]):
    """What a network's pieces mean: nodes of a graph, or terms of a formula."""

    def op(self, call: Call, value: Value, place: str) -> Value:
        """The operation applied to a value."""

    def combine(self, kind: str, values: Sequence[Value], place: str) -> Value:
        """The "sum" or "concat" of one or more values."""


def lower(piece: Any, source: Value, algebra: Algebra[Value], place: str = "") -> Value:
    """What a decided piece makes of `source`; `SpaceError` names the place of what is no piece of a network."""
    if isinstance(piece, Call):
        return algebra.op(piece, source, place or piece.op.label)
    if isinstance(piece, Wiring):
        return _lower_cell(piece, source, algebra, place)
    if piece is None:
        return source
    for name, part in chain_parts(piece, place):
        source = lower(part, source, algebra, _join(place, name))
    return source


def chain_parts(piece: Any, place: str = "") -> Iterable[tuple[str, Any]]:
    """The named parts of a decided chain, in order."""
    if isinstance(piece, _SEQUENCES):
        return zip(map(str, range(len(piece))), piece, strict=True)
    if isinstance(piece, Mapping):  # "option" is the label that walk notes beside an option's parts
        return [(name, part) for name, part in piece.items() if name != "option" or not isinstance(part, Scalar)]
    raise SpaceError(
        f"{place or 'the network'}: {piece!r} is no piece of a network; allowed are Op, Cell, None, and lists and "
        "mappings of these. Give values to an Op as its settings"
    )


def _lower_cell(wiring: Wiring, source: Value, algebra: Algebra[Value], place: str) -> Value:
    reached = {0: source}
    target = 0
    for target, edges in wiring.cell.arriving.items():
        values = []
        for start, name in edges:
            piece = wiring.edges[name]
            if piece is not None and start in reached:
                values.append(lower(piece, reached[start], algebra, _join(place, name)))
        if values:
            reached[target] = algebra.combine(wiring.cell.combine, values, _join(place, str(target)))
    return reached[target] if target in reached else algebra.op(ZERO, source, _join(place, str(target)))


@dataclass
class _GraphAlgebra:
    nodes: list[GraphNode] = field(default_factory=lambda: [GraphNode("input", ())])

    def op(self, call: Call, value: int, place: str) -> int:
        return self._add(GraphNode("op", (value,), call, place))

    def combine(self, kind: str, values: Sequence[int], place: str) -> int:
        return self._add(GraphNode(kind, tuple(values), None, place))

    def _add(self, node: GraphNode) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1


def graph_of(piece: Any) -> Graph:
    """The graph of one decided piece (an Op, a Cell, a chain), for instance of one that stands in an Op's settings."""
    algebra = _GraphAlgebra()
    output = lower(piece, 0, algebra)
    return Graph(tuple(algebra.nodes), output)


def graph(space: SearchSpace, architecture: Mapping[str, Scalar]) -> Graph:
    """The graph of the network that `architecture` stands for, with nothing simplified away."""
    return graph_of(network_piece(space, space.decided(architecture)))


def network_piece(space: SearchSpace, decided: Any) -> Any:
    """The network part of a decided tree."""
    if not space.has_network:
        raise SpaceError(
            f"space {space.name!r} describes no network; let its root be an Op, a Cell or a list of them, or a mapping "
            "with the key 'network'"
        )
    return decided["network"] if isinstance(decided, Mapping) and "network" in decided else decided


def is_piece(value: Any) -> bool:
    """Whether a decided setting is a piece of a network (an Op, a Cell, a list with one of them), not a plain value."""
    if isinstance(value, _SEQUENCES):
        return any(is_piece(part) for part in value)
    return isinstance(value, Call | Wiring)


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name
