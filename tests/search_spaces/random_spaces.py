"""Random search spaces for property tests, and plain recursions over them that share no code with the package."""

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from search_spaces.nodes import Boolean, Choice, Float, Integer, Node, Repeat, Shared
from search_spaces.space import SearchSpace

KEYS = st.sampled_from(["a", "b", "c", "count", "option", "0", "1", "ü x", "node"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
)


def unequal(options: list[Any]) -> bool:
    return not any(first == second for index, first in enumerate(options) for second in options[:index])


INTEGERS = st.builds(
    lambda low, more, log: Integer(low, low + more, log), st.integers(1, 9), st.integers(0, 3), st.booleans()
)
FLOATS = st.builds(
    lambda low, more, log: Float(low, low + more, log), st.floats(1e-6, 10), st.floats(1e-3, 10), st.booleans()
)
SCALAR_CHOICES = st.lists(SCALARS, min_size=1, max_size=3).filter(unequal).map(Choice)


def nodes(leaves: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    def extend(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        labelled = st.dictionaries(KEYS, inner, min_size=1, max_size=3)
        return st.one_of(
            labelled,
            st.lists(inner, min_size=1, max_size=2),
            labelled.map(Choice),
            st.builds(Repeat, inner, st.integers(0, 2)),
            st.builds(
                lambda body, low, more: Repeat(body, Integer(low, low + more)),
                inner,
                st.integers(0, 1),
                st.integers(0, 2),
            ),
        )

    return st.recursive(leaves, extend, max_leaves=5)


@st.composite
def spaces(draw: st.DrawFn, *, finite: bool = False) -> SearchSpace:
    """Nested, conditional, with Repeat, and with a Shared node that may stand anywhere, also below conditions."""
    leaves = st.one_of(SCALAR_CHOICES, INTEGERS, st.just(Boolean()), SCALARS)
    if not finite:
        leaves = leaves | FLOATS
    tied = Shared("tied", draw(nodes(leaves)))
    outer = Shared("outer", draw(nodes(leaves | st.just(tied))))
    root = draw(nodes(st.one_of(leaves, st.just(tied), st.just(outer))))
    return SearchSpace({"decided": Boolean(), "rest": root})


def every_assignment(node: Node, path: str, state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All ways to decide what is reached below `node`, given what is decided already."""

    def decide(at: str, values: Any) -> Iterator[dict[str, Any]]:
        if at in state:
            yield state
        else:
            yield from ({**state, at: value} for value in values)

    def in_order(parts: list[tuple[str, Node]], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not parts:
            yield known
            return
        (below, part), rest = parts[0], parts[1:]
        for one in every_assignment(part, below, known):
            yield from in_order(rest, one)

    here = path + "/" if path else ""
    if isinstance(node, Shared):
        yield from every_assignment(node.node, node.name, state)
    elif isinstance(node, Boolean):
        yield from decide(path, [False, True])
    elif isinstance(node, Integer):
        yield from decide(path, range(node.low, node.high + 1))
    elif isinstance(node, Choice):
        for chosen in decide(path, node.options):
            yield from every_assignment(node.options[chosen[path]], here + str(chosen[path]), chosen)
    elif isinstance(node, Repeat):
        counts = [(state, node.count)] if isinstance(node.count, int) else None
        for known, count in counts or [
            (s, s[here + "count"]) for s in every_assignment(node.count, here + "count", state)
        ]:
            yield from in_order([(here + str(index), node.body) for index in range(count)], known)
    elif isinstance(node, Mapping):
        yield from in_order([(here + name, part) for name, part in node.items()], state)
    elif isinstance(node, list):
        yield from in_order([(here + str(index), part) for index, part in enumerate(node)], state)
    else:
        yield state
