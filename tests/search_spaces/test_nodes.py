import math

import pytest

from search_spaces.nodes import Boolean, Cell, Choice, Float, Integer, Op, Repeat, Shared, SpaceError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice([]), "at least one option"),
        (lambda: Choice("abc"), "a mapping or a list"),
        (lambda: Choice([1, True]), "two options are both True"),
        (lambda: Choice([0.0, -0.0]), "two options"),
        (lambda: Choice(["a", Op("m:f", label="a")]), "two options are both 'a'"),
        (lambda: Choice([math.nan]), "finite"),
        (lambda: Choice([[1]]), "needs a label"),
        (lambda: Choice({"a/b": 1}), "without '/'"),
        (lambda: Choice({1: 2}), "an option's label"),
        (lambda: Integer(2, 1), "low <= high"),
        (lambda: Integer(True, 2), "whole numbers"),
        (lambda: Integer(0, 3, log=True), "low >= 1"),
        (lambda: Integer(1.0, 2), "whole numbers"),
        (lambda: Float(1.0, 1.0), "low < high"),
        (lambda: Float(0.0, math.inf), "finite"),
        (lambda: Float(0, 10**400), "finite"),
        (lambda: Choice([1.0, math.nan]), "an option must be finite, got nan"),
        (lambda: Choice({"far": math.inf}), "an option must be finite, got inf"),
        (lambda: Float(0.0, 1.0, log=True), "low > 0"),
        (lambda: Repeat(Boolean(), -1), "from 0 to"),
        (lambda: Repeat(Boolean(), True), "from 0 to"),
        (lambda: Repeat(Boolean(), Integer(-1, 2)), "from 0 to"),
        (lambda: Repeat(Boolean(), 10**9), "from 0 to"),
        (lambda: Shared("", Boolean()), "the name of a Shared node"),
        (lambda: Op("no path"), "module:object"),
        (lambda: Op(3), "callable"),
        (lambda: Op("m:f", traits=["lossless"]), "unknown trait 'lossless'"),
        (lambda: Op("m:f", label="a/b"), "an Op's label"),
        (lambda: Cell({}), "at least one edge"),
        (lambda: Cell({"1->0": None}), "smaller to a larger"),
        (lambda: Cell({"0>1": None}), "'i->j'"),
        (lambda: Cell({"1->2": None}), "edges out but none in"),
        (lambda: Cell({"0->1": None}, "mean"), "'sum' or 'concat'"),
    ],
)
def test_a_wrong_node_is_refused_when_it_is_made(make: object, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()  # type: ignore[operator]


def test_bounds_lose_their_negative_zero() -> None:
    assert math.copysign(1.0, Float(-0.0, 1.0).low) == 1.0


def test_nodes_are_frozen() -> None:
    options = {"a": 1}
    choice = Choice(options)
    options["b"] = 2
    assert choice.labels == ("a",)
    with pytest.raises(TypeError):
        choice.options["c"] = 3  # type: ignore[index]


def test_a_factory_is_named_by_its_path_or_told_apart_by_its_address() -> None:
    assert Op(math.sqrt).factory_name == "math:sqrt"
    assert Op("math:sqrt").factory_name == "math:sqrt"
    first, second = Op(lambda: 1, label="a"), Op(lambda: 2, label="a")
    assert first.factory_name != second.factory_name
