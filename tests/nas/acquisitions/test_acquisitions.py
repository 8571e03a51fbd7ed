"""Acquisitions on posteriors whose answers are known in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from nas import catalogue
from nas.acquisitions.acquisition import averaged, log_probability_below
from nas.acquisitions.confidence_bound import ConfidenceBound
from nas.acquisitions.draws import log_mean_improvement, log_softplus, softplus
from nas.acquisitions.expected_improvement import LogExpectedImprovement
from nas.acquisitions.feasibility import FAILED, combined, log_probability_feasible
from nas.acquisitions.noisy_expected_improvement import NoisyExpectedImprovement
from nas.acquisitions.parego import ParEgo, chebyshev
from nas.acquisitions.probability_of_improvement import ProbabilityOfImprovement
from nas.acquisitions.thompson import IndependentThompson, Thompson
from predictors.ensemble import EnsemblePosterior
from predictors.gaussian_process import GaussianProcess
from predictors.warping import normal_ranks
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace
from tests.nas.acquisitions.tabled import outlook, places, tabled


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def improvement(mean: float, sd: float) -> float:
    return float(mean * norm.cdf(mean / sd) + sd * norm.pdf(mean / sd))


#: three known architectures, then three candidates
BELIEF = tabled([0.2, 0.5, 0.4, 0.3, 0.1, 0.9], [1e-4, 1e-4, 1e-4, 0.04, 1e-6, 0.25])


def test_expected_improvement_is_over_the_smallest_posterior_mean():
    scores = LogExpectedImprovement().score(outlook(BELIEF, known=[0, 1, 2]), places(3, 4, 5), rng())
    expected = [improvement(0.2 - mean, sd) for mean, sd in ((0.3, 0.2), (0.1, 1e-3), (0.9, 0.5))]
    np.testing.assert_allclose(np.exp(scores), expected, rtol=1e-9)


def test_losses_that_differ_by_orders_of_magnitude_are_not_taken_to_be_normal():
    space = SearchSpace({"x": Float(0.0, 1.0)}, name="line")
    trials = [space.validate({"x": x}) for x in np.linspace(0.0, 1.0, 12).tolist()]
    losses = np.exp(np.linspace(-12.0, 3.0, 12))
    posterior = GaussianProcess(space).fit(trials, losses)
    known = replace(outlook(BELIEF, known=[0]), posteriors=(posterior,), known=tuple(trials[:1]))
    near, far = (space.validate({"x": x}) for x in (0.02, 0.8))
    scores = LogExpectedImprovement().score(known, [near, far], rng())
    draws = posterior.sample([near], 100_000, rng())
    expected = np.maximum(known.best - draws, 0.0).mean()
    assert np.exp(scores[0]) == pytest.approx(expected, rel=0.05)
    assert scores[0] > scores[1]
    # what a normal loss of the same moments would gain is mostly the width of what the losses may rise by
    mean, sd = known.belief([near])
    assert improvement(known.best - mean[0], sd[0]) > 3.0 * expected


def test_an_infeasible_architecture_is_nothing_to_improve_on():
    scores = LogExpectedImprovement().score(outlook(BELIEF, known=[0, 1, 2], infeasible=[0]), places(3), rng())
    assert np.exp(scores[0]) == pytest.approx(improvement(0.4 - 0.3, 0.2))


@pytest.mark.parametrize(
    "name",
    [
        "log_expected_improvement",
        "probability_of_improvement",
        "noisy_expected_improvement",
        "qlognehvi",
        "qlognparego",
    ],
)
def test_only_limits_count_while_nothing_feasible_is_known(name):
    made = catalogue.load("acquisition", name, {})
    beliefs = (BELIEF, BELIEF) if made.several else (BELIEF,)
    assert made.score(outlook(*beliefs, known=[0, 1], infeasible=[0, 1]), places(3, 4), rng()).tolist() == [0.0, 0.0]


def test_probability_of_improvement_and_confidence_bound_are_their_formulas():
    seen = outlook(BELIEF, known=[0, 1])
    scores = ProbabilityOfImprovement(margin=0.05).score(seen, places(3, 5), rng())
    np.testing.assert_allclose(np.exp(scores), norm.cdf([(0.15 - 0.3) / 0.2, (0.15 - 0.9) / 0.5]), rtol=1e-9)
    bounds = ConfidenceBound(width=2.0).score(seen, places(3, 5), rng())
    np.testing.assert_allclose(bounds, [2 * 0.2 - 0.3, 2 * 0.5 - 0.9])


def test_thompson_draws_jointly_and_its_independent_form_does_not():
    # the two losses differ by 0.1 for sure, though each is uncertain: no function has the second one below
    alike = tabled([0.0, 0.1], np.full((2, 2), 4.0))
    seen = outlook(alike, known=[0])
    first = [Thompson().score(seen, places(0, 1), rng(seed)).argmax() for seed in range(300)]
    assert set(first) == {0}
    alone = [IndependentThompson().score(seen, places(0, 1), rng(seed)).argmax() for seed in range(3000)]
    chance = norm.cdf(-0.1 / math.sqrt(8.0))  # that the second is drawn below the first
    assert np.mean(alone) == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 3000))


def test_noisy_improvement_takes_the_doubt_about_the_best_into_account():
    covariance = np.array([[0.5, 0.3], [0.3, 0.4]])
    belief = tabled([0.0, 0.2], covariance)
    score = NoisyExpectedImprovement(draws=200_000).score(outlook(belief, known=[0]), places(1), rng())
    difference = math.sqrt(0.5 + 0.4 - 2 * 0.3)
    assert np.exp(score[0]) == pytest.approx(improvement(-0.2, difference), rel=0.02)


def test_noisy_improvement_is_the_plain_one_where_the_known_are_certain():
    belief = tabled([0.2, 0.5, 0.3], [0.0, 0.0, 0.04])
    seen = outlook(belief, known=[0, 1])
    noisy = NoisyExpectedImprovement(draws=100_000).score(seen, places(2), rng())
    assert noisy[0] == pytest.approx(LogExpectedImprovement().score(seen, places(2), rng())[0], abs=0.02)


def test_a_softened_maximum_is_close_and_its_logarithm_never_ends():
    x = np.array([-800.0, -5.0, -1e-3, 0.0, 0.5, 3.0])
    np.testing.assert_allclose(softplus(x, 1e-3), np.maximum(x, 0.0), atol=1e-3)
    np.testing.assert_allclose(np.exp(log_softplus(x[2:], 1e-3)), softplus(x[2:], 1e-3), rtol=1e-9)
    assert log_softplus(x, 1e-3)[0] == pytest.approx(-800.0 / 1e-3 + math.log(1e-3))
    far = log_mean_improvement(np.zeros(3), np.tile([50.0, 51.0], (3, 1)), 1e-3)
    assert np.isfinite(far).all()
    assert far[0] > far[1]


def test_the_scalarisation_is_the_largest_weighted_loss_and_a_little_of_all():
    assert chebyshev(np.array([0.5, 0.25]), np.array([0.2, 0.8])) == pytest.approx(0.2 + 0.05 * (0.1 + 0.2))


def test_scalarised_improvement_is_largest_for_what_dominates():
    first = tabled([0.0, 1.0, 0.5, -0.5, 2.0], np.full(5, 1e-6))
    second = tabled([1.0, 0.0, 0.5, -0.5, 2.0], np.full(5, 1e-6))
    for seed in range(20):
        scores = ParEgo().score(outlook(first, second, known=[0, 1]), places(2, 3, 4), rng(seed))
        assert scores.argmax() == 1
        assert scores.argmin() == 2


@pytest.mark.parametrize("name", ["upper_confidence_bound", "thompson", "independent_thompson"])
def test_scores_that_are_losses_are_in_units_of_their_spread(name):
    made = catalogue.load("acquisition", name, {})
    told = []
    for size in (1.0, 1e-12):
        seen = replace(outlook(tabled([0.0, 2.0 * size, size], [size**2] * 3), known=[0]), scales=np.array([size]))
        told.append(made.score(seen, places(1, 2), rng()))
    np.testing.assert_allclose(*told, rtol=1e-9)


def test_a_sure_tie_is_worth_less_than_a_small_chance():
    seen = outlook(tabled([0.0, 0.001, 0.02], [0.0, 0.0, 1e-4]), known=[0])
    sure, chance = NoisyExpectedImprovement(draws=4000).score(seen, places(1, 2), rng())
    assert chance > sure


def test_a_distant_limit_is_the_likelier_kept_by_what_is_nearer_not_by_what_is_in_more_doubt():
    warp = normal_ranks(np.sinh(np.linspace(-5.0, 5.0, 60)))  # steep at both ends
    known = warp.forward(np.array([-60.0, 0.0]))
    posterior = EnsemblePosterior(
        scores=lambda asked: (np.stack([known - 0.1, known + 0.1]), np.zeros((2, 2))), warp=warp
    )
    near, far = log_probability_below(posterior, places(0, 1), -74.0, 1.0)
    assert near > far
    means = warp.forward(np.array([-74.0])) - known
    np.testing.assert_allclose([near, far], norm.logcdf(means / np.sqrt(0.02)))


def test_limits_and_failures_count_with_their_probabilities():
    error, size = tabled([0.0, 0.3], [0.04, 0.04]), tabled([5.0, 7.0], [1.0, 4.0])
    failures = tabled([0.2, 0.9], [0.09, 0.09])
    seen = outlook(error, size, known=[0], limits=[np.inf, 6.0])
    found = log_probability_feasible(seen, seen.limits, failures, places(0, 1))
    kept, ran = norm.cdf([(6 - 5) / 1, (6 - 7) / 2]), norm.cdf([(FAILED / 2 - 0.2) / 0.3, (FAILED / 2 - 0.9) / 0.3])
    np.testing.assert_allclose(np.exp(found), kept * ran, rtol=1e-9)


def test_what_is_likely_infeasible_comes_after_all_else_where_scores_are_losses():
    scores, feasible = np.array([-3.0, -1.0, -2.0, -9.0]), np.log([0.9, 0.1, 0.8, 0.4])
    order = np.argsort(-combined(ConfidenceBound(), scores, feasible))
    assert order.tolist() == [2, 0, 3, 1]
    gained = combined(LogExpectedImprovement(), np.log([1.0, 2.0]), np.log([0.5, 0.1]))
    np.testing.assert_allclose(np.exp(gained), [0.5, 0.2])


def test_fantasies_are_averaged_by_what_they_gain_and_losses_as_they_are():
    gains = np.array([[0.1, 2.0, 0.0], [0.3, 1e-4, 0.0]])
    with np.errstate(divide="ignore"):
        logs = [*np.log(gains)]
    np.testing.assert_allclose(np.exp(averaged(LogExpectedImprovement(), logs)), gains.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(averaged(ConfidenceBound(), [*gains]), gains.mean(axis=0))
    assert averaged(LogExpectedImprovement(), logs[:1]) is logs[0]
