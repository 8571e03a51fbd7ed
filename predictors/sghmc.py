"""sghmc: a Bayesian neural network drawn by stochastic gradient Hamiltonian Monte Carlo: for more trials than `hmc`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.draws import functions_of, largest_r_hat
from predictors.bayesian_network.friction import sample_chains
from predictors.bayesian_network.functions import Functions
from predictors.bayesian_network.log_posterior import LogPosterior
from predictors.bayesian_network.network import Network
from predictors.bayesian_network.over_architectures import FloatArray, NetworkPosterior, learn_vectors
from predictors.bayesian_network.regression import Regression, regress
from predictors.features import DECISIONS_AND_PATHS, Features, features_of
from predictors.settings import check_counts, check_noise, check_positive, check_seed, check_shares
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Sghmc:
    """Stochastic gradient Hamiltonian Monte Carlo over the weights, several chains at once; the noise is drawn from its
    conditional density in between.

    Nothing corrects its discretisation: with a larger `step_size` it is faster and its variances are too large.

    Source: see `bayesian_network.friction`.

    The posterior's `diagnostics`: ``r_hat``, as for `Hmc`.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        hidden: units of each hidden layer; none for a linear function.
        activation: "tanh" or "relu".
        weight_scale: prior standard deviation of a weight, times the square root of its layer's inputs.
        bias_scale: prior standard deviation of what a layer adds.
        noise: variance of an evaluation in units of the losses squared; None to learn it.
        chains: run side by side.
        burn_in: steps that are thrown away.
        draws: kept of each chain.
        thinning: steps between two of them.
        step_size: epsilon, in units of a direction's width; see `bayesian_network.friction`.
        friction: alpha, the part of the velocity that a step takes.
        batch: trials that a step looks at; all of them where there are no more.
        seed: of everything drawn while fitting.
    """

    space: SearchSpace
    features: Features = DECISIONS_AND_PATHS
    _: KW_ONLY
    hidden: tuple[int, ...] = (50,)
    activation: str = "tanh"
    weight_scale: float = 1.5
    bias_scale: float = 1.0
    noise: float | None = None
    chains: int = 8
    burn_in: int = 2000
    draws: int = 25
    thinning: int = 50
    step_size: float = 0.1
    friction: float = 0.05
    batch: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(
            chains=self.chains, burn_in=self.burn_in, draws=self.draws, thinning=self.thinning, batch=self.batch
        )
        check_positive(step_size=self.step_size)
        check_noise(self.noise)
        if self.draws < 4:
            raise ValueError(f"draws: R-hat needs at least 4 of each chain, got {self.draws}")
        check_shares(friction=self.friction)
        Network.of(self, 1)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> NetworkPosterior:
        """The posterior after n finished trials; see `predictors.predictor.Predictor.fit`."""
        return NetworkPosterior(*learn_vectors(self.space, self.features, architectures, losses, self.regress))

    def regress(self, x: FloatArray, y: FloatArray) -> Regression:
        """The same from n vectors, shape (n, d), and losses, shape (n,)."""
        return regress(x, y, self._draw)

    def _draw(self, x: Tensor, y: Tensor, variance: float) -> tuple[Functions, Mapping[str, float]]:
        generator = torch.Generator().manual_seed(self.seed)
        noise = None if self.noise is None else self.noise / variance
        posterior = LogPosterior(network=Network.of(self, x.shape[1]), x=x, y=y, noise=noise)

        def gradient(position: Tensor) -> Tensor:
            if len(y) <= self.batch:
                return posterior(position)[1]
            rows = torch.randint(len(y), (len(position), self.batch), generator=generator)
            return posterior.estimate(position, rows)[1]

        every = math.ceil(len(y) / self.batch)

        def redraw(position: Tensor, number: int) -> Tensor:
            # looks at all trials, so once for as many steps as see that many
            return position if number % every else posterior.redraw_noise(position, generator)

        moving = torch.ones(posterior.width, dtype=torch.float64)
        moving[posterior.network.weights :] = 0.0
        draws = sample_chains(
            gradient,
            posterior.draw(self.chains, generator),
            burn_in=self.burn_in,
            draws=self.draws,
            thinning=self.thinning,
            step_size=self.step_size,
            friction=self.friction,
            generator=generator,
            moving=moving,
            redraw=redraw if noise is None else None,
        )
        kept = draws.shape[0] * draws.shape[1]
        return functions_of(posterior, draws, kept), {"r_hat": largest_r_hat(posterior, draws)}
