"""Canonical key: the identity of all that an evaluation depends on.

The network enters as its simplified computation up to isomorphism (`simplify`, `factors`, `labelling`), the rest of the
space with its decisions. Equal keys are the same computation: send the operations of one network to those of the other
in `canonical_order`, copy the weights along, and the outputs are equal.

Different keys can still be equal functions where the traits do not say so: a linear operation without weights gives
``f(a + b) = f(a) + f(b)`` (average pooling, say); two operations may be equal under different names or settings; equal
weightless operations of constants are not merged; a zero inside a concatenation keeps what made it, for its width. The
width of a zero that only operations with a bias read is not part of the key: what they give is the same at each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from search_spaces.architecture import Architecture
from search_spaces.factors import Factor, Split, join, split
from search_spaces.graph import Graph, chain_parts, is_piece, lower, network_piece
from search_spaces.nodes import Decidable, Scalar
from search_spaces.simplify import CONCAT, Terms, Value
from search_spaces.space import SearchSpace
from search_spaces.walk import Call, Condition, Wiring, walk

_PIECES = (Call, Wiring)

Draw = Callable[[Terms, Value], Value]
"""Evaluates a piece or a graph in the algebra of terms, from a source."""


def canonical_key(space: SearchSpace, architecture: Mapping[str, Scalar]) -> str:
    """SHA-256, in hex, of the network's computation and of every decision that is used outside the network."""
    if not space.has_network:
        return _digest("values", Architecture(architecture).to_json())
    network = piece_key(network_piece(space, space.decided(architecture)))
    return _digest("network", network, Architecture(_outside_network(space, architecture)).to_json())


def piece_key(piece: Any) -> str:
    """The key of a decided piece of a network, as a function of its input.

    A part that occurs several times in a chain (a decided `Shared`) is simplified once.
    """
    parts = _flatten(piece, "")
    drawn: dict[tuple[int, int], Split] = {}
    factors: list[Factor] = []
    start, scale = None, 1
    for index, part in enumerate(parts):
        place = (id(part), scale)
        found = drawn.get(place)
        if found is None:
            found = drawn[place] = (
                _operation(part, scale) if isinstance(part, Call) else _draw(_drawing(part), scale).split
            )
        if not found.reads_source:  # what came before counts no more, and a part from here may see a zero
            start, scale, factors = index, 1, []
            continue
        new = found.factors
        if found.shifted and factors:
            factors[-1] = join(factors[-1], new[0])
            new = new[1:]
        factors.extend(new)
        scale = found.scale
    if start is None:
        return _key("varying", scale, factors)
    tail = _draw(_drawing(parts[start:]), zero_source=True)
    return _drawn_key(_draw_whole(_drawing(parts)) if tail.keeps_zero else tail)


def graph_key(graph: Graph) -> str:
    """The key of a graph: that of the piece it was lowered from."""
    return _drawn_key(_draw_whole(_graph_drawing(graph)))


def canonical_order(graph: Graph) -> tuple[int, ...]:
    """The graph's nodes that count (operations and concatenations), one for each atom, in canonical order.

    Graphs with equal keys have orders of equal length, and sending the k-th node of one to the k-th of the other is an
    isomorphism of their simplified computations.
    """
    drawn = _draw_whole(_graph_drawing(graph))
    order: list[int] = []
    for factor in drawn.split.factors:
        order.extend(int(drawn.places[factor.origins[atom - 1] - 1]) for atom in factor.order)
    return tuple(order)


class _Drawn(NamedTuple):
    kind: str  # "varying", "constant" or "zero"
    split: Split
    places: Sequence[str]  # of the atoms that count
    keeps_zero: bool  # a zero counts, for its width


_NOTHING = Split((), 1, shifted=False, reads_source=False)


