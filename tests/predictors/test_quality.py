"""Figures of quality: against scipy, closed forms and simulated beliefs."""

import numpy as np
import pytest
from scipy import stats

from predictors import GaussianProcess
from predictors.predictor import Belief, PredictorError
from predictors.quality import LEVELS, cross_validated, fold_numbers, judge, kendall_tau, spearman
from search_spaces.moves import sample
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

SPACE = SearchSpace({"x": Float(0.0, 1.0)})


def test_rank_correlations_agree_with_counting_and_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.integers(6, size=40).astype(float), rng.integers(6, size=40).astype(float)
    signs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i in range(40) for j in range(i)
    ]  # tau-b by its definition: concordant minus discordant, over those not tied
    both = sum(a * b for a, b in signs)
    expected = both / np.sqrt(sum(a * a for a, _ in signs) * sum(b * b for _, b in signs))
    assert kendall_tau(first, second) == pytest.approx(expected)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert np.isnan(spearman(first, np.ones(40)))
    assert np.isnan(kendall_tau(first, np.ones(40)))


def test_calibrated_beliefs_are_found_calibrated_and_sure_ones_are_not():
    rng = np.random.default_rng(1)
    means, variances = rng.normal(size=20_000), rng.uniform(0.5, 2.0, size=20_000)
    losses = rng.normal(means, np.sqrt(variances + 0.3))
    quality = judge(Belief(means, variances), 0.3, losses)
    np.testing.assert_allclose(quality.calibration, LEVELS, atol=0.015)
    assert quality.calibration_error < 0.01
    assert quality.rmse == pytest.approx(np.sqrt((variances + 0.3).mean()), rel=0.03)
    expected = -stats.norm(means, np.sqrt(variances + 0.3)).logpdf(losses).mean()
    assert quality.negative_log_likelihood == pytest.approx(expected)
    sure = judge(Belief(means, variances / 100.0), 0.0, losses)
    assert sure.calibration_error > 0.15
    assert sure.negative_log_likelihood > quality.negative_log_likelihood
    assert sure.kendall_tau == quality.kendall_tau
    assert np.isnan(judge(Belief(means, np.zeros_like(means)), 0.0, losses).negative_log_likelihood)


def test_folds_keep_repeats_together_and_judge_each_trial_once():
    rng = np.random.default_rng(2)
    different = [sample(SPACE, rng) for _ in range(7)]
    trials = different * 3
    fold_of, folds = fold_numbers(trials, 5, np.random.default_rng(0))
    assert folds == 5
    assert sorted(set(fold_of.tolist())) == list(range(5))
    assert (fold_of[:7] == fold_of[7:14]).all()
    assert fold_numbers(trials[:4], 10, np.random.default_rng(0))[1] == 4
    assert fold_numbers(trials[:3], 2, np.random.default_rng(0))[1] == 3  # of two, one fit would learn from one trial
    with pytest.raises(PredictorError, match="three different architectures"):
        fold_numbers(trials[:2] * 4, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="folds"):
        fold_numbers(trials, 1, np.random.default_rng(0))


def test_cross_validation_judges_beliefs_of_fits_that_have_not_seen_the_loss():
    class Memory:
        """Believes what it has seen, and 0 of everything else."""

        noise = 1.0

        def fit(self, architectures, losses):
            self.seen = dict(zip(architectures, losses.tolist(), strict=True))
            return self

        def predict(self, architectures):
            means = np.array([self.seen.get(architecture, 0.0) for architecture in architectures])
            return Belief(means, np.ones(len(means)))

    rng = np.random.default_rng(3)
    trials = [sample(SPACE, rng) for _ in range(20)]
    losses = np.full(20, 5.0)
    quality = cross_validated(Memory(), trials, losses, np.random.default_rng(0))
    assert quality.rmse == 5.0
    assert quality.count == 20

    smooth = np.array([np.sin(3.0 * float(trial["x"])) for trial in trials])
    assert cross_validated(GaussianProcess(SPACE), trials, smooth, np.random.default_rng(0)).kendall_tau > 0.9
