import random
from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.canonical import canonical_key, canonical_order, graph_key, piece_key
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.graph import Graph, graph, graph_of
from search_spaces.moves import enumerate_all, sample
from search_spaces.nodes import Boolean, Cell, Choice, Float, Integer, Node, Op, Repeat, Shared
from search_spaces.space import SearchSpace
from search_spaces.walk import walk
from tests.search_spaces.interpreter import fingerprint, outputs

WEIGHTLESS = ("weightless", "zero_preserving")
CONV = Op("m:Conv", label="conv")  # with a bias
BARE = Op("m:Bare", label="bare", traits=["zero_preserving"])
POOL = Op("m:Pool", label="pool", traits=WEIGHTLESS)
TANH = Op("m:Tanh", label="tanh", traits=WEIGHTLESS)
SKIP = Op("m:Identity", label="skip", traits=("identity", *WEIGHTLESS))
ZERO = Op("m:Zero", label="zero", traits=("zero", *WEIGHTLESS))


def decided(node: Node) -> Any:
    return walk(node, lambda path, domain, when: pytest.fail("nothing is open here"))


def key(node: Node) -> str:
    piece = decided(node)
    found = piece_key(piece)
    assert found == graph_key(graph_of(piece))
    return found


def in_canonical_order(of: Graph) -> dict[int, int]:
    return {node: place for place, node in enumerate(canonical_order(of))}


# ---- the rules, one by one


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([CONV, None, []], CONV),
        ([SKIP, CONV, SKIP], [CONV]),
        ({"a": CONV, "b": [POOL]}, [CONV, POOL]),
        (Cell({"0->1": CONV}), CONV),
        (Cell({"0->1": CONV, "0->2": CONV, "1->2": ZERO}), CONV),
        (Cell({"0->1": ZERO, "1->2": BARE, "0->2": SKIP}), []),
        (Cell({"0->1": ZERO, "1->2": CONV, "0->2": ZERO}), [CONV, ZERO, CONV]),
        (
            Cell({"0->1": CONV, "1->2": POOL, "0->2": CONV}),
            Cell({"0->1": CONV, "0->2": CONV, "1->3": SKIP, "2->3": POOL}),
        ),
        (
            Cell({"0->1": POOL, "0->2": POOL, "1->3": CONV, "2->3": CONV}),
            [POOL, Cell({"0->1": CONV, "0->2": CONV, "1->3": SKIP, "2->3": SKIP})],
        ),
        (
            Cell({"0->1": [Cell({"0->1": CONV, "0->2": SKIP, "1->2": SKIP})], "0->2": CONV, "1->2": SKIP}),
            Cell({"0->1": SKIP, "0->2": CONV, "1->2": Cell({"0->1": SKIP, "0->2": CONV, "1->2": SKIP})}),
        ),
        (ZERO, [CONV, ZERO]),
        (Cell({"0->1": None, "1->2": CONV, "0->2": None}), [CONV, ZERO, POOL]),
        (Cell({"0->1": None, "1->2": CONV, "0->2": BARE}), BARE),
        ([], SKIP),
    ],
)
def test_these_are_the_same_computation(first: Node, second: Node) -> None:
    assert key(first) == key(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([CONV, POOL], [POOL, CONV]),
        (CONV, []),
        (ZERO, []),
        (ZERO, [ZERO, CONV]),
        ([ZERO, CONV], [ZERO, Op("m:Other")]),
        (Cell({"0->1": SKIP, "0->2": SKIP, "1->2": SKIP}), SKIP),  # twice the input
        (Op("m:Conv", width=1), Op("m:Conv", width=1.0)),
        (Op("m:Conv", width=1), Op("m:Conv", width=True)),
        (
            Op("m:Block", body=[SKIP, CONV]),
            Op("m:Block", body=[CONV, SKIP]),
        ),  # what a Block does with them is not known
        # one convolution used twice, and two convolutions
        (
            Cell({"0->1": CONV, "1->2": POOL, "1->3": SKIP, "2->3": SKIP}),
            Cell({"0->1": CONV, "0->2": CONV, "1->3": POOL, "2->3": SKIP}),
        ),
        # a convolution of zero is its bias
        (Cell({"0->1": ZERO, "1->2": CONV, "0->2": SKIP}), SKIP),
        (
            Cell({"0->1": CONV, "0->2": POOL}, "concat"),
            Cell({"0->1": SKIP, "0->2": SKIP, "1->3": POOL, "2->3": CONV}, "concat"),
        ),
        (
            Cell({"0->1": CONV, "0->2": POOL, "1->2": SKIP}, "concat"),
            Cell({"0->1": CONV, "1->2": SKIP, "0->2": POOL}, "concat"),
        ),
    ],
)
def test_these_are_not(first: Node, second: Node) -> None:
    assert key(first) != key(second)


