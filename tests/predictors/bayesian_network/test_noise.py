import numpy as np
import pytest
import torch

from predictors.bayesian_network.log_posterior import LogPosterior
from predictors.bayesian_network.network import Network
from predictors.bayesian_network.noise import draw_noise

DRAWS = 20_000


def quantiles_expected(posterior: LogPosterior, weights: torch.Tensor, levels: np.ndarray) -> np.ndarray:
    """By the rectangle rule on the density itself."""
    grid = torch.linspace(-12.0, 12.0, 240_001, dtype=torch.float64)
    positions = torch.cat([weights.expand(len(grid), -1), grid[:, None]], dim=1)
    logs = posterior(positions)[0]
    below = (logs - logs.max()).exp().cumsum(0)
    return np.interp(levels, (below / below[-1]).numpy(), grid.numpy())


@pytest.mark.parametrize(("count", "error"), [(2, 1.0), (2, 1e-3), (30, 0.05), (30, 30.0)])
def test_the_noise_is_drawn_from_the_posterior_density_given_the_weights(count, error):
    network = Network(inputs=1, hidden=())
    y = torch.full((count,), error, dtype=torch.float64)
    posterior = LogPosterior(network=network, x=torch.zeros(count, 1, dtype=torch.float64), y=y, noise=None)
    weights = torch.zeros(1, network.weights, dtype=torch.float64)
    positions = torch.cat([weights, torch.full((1, 1), 9.0, dtype=torch.float64)], dim=1).expand(DRAWS, -1)
    drawn = posterior.redraw_noise(positions, torch.Generator().manual_seed(0))
    assert (drawn[:, :-1] == 0.0).all()
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    expected = quantiles_expected(posterior, weights, levels)
    spread = expected[3] - expected[1]
    np.testing.assert_allclose(np.quantile(drawn[:, -1].numpy(), levels), expected, atol=0.05 * spread)


def test_errors_of_any_size_give_a_finite_noise():
    squares = torch.tensor([0.0, 1e-300, 1e-20, 1.0, 1e20, 1e300], dtype=torch.float64)
    for count in (2, 100, 10_000):
        drawn = draw_noise(squares, count, 0.2, torch.Generator().manual_seed(0))
        assert drawn.isfinite().all(), count
        assert drawn[0] < drawn[-1]
