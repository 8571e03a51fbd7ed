import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.architecture import Architecture
from search_spaces.moves import enumerate_all, sample, size
from search_spaces.nodes import Boolean, Cell, Choice, Float, Integer, Op, Repeat, Shared, SpaceError
from search_spaces.space import SearchSpace
from tests.search_spaces.random_spaces import FINITE_SPACES, SPACES, every_assignment


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_a_sample_survives_json_and_validation_unchanged(space: SearchSpace, seed: int) -> None:
    architecture = sample(space, np.random.default_rng(seed))
    again = space.validate(Architecture.from_json(architecture.to_json()))
    assert again == architecture
    assert again.to_json() == architecture.to_json()
    assert [type(again[path]) for path in again] == [type(architecture[path]) for path in again]


@settings(max_examples=200, deadline=None)
@given(FINITE_SPACES)
def test_size_and_enumeration_agree_with_a_plain_recursion(space: SearchSpace) -> None:
    if size(space) > 3000:
        return
    expected = {Architecture(values).to_json() for values in every_assignment(space.root, "", {})}
    listed = [architecture.to_json() for architecture in enumerate_all(space)]
    assert len(listed) == len(set(listed)) == size(space)
    assert set(listed) == expected


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_what_is_decided_does_not_depend_on_parts_decided_in_advance(space: SearchSpace, seed: int) -> None:
    from search_spaces.walk import walk

    architecture = sample(space, np.random.default_rng(seed))
    plain = walk(space.root, lambda path, domain, when: (architecture[path],))
    assert space.decided(architecture) == plain


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_leaving_out_or_adding_a_value_is_an_error_that_names_it(space: SearchSpace, seed: int) -> None:
    architecture = dict(sample(space, np.random.default_rng(seed)))
    with pytest.raises(SpaceError, match="no such decision"):
        space.validate({**architecture, "nowhere": 1})
    for path in architecture:
        rest = {at: value for at, value in architecture.items() if at != path}
        with pytest.raises(SpaceError) as failure:
            space.validate(rest)
        assert str(failure.value).startswith(path)
        assert "allowed are" in str(failure.value) or "not reached" in str(failure.value)
        with pytest.raises(SpaceError, match="allowed are"):
            space.validate({**architecture, path: ["no scalar"]})


@pytest.mark.parametrize(
    ("domain", "good", "bad"),
    [
        (Choice([1, 2]), [1, 2], [True, 1.0, "1", 3, None]),
        (Choice([1.0, "1", None]), [1.0, "1", None], [1, True, "None"]),
        (Choice([True, "x"]), [True], [1, 1.0, "True"]),
        (Boolean(), [True, False], [0, 1, "true", None]),
        (Integer(1, 3), [1, 3], [True, 1.0, 0, 4, "1", None, math.nan]),
        (Float(0.0, 2.0), [0, 1, 0.5, 2.0], [True, -0.1, 2.1, "1", None, math.nan, math.inf, 10**400]),
    ],
)
def test_values_are_told_apart_by_type(domain: object, good: list[object], bad: list[object]) -> None:
    space = SearchSpace({"x": domain})
    for value in good:
        assert space.validate({"x": value})["x"] == value
    for value in bad:
        with pytest.raises(SpaceError, match=r"^x: .* is not allowed; allowed are"):
            space.validate({"x": value})


def test_floats_are_stored_as_floats_without_negative_zero() -> None:
    space = SearchSpace({"x": Float(-1.0, 1.0)})
    assert space.validate({"x": -0.0}).to_json() == '{"x":0.0}'
    assert space.validate({"x": 1}).to_json() == '{"x":1.0}'


def test_whole_numbers_beyond_the_floats_stay_exact() -> None:
    number = 2**53 + 1
    space = SearchSpace({"x": Choice([number, number - 1])})
    assert Architecture.from_json(space.validate({"x": number}).to_json())["x"] == number
    with pytest.raises(SpaceError, match="below 2\\^53"):
        Integer(0, number)


def test_an_unknown_path_is_answered_with_the_nearest_one() -> None:
    space = SearchSpace({"optimizer": Choice(["sgd", "adam"])})
    with pytest.raises(SpaceError, match="did you mean 'optimizer'"):
        space.validate({"optimizer": "sgd", "optimiser": "sgd"})
    with pytest.raises(SpaceError, match="must be a mapping"):
        space.validate(["sgd"])  # type: ignore[arg-type]


