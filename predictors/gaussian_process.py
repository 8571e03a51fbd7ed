"""GaussianProcess: losses as a normal process over architectures, by what their networks and decisions have in common.

The kernel is put together from the space (`predictors.kernels.composition`): sub-trees and paths of the network,
decisions beside it, their product, and quantities known in advance. Its parameters are those of the largest marginal
likelihood with priors, found on at most `learned_from` trials; the posterior itself rests on at most `most`.

numpy and LAPACK rather than GPyTorch: all distances are computed once, so a step of the search for parameters is a few
passes over them and one Cholesky factor; on one core it takes milliseconds, which GPyTorch spends on its modules.
(tests/predictors compares the two.) What was counted of an architecture is remembered from fit to fit; its distances
are not: quantities and parameters change with each trial, and distances of 1,000 trials are one product of matrices, a
fifth of a fit's quarter of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from predictors.distinct import distinct, together
from predictors.features import Features, features_of
from predictors.kernels.comparison import Comparison, Rows
from predictors.kernels.likeness import Likeness
from predictors.kernels.marginal_likelihood import factor, learn
from predictors.one_thread import on_one_thread
from predictors.predictor import Belief, checked_losses, checked_trials
from predictors.settings import check_counts
from predictors.warping import Warp, check_warp, learn_warp
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianProcess:
    """See the module.

    Args:
        space: of the architectures.
        depth: the deepest Weisfeiler-Lehman sub-trees that are counted; what each depth weighs is learnt.
        warp: "ranks" fits normal quantiles of the losses' ranks (`predictors.warping`), "none" the losses. Beliefs are
            in units of the losses in both cases.
        beside: quantities known before any training (MACs, zero-cost scores) to compare architectures by as well.
        most: the cap on trials. Of more, the better half of `most` stays by its losses and the rest are the latest of
            the others.
        learned_from: so many of those the kernel's parameters are learnt from: the better half by loss, and an even
            choice by loss of the others.
    """

    space: SearchSpace
    depth: int = 1
    warp: str = "ranks"
    beside: Features | None = None
    most: int = 1000
    learned_from: int = 200

    def __post_init__(self) -> None:
        check_counts(0, depth=self.depth)
        check_warp(self.warp)
        if self.beside is not None:
            object.__setattr__(self, "beside", features_of(self.beside, self.space, "beside"))
        check_counts(2, most=self.most, learned_from=self.learned_from)

    @cached_property
    def likeness(self) -> Likeness:
        """What architectures are compared by; it remembers what it counted, for this predictor's next fits."""
        return Likeness(self.space, self.depth)

    @cached_property
    def _checked(self) -> set[Architecture]:
        """Those that an earlier fit found to be of the space."""
        return set()

    @on_one_thread
    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> GaussianPosterior:
        """See `Predictor.fit`."""
        values = checked_trials(self.space, architectures, losses, self._checked)
        self._checked.update(architectures)
        kept = _kept(values, self.most)
        trials = [architectures[place] for place in kept.tolist()]
        values = values[kept]
        warp = learn_warp(self.warp, values)
        scores = warp.forward(values)
        comparison = Comparison.of(self.likeness, self.beside, trials)
        rows = comparison.rows(trials)
        chosen = _chosen(scores, self.learned_from)
        some = comparison.rows([trials[place] for place in chosen.tolist()], rows)
        parameters = learn(comparison.composition, comparison.distances(some, some), scores[chosen])
        noise = float(np.exp(parameters[-1]))
        covariance = comparison.covariance(parameters[:-1], rows, rows)
        covariance[np.diag_indices_from(covariance)] += noise
        lower = factor(covariance)
        latent = ScorePosterior(
            comparison=comparison,
            parameters=parameters[:-1],
            noise=noise,
            trials=tuple(trials),
            rows=rows,
            scores=scores,
            lower=lower,
        )
        return GaussianPosterior(latent, warp)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScorePosterior:
    """The normal process itself, of scores: losses on the scale of the warp.

    Args:
        comparison: of architectures.
        parameters: of its composition.
        noise: variance of one evaluation.
        trials: n architectures.
        rows: of the trials.
        scores: shape (n,).
        lower: shape (n, n), the Cholesky factor of the scores' covariance.
    """

    comparison: Comparison
    parameters: FloatArray
    noise: float
    trials: tuple[Architecture, ...]
    rows: Rows
    scores: FloatArray
    lower: FloatArray

    @cached_property
    def _explained(self) -> FloatArray:
        """Shape (n,): the covariance's inverse times the scores."""
        return np.asarray(cho_solve((self.lower, True), self.scores, check_finite=False))

    @on_one_thread
    def left_out(self) -> Belief:
        """The scores' beliefs, noise included, each from all trials of other architectures with these parameters.

        Source: Rasmussen, Williams, "Gaussian Processes for Machine Learning", 2006, equation 5.12, for the repeats of
        an architecture together.
        """
        inverse = cho_solve((self.lower, True), np.eye(len(self.scores)), check_finite=False)
        variance = 1.0 / np.diag(inverse)
        mean = self.scores - self._explained * variance
        for repeats in together(self.trials):
            if len(repeats) > 1:
                covariance = np.linalg.inv(inverse[np.ix_(repeats, repeats)])
                variance[repeats] = np.diag(covariance)
                mean[repeats] = self.scores[repeats] - covariance @ self._explained[repeats]
        return Belief(mean, variance)

    @on_one_thread
    def predict(self, architectures: Sequence[Architecture]) -> Belief:
        """See `Posterior.predict`."""
        different, places = distinct(architectures)
        across = self._across(different)
        narrowed = solve_triangular(self.lower, across.T, lower=True, check_finite=False)
        variance = self.comparison.composition.variance(self.parameters) - np.einsum("ij,ij->j", narrowed, narrowed)
        return Belief((across @ self._explained)[places], np.maximum(variance, 0.0)[places])

    @on_one_thread
    def joint(self, architectures: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
        """Mean (m,) and covariance (m, m)."""
        rows = self.comparison.rows(architectures)
        across = self._across(architectures)
        narrowed = solve_triangular(self.lower, across.T, lower=True, check_finite=False)
        covariance = self._prior(rows, rows) - narrowed.T @ narrowed
        covariance = 0.5 * (covariance + covariance.T)
        covariance[np.diag_indices_from(covariance)] = np.maximum(np.diag(covariance), 0.0)
        return across @ self._explained, covariance

    @on_one_thread
    def sample(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> FloatArray:
        """See `Posterior.sample`."""
        if not len(architectures):
            return np.zeros((count, 0))
        different, places = distinct(architectures)
        mean, covariance = self.joint(different)
        covariance[np.diag_indices_from(covariance)] += 1e-9 * self.comparison.composition.variance(self.parameters)
        # the numbers of the first do not depend on how many follow: so draws compare from call to call
        numbers = rng.standard_normal((len(different), count))
        return (mean + (factor(covariance) @ numbers).T)[:, places]

    @on_one_thread
    def condition(self, architectures: Sequence[Architecture], scores: FloatArray) -> ScorePosterior:
        """The posterior after more trials with these parameters: the Cholesky factor grows by as many rows."""
        if not len(architectures):
            return self
        trials = (*self.trials, *architectures)
        rows = self.comparison.rows(trials)
        more = self.comparison.rows(architectures, rows)
        across = self._prior(more, rows)
        n = len(self.trials)
        beside = solve_triangular(self.lower, across[:, :n].T, lower=True, check_finite=False).T
        corner = across[:, n:] - beside @ beside.T
        corner[np.diag_indices_from(corner)] += self.noise
        lower = np.zeros((len(trials), len(trials)))
        lower[:n, :n] = self.lower
        lower[n:, :n] = beside
        lower[n:, n:] = factor(corner)
        return replace(self, trials=trials, rows=rows, scores=np.append(self.scores, scores), lower=lower)

    def _across(self, architectures: Sequence[Architecture]) -> FloatArray:
        return self._prior(self.comparison.rows(architectures, self.rows), self.rows)

    def _prior(self, first: Rows, second: Rows) -> FloatArray:
        return self.comparison.covariance(self.parameters, first, second)


@dataclass(frozen=True, eq=False)
class GaussianPosterior:
    """What a Gaussian process believes, in units of the losses.

    Args:
        latent: of the scores, where it is normal.
        warp: from losses to scores.
    """

    latent: ScorePosterior
    warp: Warp

    @cached_property
    def noise(self) -> float:
        """See `Posterior.noise`; where losses are warped, that of the median trial."""
        return self.warp.noise(self.latent.scores, self.latent.noise)

    @property
    def left_out(self) -> Belief:
        """What the others say about each trial, noise included: shape (n,)."""
        belief = self.latent.left_out()
        return self.warp.belief(belief.mean, belief.variance)

    def predict(self, architectures: Sequence[Architecture]) -> Belief:
        """See `Posterior.predict`."""
        belief = self.latent.predict(architectures)
        return self.warp.belief(belief.mean, belief.variance)

    def log_improvement(self, architectures: Sequence[Architecture], best: float) -> FloatArray:
        """See `WarpedPosterior.log_improvement`."""
        belief = self.latent.predict(architectures)
        return self.warp.log_improvement(belief.mean, belief.variance, best)

    def log_probability_below(self, architectures: Sequence[Architecture], limit: float) -> FloatArray:
        """See `WarpedPosterior.log_probability_below`."""
        belief = self.latent.predict(architectures)
        return self.warp.log_probability_below(belief.mean, belief.variance, limit)

    def covariance(self, architectures: Sequence[Architecture]) -> FloatArray:
        """See `JointPosterior.covariance`; where losses are warped, the correlations are those of the scores."""
        mean, covariance = self.latent.joint(architectures)
        deviations = np.sqrt(np.diag(covariance))
        stretched = np.sqrt(self.warp.belief(mean, deviations**2).variance)
        ratios = np.divide(stretched, deviations, out=np.zeros_like(deviations), where=deviations > 0.0)
        return covariance * ratios[:, None] * ratios[None, :]

    def sample(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> FloatArray:
        """See `Posterior.sample`: functions drawn jointly."""
        return self.warp.inverse(self.latent.sample(architectures, count, rng))

    def condition(self, architectures: Sequence[Architecture], losses: FloatArray) -> GaussianPosterior:
        """See `JointPosterior.condition`; the warp stays too."""
        values = checked_losses(architectures, losses)
        return replace(self, latent=self.latent.condition(architectures, self.warp.forward(values)))


def _kept(losses: FloatArray, most: int) -> NDArray[np.int64]:
    """The places of the trials that stay, in their order."""
    if len(losses) <= most:
        return np.arange(len(losses))
    order = np.argsort(losses, kind="stable")
    best = order[: most // 2]
    others = np.sort(order[most // 2 :])
    return np.sort(np.concatenate([best, others[len(others) - (most - len(best)) :]]))


def _chosen(scores: FloatArray, most: int) -> NDArray[np.int64]:
    """The places of the trials that parameters are learnt from, the best first."""
    order = np.argsort(scores, kind="stable")
    if len(order) <= most:
        return order
    best, others = order[: most // 2], order[most // 2 :]
    even = np.linspace(0, len(others) - 1, most - len(best)).round().astype(np.int64)
    return np.concatenate([best, others[even]])