def test_a_label_is_for_people() -> None:
    assert key(Op("m:Conv", label="one")) == key(Op("m:Conv", label="other"))


def test_an_operation_with_weights_inside_is_not_weightless() -> None:
    def twice(piece: Node) -> Node:
        wrapped = Op("m:Wrap", traits=["weightless"], inner=piece)
        return Cell({"0->1": wrapped, "0->2": wrapped, "1->3": POOL, "2->3": SKIP}), Cell(
            {"0->1": wrapped, "1->2": POOL, "1->3": SKIP, "2->3": SKIP}
        )

    assert len(set(map(key, twice(POOL)))) == 1
    assert len(set(map(key, twice([POOL, CONV])))) == 2
    assert len(set(map(key, twice(Cell({"0->1": CONV}))))) == 2


def test_pieces_in_settings_stand_by_their_own_key() -> None:
    def wrapped(piece: Node) -> str:
        return key(Op("m:Wrap", inner=piece))

    assert wrapped(Cell({"0->1": SKIP, "0->2": CONV, "1->2": ZERO})) == wrapped(Cell({"0->1": CONV}))
    assert wrapped(CONV) != wrapped(POOL) != wrapped([POOL])
    assert wrapped({"a": CONV}) != wrapped({"b": CONV})


def test_training_decisions_are_part_of_the_key_and_idle_decisions_are_not() -> None:
    block = Choice({"on": [CONV, ZERO], "off": [ZERO]})
    space = SearchSpace(
        {"network": [block, POOL], "training": {"lr": Float(0.1, 1.0), "kind": Choice({"a": 1, "b": 1})}}
    )

    def of(**changes: object) -> str:
        return canonical_key(space, {"network/0": "on", "training/lr": 0.5, "training/kind": "a", **changes})

    assert of() == of(**{"network/0": "off"})
    assert len({of(), of(**{"training/lr": 0.6}), of(**{"training/kind": "b"})}) == 3


def test_without_a_network_every_decision_counts() -> None:
    space = SearchSpace({"x": Integer(1, 3), "y": Boolean()})
    assert len({canonical_key(space, architecture) for architecture in enumerate_all(space)}) == 6


# ---- isomorphism, exactly


def edges_to_piece(edges: list[tuple[int, int]], vertices: int, rng: random.Random) -> Node:
    """One convolution for each vertex of an undirected graph; one for each edge, of the sum of its ends."""
    names = list(range(1, vertices + 1))
    rng.shuffle(names)
    rng.shuffle(edges)
    cell = {f"0->{name}": CONV for name in names}
    for place, (first, second) in enumerate(edges, vertices + 1):
        ends = [names[first], names[second]]
        rng.shuffle(ends)
        cell |= {f"{end}->{place}": SKIP for end in ends}
    last = vertices + len(edges) + 1
    cell |= {f"{place}->{last}": CONV for place in range(vertices + 1, last)}
    items = list(cell.items())
    rng.shuffle(items)
    return Cell(dict(items))


