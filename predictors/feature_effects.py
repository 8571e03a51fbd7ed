"""feature_effects: which pieces of a network a Gaussian process holds responsible for its loss.

The derivative of a normal process is normal too. With f the score, c_ij the count of sub-tree j in trial i and I_j the
trials that have it, the effect of j is

    e_j = mean over i in I_j of df/dc_ij,

one linear functional of f, so that with alpha the covariance's inverse times the scores and v_j = cov(e_j, scores)

    E e_j = v_j' alpha,        V e_j = V_prior e_j - v_j' K^-1 v_j.

The kernel sees the root of a count, r = sqrt(c), and reads it through the squared distance d of its component; with G
and H the first and second derivative of the covariance by d

    dk(x, x')/dr = 2 (r - r') G,        d2k(x, x')/dr dr' = -2 G - 4 (r - r')^2 H,        dr/dc = 1 / (2 r).

The process is one of sub-trees (and of decisions and quantities, where there are such) with parameters of its own,
fitted to the same scores: what `GaussianProcess` reads beside, paths and edges, tells much of the same in other words,
and the effect of one of several that always go together is nearly nothing.

Source: Ru, Wan, Dong, Osborne, "Interpretable Neural Architecture Search via Bayesian Optimisation with
Weisfeiler-Lehman Kernels", ICLR 2021, section 3.3; derivatives of a process: Rasmussen, Williams, "Gaussian Processes
for Machine Learning", 2006, section 9.4.
Differs: the variance is that of the mean derivative, with what the derivatives at different trials have in common.

Letters: n trials, j of p features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from predictors.gaussian_process import GaussianPosterior, ScorePosterior
from predictors.kernels.blocks import blocks
from predictors.kernels.composition import Composition, Distances
from predictors.kernels.marginal_likelihood import factor, learn
from predictors.one_thread import on_one_thread
from predictors.predictor import Posterior
from predictors.stacked import StackedPosterior
from predictors.subgraphs import Subtree, subtrees
from predictors.warping import Warp

FloatArray = NDArray[np.float64]

LEARNED_FROM = 200
"""The process's parameters are learnt from at most so many trials, an even choice by their losses."""


@dataclass(frozen=True, kw_only=True)
class FeatureEffect:
    """What one more of a sub-tree does.

    Args:
        subtree: the piece of a network.
        depth: of the sub-trees it is counted among.
        mean: by which the loss rises with each occurrence, in units of the losses; below 0 it does good.
        deviation: standard deviation of what is believed of that.
        trials: how many trials have it.
        count: how often, in the mean over those trials; what stands in a cell that is repeated counts each time.
    """

    subtree: Subtree
    depth: int
    mean: float
    deviation: float
    trials: int
    count: float

    def drawn(self) -> str:
        """Lines for a terminal: the effect, then the sub-tree, a node above what it reads."""
        often = f"{self.count:.3g} in each of {self.trials} trials"
        return f"{self.mean:+.3g} ± {self.deviation:.2g} for one more, {often}\n{self.subtree.drawn()}"


def feature_effects(posterior: Posterior, most: int = 10) -> tuple[FeatureEffect, ...]:
    """The sub-trees with the largest effects on the loss: one more's times how many there are, whichever its sign.

    Those that all trials have equally often are left out: nothing is known of them. Where losses are warped, an effect
    on scores is turned into losses at the middle of the trials: by the difference of the losses half a score above and
    below. An effect is that of one sub-tree with the counts of all others, and decisions, as they are.

    Args:
        posterior: of a `GaussianProcess`, or of a `Stacked` with one among its members; of several, the one that weighs
            most.
        most: so many at most.

    Returns:
        None at all where the space describes no network.

    Raises:
        ValueError: the posterior is another predictor's, or `most` is below 1.
    """
    latent, warps = _gaussian_process(posterior)
    if most < 1:
        raise ValueError(f"most: at least one effect is to be given, got {most}")
    if not latent.comparison.likeness.components:
        return ()
    apart = np.array([-0.5, 0.5])
    for warp in warps:
        apart = warp.inverse(apart)
    unit = float(np.diff(apart)[0])
    found = sorted(_effects(latent), key=lambda effect: -abs(effect.mean) * effect.count)[:most]
    trees = _trees(latent)
    return tuple(
        FeatureEffect(
            subtree=trees[effect.feature],
            depth=effect.depth,
            mean=unit * effect.mean,
            deviation=unit * effect.deviation,
            trials=effect.trials,
            count=effect.count,
        )
        for effect in found
    )


def _gaussian_process(posterior: Posterior) -> tuple[ScorePosterior, tuple[Warp, ...]]:
    """What is believed of the scores of a Gaussian process, and whose inverses, one by one, make losses of them."""
    if isinstance(posterior, GaussianPosterior):
        return posterior.latent, (posterior.warp,)
    if not isinstance(posterior, StackedPosterior):
        raise ValueError(
            f"effects of sub-trees are known to a Gaussian process alone, got {type(posterior).__name__}; "
            "fit predictors.GaussianProcess to the same trials"
        )
    for place in np.argsort(-posterior.weights, kind="stable").tolist():
        member = posterior.members[place]
        if isinstance(member, GaussianPosterior):
            return member.latent, (member.warp, posterior.warp)
    raise ValueError(
        f"effects of sub-trees are known to a Gaussian process alone, and among the members of the stack is none: "
        f"{', '.join(type(member).__name__ for member in posterior.members)}; "
        "fit predictors.GaussianProcess to the same trials"
    )


