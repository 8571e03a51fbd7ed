"""infinite_width: what Bayesian ReLU networks become as their layers grow without end: a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.arc_cosine import arc_cosine, arc_cosine_variance
from predictors.bayesian_network.gaussian import GaussianFunction, negative_log_marginal
from predictors.bayesian_network.log_posterior import NOISE_MEDIAN
from predictors.bayesian_network.marginal_likelihood import most_probable
from predictors.bayesian_network.over_architectures import FloatArray, JointNetworkPosterior, learn_vectors
from predictors.bayesian_network.regression import JointRegression, regress_jointly
from predictors.features import DECISIONS_AND_PATHS, Features, features_of
from predictors.settings import check_counts, check_noise, check_seed
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class InfiniteWidth:
    """Exact inference with the arc-cosine kernel; scale, weight and bias variances and noise by marginal likelihood.

    Each of those four is log-normal before there are data, with a standard deviation of e. Takes time with the cube of
    the trials.

    Source: see `bayesian_network.arc_cosine`; I-BNN of Li, Rudner, Wilson (ICLR 2024).

    The posterior's `diagnostics`: ``weight_variance``, ``bias_variance``, ``scale``.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        depth: hidden layers.
        noise: variance of an evaluation in units of the losses squared; None to learn it.
        iterations: of the search for those four, at most.
        compared: look for them with so many of the trials at most, drawn evenly; all trials are learnt from.
        seed: of that draw.
    """

    space: SearchSpace
    features: Features = DECISIONS_AND_PATHS
    _: KW_ONLY
    depth: int = 3
    noise: float | None = None
    iterations: int = 100
    compared: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(depth=self.depth, iterations=self.iterations, compared=self.compared)
        check_noise(self.noise)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> JointNetworkPosterior:
        """The posterior after n finished trials; see `predictors.predictor.Predictor.fit`."""
        return JointNetworkPosterior(*learn_vectors(self.space, self.features, architectures, losses, self.regress))

    def regress(self, x: FloatArray, y: FloatArray) -> JointRegression:
        """The same from n vectors, shape (n, d), and losses, shape (n,)."""
        return regress_jointly(x, y, self._condition)

    def _condition(self, x: Tensor, y: Tensor, variance: float) -> tuple[GaussianFunction, Mapping[str, float]]:
        given = None if self.noise is None else math.log(self.noise / variance)
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))[: self.compared]
        some_x, some_y = x[order], y[order]
        diagonal = torch.eye(len(some_y), dtype=y.dtype)
        usual = torch.tensor([0.0, math.log(2.0), math.log(0.1), 2.0 * math.log(NOISE_MEDIAN)], dtype=y.dtype)

        def loss(point: Tensor) -> Tensor:
            scale, weight, bias, noise = point.exp()
            noise = noise if given is None else torch.tensor(math.exp(given), dtype=y.dtype)
            gram = scale * arc_cosine(some_x, some_x, weight, bias, self.depth) + noise * diagonal
            return negative_log_marginal(gram, some_y) + 0.5 * (point - usual).square().sum() / len(some_y)

        scale, weight, bias, noise = most_probable(loss, usual, self.iterations).exp()
        prior = GaussianFunction(
            mean=lambda points: torch.zeros(len(points), dtype=points.dtype),
            covariance=lambda a, b: scale * arc_cosine(a, b, weight, bias, self.depth),
            variance=lambda points: scale * arc_cosine_variance(points, weight, bias, self.depth),
            noise=float(noise) if given is None else math.exp(given),
        )
        return prior.condition(x, y), {
            "weight_variance": float(weight),
            "bias_variance": float(bias),
            "scale": float(scale),
        }
