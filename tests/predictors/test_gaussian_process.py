"""GaussianProcess: against the textbook's formulas in plain numpy, GPyTorch, finite differences and refits."""

import warnings

import numpy as np
import pytest
import torch

from predictors.features import Quantities
from predictors.gaussian_process import GaussianProcess, _chosen, _kept
from predictors.kernels.composition import Composition, Distances, condensed
from predictors.kernels.marginal_likelihood import PRIOR_SD, factor, learn, objective
from predictors.kernels.matern import matern, matern_and_slope
from predictors.predictor import PredictorError
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.moves import sample
from search_spaces.nodes import Float, Integer
from search_spaces.space import SearchSpace

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it still compiles with torch.jit.script
    import gpytorch
    from gpytorch.kernels import MaternKernel

CELLS = nas_bench_201()
JOINT = residual_cnn(stages=1, blocks=2)
NUMBERS = SearchSpace({"x": Float(0.0, 1.0), "y": Float(1e-3, 1.0, log=True), "n": Integer(0, 9)})


def drawn(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [sample(space, rng) for _ in range(count)]


def fitted(space, count=20, seed=0, **settings):
    trials = drawn(space, count, seed)
    losses = np.random.default_rng(seed + 1).normal(size=count)
    return GaussianProcess(space, **settings).fit(trials, losses), trials, losses


def random_distances(rng, n, graphs, groups):
    def squared():
        points = rng.normal(size=(n, 2))
        return ((points[:, None] - points[None]) ** 2).sum(axis=-1)

    return Distances(
        tuple(squared() for _ in range(graphs)), tuple(np.stack([squared() for _ in range(g)]) for g in groups)
    )


def pairs_of(distances):
    return Distances(condensed(distances.graph), tuple(condensed([vector])[0] for vector in distances.vectors))


def test_matern_agrees_with_gpytorch_and_its_slope_with_differences():
    x = torch.linspace(0.0, 3.0, 7, dtype=torch.float64)[:, None]
    kernel = MaternKernel(nu=2.5).double()
    kernel.lengthscale = 0.7
    theirs = kernel(x).to_dense().detach().numpy()
    squared = ((x - x.T) ** 2).numpy() / 0.7**2
    np.testing.assert_allclose(matern(squared), theirs, atol=1e-6)  # theirs rounds the length scale to single precision
    correlation, slope = matern_and_slope(squared)
    np.testing.assert_allclose(correlation, matern(squared), atol=1e-14)
    at = squared[squared > 0.0]
    np.testing.assert_allclose(
        slope[squared > 0.0], (matern(at + 1e-6) - matern(at - 1e-6)) / 2e-6, rtol=1e-6, atol=1e-9
    )
    assert slope[0, 0] == pytest.approx(-5.0 / 6.0)


@pytest.mark.parametrize(
    "composition",
    [
        Composition(3, (), has_product=False),
        Composition(0, (4, 2), has_product=False),
        Composition(2, (3,), has_product=True),
        Composition(2, (2, 3), has_product=True),
        Composition(1, (3,), has_product=False),
    ],
)
def test_gradient_of_the_marginal_likelihood_agrees_with_finite_differences(composition):
    rng = np.random.default_rng(0)
    pairs = pairs_of(random_distances(rng, 15, composition.graphs, composition.groups))
    parameters = rng.normal(size=composition.parameters + 1) * 0.5
    first, scores = rng.normal(size=parameters.shape), rng.normal(size=15)

    def value(at):
        return objective(at, composition, pairs, scores, first)[0]

    steps = 1e-5 * np.eye(len(parameters))
    expected = [(value(parameters + step) - value(parameters - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(
        objective(parameters, composition, pairs, scores, first)[1], expected, rtol=1e-5, atol=1e-7
    )


def test_covariance_and_likelihood_are_the_formulas_written_out():
    rng = np.random.default_rng(1)
    composition = Composition(2, (2,), has_product=True)
    distances = random_distances(rng, 8, 2, (2,))
    parameters = rng.normal(size=composition.parameters + 1) * 0.3
    weights, scales, noise = np.exp(parameters[:4]), np.exp(parameters[4:8]), np.exp(parameters[8])
    first, second = matern(distances.graph[0] / scales[0]), matern(distances.graph[1] / scales[1])
    decisions = matern(distances.vectors[0][0] / scales[2] + distances.vectors[0][1] / scales[3])
    expected = weights[0] * first + weights[1] * second + weights[2] * decisions
    expected += weights[3] * (first + second) / 2 * decisions
    np.testing.assert_allclose(composition.covariance(parameters[:-1], distances), expected, atol=1e-12)
    assert composition.variance(parameters[:-1]) == pytest.approx(weights.sum())

    scores = rng.normal(size=8)
    covariance = expected + noise * np.eye(8)
    normal = torch.distributions.MultivariateNormal(torch.zeros(8, dtype=torch.float64), torch.from_numpy(covariance))
    found, _ = objective(parameters, composition, pairs_of(distances), scores, parameters)  # at the prior's centre
    constant = 8 * np.log(2 * np.pi) / 2
    assert -found - constant == pytest.approx(float(normal.log_prob(torch.from_numpy(scores))))
    further, _ = objective(parameters, composition, pairs_of(distances), scores, parameters - 1.0)
    widths = np.array([PRIOR_SD] * 4 + [2 * PRIOR_SD] * 4 + [PRIOR_SD])
    assert further - found == pytest.approx(0.5 * (1.0 / widths**2).sum())


def test_learning_finds_what_the_scores_were_drawn_with():
    rng = np.random.default_rng(2)
    points = rng.uniform(size=(100, 2))
    vector = np.stack([(points[:, None, d] - points[None, :, d]) ** 2 for d in range(2)])
    distances, composition = Distances((), (vector,)), Composition(0, (2,), has_product=False)
    truth = np.log([1.0, 0.05, 5.0])  # the second coordinate hardly counts
    covariance = composition.covariance(truth, distances) + 0.01 * np.eye(100)
    scores = np.linalg.cholesky(covariance) @ rng.standard_normal(100)
    learnt = learn(composition, distances, scores)
    assert np.exp(learnt[-1]) == pytest.approx(0.01, rel=0.5)
    assert learnt[1] == pytest.approx(truth[1], abs=1.0)
    assert learnt[2] - learnt[1] > 2.0


@pytest.mark.parametrize("space", [CELLS, JOINT, NUMBERS], ids=["cells", "joint", "numbers"])
def test_beliefs_are_the_textbooks_in_plain_numpy(space):
    posterior, trials, _ = fitted(space)
    latent, asked = posterior.latent, drawn(space, 7, seed=9)
    both = latent.comparison.rows([*trials, *asked])
    prior = latent.comparison.composition.covariance(latent.parameters, latent.comparison.distances(both, both))
    seen = np.linalg.inv(prior[:20, :20] + latent.noise * np.eye(20))
    across = prior[20:, :20]
    np.testing.assert_allclose(latent.predict(asked).mean, across @ seen @ latent.scores, atol=1e-6)
    covariance = prior[20:, 20:] - across @ seen @ across.T
    mean, joint = latent.joint(asked)
    np.testing.assert_allclose(joint, covariance, atol=1e-6)
    np.testing.assert_allclose(mean, latent.predict(asked).mean, atol=1e-9)
    np.testing.assert_allclose(latent.predict(asked).variance, np.diag(covariance), atol=1e-6)
    assert np.linalg.eigvalsh(prior).min() > -1e-8


def test_beliefs_are_gpytorchs():
    posterior, trials, losses = fitted(NUMBERS, warp="none")
    latent, asked = posterior.latent, drawn(NUMBERS, 6, seed=3)
    weight, scales = np.exp(latent.parameters[0]), np.exp(latent.parameters[1:])

    class Exact(gpytorch.models.ExactGP):
        def __init__(self, x, y, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ZeroMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=3))

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def points(architectures):
        return torch.tensor(
            [[a["x"], (np.log(a["y"]) - np.log(1e-3)) / -np.log(1e-3), a["n"] / 9] for a in architectures],
            dtype=torch.float64,
        )

    scores = (losses - losses.mean()) / losses.std()
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    model = Exact(points(trials), torch.from_numpy(scores), likelihood).double()
    likelihood.noise = latent.noise
    model.covar_module.outputscale = weight
    model.covar_module.base_kernel.lengthscale = torch.from_numpy(np.sqrt(scales))
    model.eval()
    with torch.no_grad():
        theirs = model(points(asked))
    belief = posterior.predict(asked)
    np.testing.assert_allclose(belief.mean, losses.mean() + losses.std() * theirs.mean.numpy(), atol=1e-6)
    np.testing.assert_allclose(belief.variance, losses.var() * theirs.variance.numpy(), atol=1e-6)
    np.testing.assert_allclose(posterior.covariance(asked), losses.var() * theirs.covariance_matrix.numpy(), atol=1e-6)


@pytest.mark.parametrize("warp", ["ranks", "none"])
def test_conditioning_is_fitting_again_with_the_same_parameters(warp):
    posterior, trials, _ = fitted(JOINT, warp=warp)
    more, asked = drawn(JOINT, 4, seed=5), drawn(JOINT, 6, seed=6)
    values = np.random.default_rng(7).normal(size=4)
    conditioned = posterior.condition(more[:1], values[:1]).condition(more[1:], values[1:])
    latent = posterior.latent
    rows = latent.comparison.rows([*trials, *more])
    covariance = latent.comparison.composition.covariance(latent.parameters, latent.comparison.distances(rows, rows))
    lower = np.linalg.cholesky(covariance + latent.noise * np.eye(24))
    np.testing.assert_allclose(conditioned.latent.lower, lower, atol=1e-8)
    scores = np.append(latent.scores, posterior.warp.forward(values))
    rows_asked = latent.comparison.rows(asked, rows)
    across = latent.comparison.composition.covariance(latent.parameters, latent.comparison.distances(rows_asked, rows))
    expected = across @ np.linalg.solve(lower @ lower.T, scores)
    np.testing.assert_allclose(conditioned.latent.predict(asked).mean, expected, atol=1e-7)
    assert (conditioned.predict(more).variance <= posterior.predict(more).variance + 1e-9).all()
    assert posterior.condition([], np.array([])).predict(asked).mean == pytest.approx(posterior.predict(asked).mean)


def test_what_is_left_out_is_what_a_refit_without_it_believes():
    posterior, trials, _ = fitted(CELLS, count=12)
    latent = posterior.latent
    told = latent.left_out()
    rows = latent.comparison.rows(trials)
    covariance = latent.comparison.composition.covariance(latent.parameters, latent.comparison.distances(rows, rows))
    covariance += latent.noise * np.eye(12)
    for place in range(12):
        others = np.delete(np.arange(12), place)
        weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, place])
        assert told.mean[place] == pytest.approx(weights @ latent.scores[others], abs=1e-7)
        assert told.variance[place] == pytest.approx(covariance[place, place] - weights @ covariance[others, place])


def test_repeats_are_left_out_together():
    _, trials, losses = fitted(CELLS, count=9)
    trials, losses = [*trials, *trials[:4], trials[0]], np.append(losses, [*(losses[:4] + 0.3), losses[0] - 0.2])
    latent = GaussianProcess(CELLS).fit(trials, losses).latent
    told = latent.left_out()
    rows = latent.comparison.rows(trials)
    covariance = latent.comparison.composition.covariance(latent.parameters, latent.comparison.distances(rows, rows))
    covariance += latent.noise * np.eye(14)
    for place in range(14):
        others = [other for other in range(14) if trials[other] != trials[place]]
        weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, place])
        assert told.mean[place] == pytest.approx(weights @ latent.scores[others], abs=1e-7)
        assert told.variance[place] == pytest.approx(covariance[place, place] - weights @ covariance[others, place])