@dataclass(frozen=True)
class _Effect:
    """Of a feature on scores; see `FeatureEffect`."""

    depth: int
    feature: str
    mean: float
    deviation: float
    trials: int
    count: float


class SubtreeProcess(NamedTuple):
    """A normal process of sub-trees.

    Args:
        composition: its graph components are the sub-trees of each depth.
        parameters: of that.
        distances: between the n trials.
        lower: shape (n, n), the Cholesky factor of the scores' covariance.
    """

    composition: Composition
    parameters: FloatArray
    distances: Distances
    lower: FloatArray


@on_one_thread
def subtree_process(latent: ScorePosterior) -> SubtreeProcess:
    """The process of sub-trees that explains a posterior's scores best."""
    comparison, scores = latent.comparison, latent.scores
    graphs = comparison.likeness.depth + 1  # these components come first
    composition = replace(comparison.composition, graphs=graphs)
    known = comparison.distances(latent.rows, latent.rows)
    distances = Distances(known.graph[:graphs], known.vectors)
    even = np.linspace(0, len(scores) - 1, min(len(scores), LEARNED_FROM)).round().astype(np.int64)
    some = np.argsort(scores, kind="stable")[even]
    parameters = learn(
        composition,
        Distances(
            tuple(squared[some[:, None], some] for squared in distances.graph),
            tuple(vector[:, some[:, None], some] for vector in distances.vectors),
        ),
        scores[some],
    )
    covariance = composition.covariance(parameters[:-1], distances)
    covariance[np.diag_indices_from(covariance)] += np.exp(parameters[-1])
    return SubtreeProcess(composition, parameters[:-1], distances, factor(covariance))


@on_one_thread
def _effects(latent: ScorePosterior) -> list[_Effect]:
    """Of all sub-trees that some trials have more often than others."""
    process = subtree_process(latent)
    names = latent.comparison.likeness.names(latent.rows.table)
    explained = cho_solve((process.lower, True), latent.scores, check_finite=False)
    found = []
    for depth, slopes in enumerate(process.composition.graph_slopes(process.parameters, process.distances)):
        roots = latent.rows.table.counts[depth].toarray()
        varied = np.flatnonzero(np.ptp(roots, axis=0) > 0.0)
        effects = average_derivative(roots[:, varied], *slopes)
        narrowed = solve_triangular(process.lower, effects.covariance.T, lower=True, check_finite=False)
        variance = effects.variance - np.einsum("ij,ij->j", narrowed, narrowed)
        trials = (roots[:, varied] > 0.0).sum(axis=0)
        figures = np.stack(
            [
                effects.covariance @ explained,
                np.sqrt(np.maximum(variance, 0.0)),
                (roots[:, varied] ** 2).sum(axis=0) / trials,
            ]
        )
        found += [
            _Effect(depth, names[depth][column], mean, deviation, many, count)
            for column, many, (mean, deviation, count) in zip(
                varied.tolist(), trials.tolist(), figures.T.tolist(), strict=True
            )
        ]
    return found


class AverageDerivative(NamedTuple):
    """What is known of p effects before any trial: covariance with n scores, shape (p, n), and variance, shape (p,)."""

    covariance: FloatArray
    variance: FloatArray


def average_derivative(roots: FloatArray, slope: FloatArray, curvature: FloatArray) -> AverageDerivative:
    """The effects of one component's features; see the module.

    Args:
        roots: shape (n, p), square roots of counts; each feature has some above 0.
        slope: shape (n, n), the covariance's derivative by the component's squared distance: G.
        curvature: shape (n, n), the second one: H.
    """
    has = roots > 0.0
    weights = np.where(has, 0.5 / np.where(has, roots, 1.0), 0.0) / has.sum(axis=0)
    weighed, squared = weights * roots, weights * roots**2
    covariance = 2.0 * ((slope @ weighed).T - roots.T * (slope @ weights).T)
    variance = -2.0 * (weights * (slope @ weights)).sum(axis=0) - 8.0 * (
        (squared * (curvature @ weights)).sum(axis=0) - (weighed * (curvature @ weighed)).sum(axis=0)
    )
    return AverageDerivative(covariance, variance)


def _trees(latent: ScorePosterior) -> dict[str, Subtree]:
    """The sub-trees that the trials are counted by, by their names."""
    likeness = latent.comparison.likeness
    different = {block for trial in latent.trials for block in blocks(likeness.space, trial)}
    return {
        tree.feature: tree
        for block in different
        for depth in range(likeness.depth + 1)
        for tree in subtrees(block, depth)
    }