def _draw(draw: Draw, scale: int = 1, *, zero_source: bool = False) -> _Drawn:
    """Evaluate and split; in terms of a zero source every constant counts as reading it."""
    terms = Terms(_describe, zero_source=zero_source)
    output = draw(terms, ((0, scale),))
    if terms.is_zero(output):
        return _Drawn("zero", _NOTHING, (), keeps_zero=False)
    kept, atoms, output = terms.needed(output)
    places = [terms.places[atom] for atom in kept]
    keeps_zero = any(
        name == CONCAT and any(map(terms.is_zero, terms.atoms[atom][1]))
        for atom, (name, _) in zip(kept, atoms, strict=True)
    )
    return _Drawn("constant" if zero_source else "varying", split(atoms, output), places, keeps_zero)


def _operation(call: Call, scale: int) -> Split:
    """The split of a lone operation, kept with its call."""
    known: dict[int, Split] = call.memo.setdefault("splits", {})
    if scale not in known:
        known[scale] = _draw(_drawing(call), scale).split
    return known[scale]


def _draw_whole(draw: Draw) -> _Drawn:
    drawn = _draw(draw)
    return drawn if drawn.kind == "zero" or drawn.split.reads_source else _draw(draw, zero_source=True)


def _drawing(piece: Any) -> Draw:
    return lambda terms, source: lower(piece, source, terms)


def _graph_drawing(graph: Graph) -> Draw:
    def draw(terms: Terms, source: Value) -> Value:
        values = [source]
        for index, node in enumerate(graph.nodes[1:], 1):
            inputs = [values[i] for i in node.inputs]
            if node.call is not None:
                values.append(terms.op(node.call, inputs[0], str(index)))
            else:
                values.append(terms.combine(node.kind, inputs, str(index)))
        return values[graph.output]

    return draw


def _flatten(piece: Any, place: str) -> list[Any]:
    """The parts of a chain of chains."""
    if isinstance(piece, _PIECES):
        return [piece]
    found: list[Any] = []
    if piece is not None:
        for name, part in chain_parts(piece, place):
            if isinstance(part, _PIECES):
                found.append(part)
            else:
                found.extend(_flatten(part, f"{place}/{name}" if place else name))
    return found


def _drawn_key(drawn: _Drawn) -> str:
    return _key(drawn.kind, drawn.split.scale, drawn.split.factors)


def _key(kind: str, scale: int, factors: Sequence[Factor]) -> str:
    return _digest(kind, str(scale), *[factor.digest for factor in factors])


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _describe(call: Call) -> tuple[str, frozenset[str]]:
    """A text that equal calls share, and the traits. How an Op is labelled is for people and no part of it."""
    known: tuple[str, frozenset[str]] | None = call.memo.get("description")
    if known is None:
        known = call.memo["description"] = _description(call)
    return known


def _description(call: Call) -> tuple[str, frozenset[str]]:
    settings, traits = call.settings, call.op.traits
    if "weightless" in traits and not all(map(_is_weightless, settings.values())):
        traits -= {"weightless"}
    texts = [f"{name}={_setting_text(settings[name])}" for name in sorted(settings)]
    return f"{call.op.factory_name}({', '.join(texts)})", traits


def _setting_text(value: Any) -> str:
    if isinstance(value, _PIECES):
        return f"<{piece_key(value)}>"
    if isinstance(value, list | tuple):  # part by part: the Op may read a list of pieces otherwise than as a chain
        return f"[{', '.join(map(_setting_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_setting_text(value[name])}" for name in sorted(value)) + "}"
    return repr(value)


def _is_weightless(value: Any) -> bool:
    if isinstance(value, Call):
        return "weightless" in value.op.traits and all(map(_is_weightless, value.settings.values()))
    if isinstance(value, Wiring):
        return all(map(_is_weightless, value.edges.values()))
    if isinstance(value, Mapping):
        return all(map(_is_weightless, value.values()))
    return not is_piece(value) or all(map(_is_weightless, value))


def _outside_network(space: SearchSpace, architecture: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The architecture's decisions that are reached outside the network."""
    if not isinstance(space.root, Mapping) or len(space.root) == 1:
        return {}
    used: dict[str, Scalar] = {}

    def decide(path: str, domain: Decidable, when: tuple[Condition, ...]) -> tuple[Scalar]:
        used[path] = architecture[path]
        return (architecture[path],)

    walk({name: part for name, part in space.root.items() if name != "network"}, decide)
    return used
