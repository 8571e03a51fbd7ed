import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from predictors.bayesian_network.convergence import split_r_hat
from predictors.bayesian_network.draws import functions_of
from predictors.bayesian_network.hamiltonian import State, leapfrog, sample_chains
from predictors.bayesian_network.log_posterior import LogPosterior
from predictors.bayesian_network.network import Network
from predictors.hmc import Hmc
from tests.predictors.bayesian_network.problems import numbers


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_posterior(noise: float | None = None) -> LogPosterior:
    x = torch.randn(12, 2, generator=generator(1), dtype=torch.float64)
    return LogPosterior(network=Network(inputs=2, hidden=(5,)), x=x, y=x[:, 0].sin(), noise=noise)


def start_of(posterior: LogPosterior, chains: int = 3) -> tuple[State, torch.Tensor]:
    position = posterior.draw(chains, generator(2))
    momentum = torch.randn(position.shape, generator=generator(3), dtype=torch.float64)
    return State(position, *posterior(position)), momentum


def energy(state: State, momentum: torch.Tensor) -> torch.Tensor:
    return 0.5 * momentum.square().sum(1) - state.log_density


def test_leapfrog_comes_back_when_the_momentum_is_turned_around():
    posterior = network_posterior()
    state, momentum = start_of(posterior)
    there, arrived = leapfrog(posterior, state, momentum, 0.003, 40)
    assert (there.position - state.position).abs().max() > 0.01
    back, ended = leapfrog(posterior, there, -arrived, 0.003, 40)
    torch.testing.assert_close(back.position, state.position, rtol=0, atol=1e-9)
    torch.testing.assert_close(-ended, momentum, rtol=0, atol=1e-9)


def test_leapfrog_keeps_the_energy_to_second_order_in_the_step():
    posterior = network_posterior(noise=0.1)
    state, momentum = start_of(posterior)

    def drift(step: float, steps: int) -> float:
        return float((energy(*leapfrog(posterior, state, momentum, step, steps)) - energy(state, momentum)).abs().max())

    coarse, fine = drift(4e-3, 20), drift(2e-3, 40)
    assert fine < 0.1
    assert 3.0 < coarse / fine < 5.0


def test_chains_draw_from_a_correlated_normal_and_take_their_target_acceptance():
    covariance = torch.tensor([[2.0, 0.9], [0.9, 0.5]], dtype=torch.float64)
    precision, mean = torch.linalg.inv(covariance), torch.tensor([1.0, -2.0], dtype=torch.float64)

    def log_density(position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        slope = -(position - mean) @ precision
        return 0.5 * (slope * (position - mean)).sum(1), slope

    chains = sample_chains(
        log_density,
        torch.zeros(8, 2, dtype=torch.float64),
        warm_up=200,
        draws=400,
        leapfrog_steps=15,
        target_acceptance=0.8,
        generator=generator(),
    )
    flat = chains.draws.reshape(-1, 2)
    torch.testing.assert_close(flat.mean(0), mean, rtol=0, atol=0.15)
    torch.testing.assert_close(torch.cov(flat.mT), covariance, rtol=0.15, atol=0.05)
    assert 0.65 < float(chains.acceptance.mean()) < 0.95
    assert float(split_r_hat(chains.draws).max()) < 1.05


def test_a_trajectory_that_runs_away_is_refused():
    def log_density(position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outside = position.abs().amax(1) > 1.0
        value = torch.where(outside, torch.full_like(position[:, 0], math.nan), torch.zeros_like(position[:, 0]))
        return value, torch.zeros_like(position)

    chains = sample_chains(
        log_density,
        torch.zeros(2, 1, dtype=torch.float64),
        warm_up=50,
        draws=200,
        leapfrog_steps=4,
        target_acceptance=0.8,
        generator=generator(),
    )
    assert chains.draws.abs().max() <= 1.0
    assert chains.draws.var() == pytest.approx(1 / 3, rel=0.3)  # uniform between -1 and 1


def test_split_r_hat_is_near_one_for_one_density_and_large_where_chains_differ_or_drift():
    draws = torch.randn(200, 4, 3, generator=generator(), dtype=torch.float64)
    assert float((split_r_hat(draws) - 1.0).abs().max()) < 0.03
    apart = draws + torch.tensor([0.0, 0.0, 0.0, 3.0], dtype=torch.float64)[None, :, None]
    assert float(split_r_hat(apart).min()) > 1.3
    drifting = draws + torch.linspace(0.0, 4.0, 200, dtype=torch.float64)[:, None, None]
    assert float(split_r_hat(drifting).min()) > 1.3
    assert float(split_r_hat(torch.ones(10, 2, 1))) == 1.0
    with pytest.raises(ValueError, match="at least four draws"):
        split_r_hat(draws[:3])


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kept"), [(200, 200), (400, 200), (16, 200), (50, 7)])
def test_functions_are_of_all_chains_alike(count, kept):
    draws = torch.arange(4.0).expand(count, 4)[:, :, None]  # each draw is its chain's number
    posterior = SimpleNamespace(
        outputs_of=lambda chosen, points: chosen.expand(-1, len(points)), noise_of=lambda chosen: chosen[:, 0]
    )
    functions = functions_of(posterior, draws, kept)
    chains = functions.outputs(torch.zeros(1, 1))[0][:, 0].long()
    assert functions.count == min(kept, 4 * count)
    assert np.ptp(torch.bincount(chains, minlength=4).numpy()) <= 1


def test_hmc_finds_the_closed_form_posterior_of_bayesian_linear_regression():
    rng = np.random.default_rng(0)
    x = rng.random((25, 3))
    y = 5.0 + 2.0 * x @ [1.0, -2.0, 0.5] + 0.3 * rng.standard_normal(25)
    asked = rng.random((6, 3)) * 2.0
    noise, weight_scale, bias_scale = 0.09, 1.4, 0.8
    regression = Hmc(
        numbers(3),
        hidden=(),
        noise=noise,
        weight_scale=weight_scale,
        bias_scale=bias_scale,
        chains=4,
        draws=300,
        leapfrog_steps=12,
        kept=1200,
    ).regress(x, y)

    # the closed form, in the standardised units the prior is written in
    def rows(points: np.ndarray) -> np.ndarray:
        return np.column_stack([(points - x.mean(0)) / x.std(0), np.ones(len(points))])

    prior = np.diag([weight_scale**2 / 3] * 3 + [bias_scale**2])
    precision = rows(x).T @ rows(x) * y.var() / noise + np.linalg.inv(prior)
    covariance = np.linalg.inv(precision)
    weights = covariance @ rows(x).T @ ((y - y.mean()) / y.std()) * y.var() / noise
    mean = y.mean() + y.std() * rows(asked) @ weights
    deviation = y.std() * np.sqrt(np.einsum("md,de,me->m", rows(asked), covariance, rows(asked)))

    found = regression.predict(asked)
    assert regression.diagnostics["r_hat"] < 1.05
    assert 0.6 < regression.diagnostics["acceptance"] < 0.95
    assert np.abs(found.mean - mean).max() < 0.15 * deviation.min()
    np.testing.assert_allclose(np.sqrt(found.variance), deviation, rtol=0.15)
    np.testing.assert_allclose(found.noise, noise)
