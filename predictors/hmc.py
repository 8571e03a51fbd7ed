"""hmc: a Bayesian neural network whose weights are drawn by Hamiltonian Monte Carlo, as near to the truth as any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.draws import functions_of, largest_r_hat
from predictors.bayesian_network.functions import Functions
from predictors.bayesian_network.hamiltonian import sample_chains
from predictors.bayesian_network.log_posterior import LogPosterior
from predictors.bayesian_network.network import Network
from predictors.bayesian_network.over_architectures import FloatArray, NetworkPosterior, learn_vectors
from predictors.bayesian_network.regression import Regression, regress
from predictors.features import DECISIONS_AND_PATHS, Features, features_of
from predictors.settings import check_counts, check_noise, check_positive, check_seed
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Hmc:
    """Full-batch Hamiltonian Monte Carlo over the weights and the noise, several chains at once.

    Source: Neal, "Bayesian Learning for Neural Networks" (1996); Li, Rudner, Wilson (ICLR 2024), section 3.

    The posterior's `diagnostics`: ``r_hat``, the largest split R-hat of the function at the trials and of the noise
    (above about 1.1 the chains have not met: draw longer); ``acceptance``, the mean probability; ``step_size``.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        hidden: units of each hidden layer; none gives Bayesian linear regression.
        activation: "tanh" or "relu".
        weight_scale: prior standard deviation of a weight, times the square root of its layer's inputs.
        bias_scale: prior standard deviation of what a layer adds.
        noise: variance of an evaluation in units of the losses squared; None to learn it.
        chains: run side by side.
        warm_up: transitions of each chain that adapt the step size and are thrown away.
        draws: transitions of each chain after that.
        leapfrog_steps: of the longest trajectory.
        target_acceptance: mean acceptance probability that the step size is adapted to.
        kept: predict from so many draws of all chains together, evenly spread.
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
    chains: int = 4
    warm_up: int = 200
    draws: int = 200
    leapfrog_steps: int = 20
    target_acceptance: float = 0.8
    kept: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(
            chains=self.chains,
            warm_up=self.warm_up,
            draws=self.draws,
            leapfrog_steps=self.leapfrog_steps,
            kept=self.kept,
        )
        check_noise(self.noise)
        if self.draws < 4:
            raise ValueError(f"draws: R-hat needs at least 4 of each chain, got {self.draws}")
        check_positive(target_acceptance=self.target_acceptance)
        if self.target_acceptance >= 1:
            raise ValueError(f"target_acceptance must be between 0 and 1, got {self.target_acceptance}")
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
        chains = sample_chains(
            posterior,
            posterior.draw(self.chains, generator),
            warm_up=self.warm_up,
            draws=self.draws,
            leapfrog_steps=self.leapfrog_steps,
            target_acceptance=self.target_acceptance,
            generator=generator,
        )
        diagnostics = {
            "r_hat": largest_r_hat(posterior, chains.draws),
            "acceptance": float(chains.acceptance.mean()),
            "step_size": chains.step_size,
        }
        return functions_of(posterior, chains.draws, self.kept), diagnostics