def test_draws_of_the_first_do_not_depend_on_how_many_follow():
    posterior, _, _ = fitted(CELLS, count=12)
    asked = drawn(CELLS, 30, seed=3)
    few, many = (posterior.sample(asked[:count], 5, np.random.default_rng(1)) for count in (8, 30))
    np.testing.assert_allclose(many[:, :8], few, rtol=1e-9)


def test_the_probability_of_a_limit_is_that_of_draws():
    posterior, _, _ = fitted(CELLS, count=40)
    asked = drawn(CELLS, 6, seed=3)
    draws = posterior.sample(asked, 40_000, np.random.default_rng(0))
    for limit in np.quantile(draws, [0.1, 0.5, 0.9]).tolist():
        found = np.exp(posterior.log_probability_below(asked, limit))
        np.testing.assert_allclose(found, (draws <= limit).mean(axis=0), atol=0.02)


def test_covariance_has_the_variances_on_its_diagonal_and_draws_follow_it():
    posterior, _, _ = fitted(CELLS, count=30)
    asked = drawn(CELLS, 5, seed=8)
    covariance = posterior.covariance(asked)
    np.testing.assert_allclose(np.diag(covariance), posterior.predict(asked).variance, rtol=1e-6)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    draws = posterior.latent.sample(asked, 40_000, np.random.default_rng(0))
    mean, latent = posterior.latent.joint(asked)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), latent, atol=0.03)
    losses = posterior.sample(asked, 40_000, np.random.default_rng(0))
    belief = posterior.predict(asked)
    np.testing.assert_allclose(losses.mean(axis=0), belief.mean, atol=0.03)
    np.testing.assert_allclose(losses.var(axis=0), belief.variance, rtol=0.05)


