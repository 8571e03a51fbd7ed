"""What the predictors of the family promise beyond tests/contracts, with settings small enough to be quick."""

from dataclasses import replace

import numpy as np
import pytest

from predictors.deep_ensemble import DeepEnsemble
from predictors.deep_kernel import DeepKernel
from predictors.hmc import Hmc
from predictors.infinite_width import InfiniteWidth
from predictors.laplace import Laplace
from predictors.sghmc import Sghmc
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.moves import sample
from search_spaces.space import SearchSpace
from tests.predictors.bayesian_network.problems import numbers, smooth


def small(space: SearchSpace) -> list:
    return [
        Hmc(space, hidden=(8,), chains=2, warm_up=60, draws=30, leapfrog_steps=8),
        Sghmc(space, hidden=(8,), chains=4, burn_in=250, draws=10, thinning=15),
        DeepEnsemble(space, hidden=(16,), members=3, steps=120, learning_rate=0.03),
        Laplace(space, hidden=(8,), starts=2, iterations=30),
        DeepKernel(space, hidden=(8,), steps=40),
        InfiniteWidth(space, iterations=20),
    ]


FAMILY = [pytest.param(index, id=type(one).__name__) for index, one in enumerate(small(numbers(2)))]
MIXED = load_space("mlp", layers=2)


def mixed(count: int, seed: int = 0) -> tuple[list[Architecture], np.ndarray]:
    rng = np.random.default_rng(seed)
    architectures = [sample(MIXED, rng) for _ in range(count)]
    return architectures, 0.01 * rng.random(count) + 0.002 * np.array([len(one) for one in architectures])


@pytest.mark.parametrize("index", FAMILY)
def test_what_was_learnt_is_better_than_the_mean_in_the_units_of_the_losses(index):
    (x, y), (asked, wanted) = smooth(60), smooth(100, noise=0.0, seed=1)
    found = small(numbers(3))[index].regress(x, y).predict(asked)
    assert np.sqrt(np.mean((found.mean - wanted) ** 2)) < 0.4 * wanted.std()
    assert np.isfinite(found.variance).all()
    assert (found.variance >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("index", FAMILY)
def test_odd_trials_have_finite_beliefs(index):
    architectures, losses = mixed(6)
    predictor = small(MIXED)[index]
    for odd, values in (
        (architectures[:2], losses[:2]),  # as few as there may be
        (architectures[:1] * 3, losses[:3]),  # repeats alone: inputs without any difference
        (architectures, np.array([*losses[:-1], 1e12])),  # one diverged
        (architectures, 1e100 * losses),
    ):
        posterior = predictor.fit(odd, values)
        belief = posterior.predict(architectures)
        assert np.isfinite(belief.mean).all()
        assert np.isfinite(belief.variance).all()
        assert (belief.variance >= 0.0).all()
        assert np.isfinite(posterior.noise)
        assert np.isfinite(posterior.sample(architectures, 2, np.random.default_rng(0))).all()


@pytest.mark.parametrize("index", FAMILY)
def test_constant_losses_are_believed_and_nothing_else_is_known(index):
    architectures, _ = mixed(4)
    posterior = small(MIXED)[index].fit(architectures, np.full(4, 0.1))
    belief = posterior.predict(architectures)
    np.testing.assert_allclose(belief.mean, 0.1)
    np.testing.assert_allclose(belief.variance, 1.0)
    assert posterior.noise == 0.0
    assert np.isfinite(posterior.sample(architectures, 4, np.random.default_rng(0))).all()


@pytest.mark.parametrize("index", FAMILY[3:])
def test_joint_posteriors_agree_with_themselves_and_learn_from_fantasies(index):
    architectures, losses = mixed(10)
    posterior = small(MIXED)[index].fit(architectures[:8], losses[:8])
    covariance = posterior.covariance(architectures)
    np.testing.assert_array_equal(covariance, covariance.T)
    np.testing.assert_allclose(np.diag(covariance), posterior.predict(architectures).variance, rtol=1e-6)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9 * np.trace(covariance)
    fantasy = posterior.condition(architectures[8:], losses[8:])
    assert (fantasy.predict(architectures).variance <= posterior.predict(architectures).variance * (1 + 1e-6)).all()
    assert fantasy.noise == posterior.noise


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda space: Hmc(space, chains=0), "chains must be a whole number"),
        (lambda space: Hmc(space, draws=3), "at least 4"),
        (lambda space: Hmc(space, target_acceptance=1.0), "between 0 and 1"),
        (lambda space: Sghmc(space, friction=0.0), "friction must be above 0"),
        (lambda space: Sghmc(space, noise=-1.0), "noise is a variance"),
        (lambda space: DeepEnsemble(space, adversarial=-1.0), "adversarial must be at least 0"),
        (lambda space: Laplace(space, prior_precision=0.0), "prior_precision must be positive"),
        (lambda space: DeepKernel(space, learning_rate=0.0), "learning_rate must be positive"),
        (lambda space: InfiniteWidth(space, depth=0), "depth must be a whole number"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(numbers(1))


def test_adversarial_training_changes_what_is_learnt_and_stays_close():
    x, y = smooth(40)
    plain = DeepEnsemble(numbers(3), hidden=(16,), members=2, steps=150, learning_rate=0.02)
    moved = replace(plain, adversarial=0.05).regress(x, y).predict(x).mean
    found = plain.regress(x, y).predict(x).mean
    assert 0.0 < np.abs(moved - found).max() < y.std()


@pytest.mark.slow
def test_sghmc_on_minibatches_believes_about_what_hmc_believes():
    (x, y), (asked, _) = smooth(120, inputs=2, noise=0.3), smooth(20, inputs=2, seed=1)
    exact = Hmc(numbers(2), hidden=(8,), warm_up=100, draws=100, leapfrog_steps=12).regress(x, y)
    stochastic = Sghmc(numbers(2), hidden=(8,), burn_in=600, draws=20, thinning=30, batch=60).regress(x, y)
    assert np.corrcoef(exact.predict(asked).mean, stochastic.predict(asked).mean)[0, 1] > 0.97
    assert np.sqrt(stochastic.noise / exact.noise) == pytest.approx(1.0, rel=0.25)
    ratio = np.sqrt(stochastic.predict(asked).variance / exact.predict(asked).variance)
    assert 0.6 < np.median(ratio) < 1.8


@pytest.mark.slow
def test_sghmc_as_it_comes_is_about_as_right_as_hmc_where_there_is_little_noise():
    count, noise = 30, 0.01
    rng = np.random.default_rng(0)
    x, asked = rng.uniform(-1.0, 1.0, (count, 2)), rng.uniform(-1.0, 1.0, (60, 2))
    y, wanted = (x**2).sum(1) + noise * rng.standard_normal(count), (asked**2).sum(1)

    def judged(predictor) -> tuple[float, float]:
        fitted = predictor.regress(x, y)
        found = fitted.predict(asked)
        variance = found.variance + fitted.noise
        likelihoods = -0.5 * (np.log(2 * np.pi * variance) + (wanted - found.mean) ** 2 / variance)
        return -likelihoods.mean(), fitted.noise

    (exact, _), (stochastic, learnt) = judged(Hmc(numbers(2))), judged(Sghmc(numbers(2)))
    assert stochastic < exact + 0.8
    assert learnt < 0.1 * y.var()  # most of what the losses differ by is not noise
    assert learnt > 0.5 * noise**2
