"""Random search spaces for property tests, and plain recursions over them that share no code with the package."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from search_spaces.nodes import Boolean, Choice, Float, Integer, Node, Repeat, Shared
from search_spaces.space import SearchSpace

KEYS = ["a", "b", "c", "count", "option", "0", "1", "ü x", "node"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
)


SCALAR_SAMPLES = [
    None,
    True,
    False,
    0,
    1,
    -3,
    2**53 + 1,
    -0.0,
    1.0,
    0.5,
    1e300,
    5e-324,
    "",
    "a",
    "1",
    "ü/\u2028",
    "None",
]


def random_space(seed: int, *, finite: bool = False) -> SearchSpace:
    """Nested, conditional, with Repeat, and with Shared nodes that may stand anywhere, also below conditions."""
    rng = random.Random(seed)
    tied = Shared("tied", random_node(rng, 2, (), finite))
    outer = Shared("outer", random_node(rng, 2, (tied,), finite))
    return SearchSpace({"decided": Boolean(), "rest": random_node(rng, 3, (tied, outer), finite)})


def random_node(rng: random.Random, depth: int, shared: tuple[Shared, ...], finite: bool) -> Node:
    kind = rng.choice(["leaf", "shared", "parts", "list", "choice", "repeat", "parts", "choice"] if depth else ["leaf"])
    if kind == "shared" and shared:
        return rng.choice(shared)
    if kind in ("parts", "choice"):
        inner = {name: random_node(rng, depth - 1, shared, finite) for name in rng.sample(KEYS, rng.randint(1, 3))}
        return inner if kind == "parts" else Choice(inner)
    if kind == "list":
        return [random_node(rng, depth - 1, shared, finite) for _ in range(rng.randint(1, 2))]
    if kind == "repeat":
        low = rng.randint(0, 1)
        count = rng.choice([rng.randint(0, 2), Integer(low, low + rng.randint(0, 2))])
        return Repeat(random_node(rng, depth - 1, shared, finite), count)
    return random_leaf(rng, finite)


def random_leaf(rng: random.Random, finite: bool) -> Node:
    kind = rng.choice(["scalar", "choice", "choice", "integer", "boolean", *([] if finite else ["float"])])
    log = rng.random() < 0.5
    if kind == "integer":
        low = rng.randint(1, 9)
        return Integer(low, low + rng.randint(0, 3), log)
    if kind == "float":
        low = 10 ** rng.uniform(-6, 1)
        return Float(low, low + 10 ** rng.uniform(-3, 1), log)
    if kind == "choice":
        options: list[Any] = []
        for option in rng.sample(SCALAR_SAMPLES, rng.randint(1, 3)):
            options.extend([option] if option not in options else [])
        return Choice(options)
    return Boolean() if kind == "boolean" else rng.choice(SCALAR_SAMPLES)


SPACES = st.integers(0, 2**64).map(random_space)
FINITE_SPACES = st.integers(0, 2**64).map(lambda seed: random_space(seed, finite=True))


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
