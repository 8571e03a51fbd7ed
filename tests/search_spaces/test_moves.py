import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.moves import crossover, enumerate_all, mutate, neighbours, sample, size, to_unit, value_at
from search_spaces.nodes import Boolean, Choice, Float, Integer, Repeat, SpaceError
from search_spaces.space import SearchSpace
from tests.search_spaces.random_spaces import SPACES


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_a_mutation_is_valid_and_differs_in_one_decision_both_reach(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = sample(space, rng)
    for _ in range(5):
        child = mutate(space, architecture, rng)
        assert space.validate(child) == child != architecture
        both = [path for path in child if path in architecture]
        changed = [path for path in both if child[path] != architecture[path]]
        assert len(changed) == 1
        architecture = child


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_a_crossover_is_valid_and_takes_what_a_parent_has(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = sample(space, rng), sample(space, rng)
    child = crossover(space, first, second, rng)
    assert space.validate(child) == child
    for path, value in child.items():
        donors = [parent[path] for parent in (first, second) if path in parent]
        assert not donors or value in donors
    assert crossover(space, first, first, rng) == first


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32), st.booleans())
def test_neighbours_are_valid_and_all_different(space: SearchSpace, seed: int, sampled: bool) -> None:
    rng = np.random.default_rng(seed)
    architecture = sample(space, rng)
    found = list(neighbours(space, architecture, rng if sampled else None))
    assert found
    assert architecture not in found
    assert all(space.validate(neighbour) == neighbour for neighbour in found)
    if not sampled:
        assert found == list(neighbours(space, architecture))


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_moves(space: SearchSpace, seed: int) -> None:
    def moves() -> list[object]:
        rng = np.random.default_rng(seed)
        first, second = sample(space, rng), sample(space, rng)
        return [first, second, mutate(space, first, rng), crossover(space, first, second, rng)]

    assert moves() == moves()


@settings(max_examples=200, deadline=None)
@given(SPACES, st.integers(1, 3))
def test_enumeration_with_points_gives_valid_architectures(space: SearchSpace, points: int) -> None:
    for _, architecture in zip(range(50), enumerate_all(space, points), strict=False):
        assert space.validate(architecture) == architecture


@given(
    st.one_of(
        st.builds(
            lambda low, more, log: Integer(low, low + more, log),
            st.integers(1, 2**40),
            st.integers(0, 2**40),
            st.booleans(),
        ),
        st.builds(
            lambda low, factor, log: Float(low, low * factor, log),
            st.floats(1e-300, 1e300),
            st.sampled_from([1.0 + 2**-52, 1.5, 1e7]),
            st.booleans(),
        ),
        st.builds(lambda high: Float(-high, high), st.floats(1e-300, 1.7976931348623157e308)),
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_every_place_is_a_value_within_the_bounds(domain: Integer | Float, place: float) -> None:
    decision = SearchSpace({"x": domain}).decisions[0]
    value = value_at(decision, place)
    assert decision.check(value) == value
    assert 0.0 <= to_unit(decision, value) <= 1.0
    if isinstance(domain, Float) and domain.high > 1.4 * domain.low:
        assert to_unit(decision, value) == pytest.approx(place, abs=1e-9)


@pytest.mark.parametrize(
    "domain",
    [
        Float(1.0, math.nextafter(1.0, 2.0)),
        Float(1.0, math.nextafter(1.0, 2.0), log=True),
        Integer(1, 2, log=True),
        Boolean(),
    ],
)
def test_the_narrowest_ranges_can_still_be_mutated(domain: object) -> None:
    space = SearchSpace({"x": domain})
    rng = np.random.default_rng(0)
    architecture = sample(space, rng)
    for _ in range(50):
        child = mutate(space, architecture, rng)
        assert child != architecture
        assert list(neighbours(space, architecture))
        architecture = child


def test_an_only_architecture_cannot_be_mutated() -> None:
    space = SearchSpace({"x": Choice([1])})
    with pytest.raises(SpaceError, match="nothing to mutate"):
        mutate(space, sample(space, np.random.default_rng(0)), np.random.default_rng(0))


def test_samples_are_uniform_on_their_own_scale() -> None:
    space = SearchSpace(
        {"n": Integer(1, 4), "x": Float(1e-4, 1.0, log=True), "c": Choice(["a", "b"]), "m": Integer(1, 1000, log=True)}
    )
    rng = np.random.default_rng(0)
    drawn = [sample(space, rng) for _ in range(4000)]
    counts = np.bincount([architecture["n"] for architecture in drawn])[1:]
    assert counts.min() > 880
    assert np.mean([architecture["x"] < 1e-2 for architecture in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([architecture["m"] < 31 for architecture in drawn]) == pytest.approx(0.54, abs=0.04)


def test_a_float_has_no_end_unless_points_are_given() -> None:
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Boolean()})
    assert size(space) == math.inf
    with pytest.raises(SpaceError, match="x: a Float has no last value"):
        list(enumerate_all(space))
    assert [a["x"] for a in enumerate_all(space, points=3)] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]


def test_sizes_of_huge_spaces_are_exact() -> None:
    space = SearchSpace(
        Repeat(Choice({"on": {"w": Integer(1, 10), "k": Choice([3, 5, 7])}, "off": None}), Integer(0, 20))
    )
    assert size(space) == sum(31**count for count in range(21))
    assert size(SearchSpace({"x": Integer(0, 2**52), "y": Integer(1, 10**12)})) == (2**52 + 1) * 10**12


def test_large_integers_are_enumerated_one_at_a_time() -> None:
    assert next(iter(enumerate_all(SearchSpace({"x": Integer(5, 10**15)}))))["x"] == 5
