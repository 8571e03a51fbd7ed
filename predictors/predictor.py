"""Predictor and Posterior: the seam between what was measured and what is believed about the rest of the space."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture
from search_spaces.nodes import SpaceError
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]

LARGEST = 1e140
"""Larger losses are refused: sums of their squares overflow."""


@dataclass(frozen=True)
class Belief:
    """What is believed about the loss of m architectures, one by one, without the noise of an evaluation.

    Args:
        mean: shape (m,), in the units of the losses that were fitted.
        variance: shape (m,), those units squared; finite, not negative.
    """

    mean: FloatArray
    variance: FloatArray


class Posterior(Protocol):
    """What a predictor believes once it has seen n trials. Frozen; asking it changes nothing."""

    @property
    def noise(self) -> float:
        """Variance of one evaluation around the loss itself, in units of the losses squared; 0 if none is modelled."""
        ...

    def predict(self, architectures: Sequence[Architecture]) -> Belief:
        """The belief about each of m architectures; equal architectures get equal beliefs, in any company.

        They must be of the predictor's space, as what is proposed in it is: that is not looked at here.
        """
        ...

    def sample(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> FloatArray:
        """`count` functions drawn from the posterior, at m architectures: shape (count, m).

        Drawn jointly where the predictor knows how losses vary together (a Gaussian process, the members of an
        ensemble); its docstring says so where it does not.
        """
        ...


class Predictor(Protocol):
    """Learns losses (smaller is better) from finished trials. A frozen dataclass whose first field is the `space`.

    Fitting is deterministic: the same trials in the same order give the same posterior, whatever the global generators
    of numpy and torch are at; what is drawn while fitting comes from a `seed` field.
    """

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> Posterior:
        """The posterior after n finished trials.

        Args:
            architectures: n of the predictor's space; the same one may come several times (repeats).
            losses: shape (n,), finite.

        Raises:
            PredictorError: fewer than two trials, a loss that is not finite or beyond `LARGEST`, lengths that differ,
                or an architecture that is not of the space. Constant losses are no error: the posterior is then that
                constant, with the variance of what the predictor knows nothing about.
        """
        ...


class JointPosterior(Posterior, Protocol):
    """A posterior that also knows how the losses of architectures vary together."""

    def covariance(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Covariance of the losses of m architectures: shape (m, m), symmetric, its diagonal `predict`'s variance."""
        ...

    def condition(self, architectures: Sequence[Architecture], losses: FloatArray) -> JointPosterior:
        """The posterior after more trials, the predictor's own parameters as they are: for fantasies.

        Raises:
            PredictorError: losses that are not as many as the architectures, or not finite.
        """
        ...


class WarpedPosterior(Posterior, Protocol):
    """A posterior whose losses are not normal, and that can say what that means for an improvement and for a limit."""

    def log_improvement(self, architectures: Sequence[Architecture], best: float) -> FloatArray:
        """The logarithm of E[max(best - loss, 0)], without the noise of an evaluation: shape (m,), never NaN."""
        ...

    def log_probability_below(self, architectures: Sequence[Architecture], limit: float) -> FloatArray:
        """The logarithm of P(loss <= limit), without the noise of an evaluation: shape (m,), never NaN."""
        ...


class PredictorError(ValueError):
    """Trials that nothing can be learnt from; the message says what came and what is needed."""


def checked_losses(architectures: Sequence[Architecture], losses: Sequence[float] | FloatArray) -> FloatArray:
    """The losses as an array of shape (n,), one for each architecture, once those that nobody can learn are refused."""
    values = np.asarray(losses, dtype=np.float64)
    if values.shape != (len(architectures),):
        raise PredictorError(f"{len(architectures)} architectures need as many losses, got an array of {values.shape}")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise PredictorError(f"loss {place} is {values[place]}; losses must be finite, leave failed trials out")
    size = float(np.abs(values).max(initial=0.0))
    if size > LARGEST:
        raise PredictorError(
            f"losses of up to {size:g} have no finite variance; at most {LARGEST:g} are allowed: fit their logarithms"
        )
    return values


def checked_trials(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    losses: Sequence[float] | FloatArray,
    known: Container[Architecture] = (),
) -> FloatArray:
    """The losses as an array of shape (n,), once everything `Predictor.fit` promises to refuse was refused.

    Architectures that are `known` to be of the space are not looked at again.
    """
    values = checked_losses(architectures, losses)
    if len(values) < 2:
        raise PredictorError(f"a predictor learns from at least two finished trials, got {len(values)}")
    for place, architecture in enumerate(architectures):
        if architecture in known:
            continue
        try:
            space.validate(architecture)
        except SpaceError as error:
            raise PredictorError(f"architecture {place} is not of this predictor's space: {error}") from None
    return values
