import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import encode
from search_spaces.catalogue.nas_bench_201 import from_string, nas_bench_201
from search_spaces.encodings import Encoding, adjacency, encode_paths, paths
from search_spaces.graph import graph
from search_spaces.moves import enumerate_all, sample
from search_spaces.nodes import Boolean, Cell, Choice, Float, Integer, Op
from search_spaces.space import SearchSpace
from tests.search_spaces.random_spaces import SPACES

SPACE = SearchSpace(
    {
        "kind": Choice({"a": {"n": Integer(1, 100, log=True)}, "b": {"flag": Boolean()}}),
        "lr": Float(1e-4, 1.0, log=True),
    }
)


def test_columns_say_what_they_hold() -> None:
    encoding = Encoding(SPACE)
    assert encoding.feature_names == ("kind=a", "kind=b", "kind/a/n?", "kind/a/n", "kind/b/flag?", "kind/b/flag", "lr")
    rows = encode(SPACE, [{"kind": "a", "kind/a/n": 10, "lr": 1e-2}, {"kind": "b", "kind/b/flag": False, "lr": 1.0}])
    assert rows == pytest.approx(np.array([[1, 0, 1, 0.5, 0, 0, 0.5], [0, 1, 0, 0, 1, 0, 1]]))


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_a_vector_decodes_to_the_architecture_it_was_made_from(space: SearchSpace, seed: int) -> None:
    encoding = Encoding(space)
    rng = np.random.default_rng(seed)
    architecture = sample(space, rng)
    row = encoding.encode([architecture])[0]
    assert row.shape == (encoding.width,) == (len(encoding.feature_names),)
    assert ((row >= 0) & (row <= 1)).all()
    again = encoding.decode(row)
    assert again.keys() == architecture.keys()
    assert all(type(again[path]) is type(architecture[path]) for path in again)
    assert all(again[path] == pytest.approx(architecture[path]) for path in again)


@settings(max_examples=100, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_every_vector_decodes_to_some_architecture(space: SearchSpace, seed: int) -> None:
    encoding = Encoding(space)
    row = np.random.default_rng(seed).normal(0.5, 1.0, encoding.width)
    assert space.validate(encoding.decode(row)) == encoding.decode(row)


def test_different_architectures_have_different_vectors() -> None:
    space = nas_bench_201()
    cells = [cell for _, cell in zip(range(2000), enumerate_all(space), strict=False)]
    assert len(np.unique(encode(space, cells), axis=0)) == len(cells)
    assert encode(space, cells).shape == (2000, 30)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(7,\), got \(3,\)"):
        Encoding(SPACE).decode(np.zeros(3))


def test_no_architectures_give_no_rows() -> None:
    assert encode(SPACE, []).shape == (0, 7)


CELL = SearchSpace(Cell({"0->1": Op("m:A", label="a"), "0->2": [], "1->2": Choice([Op("m:B", label="b")])}))


def test_the_adjacency_matrix_shows_who_reads_whom() -> None:
    matrix, names = adjacency(graph(CELL, {"1->2": "b"}))
    assert names == ("input", "a", "sum", "b", "sum", "output")
    assert np.argwhere(matrix).tolist() == [[0, 1], [0, 4], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert np.array_equal(matrix, np.triu(matrix, 1))


def test_paths_are_counted() -> None:
    assert dict(paths(graph(CELL, {"1->2": "b"}))) == {(): 1, ("a", "b"): 1}
    rows, known = encode_paths([graph(CELL, {"1->2": "b"})] * 2)
    assert known == ((), ("a", "b"))
    assert rows.tolist() == [[1, 1], [1, 1]]
    assert encode_paths([])[0].shape == (0, 0)


def test_too_many_paths_are_refused() -> None:
    cell = from_string(
        "|nor_conv_1x1~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    )
    with pytest.raises(ValueError, match="more than 1000 different ways"):
        paths(graph(nas_bench_201(), cell), limit=1000)
