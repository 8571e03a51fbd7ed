from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.pareto import (
    constrained_fronts,
    crowding_distance,
    dominates,
    fronts,
    hypervolume,
    non_dominated,
    standings,
)


@st.composite
def point_sets(draw, most_points=12, most_metrics=4, nan=True):
    """Small whole numbers, so that ties and duplicates are common, and some NaN."""
    shape = draw(st.integers(0, most_points)), draw(st.integers(1, most_metrics))
    values = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, *([np.nan] if nan else [])])
    return draw(arrays(np.float64, shape, elements=values))


def beats(first, second):
    return bool(np.all(first <= second) and np.any(first < second))


@given(point_sets())
def test_non_dominated_is_what_the_definition_says(points):
    expected = [
        not np.isnan(point).any() and not any(beats(other, point) for other in points) for point in points
    ]  # a comparison with NaN is False
    assert non_dominated(points).tolist() == expected


@given(point_sets())
def test_fronts_part_the_points_and_each_is_dominated_only_by_the_ones_before(points):
    found = fronts(points)
    valid = np.flatnonzero(~np.isnan(points).any(axis=1))
    assert sorted(np.concatenate(found).tolist() if found else []) == valid.tolist()
    for rank, front in enumerate(found):
        assert not any(beats(points[i], points[j]) for i in front for j in front)
        if rank:
            assert all(any(beats(points[i], points[j]) for i in found[rank - 1]) for j in front)


def inclusion_exclusion(points, reference):
    """Volume of a union of boxes, by all subsets."""
    total = 0.0
    for count in range(1, len(points) + 1):
        for chosen in combinations(points, count):
            total -= (-1) ** count * float(np.prod(np.maximum(reference - np.max(chosen, axis=0), 0.0)))
    return total


@given(point_sets(most_points=7, most_metrics=5, nan=False))
def test_hypervolume_equals_inclusion_and_exclusion(points):
    reference = np.full(points.shape[1], 3.5)
    assert hypervolume(points, reference) == pytest.approx(inclusion_exclusion(points, reference), abs=1e-9)


@pytest.mark.parametrize("metrics", [1, 2, 3, 4, 6])
def test_hypervolume_equals_counting_random_places(metrics):
    rng = np.random.default_rng(metrics)
    points = rng.random((25, metrics))
    places = rng.random((100_000, metrics))
    covered = np.zeros(len(places), dtype=bool)
    for point in points:
        covered |= (places >= point).all(axis=1)
    share = covered.mean()
    assert hypervolume(points, np.ones(metrics)) == pytest.approx(
        share, abs=5 * np.sqrt(share * (1 - share) / 1e5) + 1e-4
    )


def test_hypervolume_of_a_sphere_s_front_equals_a_sum_of_slices():
    """A thousand points of a quarter circle: the sum of rectangles, written out."""
    angles = np.linspace(0, np.pi / 2, 1000)
    points = 1 - np.stack([np.sin(angles), np.cos(angles)], axis=1)
    x, y = points[np.argsort(points[:, 0])].T
    rectangles = float(np.sum(np.diff(np.append(x, 1.0)) * (1.0 - y)))
    assert hypervolume(points, [1.0, 1.0]) == pytest.approx(rectangles, rel=1e-12)
    assert rectangles == pytest.approx(np.pi / 4, abs=2e-3)


@given(point_sets(), st.data())
def test_hypervolume_never_falls_when_a_point_is_added_nor_rises_with_a_dominated_one(points, data):
    reference = np.full(points.shape[1], 3.5)
    before = hypervolume(points, reference)
    added = data.draw(arrays(np.float64, points.shape[1], elements=st.sampled_from([0.0, 0.5, 1.5, 2.5, np.nan])))
    after = hypervolume(np.vstack([points, added]), reference)
    assert after >= before - 1e-9
    if any(beats(point, added) for point in points) or np.isnan(added).any():
        assert after == pytest.approx(before)


def test_hypervolume_refuses_a_reference_of_another_size():
    with pytest.raises(ValueError, match="one number for each metric"):
        hypervolume([[1.0, 2.0]], [3.0])
    with pytest.raises(ValueError, match="finite"):
        hypervolume([[1.0, 2.0]], [3.0, np.inf])
    assert hypervolume(np.empty((0, 2)), [1.0, 1.0]) == 0.0


def test_crowding_distance_of_a_worked_example():
    points = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 5.0], [10.0, 0.0]])
    assert crowding_distance(points).tolist() == pytest.approx([np.inf, 0.4 + 0.5, 0.9 + 0.6, np.inf])
    assert np.isinf(crowding_distance([[1.0, 1.0], [1.0, 1.0]])).all()
    assert crowding_distance(np.empty((0, 2))).tolist() == []


def test_feasible_points_come_first_then_the_smallest_total_violation():
    losses = np.array([[5.0, 5.0], [0.0, 0.0], [1.0, 1.0], [4.0, 6.0], [np.nan, 0.0]])
    violations = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert [front.tolist() for front in constrained_fronts(losses, violations)] == [[0, 3], [2], [1]]
    assert standings(losses, violations).tolist() == [0, 3, 2, 1, 4]
    assert dominates(losses[0], violations[0], losses[1], violations[1])
    assert not dominates(losses[0], violations[0], losses[3], violations[3])
    assert dominates(losses[2], violations[2], losses[1], violations[1])


def test_violations_count_in_their_own_units():
    """Half the largest excess of milliseconds weighs as much as half the largest excess of bytes."""
    losses = np.zeros((3, 1))
    violations = np.array([[10.0, 0.0], [4.0, 1e5], [0.0, 1e6]])
    assert standings(losses, violations).tolist() == [1, 0, 2]


@given(point_sets())
def test_a_standing_respects_domination(points):
    places = standings(points, np.zeros_like(points))
    assert sorted(places.tolist()) == list(range(len(points)))
    for i, j in combinations(range(len(points)), 2):
        if beats(points[i], points[j]):
            assert places[i] < places[j]