HEXAGON = [(i, (i + 1) % 6) for i in range(6)]
TRIANGLES = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
ROOK = [(a, b) for a, b in combinations(range(16), 2) if a // 4 == b // 4 or a % 4 == b % 4]
SHRIKHANDE = [
    (a, b)
    for a, b in combinations(range(16), 2)
    if ((b // 4 - a // 4) % 4, (b - a) % 4) in {(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)}
]


@pytest.mark.parametrize(
    ("first", "second", "vertices", "times"),
    [(HEXAGON, TRIANGLES, 6, 10), pytest.param(ROOK, SHRIKHANDE, 16, 2, marks=pytest.mark.slow)],
)
def test_graphs_that_colour_refinement_confuses_are_told_apart(
    first: list[tuple[int, int]], second: list[tuple[int, int]], vertices: int, times: int
) -> None:
    rng = random.Random(0)
    keys = [{key(edges_to_piece(list(edges), vertices, rng)) for _ in range(times)} for edges in (first, second)]
    assert [len(found) for found in keys] == [1, 1]
    assert keys[0] != keys[1]


def test_many_interchangeable_branches_take_no_exponential_time() -> None:
    branches = {f"0->{i}": [CONV, CONV] for i in range(1, 13)} | {f"{i}->13": POOL for i in range(1, 13)}
    assert key(Cell(branches)) == key(Cell(dict(reversed(branches.items()))))


def test_a_long_chain_of_one_cell_is_as_exact_as_a_flat_one() -> None:
    cell = Shared("cell", Cell({"0->1": CONV, "0->2": SKIP, "1->2": POOL}))
    assert key(Repeat(cell, 6)) == key(Cell({"0->1": Repeat(cell, 6)}))
    assert key(Repeat(cell, 6)) != key(Repeat(cell, 5))


# ---- random pieces, nested and decided at random

PIECES = (CONV, CONV, BARE, POOL, TANH, SKIP, ZERO, None)
WITHOUT_ZERO = (CONV, CONV, BARE, POOL, TANH, SKIP)


def random_piece(rng: random.Random, depth: int, kinds: tuple[str, ...], pieces: tuple[Node, ...] = PIECES) -> Node:
    kind = rng.choice((*kinds, "list", "op") if depth else ("op",))
    if kind == "op":
        return rng.choice(pieces)
    if kind == "list":
        return [random_piece(rng, depth - 1, kinds, pieces) for _ in range(rng.randint(0, 3))]
    last = rng.randint(1, 3)
    edges = {
        f"{i}->{j}": random_piece(rng, depth - 1, kinds, pieces)
        for j in range(1, last + 1)
        for i in range(j)
        if i == 0 or rng.random() < 0.7
    }
    return Cell(edges, kind)


def rewritten(node: Node, rng: random.Random, zero: Node) -> Node:
    """The same computation, written in another way; `zero` is an Op that gives zero, or None for no edge."""
    if isinstance(node, Cell):
        edges = {name: rewritten(piece, rng, zero) for name, piece in node.edges.items()}
        if node.combine == "sum":
            items = list(edges.items())
            rng.shuffle(items)
            edges = dict(items)
        node = Cell(edges, node.combine)
    elif isinstance(node, list):
        node = [rewritten(part, rng, zero) for part in node]
        split = rng.randint(0, len(node))
        node = rng.choice([node, [node[:split], *node[split:]], [*node, SKIP], {"a": node[:split], "b": node[split:]}])
    elif node is None:
        return None
    return rng.choice(
        [
            node,
            [node],
            [SKIP, node],
            Cell({"0->1": node}, rng.choice(["sum", "concat"])),
            Cell({"0->1": CONV, "0->2": node, "1->2": zero}),
            Cell({"0->1": SKIP, "1->2": node, "0->3": CONV, "2->4": SKIP}),
        ]
    )


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**64), st.booleans())
def test_rewriting_a_network_leaves_its_key_and_gives_equal_outputs(seed: int, concat: bool) -> None:
    """Without zeros where there are concatenations: those keep what made a zero, for its width."""
    rng = random.Random(seed)
    kinds, pieces, zero = (("sum", "concat"), WITHOUT_ZERO, None) if concat else (("sum",), PIECES, ZERO)
    piece = [random_piece(rng, 2, kinds, pieces) for _ in range(3)]
    other = rewritten(piece, rng, zero)
    first, second = graph_of(decided(piece)), graph_of(decided(other))
    assert key(piece) == key(other)
    assert outputs(first, in_canonical_order(first)) == outputs(second, in_canonical_order(second))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**64))
