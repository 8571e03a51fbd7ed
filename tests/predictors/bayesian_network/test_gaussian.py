import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from predictors.bayesian_network.arc_cosine import arc_cosine, arc_cosine_variance
from predictors.bayesian_network.gauss_newton import Curvature, most_likely
from predictors.bayesian_network.gaussian import GaussianFunction, cholesky, mixture, negative_log_marginal
from predictors.bayesian_network.network import Network
from predictors.deep_kernel import DeepKernel
from predictors.infinite_width import InfiniteWidth
from predictors.laplace import Laplace
from predictors.predictor import PredictorError
from tests.predictors.bayesian_network.problems import numbers, smooth


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


# ------------------------------------------------------------------------------------------- Gaussian functions


def brownian(noise: float) -> GaussianFunction:
    return GaussianFunction(
        mean=lambda x: x[:, 0],
        covariance=lambda a, b: torch.minimum(a, b.mT),
        variance=lambda x: x[:, 0],
        noise=noise,
    )


def test_conditioning_twice_is_conditioning_on_all_at_once():
    x, y, asked = normal(7, 1).abs(), normal(7, seed=1), normal(5, 1, seed=2).abs()
    once = brownian(0.1).condition(x, y)
    twice = brownian(0.1).condition(x[:4], y[:4]).condition(x[4:], y[4:])
    for found, expected in zip(twice.predict(asked), once.predict(asked), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(twice.covariance(asked, asked), once.covariance(asked, asked))
    torch.testing.assert_close(once.covariance(asked, asked).diagonal(), once.predict(asked)[1])


def test_conditioning_many_times_asks_the_prior_no_more_often_than_once():
    asked: list[int] = []
    prior = brownian(0.1)
    counted = replace(prior, covariance=lambda a, b: asked.append(len(b)) or prior.covariance(a, b))
    x, y = normal(12, 1).abs(), normal(12, seed=1)
    function = counted
    for place in range(12):
        function = function.condition(x[place : place + 1], y[place : place + 1])
    asked.clear()
    function.predict(normal(5, 1, seed=2).abs())
    assert len(asked) <= 3


def test_brownian_motion_seen_at_two_times_is_a_bridge_between():
    bridge = brownian(1e-12).condition(torch.tensor([[1.0], [3.0]]).double(), torch.tensor([0.0, 4.0]).double())
    mean, variance, _ = bridge.predict(torch.tensor([[1.5], [2.0]]).double())
    torch.testing.assert_close(mean, torch.tensor([1.0, 2.0]).double())
    torch.testing.assert_close(variance, torch.tensor([0.5 * 1.5 / 2, 0.5]).double())


def test_draws_have_the_covariance_and_equal_points_equal_values():
    function = brownian(0.0)
    x = torch.tensor([[0.5], [1.0], [1.0], [2.0]]).double()
    drawn = function.sample(x, 20_000, np.random.default_rng(0))
    torch.testing.assert_close(torch.cov(drawn.mT), function.covariance(x, x), rtol=0.05, atol=0.02)
    assert float((drawn[:, 1] - drawn[:, 2]).abs().max()) < 1e-6


def test_a_mixture_has_the_moments_of_draws_of_its_parts_in_turn():
    parts = [brownian(0.1), brownian(0.3).condition(torch.tensor([[1.0]]).double(), torch.tensor([-2.0]).double())]
    x = torch.tensor([[0.5], [1.0], [2.0]]).double()
    both, rng = mixture(parts), np.random.default_rng(0)
    drawn = torch.cat([part.sample(x, 40_000, rng) for part in parts])
    mean, variance, noise = both.predict(x)
    torch.testing.assert_close(mean, drawn.mean(0), rtol=0.02, atol=0.02)
    torch.testing.assert_close(both.covariance(x, x), torch.cov(drawn.mT), rtol=0.02, atol=0.02)
    torch.testing.assert_close(both.covariance(x, x).diagonal(), variance)
    torch.testing.assert_close(noise, torch.full((3,), 0.2).double())
    assert mixture(parts[:1]) is parts[0]


def test_starts_of_laplace_that_disagree_make_it_less_sure():
    x, y = smooth(12)
    alone, several = (Laplace(numbers(3), hidden=(10,), starts=starts, iterations=30) for starts in (1, 4))
    beyond = np.full((1, 3), 4.0)
    one, more = (predictor.regress(x, y).predict(beyond) for predictor in (alone, several))
    assert more.variance[0] > one.variance[0]


def test_an_indefinite_covariance_is_mended_a_little_and_else_refused():
    ones = torch.ones(3, 3, dtype=torch.float64)
    torch.testing.assert_close(cholesky(ones) @ cholesky(ones).mT, ones, rtol=0, atol=1e-5)
    with pytest.raises(PredictorError, match="covariance of 2 trials is not positive definite"):
        cholesky(torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double())


def test_marginal_likelihood_is_that_of_torch():
    root, y = normal(4, 4), normal(4, seed=1)
    gram = root @ root.mT + torch.eye(4)
    expected = torch.distributions.MultivariateNormal(torch.zeros(4).double(), gram).log_prob(y)
    torch.testing.assert_close(negative_log_marginal(gram, y), -expected / 4)


# ------------------------------------------------------------------------------------------------ infinite width


@pytest.mark.parametrize("depth", [1, 3])
def test_arc_cosine_kernel_is_botorchs(depth):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from botorch.models.kernels import InfiniteWidthBNNKernel

        peer = InfiniteWidthBNNKernel(depth=depth).double()
    peer.weight_var, peer.bias_var = 1.7, 0.3
    a, b = normal(6, 4), normal(5, 4, seed=1)
    with torch.no_grad():
        expected = peer(a, b).to_dense()
    torch.testing.assert_close(arc_cosine(a, b, number(1.7), number(0.3), depth), expected, rtol=1e-6, atol=1e-6)


def test_arc_cosine_kernel_is_what_many_wide_random_networks_have():
    network = Network(inputs=3, hidden=(100, 100), activation="relu", weight_scale=1.3, bias_scale=0.5)
    x, generator = normal(4, 3), torch.Generator().manual_seed(3)
    outputs = torch.cat([network.outputs_of(network.draw(50, generator), x)[:, :, 0] for _ in range(30)])
    expected = arc_cosine(x, x, number(1.3**2), number(0.25), depth=2)
    torch.testing.assert_close(torch.cov(outputs.mT), expected, rtol=0.15, atol=0.1)


def test_arc_cosine_kernel_is_semidefinite_its_diagonal_its_variance_and_its_gradient_finite():
    x = torch.cat([normal(5, 3), normal(5, 3), torch.zeros(1, 3).double()])  # repeats, where the angle is 0
    weight, bias = number(2.0).requires_grad_(), number(0.1).requires_grad_()
    gram = arc_cosine(x, x, weight, bias, depth=3)
    torch.testing.assert_close(gram.diagonal(), arc_cosine_variance(x, weight, bias, depth=3))
    assert float(torch.linalg.eigvalsh(gram.detach()).min()) > -1e-7
    slopes = torch.autograd.grad(gram.sum(), [weight, bias])
    for value, slope in zip((weight, bias), slopes, strict=True):

        def total(shift: float, moved: torch.Tensor = value) -> float:
            numbers_ = [p.detach() + (shift if p is moved else 0.0) for p in (weight, bias)]
            return float(arc_cosine(x, x, *numbers_, depth=3).sum())

        assert float(slope) == pytest.approx((total(1e-5) - total(-1e-5)) / 2e-5, rel=1e-4)


# ------------------------------------------------------------------------------------------------------ laplace


def test_laplace_is_exact_for_a_linear_network():
    rng = np.random.default_rng(0)
    x = rng.random((20, 3))
    y = 5.0 + 2.0 * x @ [1.0, -2.0, 0.5] + 0.3 * rng.standard_normal(20)
    asked = 3.0 * rng.random((6, 3))
    found = Laplace(numbers(3), hidden=(), noise=0.09, prior_precision=2.0, weight_scale=1.4, bias_scale=0.8).regress(
        x, y
    )

    def rows(points: np.ndarray) -> np.ndarray:
        return np.column_stack([(points - x.mean(0)) / x.std(0), np.ones(len(points))])

    prior = np.diag([1.4**2 / 3] * 3 + [0.8**2]) / 2.0
    gram = rows(x) @ prior @ rows(x).T + 0.09 / y.var() * np.eye(20)
    between = rows(asked) @ prior @ rows(x).T
    standard = (y - y.mean()) / y.std()
    mean = y.mean() + y.std() * between @ np.linalg.solve(gram, standard)
    covariance = y.var() * (rows(asked) @ prior @ rows(asked).T - between @ np.linalg.solve(gram, between.T))
    np.testing.assert_allclose(found.predict(asked).mean, mean)
    np.testing.assert_allclose(found.covariance(asked), covariance, atol=1e-10)
    _, logarithm = np.linalg.slogdet(2 * np.pi * gram)
    evidence = -0.5 * (standard @ np.linalg.solve(gram, standard) + logarithm)
    assert found.diagnostics["evidence"] == pytest.approx(evidence)


def test_precision_and_noise_of_a_linear_network_are_near_those_of_the_largest_evidence():
    network = Network(inputs=8, hidden=())
    x, weights = normal(300, 8), 0.5 * normal(1, network.weights, seed=1)
    y = network.outputs_of(weights, x)[0, :, 0] + 0.3 * normal(300, seed=2)
    settings = {"iterations": 100}
    found = most_likely(network, torch.zeros(network.weights).double(), x, y, precision=None, noise=None, **settings)
    assert found.noise == pytest.approx(0.09, rel=0.25)
    for precision, noise in ((2.5, 1.0), (0.4, 1.0), (1.0, 1.3), (1.0, 0.77)):
        other = most_likely(
            network,
            found.theta,
            x,
            y,
            precision=found.precision * precision,
            noise=found.noise * noise,
            **settings,
        )
        assert other.evidence < found.evidence


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_curvature_is_the_inverse_by_the_smaller_side(shape):
    jacobian, asked, gradient = normal(*shape), normal(3, shape[1], seed=1), normal(shape[1], seed=2)
    curvature = Curvature.of(jacobian)
    inverse = torch.linalg.inv(jacobian.mT @ jacobian / 0.2 + 0.7 * torch.eye(shape[1]))
    torch.testing.assert_close(curvature.solve(gradient, 0.7, 0.2), inverse @ gradient)
    torch.testing.assert_close(curvature.covariance(asked, asked, 0.7, 0.2), asked @ inverse @ asked.mT)
    torch.testing.assert_close(curvature.variance(asked, 0.7, 0.2), (asked @ inverse @ asked.mT).diagonal())


def test_most_likely_weights_of_a_curved_network_leave_no_slope():
    network = Network(inputs=2, hidden=(6,))
    x = normal(30, 2)
    y = (2.0 * x[:, 0]).sin() + 0.1 * normal(30, seed=1)
    start = network.draw(1, torch.Generator().manual_seed(0))[0]
    found = most_likely(network, start, x, y, precision=0.5, noise=0.05, iterations=500)
    theta = found.theta.clone().requires_grad_()
    errors = y - network.outputs_of(theta[None], x)[0, :, 0]
    (slope,) = torch.autograd.grad(0.5 * errors.square().sum() / 0.05 + 0.25 * theta.square().sum(), theta)
    assert float(slope.abs().max()) < 0.05
    assert float(errors.square().mean().sqrt().detach()) < 0.2


# ---------------------------------------------------------------------------------------------------- all three


@pytest.mark.slow
@pytest.mark.parametrize("predictor", [InfiniteWidth, DeepKernel, Laplace])
def test_a_given_noise_is_kept_and_a_learnt_one_found(predictor):
    x, y = smooth(60, noise=0.2)
    assert predictor(numbers(3), noise=0.7).regress(x, y).noise == pytest.approx(0.7)
    learnt = predictor(numbers(3)).regress(x, y)
    assert 0.25 < math.sqrt(learnt.noise) < 1.5  # it is 0.6