def test_a_decision_that_is_not_reached_must_be_left_out() -> None:
    space = SearchSpace({"kind": Choice({"a": {"x": Boolean()}, "b": {}})})
    assert space.decided(space.validate({"kind": "a", "kind/a/x": True})) == {"kind": {"option": "a", "x": True}}
    with pytest.raises(SpaceError, match="kind/a/x: not reached"):
        space.validate({"kind": "b", "kind/a/x": True})


def test_a_shared_node_is_reached_from_any_of_its_places() -> None:
    width = Shared("width", Choice([1, 2]))
    space = SearchSpace(
        {"left": Choice({"on": {"w": width}, "off": None}), "right": Choice({"on": width, "off": None})}
    )
    assert size(space) == 2 * 3 + 1
    assert space.decided({"left": "on", "right": "on", "width": 2}) == {"left": {"option": "on", "w": 2}, "right": 2}
    assert set(space.validate({"left": "off", "right": "off"})) == {"left", "right"}


def test_shared_nodes_of_one_name_must_be_equal() -> None:
    with pytest.raises(SpaceError, match="'w'"):
        SearchSpace([Shared("w", Choice([1, 2])), Shared("w", Choice([1, 3]))])


def test_shared_nodes_within_each_other_take_no_exponential_time() -> None:
    node: object = Choice([1, 2])
    for depth in range(40):
        node = Shared(f"level {depth}", [node, node])
    found = size(SearchSpace({"all": node}))  # not inside the assertion: pytest would write the whole tree
    assert found == 2**2


def test_the_first_copies_of_a_repeat_need_no_condition() -> None:
    space = SearchSpace(Repeat(Boolean(), Integer(2, 3)))
    assert [decision.when == ((),) for decision in space.decisions] == [True, True, True, False]
    assert size(space) == 4 + 8


def test_a_missing_value_is_named_when_a_tree_is_decided() -> None:
    with pytest.raises(SpaceError, match="x: a value is missing"):
        SearchSpace({"x": Boolean()}).decided({})


def test_deep_nesting_works_or_is_refused_in_words() -> None:
    def nested(depth: int) -> object:
        node: object = Boolean()
        for _ in range(depth):
            node = Choice({"deeper": {"x": node}, "end": 0})
        return node

    space = SearchSpace({"root": nested(60)})
    assert size(space) == 62
    architecture = sample(space, np.random.default_rng(0))
    assert space.validate(architecture) == architecture
    with pytest.raises(SpaceError, match="nested too deeply"):
        SearchSpace({"root": nested(5000)})
    document = space.to_document()
    assert SearchSpace.from_document(document) == space
    for _ in range(50):
        document = {"name": "deep", "root": {"node": "parts", "parts": [["inner", document["root"]]]}}
    with pytest.raises(SpaceError, match="more than 400 levels"):
        SearchSpace.from_document(document)


@pytest.mark.parametrize("root", [None, 3, "text", {}, [], {"fixed": 3}, [1, 2], Repeat(Boolean(), 0)])
def test_a_space_without_anything_to_decide_is_refused(root: object) -> None:
    with pytest.raises(SpaceError, match=r"at least one|nothing to decide"):
        SearchSpace(root)


@pytest.mark.parametrize("constant", [math.inf, math.nan, object(), {1, 2}, np.int64(3), b"bytes"])
def test_what_json_cannot_hold_is_no_constant(constant: object) -> None:
    with pytest.raises(SpaceError, match="x: "):
        SearchSpace({"y": Boolean(), "x": constant})


OP = Op("torch.nn:ReLU")


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (OP, True),
        ([OP, Choice([None, OP])], True),
        (Cell({"0->1": OP}), True),
        (Repeat(OP, 2), True),
        (Shared("s", [OP]), True),
        (Choice([OP, Op("torch.nn:Tanh")]), True),
        ({"network": OP, "lr": Float(0.1, 1.0)}, True),
        ({"lr": Float(0.1, 1.0)}, False),
        ([Boolean(), Integer(1, 2)], False),
        (Choice([1, 2]), False),
        (Choice({"network": OP, "forest": Integer(1, 9)}), False),
    ],
)
def test_a_space_knows_whether_it_describes_a_network(root: object, expected: bool) -> None:
    assert SearchSpace(root).has_network is expected


def test_a_root_that_is_a_decision_stands_at_value() -> None:
    space = SearchSpace(Choice([1, 2]))
    assert dict(sample(space, np.random.default_rng(0))).keys() == {"value"}
    assert space.decided({"value": 2}) == 2
    nested = SearchSpace(Choice({"value": {"x": Boolean()}, "none": None}))
    assert [decision.path for decision in nested.decisions] == ["value", "value/value/x"]
    assert size(nested) == 3
