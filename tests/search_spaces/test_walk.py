import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.moves import sample
from search_spaces.nodes import Boolean, Cell, Choice, Integer, Op, Repeat, Shared, SpaceError
from search_spaces.space import SearchSpace
from search_spaces.walk import Call, Wiring, fixed_parts, walk
from tests.search_spaces.random_spaces import SPACES

RELU = Op("torch.nn:ReLU")


def test_a_decided_tree_mirrors_its_nodes() -> None:
    space = SearchSpace(
        {
            "network": [RELU, Cell({"0->1": Choice([RELU, None])}), Repeat(RELU, Integer(0, 2))],
            "training": Choice({"sgd": {"momentum": Choice([0.0, 0.9])}, "adam": {}}),
            "pair": (1, 2.5),
        }
    )
    decided = space.decided(
        {"network/1/0->1": "ReLU", "network/2/count": 2, "training": "sgd", "training/sgd/momentum": 0.9}
    )
    relu, wiring, repeated = decided["network"]
    assert isinstance(relu, Call)
    assert relu.op is RELU
    assert isinstance(wiring, Wiring)
    assert wiring.edges["0->1"].op is RELU
    assert [call.op for call in repeated] == [RELU, RELU]
    assert decided["training"] == {"option": "sgd", "momentum": 0.9}
    assert decided["pair"] == [1, 2.5]


def test_a_shared_node_is_decided_once_and_gives_the_same_object() -> None:
    cell = Shared("cell", Cell({"0->1": Choice([RELU, None])}))
    first, copies = SearchSpace([cell, Repeat(cell, 3)]).decided({"cell/0->1": "ReLU"})
    assert all(copy is first for copy in copies)


def test_parts_without_decisions_are_decided_once_for_all_architectures() -> None:
    space = SearchSpace([RELU, Op("torch.nn:Dropout", p=Choice([0.1, 0.2])), [RELU, Repeat(RELU, 2)]])
    first, second = space.decided({"1/p": 0.1}), space.decided({"1/p": 0.2})
    assert first[0] is second[0]
    assert first[2] is second[2]
    assert (first[1].settings, second[1].settings) == ({"p": 0.1}, {"p": 0.2})


def test_a_shared_node_repeated_no_times_is_not_reached() -> None:
    space = SearchSpace([Boolean(), Repeat(Shared("s", Boolean()), 0)])
    assert space.decided({"0": True}) == [True, []]


@settings(max_examples=100, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_deciding_asks_for_exactly_the_reached_decisions(space: SearchSpace, seed: int) -> None:
    architecture = sample(space, np.random.default_rng(seed))
    asked: list[str] = []

    def decide(path: str, domain: object, when: object) -> tuple[object]:
        asked.append(path)
        return (architecture[path],)

    walk(space.root, decide)  # type: ignore[arg-type]
    assert sorted(asked) == sorted(architecture)


@settings(max_examples=100, deadline=None)
@given(SPACES)
def test_fixed_parts_hold_no_decision_and_keep_their_nodes(space: SearchSpace) -> None:
    for number, (node, _) in fixed_parts(space.root).items():
        assert id(node) == number


def test_what_is_no_node_is_named_with_its_place() -> None:
    with pytest.raises(SpaceError, match=r"a/0: set is no node; allowed are Choice"):
        walk({"a": [{1}]}, lambda path, domain, when: (True,))