def test_quantities_known_in_advance_are_learnt_from():
    trials, asked = drawn(CELLS, 40), drawn(CELLS, 40, seed=1)
    different = list(dict.fromkeys([*trials, *asked]))
    values = dict(zip(different, np.random.default_rng(0).normal(size=len(different)).tolist(), strict=True))

    def measure(architectures):
        return np.array([[values[architecture], 1.0] for architecture in architectures]).reshape(-1, 2)

    losses = np.array([3.0 * values[architecture] for architecture in trials])
    told = GaussianProcess(CELLS, beside=Quantities(("value", "constant"), measure)).fit(trials, losses)
    untold = GaussianProcess(CELLS).fit(trials, losses)
    truth = np.array([3.0 * values[architecture] for architecture in asked])
    error = np.sqrt(np.mean((told.predict(asked).mean - truth) ** 2))
    assert error < 0.4 * np.sqrt(np.mean((untold.predict(asked).mean - truth) ** 2))


def test_what_is_carried_out_for_nothing_is_learnt_too():
    costs = {"none": 0.0, "skip_connect": 0.1, "nor_conv_1x1": 1.0, "nor_conv_3x3": 2.0, "avg_pool_3x3": 0.5}
    trials, asked = drawn(CELLS, 60), drawn(CELLS, 60, seed=1)
    times, truth = (np.array([sum(costs[v] for v in a.values()) for a in some]) for some in (trials, asked))
    mean = GaussianProcess(CELLS).fit(trials, times).predict(asked).mean
    assert np.corrcoef(mean, truth)[0, 1] > 0.9