def test_networks_of_all_kinds_with_equal_keys_give_equal_outputs(seed: int) -> None:
    rng = random.Random(seed)
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for _ in range(40):
        piece = [random_piece(rng, 1, ("sum", "concat")) for _ in range(rng.randint(1, 3))]
        of = graph_of(decided(piece))
        found[key(piece)].add(outputs(of, in_canonical_order(of)))
    assert all(len(functions) == 1 for functions in found.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64))
def test_keys_are_equal_exactly_for_equal_functions(seed: int) -> None:
    rng = random.Random(seed)
    by_key: dict[str, set[tuple[int, int]]] = defaultdict(set)
    by_function: dict[tuple[int, int], set[str]] = defaultdict(set)
    for _ in range(60):
        piece = decided([random_piece(rng, 1, ("sum",)) for _ in range(rng.randint(1, 2))])
        of = graph_of(piece)
        if sum(node.call is not None and "weightless" not in node.call.op.traits for node in of.nodes) > 5:
            continue
        by_key[piece_key(piece)].add(fingerprint(of))
        by_function[fingerprint(of)].add(piece_key(piece))
    assert all(len(functions) == 1 for functions in by_key.values())
    assert all(len(keys) == 1 for keys in by_function.values())


def test_networks_of_a_conditional_space_with_equal_keys_give_equal_outputs() -> None:
    edge = Choice({"conv": CONV, "pool": POOL, "skip": SKIP, "none": None, "two": [CONV, Choice([POOL, CONV])]})
    cell = Shared("cell", Cell({"0->1": edge, "0->2": edge, "1->2": edge}))
    space = SearchSpace(
        {"network": [CONV, Repeat(cell, Integer(0, 2)), Choice({"a": [ZERO, cell], "b": cell, "c": []})]}
    )
    rng = np.random.default_rng(0)
    groups: dict[str, list[Graph]] = defaultdict(list)
    for _ in range(1500):
        architecture = sample(space, rng)
        of = graph(space, architecture)
        groups[canonical_key(space, architecture)].append(of)
    assert sum(len(group) > 1 for group in groups.values()) > 50
    for group in groups.values():
        assert len({outputs(of, in_canonical_order(of)) for of in group}) == 1
    functions = {outputs(group[0], in_canonical_order(group[0])) for group in groups.values()}
    assert len(functions) == len(groups)


# ---- NAS-Bench-201, all of it


@pytest.mark.slow
def test_the_15625_cells_fall_into_the_classes_that_brute_force_finds() -> None:
    full, single = nas_bench_201(), nas_bench_201(cells=1, stages=1)
    functions: dict[str, set[tuple[int, int]]] = defaultdict(set)
    linear: set[tuple[int, int]] = set()
    for architecture in enumerate_all(full):
        cell = graph_of(single.decided(architecture)["network"]["body"])
        known = functions[canonical_key(full, architecture)]
        if not known:
            linear.add(fingerprint(cell, linear=True))
        known.add(fingerprint(cell))
    assert all(len(found) == 1 for found in functions.values())
    assert len(set.union(*functions.values())) == len(functions) == 5875
    assert len(linear) == 5653  # were it said that pooling is linear


@pytest.mark.slow
def test_cells_with_equal_keys_give_equal_outputs_in_the_whole_network() -> None:
    space = nas_bench_201(cells=2, stages=2)
    rng = np.random.default_rng(0)
    groups: dict[str, list[Graph]] = defaultdict(list)
    for _ in range(1500):
        architecture = sample(space, rng)
        groups[canonical_key(space, architecture)].append(graph(space, architecture))
    assert sum(len(group) > 1 for group in groups.values()) > 50
    for group in groups.values():
        assert len({outputs(of, in_canonical_order(of)) for of in group}) == 1
        assert len({graph_key(of) for of in group}) == 1
    functions = {outputs(group[0], in_canonical_order(group[0])) for group in groups.values()}
    assert len(functions) == len(groups)
