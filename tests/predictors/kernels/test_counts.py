"""Blocks and counts: against a naive reading of cells by hand, and what must be equal or different."""

import itertools
from collections import Counter

import numpy as np
import pytest

from predictors.kernels.blocks import blocks
from predictors.kernels.graph_counts import LONGEST_PATH, path_counts, subtree_counts
from predictors.kernels.likeness import ON_EDGES, Likeness, graph_distances
from predictors.structures import Structures
from search_spaces.canonical import canonical_key
from search_spaces.catalogue.nas_bench_201 import EDGES, OPERATIONS, from_ids, nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.moves import sample
from search_spaces.nodes import Cell, Choice, Op, edge_ends
from search_spaces.space import SearchSpace

CELLS = nas_bench_201(cells=1, stages=1)


def naive_ways(ids):
    """Every way from 0 to 3 that no "none" cuts, without its skips: edges tried in all combinations."""
    found = []
    for length in (1, 2, 3):
        for route in itertools.permutations(range(6), length):
            ends = [edge_ends(EDGES[edge]) for edge in route]
            joined = all(a[1] == b[0] for a, b in itertools.pairwise(ends))
            if joined and ends[0][0] == 0 and ends[-1][1] == 3:
                names = [OPERATIONS[ids[edge]] for edge in route]
                if "none" not in names:
                    found.append(tuple(edge for edge, name in zip(route, names, strict=True) if name != "skip_connect"))
    return found


def naive_trees(ids, depth):
    """Sub-trees of what stands on some way: what an operation reads are the nearest operations before it."""
    ways = naive_ways(ids)
    if not ways:
        return Counter({"zero": 1})

    def arrivals(node):
        target = 3 if node == "output" else edge_ends(EDGES[node])[0]

        def into(tensor):
            if tensor == 0:
                return ["input"]
            found = []
            for edge, name in enumerate(EDGES):
                start, end = edge_ends(name)
                if end != tensor or OPERATIONS[ids[edge]] == "none":
                    continue
                before = into(start)
                if not before:
                    continue
                found += before if OPERATIONS[ids[edge]] == "skip_connect" else [edge]
            return found

        return into(target)

    def tree(node, left):
        name = node if isinstance(node, str) else OPERATIONS[ids[node]]
        if left == 0 or node == "input":
            return name
        return f"{name}({','.join(sorted(tree(before, left - 1) for before in arrivals(node)))})"

    return Counter(tree(node, depth) for node in {"input", "output", *itertools.chain(*ways)})


def cell_block(ids):
    (found,) = [block for block in blocks(CELLS, from_ids(ids)) if block.is_cell]
    return found


def has_equal_poolings(ids):
    """Whether two poolings might read the same: those count as one operation, read twice."""
    return sum(OPERATIONS[index] == "avg_pool_3x3" for index in ids) > 1


def test_counts_of_cells_are_those_of_a_naive_reading():
    rng = np.random.default_rng(0)
    compared = 0
    for ids in rng.integers(5, size=(600, 6)).tolist():
        if has_equal_poolings(ids):
            continue
        compared += 1
        block = cell_block(ids)
        ways = Counter(">".join(OPERATIONS[ids[edge]] for edge in way) for way in naive_ways(ids))
        assert path_counts(block) == (dict(ways) or {"zero": 1})
        for depth, counts in enumerate(subtree_counts(block, 3)):
            assert counts == dict(naive_trees(ids, depth)), (ids, depth)
    assert compared > 300


def test_equal_computations_have_equal_counts():
    rng = np.random.default_rng(1)
    cells = [from_ids(ids) for ids in rng.integers(5, size=(1500, 6)).tolist()]
    known = {}
    repeats = 0
    for cell in cells:
        *counts, _ = Likeness(CELLS, 2).describe(cell).counts  # the last ones are of the cell as it is drawn
        key = canonical_key(CELLS, cell)
        repeats += key in known
        assert known.setdefault(key, counts) == counts
    assert repeats > 100


def test_a_repeated_cell_counts_as_often_as_it_stands():
    cell = from_ids([3, 1, 2, 0, 4, 1])
    once, many = (Likeness(nas_bench_201(cells=n, stages=1), 1).describe(cell).counts[0] for n in (1, 4))
    assert many["nor_conv_3x3"] == pytest.approx(2.0 * once["nor_conv_3x3"])  # the root of four times as many


