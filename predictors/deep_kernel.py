"""deep_kernel: a Gaussian process on what a network makes of the inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.gaussian import GaussianFunction, negative_log_marginal
from predictors.bayesian_network.log_posterior import NOISE_MEDIAN
from predictors.bayesian_network.network import Network
from predictors.bayesian_network.over_architectures import FloatArray, JointNetworkPosterior, learn_vectors
from predictors.bayesian_network.regression import JointRegression, regress_jointly
from predictors.features import DECISIONS_AND_PATHS, Features, features_of
from predictors.settings import check_counts, check_noise, check_positive, check_seed
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class DeepKernel:
    """A squared exponential kernel on a network's outputs; weights, scale and noise by exact marginal likelihood.

    Source: Wilson, Hu, Salakhutdinov, Xing, "Deep Kernel Learning", AISTATS 2016, section 3.
    Differs: weights have their prior. That is not enough: a kernel of so many numbers fits the trials far better than
    what it has not seen (Ober, Rasmussen, van der Wilk, "The Promises and Pitfalls of Deep Kernel
    Learning", UAI 2021). So a fifth of the trials is held out once, and all variances, a learnt noise included, are
    multiplied by how much too small they were there. Takes time with the cube of the trials, at every step.

    The posterior's `diagnostics`: ``negative_log_marginal`` of the standardised losses, per trial; ``too_sure``, that
    factor.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        hidden: units of each hidden layer.
        learnt_features: outputs of the network, which the kernel compares.
        activation: "tanh" or "relu".
        weight_scale: prior standard deviation of a weight, times the square root of its layer's inputs.
        bias_scale: prior standard deviation of what a layer adds.
        noise: variance of an evaluation in units of the losses squared; None to learn it.
        steps: of Adam.
        learning_rate: of Adam, at the start; it falls to zero along a cosine.
        seed: of the weights.
    """

    space: SearchSpace
    features: Features = DECISIONS_AND_PATHS
    _: KW_ONLY
    hidden: tuple[int, ...] = (50,)
    learnt_features: int = 8
    activation: str = "tanh"
    weight_scale: float = 1.0
    bias_scale: float = 1.0
    noise: float | None = None
    steps: int = 300
    learning_rate: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(learnt_features=self.learnt_features, steps=self.steps)
        check_positive(learning_rate=self.learning_rate)
        check_noise(self.noise)
        self._network(1)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> JointNetworkPosterior:
        """The posterior after n finished trials; see `predictors.predictor.Predictor.fit`."""
        return JointNetworkPosterior(*learn_vectors(self.space, self.features, architectures, losses, self.regress))

    def regress(self, x: FloatArray, y: FloatArray) -> JointRegression:
        """The same from n vectors, shape (n, d), and losses, shape (n,)."""
        return regress_jointly(x, y, self._train)

    def _network(self, inputs: int) -> Network:
        return Network(
            inputs=inputs,
            hidden=self.hidden,
            outputs=self.learnt_features,
            activation=self.activation,
            weight_scale=self.weight_scale,
            bias_scale=self.bias_scale,
        )

    def _train(self, x: Tensor, y: Tensor, variance: float) -> tuple[GaussianFunction, Mapping[str, float]]:
        given = None if self.noise is None else torch.tensor(self.noise / variance, dtype=y.dtype)
        factor = self._too_sure(x, y, given)
        prior, marginal = self._prior(x, y, given)
        stretched = _stretched(prior, factor, stretch_noise=given is None)
        with torch.no_grad():
            return stretched.condition(x, y), {"negative_log_marginal": marginal, "too_sure": factor}

    def _too_sure(self, x: Tensor, y: Tensor, given: Tensor | None) -> float:
        """How many times too small the variance of a held-out fifth is when the rest is learnt from; at least 1."""
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))
        out, rest = order[: len(y) // 5], order[len(y) // 5 :]
        if not len(out):
            return 1.0
        prior, _ = self._prior(x[rest], y[rest], given)
        with torch.no_grad():
            mean, variance, noise = prior.condition(x[rest], y[rest]).predict(x[out])
        # one more trial that was right keeps two or three unlucky ones from saying too much
        return max(1.0, (float(((y[out] - mean).square() / (variance + noise)).sum()) + 1.0) / (len(out) + 1))

    def _prior(self, x: Tensor, y: Tensor, given: Tensor | None) -> tuple[GaussianFunction, float]:
        """The process with a trained kernel, and the negative log marginal likelihood per trial."""
        network = self._network(x.shape[1])
        theta = network.draw(1, torch.Generator().manual_seed(self.seed)).requires_grad_()
        # logarithms of the kernel's scale, its length and the noise's standard deviation over what is usual
        logs = torch.zeros(3, dtype=y.dtype, requires_grad=True)
        diagonal = torch.eye(len(y), dtype=y.dtype)

        def noise_now() -> Tensor:
            return NOISE_MEDIAN**2 * (2.0 * logs[2]).exp() if given is None else given

        adam = torch.optim.Adam([theta, logs], lr=self.learning_rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        marginal = math.nan
        with torch.enable_grad():
            for _ in range(self.steps):
                adam.zero_grad()
                seen = network.outputs_of(theta, x)[0] * (-logs[1]).exp()
                loss = negative_log_marginal(logs[0].exp() * _closeness(seen, seen) + noise_now() * diagonal, y)
                penalty = 0.5 * (theta.square().sum() + logs.square().sum()) / len(y)
                (loss + penalty).backward()  # type: ignore[no-untyped-call]  # torch has no types there
                adam.step()
                falling.step()
                marginal = float(loss.detach())
        trained, noise = theta.detach(), float(noise_now().detach())
        scale, length = logs.detach()[:2].exp().tolist()

        def seen_at(points: Tensor) -> Tensor:
            features: Tensor = network.outputs_of(trained, points)[0] / length
            return features

        return GaussianFunction(
            mean=lambda points: torch.zeros(len(points), dtype=points.dtype),
            covariance=lambda a, b: scale * _closeness(seen_at(a), seen_at(b)),
            variance=lambda points: torch.full((len(points),), scale, dtype=points.dtype),
            noise=noise,
        ), marginal


def _stretched(prior: GaussianFunction, factor: float, *, stretch_noise: bool) -> GaussianFunction:
    """All variances times a factor. Where the noise's is among them, means after data are what they were."""
    return GaussianFunction(
        mean=prior.mean,
        covariance=lambda a, b: factor * prior.covariance(a, b),
        variance=lambda points: factor * prior.variance(points),
        noise=prior.noise * (factor if stretch_noise else 1.0),
    )


def _closeness(a: Tensor, b: Tensor) -> Tensor:
    """``exp(-||a_i - b_j||^2 / (2 q))`` of q features: shape (n, m)."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2.0 * a @ b.mT
    found: Tensor = (-0.5 * squares.clamp(min=0.0) / a.shape[1]).exp()
    return found
