"""regression: what was learnt from numbers, in the units of the losses.

A predictor of this family fits standardised tensors and gets `Functions` or a `GaussianFunction`. What stands around
that is the same for all and is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictors.bayesian_network.gaussian import GaussianFunction
from predictors.bayesian_network.standardisation import Standardisation
from predictors.one_thread import one_thread
from predictors.predictor import PredictorError

FloatArray = NDArray[np.float64]


class Learnt(Protocol):
    """A posterior over functions on the standard scale; see `Functions` and `GaussianFunction`."""

    @property
    def noise(self) -> float:
        """Variance of an evaluation around the function."""
        ...

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and noise at m points, each (m,)."""
        ...

    def sample(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """`count` functions at m points: (count, m)."""
        ...


LearntT = TypeVar("LearntT", bound=Learnt)
Fit: TypeAlias = Callable[[Tensor, Tensor, float], tuple[LearntT, Mapping[str, float]]]
"""Standardised inputs (n, d), losses (n,), and the variance of the losses in their own units -> what was learnt, and
how well the fitting went, by name."""


class Prediction(NamedTuple):
    """At m points: mean (m,) and variance (m,) of the loss itself, and the variance (m,) of an evaluation around it."""

    mean: FloatArray
    variance: FloatArray
    noise: FloatArray


@dataclass(frozen=True, kw_only=True)
class Regression:
    """What was learnt from n trials of d numbers, in the units of the losses.

    Args:
        inputs: the scale of the d inputs.
        losses: the scale of the losses, of one column.
        learnt: on the standard scale.
        diagnostics: how well the fitting went, by name; each predictor says which.
    """

    inputs: Standardisation
    losses: Standardisation
    learnt: Learnt
    diagnostics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def noise(self) -> float:
        """Variance of one evaluation, in units of the losses squared."""
        return self.learnt.noise * self._scale**2

    def predict(self, x: FloatArray) -> Prediction:
        """The prediction at m points, shape (m, d)."""
        with one_thread(), torch.no_grad():
            mean, variance, noise = self.learnt.predict(self.inputs.of_rows(x))
        scale = self._scale
        return Prediction(self._mean + scale * mean.numpy(), scale**2 * variance.numpy(), scale**2 * noise.numpy())

    def sample(self, x: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
        """`count` functions from the posterior at m points: shape (count, m)."""
        with one_thread(), torch.no_grad():
            drawn: FloatArray = self.learnt.sample(self.inputs.of_rows(x), count, rng).numpy()
        return self._mean + self._scale * drawn

    @property
    def _mean(self) -> float:
        return float(self.losses.mean[0])

    @property
    def _scale(self) -> float:
        return float(self.losses.scale[0])


@dataclass(frozen=True, kw_only=True)
class JointRegression(Regression):
    """A regression that knows how losses vary together."""

    learnt: GaussianFunction

    def covariance(self, x: FloatArray) -> FloatArray:
        """Covariance of the losses at m points: shape (m, m)."""
        points = self.inputs.of_rows(x)
        with one_thread(), torch.no_grad():
            found = self.learnt.covariance(points, points)
            # its diagonal is what `predict` gives, to the last digit
            found = 0.5 * (found + found.mT)
            found.diagonal().copy_(self.learnt.variance(points))
        matrix: FloatArray = found.numpy()
        return self._scale**2 * matrix

    def condition(self, x: FloatArray, losses: FloatArray) -> JointRegression:
        """The same after more trials, shapes (n, d) and (n,); scales and the predictor's own parameters stay."""
        with one_thread(), torch.no_grad():
            learnt = self.learnt.condition(self.inputs.of_rows(x), self.losses.of_rows(losses[:, None])[:, 0])
        return replace(self, learnt=learnt)


def regress(x: FloatArray, y: FloatArray, fit: Fit[Learnt]) -> Regression:
    """Fit n trials, inputs (n, d) and losses (n,).

    Constant losses are not fitted, since nothing is known of their scale: the answer is then `indifferent`.
    """
    inputs, losses, learnt, diagnostics = _learn(x, y, fit)
    return Regression(inputs=inputs, losses=losses, learnt=learnt, diagnostics=diagnostics)


def regress_jointly(x: FloatArray, y: FloatArray, fit: Fit[GaussianFunction]) -> JointRegression:
    """The same, for what is learnt as a Gaussian function."""
    inputs, losses, learnt, diagnostics = _learn(x, y, fit)
    return JointRegression(inputs=inputs, losses=losses, learnt=learnt, diagnostics=diagnostics)


def indifferent(inputs: int) -> GaussianFunction:
    """What is believed after losses that were all the same: that value everywhere, with a variance of 1 and no noise.

    Values vary together like those of a smooth function of `inputs` standardised numbers.
    """

    def covariance(a: Tensor, b: Tensor) -> Tensor:
        distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        return (-0.5 * distances.square() / max(inputs, 1)).exp()

    return GaussianFunction(
        mean=lambda x: torch.zeros(len(x), dtype=x.dtype),
        covariance=covariance,
        variance=lambda x: torch.ones(len(x), dtype=x.dtype),
        noise=0.0,
    )


def _learn(
    x: FloatArray, y: FloatArray, fit: Fit[LearntT]
) -> tuple[Standardisation, Standardisation, LearntT | GaussianFunction, Mapping[str, float]]:
    if x.ndim != 2 or y.shape != x.shape[:1] or len(y) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise PredictorError(f"inputs (n, d) and losses (n,) must be finite, n at least 2; got {x.shape} and {y.shape}")
    inputs, losses = Standardisation.of(x), Standardisation.of(y[:, None])
    if losses.constant[0]:
        return inputs, losses, indifferent(x.shape[1]), MappingProxyType({})
    with one_thread():
        learnt, diagnostics = fit(inputs.of_rows(x), losses.of_rows(y[:, None])[:, 0], float(losses.scale[0]) ** 2)
    return inputs, losses, learnt, MappingProxyType(dict(diagnostics))