def test_cells_are_apart_by_the_edges_on_which_they_differ_even_where_they_compute_the_same():
    likeness = Likeness(CELLS, 0)
    cells = [[0, 0, 0, 3, 1, 4], [3, 0, 0, 3, 1, 4], [3, 2, 0, 3, 4, 4]]  # nothing leaves node 1 but on the last edge
    table = likeness.table([from_ids(ids) for ids in cells])
    differ = [[sum(a != b for a, b in zip(first, second, strict=True)) for second in cells] for first in cells]
    np.testing.assert_allclose(graph_distances(table, table)[likeness.components.index(ON_EDGES)], differ, atol=1e-12)


def test_a_table_does_not_depend_on_what_was_described_before():
    space, rng = nas_bench_201(), np.random.default_rng(6)
    trials, others = [sample(space, rng) for _ in range(12)], [sample(space, rng) for _ in range(30)]
    fresh, used = Likeness(space, 1), Likeness(space, 1)
    used.table(others)
    expected, found = fresh.table(trials), used.table(trials)
    assert fresh.names(expected) == used.names(found)
    for left, right in zip(expected.counts, found.counts, strict=True):
        assert (left.toarray() == right.toarray()).all()


def test_distances_are_those_of_dense_vectors():
    space = residual_cnn()
    rng = np.random.default_rng(2)
    trials, asked = [sample(space, rng) for _ in range(9)], [sample(space, rng) for _ in range(6)]
    likeness = Likeness(space, 2)
    table = likeness.table(trials)
    found = graph_distances(likeness.table(asked, table.columns), table)
    for component in range(len(likeness.components)):
        for i, first in enumerate(asked):
            for j, second in enumerate(trials):
                a, b = (likeness.describe(x).counts[component] for x in (first, second))
                expected = sum((a.get(key, 0.0) - b.get(key, 0.0)) ** 2 for key in {*a, *b})
                assert found[component][i, j] == pytest.approx(expected, abs=1e-9)


def test_long_ways_count_by_their_end_and_many_ways_stay_countable():
    operation = Op("torch.nn:Tanh", label="tanh")
    nodes = 30
    cell = Cell(
        {f"{i}->{j}": Choice([operation, None]) for i in range(nodes) for j in range(i + 1, nodes)}  # 2^28 ways
    )
    space = SearchSpace({"network": [cell]})
    architecture = {decision.path: "tanh" for decision in space.decisions}
    (block,) = blocks(space, space.validate(architecture))
    counts = path_counts(block)
    assert sum(counts.values()) == 2.0 ** (nodes - 2)
    assert max(way.count("tanh") for way in counts) == LONGEST_PATH


def test_pieces_in_an_operations_settings_are_blocks_too():
    inner = Cell({"0->1": Choice([Op("torch.nn:Tanh", label="tanh"), Op("torch.nn:ReLU", label="relu")])})
    space = SearchSpace({"network": [Op("my:Wrapper", label="wrapper", body=inner)]})
    path = space.decisions[0].path
    tanh, relu = (blocks(space, space.validate({path: name})) for name in ("tanh", "relu"))
    assert {block.labels for block in tanh} == {("wrapper",), ("tanh",)}
    assert {block.labels for block in relu} == {("wrapper",), ("relu",)}


@pytest.mark.parametrize("settings", [{}, {"depth": -1}, {"depth": 2, "paths": False}])
def test_structures_are_vectors_with_a_name_for_each_column(settings):
    space = residual_cnn(stages=1) if settings else nas_bench_201()
    rng = np.random.default_rng(3)
    trials, asked = [sample(space, rng) for _ in range(8)], [sample(space, rng) for _ in range(5)]
    vectors = Structures(**settings).learn(space, trials)
    assert vectors.of(asked).shape == (5, len(vectors.names))
    assert vectors.of([]).shape == (0, len(vectors.names))
    assert (vectors.of(asked)[2] == vectors.of(asked[2:3])[0]).all()
    with pytest.raises(ValueError, match="depth"):
        Structures(depth=-2)
