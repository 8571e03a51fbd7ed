"""What every predictor promises; a new one is tested by being listed in `PREDICTORS`."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch

from predictors import GaussianProcess, GradientBoosting, GraphNetwork, PathEnsemble, RandomForest, Stacked
from predictors.deep_ensemble import DeepEnsemble
from predictors.deep_kernel import DeepKernel
from predictors.hmc import Hmc
from predictors.infinite_width import InfiniteWidth
from predictors.laplace import Laplace
from predictors.predictor import Predictor, PredictorError
from predictors.sghmc import Sghmc
from search_spaces.architecture import Architecture
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.moves import sample
from search_spaces.nodes import Boolean, Choice, Float, Integer
from search_spaces.space import SearchSpace

#: name -> the predictor with settings under which it is quick
PREDICTORS: dict[str, Callable[[SearchSpace], Predictor]] = {
    "gaussian_process": GaussianProcess,
    "gaussian_process of plain losses": lambda space: GaussianProcess(space, warp="none"),
    "random_forest": lambda space: RandomForest(space, trees=30),
    "gradient_boosting": lambda space: GradientBoosting(space, members=3, trees=15),
    "path_ensemble": lambda space: PathEnsemble(space, hidden=(16,), steps=60),
    "graph_network": lambda space: GraphNetwork(space, members=3, width=8, rounds=1, hidden=(16,), steps=40),
    "hmc": lambda space: Hmc(space, hidden=(8,), chains=2, warm_up=40, draws=16, leapfrog_steps=6),
    "sghmc": lambda space: Sghmc(space, hidden=(8,), chains=4, burn_in=150, draws=8, thinning=8),
    "deep_ensemble": lambda space: DeepEnsemble(space, hidden=(16,), members=3, steps=60, learning_rate=0.05),
    "laplace": lambda space: Laplace(space, hidden=(8,), starts=1, iterations=20),
    "deep_kernel": lambda space: DeepKernel(space, hidden=(8,), steps=30),
    "infinite_width": lambda space: InfiniteWidth(space, iterations=15),
    "stacked": lambda space: Stacked(
        space,
        members=(GaussianProcess(space), RandomForest(space, trees=12), PathEnsemble(space, hidden=(8,), steps=20)),
    ),
}
SPACES = {
    "cells": nas_bench_201(),
    "chains": residual_cnn(),
    "decisions": SearchSpace(
        {
            "rate": Float(1e-4, 1e-1, log=True),
            "layers": Integer(1, 8),
            "bias": Boolean(),
            "optimizer": Choice({"adam": {"beta": Float(0.8, 0.99)}, "sgd": {"momentum": Float(0.0, 0.9)}}),
            "width": Choice([16, 64, 256]),
        }
    ),
    "one decision": SearchSpace({"kind": Choice(["a", "b", "c", "d"])}),
}


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [sample(space, rng) for _ in range(count)]


def loss_of(space: SearchSpace, architecture: Architecture) -> float:
    """Some function of an architecture: a weight for each value, or for each unit of a number."""
    total = 0.0
    for place, (path, value) in enumerate(sorted(architecture.items())):
        if isinstance(value, float):
            total += value * (1 + place % 3)
        else:
            total += (sum(map(ord, f"{path}={value}")) % 17) / 17
    return total


def learnt(name: str, space: SearchSpace, count: int = 24):
    trials = drawn(space, count)
    losses = np.array([loss_of(space, trial) for trial in trials])
    return PREDICTORS[name](space), trials, losses


@pytest.fixture(params=PREDICTORS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SPACES[request.param]


def test_settings_are_frozen_and_the_space_comes_first(name):
    predictor = PREDICTORS[name](SPACES["cells"])
    assert fields(predictor)[0].name == "space"
    with pytest.raises(FrozenInstanceError):
        predictor.space = SPACES["chains"]


def test_beliefs_are_finite_and_depend_on_the_architecture_alone(name, space):
    predictor, trials, losses = learnt(name, space)
    posterior = predictor.fit(trials, losses)
    asked = [*drawn(space, 12, seed=1), *trials[:4]]
    belief = posterior.predict(asked)
    assert belief.mean.shape == belief.variance.shape == (16,)
    assert np.isfinite(belief.mean).all()
    assert np.isfinite(belief.variance).all()
    assert (belief.variance >= 0.0).all()
    assert np.isfinite(posterior.noise)
    assert posterior.noise >= 0.0

    order = np.random.default_rng(2).permutation(16)
    permuted = posterior.predict([asked[place] for place in order])
    np.testing.assert_allclose(permuted.mean, belief.mean[order], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(permuted.variance, belief.variance[order], rtol=1e-6, atol=1e-9)
    alone = posterior.predict([asked[3]])
    np.testing.assert_allclose(alone.mean, belief.mean[3:4], rtol=1e-7, atol=1e-9)
    twins = posterior.predict([asked[0], Architecture(dict(asked[0])), asked[0]])
    assert twins.mean[0] == twins.mean[1] == twins.mean[2]


def test_fitting_again_gives_the_same_and_leaves_global_generators_alone(name, space):
    predictor, trials, losses = learnt(name, space)
    asked = drawn(space, 5, seed=3)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()  # noqa: NPY002
    first = predictor.fit(trials, losses)
    draws = first.sample(asked, 3, np.random.default_rng(5))
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    second = PREDICTORS[name](space).fit(trials, losses)
    assert (first.predict(asked).mean == second.predict(asked).mean).all()
    assert (first.predict(asked).variance == second.predict(asked).variance).all()
    assert (draws == second.sample(asked, 3, np.random.default_rng(5))).all()


def test_good_ones_are_told_from_bad_ones(name):
    space = SPACES["decisions"]
    predictor, trials, losses = learnt(name, space, 60)
    asked = drawn(space, 60, seed=4)
    mean = predictor.fit(trials, losses).predict(asked).mean
    assert np.corrcoef(mean, [loss_of(space, architecture) for architecture in asked])[0, 1] > 0.5


def test_draws_spread_around_the_mean(name):
    predictor, trials, losses = learnt(name, SPACES["cells"], 40)
    posterior = predictor.fit(trials, losses)
    asked = drawn(SPACES["cells"], 6, seed=5)
    draws = posterior.sample(asked, 400, np.random.default_rng(0))
    assert draws.shape == (400, 6)
    belief = posterior.predict(asked)
    deviations = np.sqrt(belief.variance) + losses.std() * 0.05
    assert (np.abs(draws.mean(axis=0) - belief.mean) < 0.5 * deviations).all()
    assert 0.6 < (draws.var(axis=0) / belief.variance).mean() < 1.5


def test_losses_in_other_units_give_the_same_beliefs_in_those_units(name):
    predictor, trials, losses = learnt(name, SPACES["decisions"])
    asked = drawn(SPACES["decisions"], 8, seed=6)
    belief = predictor.fit(trials, losses).predict(asked)
    other = predictor.fit(trials, 1000.0 * losses - 7.0).predict(asked)
    np.testing.assert_allclose(other.mean, 1000.0 * belief.mean - 7.0, rtol=1e-2, atol=20.0 * losses.std())
    np.testing.assert_allclose(other.variance, 1e6 * belief.variance, rtol=0.1, atol=1e3 * losses.var())


@pytest.mark.parametrize("losses", [[3.0, 3.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]])
def test_constant_losses_give_that_constant_with_doubt(name, space, losses):
    posterior = PREDICTORS[name](space).fit(drawn(space, len(losses)), np.array(losses))
    belief = posterior.predict(drawn(space, 5, seed=7))
    np.testing.assert_allclose(belief.mean, 3.0, atol=1e-6)
    assert (belief.variance > 0.01).all()
    assert np.isfinite(belief.variance).all()
    draws = posterior.sample(drawn(space, 5, seed=7), 400, np.random.default_rng(0))
    assert (np.abs(draws.mean(axis=0) - 3.0) < 0.3 * np.sqrt(belief.variance)).all()
    assert 0.6 < (draws.var(axis=0) / belief.variance).mean() < 1.6


def test_two_trials_are_enough_and_repeats_are_no_trouble(name, space):
    first, second = drawn(space, 2, seed=11)
    two = PREDICTORS[name](space).fit([first, second], np.array([0.0, 1.0])).predict([first, second])
    assert np.isfinite(two.mean).all()
    assert two.mean[0] <= two.mean[1] or first == second
    repeats = PREDICTORS[name](space).fit([first] * 6 + [second] * 6, np.arange(12.0)).predict([first, second])
    assert np.isfinite(repeats.mean).all()
    assert np.isfinite(repeats.variance).all()


def test_what_is_believed_of_a_trial_left_out_does_not_know_its_repeats(name):
    """Losses that nothing tells: who believes in them has seen them."""
    trials = drawn(SPACES["cells"], 30) * 3
    losses = np.tile(np.random.default_rng(4).normal(size=30), 3)
    left_out = getattr(PREDICTORS[name](SPACES["cells"]).fit(trials, losses), "left_out", None)
    if left_out is not None:
        assert np.corrcoef(left_out.mean, losses)[0, 1] < 0.4
        assert ((left_out.mean - losses) ** 2 / left_out.variance).mean() < 3.0


def test_what_cannot_be_conditioned_on_is_refused(name):
    predictor, trials, losses = learnt(name, SPACES["cells"])
    condition = getattr(predictor.fit(trials, losses), "condition", None)
    if condition is not None:
        with pytest.raises(PredictorError, match="loss 1 is nan"):
            condition(trials[:2], np.array([0.0, np.nan]))
        with pytest.raises(PredictorError, match="as many losses"):
            condition(trials[:1], np.array([0.0, 1.0]))


def test_nothing_asked_nothing_answered(name, space):
    predictor, trials, losses = learnt(name, space, 8)
    posterior = predictor.fit(trials, losses)
    assert posterior.predict([]).mean.shape == posterior.predict([]).variance.shape == (0,)
    assert posterior.sample([], 3, np.random.default_rng(0)).shape == (3, 0)


def test_a_hopeless_loss_far_away_leaves_beliefs_finite(name):
    predictor, trials, losses = learnt(name, SPACES["cells"])
    losses[5] = 1e30
    belief = predictor.fit(trials, losses).predict(trials)
    assert np.isfinite(belief.mean).all()
    assert np.isfinite(belief.variance).all()


def test_bad_trials_are_refused_with_a_reason(name):
    predictor, trials, losses = learnt(name, SPACES["cells"])
    with pytest.raises(PredictorError, match="at least two"):
        predictor.fit(trials[:1], losses[:1])
    with pytest.raises(PredictorError, match="at least two"):
        predictor.fit([], np.array([]))
    with pytest.raises(PredictorError, match="as many losses"):
        predictor.fit(trials, losses[1:])
    for odd in (np.nan, np.inf):
        spoilt = losses.copy()
        spoilt[3] = odd
        with pytest.raises(PredictorError, match="loss 3"):
            predictor.fit(trials, spoilt)
    with pytest.raises(PredictorError, match="architecture 1 is not of this predictor's space"):
        predictor.fit([trials[0], *drawn(SPACES["decisions"], 1)], losses[:2])


def test_predictors_need_no_ray_optuna_or_sqlalchemy():
    program = """
import sys
import predictors
for name in predictors.__all__:
    getattr(predictors, name)
found = {module.partition(".")[0] for module in sys.modules} & {"ray", "optuna", "sqlalchemy", "nas", "workers"}
assert not found, found
"""
    subprocess.run([sys.executable, "-c", program], check=True)
