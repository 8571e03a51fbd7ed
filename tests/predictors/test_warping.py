"""Warps: there and back, and beliefs through them against draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from predictors.normal_tails import log_h
from predictors.warping import check_warp, learn_warp

LOSSES = np.concatenate([np.linspace(5.5, 7.0, 30), [9.0, 9.0, 30.0, 90.0]])


@pytest.mark.parametrize("name", ["ranks", "none"])
def test_there_and_back_is_where_one_was(name):
    warp = learn_warp(name, LOSSES)
    asked = np.concatenate([LOSSES, [-100.0, 5.4, 6.01, 40.0, 1000.0]])
    np.testing.assert_allclose(warp.inverse(warp.forward(asked)), asked, rtol=1e-12)
    assert (np.diff(warp.forward(np.sort(asked))) >= 0.0).all()
    assert warp.forward(LOSSES).mean() == pytest.approx(0.0, abs=1e-12)
    assert warp.forward(LOSSES).std() == pytest.approx(1.0)


def test_scores_are_normal_quantiles_of_ranks():
    losses = np.array([3.0, 1.0, 10.0, 2.0])
    scores = learn_warp("ranks", losses).forward(losses)
    expected = norm.ppf([0.625, 0.125, 0.875, 0.375])
    np.testing.assert_allclose(scores, expected / expected.std(), atol=1e-12)
    tied = learn_warp("ranks", np.array([1.0, 2.0, 2.0, 3.0])).forward(np.array([2.0]))
    np.testing.assert_allclose(tied, 0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["ranks", "none"])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-2.5, 0.4), (1.5, 0.05), (-1.0, 3.0), (0.3, 0.0)])
def test_beliefs_are_those_of_draws_brought_back(name, mean, deviation):
    warp = learn_warp(name, LOSSES)
    belief = warp.belief(np.array([mean]), np.array([deviation**2]))
    draws = warp.inverse(mean + deviation * norm.ppf((np.arange(400_000) + 0.5) / 400_000))
    assert belief.mean[0] == pytest.approx(draws.mean(), rel=1e-2)
    assert belief.variance[0] == pytest.approx(draws.var(), rel=3e-2, abs=1e-12)


@pytest.mark.parametrize("name", ["ranks", "none"])
@pytest.mark.parametrize("best", [4.0, 5.5, 5.51, 6.2, 9.0, 50.0, 120.0])
def test_the_improvement_is_that_of_draws_brought_back(name, best):
    warp = learn_warp(name, LOSSES)
    means, deviations = np.array([0.0, -1.9, 1.0, -1.7]), np.array([1.0, 0.3, 2.0, 0.0])
    found = np.exp(warp.log_improvement(means, deviations**2, best))
    draws = warp.inverse(means + deviations * norm.ppf((np.arange(400_000) + 0.5) / 400_000)[:, None])
    np.testing.assert_allclose(found, np.maximum(best - draws, 0.0).mean(axis=0), rtol=1e-3, atol=1e-8)


def test_far_from_all_hope_the_improvement_still_rises_with_the_belief():
    warp = learn_warp("ranks", np.geomspace(1e-5, 1e5, 30))
    means = np.array([3.0, 2.0, 1.0, 0.0, -1.0])
    logs = warp.log_improvement(means, np.full(5, 1e-4), 1e-5)
    assert np.isfinite(logs).all()
    assert (np.diff(logs) > 0.0).all()
    # below the best loss the warp is a line: there it is the improvement of a normal loss
    line = log_h((warp.scores[0] - means) / 1e-2) + np.log(1e-2 * warp.slopes[0])
    np.testing.assert_allclose(logs, line, rtol=1e-12)


@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=20))
def test_any_losses_have_a_warp_that_keeps_their_order(losses):
    values = np.array(losses)
    for name in ("ranks", "none"):
        scores = learn_warp(name, values).forward(values)
        assert np.isfinite(scores).all()
        order = np.argsort(values, kind="stable")
        assert (np.diff(scores[order]) >= -1e-9).all()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="ranks, none"):
        check_warp("log")
