"""deep_ensemble: several networks trained apart, each giving a mean and a variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.functions import Functions
from predictors.bayesian_network.network import Network
from predictors.bayesian_network.over_architectures import FloatArray, NetworkPosterior, learn_vectors
from predictors.bayesian_network.regression import Regression, regress
from predictors.features import DECISIONS_AND_PATHS, Features, features_of
from predictors.settings import check_counts, check_noise, check_not_negative, check_positive, check_seed
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

_SMALLEST = 1e-6
"""Of a head's variance, for numerical stability (the paper's)."""


@dataclass(frozen=True)
class DeepEnsemble:
    """Networks with Gaussian heads, from weights and minibatches of their own; trained side by side in one tensor.

    Source: Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", NIPS 2017, algorithm 1; one hidden layer of 50 ReLUs, 5 members and batches of 100 are theirs.
    Differs: weights are maximum a posteriori, since with few trials a head of no prior claims a variance of 0; the rate
    of learning falls to zero along a cosine. The variance is that between the members' means (unbiased), the heads'
    own is the noise.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        hidden: units of each hidden layer.
        activation: "tanh" or "relu".
        weight_scale: prior standard deviation of a weight, times the square root of its layer's inputs.
        bias_scale: prior standard deviation of what a layer adds.
        noise: variance of an evaluation in units of the losses squared; None to learn it, point by point.
        members: networks.
        steps: of Adam.
        batch: trials that a step looks at; all of them where there are no more.
        learning_rate: of Adam, at the start.
        adversarial: train also on inputs moved by so many standard deviations in the direction that hurts most (the
            paper's optional part; it took a hundredth of the range); 0 for none.
        seed: of everything drawn while fitting.
    """

    space: SearchSpace
    features: Features = DECISIONS_AND_PATHS
    _: KW_ONLY
    hidden: tuple[int, ...] = (50,)
    activation: str = "relu"
    weight_scale: float = math.sqrt(2.0)
    bias_scale: float = 1.0
    noise: float | None = None
    members: int = 5
    steps: int = 1000
    batch: int = 100
    learning_rate: float = 0.01
    adversarial: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(members=self.members, steps=self.steps, batch=self.batch)
        check_positive(learning_rate=self.learning_rate)
        check_noise(self.noise)
        check_not_negative(adversarial=self.adversarial)
        self._network(1)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> NetworkPosterior:
        """The posterior after n finished trials; see `predictors.predictor.Predictor.fit`."""
        return NetworkPosterior(*learn_vectors(self.space, self.features, architectures, losses, self.regress))

    def regress(self, x: FloatArray, y: FloatArray) -> Regression:
        """The same from n vectors, shape (n, d), and losses, shape (n,)."""
        return regress(x, y, self._train)

    def _network(self, inputs: int) -> Network:
        return Network(
            inputs=inputs,
            hidden=self.hidden,
            outputs=1 if self.noise is not None else 2,
            activation=self.activation,
            weight_scale=self.weight_scale,
            bias_scale=self.bias_scale,
        )

    def _train(self, x: Tensor, y: Tensor, variance: float) -> tuple[Functions, Mapping[str, float]]:
        generator = torch.Generator().manual_seed(self.seed)
        network = self._network(x.shape[1])
        given = None if self.noise is None else self.noise / variance
        theta = network.draw(self.members, generator).requires_grad_()
        adam = torch.optim.Adam([theta], lr=self.learning_rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        with torch.enable_grad():
            for _ in range(self.steps):
                seen, wanted = x, y
                if len(y) > self.batch:
                    rows = torch.randint(len(y), (self.members, self.batch), generator=generator)
                    seen, wanted = x[rows], y[rows]
                adam.zero_grad()
                loss = self._negative_log_likelihood(network, theta, seen, wanted, given)
                prior = 0.5 * theta.square().sum() / len(y)
                (loss + prior).backward()  # type: ignore[no-untyped-call]  # torch has no types there
                adam.step()
                falling.step()
        trained = theta.detach()
        return Functions(
            outputs=lambda points: _heads(network, trained, points, given),
            count=self.members,
            noise=float(_heads(network, trained, x, given)[1].mean()),
        ), {}

    def _negative_log_likelihood(
        self, network: Network, theta: Tensor, x: Tensor, y: Tensor, given: float | None
    ) -> Tensor:
        """Mean over the trials, summed over the members; both terms of the paper's algorithm 1 if adversarial."""
        if not self.adversarial:
            return _score(*_heads(network, theta, x, given), y)
        x = x.expand(self.members, *x.shape[-2:]).clone().requires_grad_()
        plain = _score(*_heads(network, theta, x, given), y)
        (uphill,) = torch.autograd.grad(plain, x, retain_graph=True)
        moved = (x + self.adversarial * uphill.sign()).detach()
        return plain + _score(*_heads(network, theta, moved, given), y)


def _heads(network: Network, theta: Tensor, x: Tensor, given: float | None) -> tuple[Tensor, Tensor]:
    """Means and noise variances of k members at m points, both (k, m)."""
    outputs = network.outputs_of(theta, x)
    if given is not None:
        return outputs[:, :, 0], torch.full_like(outputs[:, :, 0], given)
    return outputs[:, :, 0], torch.nn.functional.softplus(outputs[:, :, 1]) + _SMALLEST


def _score(mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (variance.log() + (y - mean).square() / variance).mean(1).sum()