def test_a_later_fit_refuses_what_is_not_of_the_space():
    trials = drawn(CELLS, 4)
    predictor = GaussianProcess(CELLS)
    predictor.fit(trials, np.arange(4.0))
    with pytest.raises(PredictorError, match="architecture 4"):
        predictor.fit([*trials, sample(NUMBERS, np.random.default_rng(0))], np.arange(5.0))


def test_of_many_trials_the_best_and_the_latest_stay():
    losses = np.array([5.0, 1.0, 9.0, 2.0, 8.0, 7.0, 6.0, 3.0])
    assert _kept(losses, 8).tolist() == list(range(8))
    assert _kept(losses, 4).tolist() == [1, 3, 6, 7]
    assert _kept(losses, 5).tolist() == [1, 3, 5, 6, 7]
    posterior = GaussianProcess(CELLS, most=10).fit(drawn(CELLS, 30), np.arange(30.0))
    assert len(posterior.latent.trials) == 10
    assert _chosen(losses, 20).tolist() == np.argsort(losses).tolist()
    assert _chosen(losses, 4).tolist() == [1, 3, 7, 2]


def test_a_covariance_that_is_not_positive_definite_is_helped_a_little_or_refused():
    rank_one = np.ones((4, 4))
    lower = factor(rank_one)
    np.testing.assert_allclose(lower @ lower.T, rank_one, atol=1e-3)
    with pytest.raises(PredictorError, match="not positive definite"):
        factor(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(PredictorError, match="not positive definite"):
        factor(np.full((2, 2), np.nan))


def test_settings_out_of_range_are_refused():
    for settings in ({"depth": -1}, {"warp": "log"}, {"most": 1}, {"learned_from": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            GaussianProcess(CELLS, **settings)
