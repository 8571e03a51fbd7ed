"""over_architectures: a regression on the vectors of architectures is a posterior of `predictors.predictor`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from predictors.bayesian_network.regression import JointRegression, Regression
from predictors.distinct import distinct
from predictors.features import Features, Vectors
from predictors.predictor import Belief, checked_losses, checked_trials
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]
RegressionT = TypeVar("RegressionT", bound=Regression)


@dataclass(frozen=True)
class NetworkPosterior:
    """A `predictors.predictor.Posterior`.

    Args:
        vectors: how architectures become numbers.
        regression: what was learnt from those.
    """

    vectors: Vectors
    regression: Regression

    @property
    def noise(self) -> float:
        """Variance of one evaluation around the loss."""
        return self.regression.noise

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """How well the fitting went, by name; the predictor says which. Empty after constant losses."""
        return self.regression.diagnostics

    def predict(self, architectures: Sequence[Architecture]) -> Belief:
        """The belief about each of m architectures."""
        if not architectures:
            return Belief(np.zeros(0), np.zeros(0))
        different, places = distinct(architectures)  # a product of matrices may round equal rows differently
        mean, variance, _ = self.regression.predict(self.vectors.of(different))
        return Belief(mean[places], variance[places])

    def sample(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> FloatArray:
        """`count` functions at m architectures, jointly: shape (count, m)."""
        if not architectures:
            return np.zeros((count, 0))
        different, places = distinct(architectures)
        return self.regression.sample(self.vectors.of(different), count, rng)[:, places]


@dataclass(frozen=True)
class JointNetworkPosterior(NetworkPosterior):
    """A `predictors.predictor.JointPosterior`."""

    regression: JointRegression

    def covariance(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Covariance of the losses of m architectures: shape (m, m)."""
        if not architectures:
            return np.zeros((0, 0))
        return self.regression.covariance(self.vectors.of(architectures))

    def condition(self, architectures: Sequence[Architecture], losses: FloatArray) -> JointNetworkPosterior:
        """The posterior after more trials, what was learnt about scales and noise as it is."""
        values = checked_losses(architectures, losses)
        if not len(architectures):
            return self
        return replace(self, regression=self.regression.condition(self.vectors.of(architectures), values))


def learn_vectors(
    space: SearchSpace,
    features: Features,
    architectures: Sequence[Architecture],
    losses: FloatArray,
    regress: Callable[[FloatArray, FloatArray], RegressionT],
) -> tuple[Vectors, RegressionT]:
    """Check the trials as `predictors.predictor.Predictor.fit` promises, learn their vectors, and fit those."""
    values = checked_trials(space, architectures, losses)
    vectors = features.learn(space, architectures)
    return vectors, regress(vectors.of(architectures), values)
