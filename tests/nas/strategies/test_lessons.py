"""What a Bayesian strategy learns from a history."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.history import History
from nas.metric import Metric
from nas.strategies.designs import latin_hypercube
from nas.strategies.lessons import half_ranks, lessons
from nas.trial import Trial, TrialState
from search_spaces.architecture import Architecture
from search_spaces.moves import to_unit
from search_spaces.nodes import Choice, Float, Integer
from search_spaces.space import SearchSpace
from tests.nas.strategies.simulated import CONDITIONAL

SPACE = SearchSpace({"x": Integer(0, 999)}, name="line")


ERROR = Metric("error")


def history(*rows, metrics=(ERROR,)):
    """Rows of (state, metrics) or (state, metrics, budget)."""
    trials = [
        Trial(
            id=number,
            number=number,
            state=TrialState(state),
            attempt=1,
            architecture=Architecture({"x": number}),
            canonical_key="",
            metrics=values,
            budget=budget[0] if budget else None,
        )
        for number, (state, values, *budget) in enumerate(rows)
    ]
    return History.of(SPACE, metrics, trials)


def completed(*errors):
    return history(*[("completed", {"error": error}) for error in errors])


def test_completed_trials_teach_losses_failed_ones_that_they_failed_and_stopped_ones_nothing():
    known = history(
        ("completed", {"error": 0.3}),
        ("failed", {}),
        ("stopped", {"error": 0.1}),
        ("completed", {"error": 0.2}),
        ("waiting", {}),
    )
    learnt = lessons(known, 100, "none")
    assert learnt.positions.tolist() == [0, 3]
    assert learnt.losses[:, 0].tolist() == [0.3, 0.2]
    assert learnt.order.tolist() == [1, 0]
    assert learnt.failed.tolist() == [1]


def test_only_the_full_budget_is_learnt_from():
    low = [("completed", {"error": 0.5}, 1.0), ("completed", {"error": 0.4}, 3.0)]
    assert lessons(history(*low), 100, "none").positions.tolist() == [1]
    assert lessons(history(*low, ("completed", {"error": 0.4})), 100, "none").positions.tolist() == [2]


def test_of_too_many_trials_the_best_and_the_youngest_stay():
    learnt = lessons(completed(0.1, 0.9, 0.8, 0.2, 0.7, 0.6, 0.5, 0.4), 4, "none")
    assert learnt.positions.tolist() == [0, 3, 6, 7]
    assert learnt.losses[:, 0].tolist() == [0.1, 0.2, 0.5, 0.4]
    assert learnt.order.tolist() == [0, 1, 3, 2]


def test_what_keeps_a_limit_is_learnt_as_it_is_and_the_limit_stays():
    errors = (0.1, 0.2, 0.3, 9.0, 50.0)
    rows = [("completed", {"error": error, "size": error}) for error in errors]
    told = history(*rows, metrics=(Metric("error"), Metric("size", limit=10.0)))
    learnt = lessons(told, 100, "half_ranks")
    assert told.limits.tolist() == [np.inf, 10.0]
    assert learnt.losses[:3, 0].tolist() == [0.1, 0.2, 0.3]
    assert 0.3 < learnt.losses[3, 0] < learnt.losses[4, 0] < 1.0
    assert learnt.losses[:4, 1].tolist() == list(errors[:4])
    assert 10.0 < learnt.losses[4, 1] < 11.0
    # the limit decides who is good
    told = history(*rows, metrics=(Metric("error"), Metric("size", limit=0.15)))
    learnt = lessons(told, 100, "half_ranks")
    assert (learnt.losses[:, 1] <= told.limits[1]).tolist() == [True, False, False, False, False]
    assert learnt.order.tolist()[0] == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.none() | st.floats(-1e6, 1e6))
def test_half_ranks_keep_the_better_half_the_limit_and_the_order(values, limit):
    losses = np.array(values)
    limit = np.inf if limit is None else limit
    warped = half_ranks(losses, limit)
    assert np.isfinite(warped).all()
    kept = losses <= np.median(losses)
    if np.isfinite(limit):
        kept |= losses <= limit
        assert ((warped <= limit) == (losses <= limit)).all()
    assert (warped[kept] == losses[kept]).all()
    order = np.argsort(losses, kind="stable")
    assert (np.diff(warped[order]) >= 0).all()
    assert (warped <= losses).all()


def test_a_narrow_better_half_leaves_nothing_at_a_distant_limit():
    losses = np.array([0.0, 1e-14, 2e-14, 1e6, 2e6, 3e6])
    assert (half_ranks(losses, 1e6) <= 1e6).tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("size", [1e155, 1e-200, 8e307])
def test_half_ranks_of_losses_of_any_size_are_those_of_their_multiples(size):
    losses = np.random.default_rng(0).exponential(size=31)
    losses *= 2.0 / losses.max()
    assert (half_ranks(losses) != losses).sum() > 10
    np.testing.assert_allclose(half_ranks(size * losses) / size, half_ranks(losses), rtol=1e-12)


def test_one_enormous_loss_does_not_widen_the_others():
    losses = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    for limit in (np.inf, 0.45, 7.0):
        assert (
            half_ranks(np.append(losses, 1e300), limit).tolist() == half_ranks(np.append(losses, 1e3), limit).tolist()
        )


def test_half_ranks_make_a_normal_tail_of_a_hopeless_one():
    chance = np.random.default_rng(0)
    normal = chance.normal(size=4001)
    hopeless = np.where(normal > np.median(normal), normal + 1000.0 * (normal - np.median(normal)), normal)
    np.testing.assert_allclose(half_ranks(hopeless), normal, atol=0.35)
    assert half_ranks(hopeless).std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("count", [1, 5, 10])
def test_a_latin_hypercube_meets_each_part_of_each_range_once(count):
    space = SearchSpace({"x": Float(0.0, 1.0), "r": Float(1e-4, 1.0, log=True), "c": Choice([*"abcde"])}, name="s")
    design = latin_hypercube(space, count, np.random.default_rng(0))
    for path in ("x", "r"):
        decision = space.by_path[path]
        parts = sorted(math.floor(to_unit(decision, a[path]) * count * (1 - 1e-12)) for a in design)
        assert parts == list(range(count))
    if count % 5 == 0:
        assert all(sum(a["c"] == label for a in design) == count // 5 for label in "abcde")


def test_a_design_of_a_conditional_space_is_valid():
    design = latin_hypercube(CONDITIONAL, 12, np.random.default_rng(0))
    assert all(CONDITIONAL.validate(architecture) == architecture for architecture in design)
    assert sum(architecture["kind"] == "small" for architecture in design) == 6
