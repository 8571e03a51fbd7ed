"""laplace: networks at their most likely weights, linear around them: a Gaussian posterior in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.gauss_newton import Mode, most_likely
from predictors.bayesian_network.gaussian import GaussianFunction, mixture
from predictors.bayesian_network.network import Network
from predictors.bayesian_network.over_architectures import FloatArray, JointNetworkPosterior, learn_vectors
from predictors.bayesian_network.regression import JointRegression, regress_jointly
from predictors.features import DECISIONS_AND_PATHS, Features, features_of
from predictors.settings import check_counts, check_noise, check_positive, check_seed
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Laplace:
    """The linearised Laplace approximation with the full generalised Gauss-Newton curvature.

    Prior precision and noise are those of the largest marginal likelihood. Several starts end in different networks
    that are about as likely: all of them count, each as much, and where they differ is doubt. Exact where there is no
    hidden layer. Takes time with the cube of the smaller of trials and weights.

    Source: see `bayesian_network.gauss_newton`; Eschenhagen, Daxberger, Hennig, Kristiadi, "Mixtures of Laplace
    Approximations for Improved Post-Hoc Uncertainty in Deep Learning" (2021).
    Differs: the mixture has the same weight for all, and is taken for the Gaussian with its moments.

    The posterior's `diagnostics`, of the most likely network: ``evidence``, the log marginal likelihood of the
    standardised losses; ``prior_precision``; ``determined``, how many weights the trials determine.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        hidden: units of each hidden layer; none gives Bayesian linear regression.
        activation: "tanh" or "relu"; what is linearised had better be smooth.
        weight_scale: prior standard deviation of a weight, times the square root of its layer's inputs, at precision 1.
        bias_scale: prior standard deviation of what a layer adds, at precision 1.
        noise: variance of an evaluation in units of the losses squared; None to learn it.
        prior_precision: of all weights; None to learn it.
        starts: networks to begin from.
        iterations: of Gauss-Newton from each, at most.
        seed: of the starts.
    """

    space: SearchSpace
    features: Features = DECISIONS_AND_PATHS
    _: KW_ONLY
    hidden: tuple[int, ...] = (50,)
    activation: str = "tanh"
    weight_scale: float = 1.5
    bias_scale: float = 1.0
    noise: float | None = None
    prior_precision: float | None = None
    starts: int = 3
    iterations: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(starts=self.starts, iterations=self.iterations)
        check_noise(self.noise)
        if self.prior_precision is not None:
            check_positive(prior_precision=self.prior_precision)
        Network.of(self, 1)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> JointNetworkPosterior:
        """The posterior after n finished trials; see `predictors.predictor.Predictor.fit`."""
        return JointNetworkPosterior(*learn_vectors(self.space, self.features, architectures, losses, self.regress))

    def regress(self, x: FloatArray, y: FloatArray) -> JointRegression:
        """The same from n vectors, shape (n, d), and losses, shape (n,)."""
        return regress_jointly(x, y, self._approximate)

    def _approximate(self, x: Tensor, y: Tensor, variance: float) -> tuple[GaussianFunction, Mapping[str, float]]:
        network = Network.of(self, x.shape[1])
        noise = None if self.noise is None else self.noise / variance
        modes = [
            most_likely(network, start, x, y, precision=self.prior_precision, noise=noise, iterations=self.iterations)
            for start in network.draw(self.starts, torch.Generator().manual_seed(self.seed))
        ]
        mode = max(modes, key=lambda found: found.evidence)
        return mixture([_linearised(network, found) for found in modes]), {
            "evidence": mode.evidence,
            "prior_precision": mode.precision,
            "determined": mode.curvature.determined(mode.precision, mode.noise),
        }


def _linearised(network: Network, mode: Mode) -> GaussianFunction:
    """The network as a linear function of weights that are normal around the mode."""

    def slopes(x: Tensor) -> Tensor:
        return network.jacobian(mode.theta, x)[1]

    return GaussianFunction(
        mean=lambda x: network.outputs_of(mode.theta[None], x)[0, :, 0],
        covariance=lambda a, b: mode.curvature.covariance(slopes(a), slopes(b), mode.precision, mode.noise),
        variance=lambda x: mode.curvature.variance(slopes(x), mode.precision, mode.noise),
        noise=mode.noise,
    )
