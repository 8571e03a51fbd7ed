"""gradient_boosting: small trees, each mending what those before it left; several such sums from resampled trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.distinct import distinct
from predictors.ensemble import EnsemblePosterior, unexplained, with_constant
from predictors.features import Features, features_of
from predictors.predictor import checked_trials
from predictors.settings import check_counts, check_seed, check_shares
from predictors.structures import STRUCTURES
from predictors.warping import check_warp, learn_warp
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GradientBoosting:
    """Boosted trees; the variance is that between members which learnt from bootstrap resamples of the architectures,
    and what the members' errors on trials out of their bag have beyond it.

    Source: Friedman, "Stochastic gradient boosting", 2002; Efron, "Bootstrap methods", 1979.
    Draws of the posterior are members, with what they have doubts about.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        members: how many sums of trees.
        trees: in each sum.
        depth: of each tree.
        learning_rate: what a tree counts.
        share: of the resample that each tree sees.
        columns: the share of columns that a split looks at.
        warp: "ranks" learns normal quantiles of the losses' ranks, "none" the losses.
        seed: of everything drawn.
    """

    space: SearchSpace
    features: Features = STRUCTURES
    _: KW_ONLY
    members: int = 10
    trees: int = 100
    depth: int = 3
    learning_rate: float = 0.1
    share: float = 0.8
    columns: float = 1 / 3
    warp: str = "ranks"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(2, members=self.members)
        check_counts(trees=self.trees, depth=self.depth)
        check_shares(learning_rate=self.learning_rate, share=self.share, columns=self.columns)
        check_warp(self.warp)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> EnsemblePosterior:
        """See `Predictor.fit`."""
        from sklearn.ensemble import GradientBoostingRegressor

        values = checked_trials(self.space, architectures, losses)
        warp = learn_warp(self.warp, values)
        scores = warp.forward(values)
        vectors = self.features.learn(self.space, architectures)
        # each architecture once, with its mean: a member that drew one repeat would tell what another is held against
        different, places = distinct(architectures)
        repeats = np.bincount(places)
        rows, means = with_constant(vectors.of(different)), np.bincount(places, scores) / repeats
        rng = np.random.default_rng(self.seed)
        members = []
        out = np.ones((self.members, len(different)), dtype=np.bool_)
        for member in range(self.members):
            drawn = rng.integers(len(different), size=len(different))
            out[member, drawn] = False
            boosted = GradientBoostingRegressor(
                n_estimators=self.trees,
                max_depth=self.depth,
                learning_rate=self.learning_rate,
                subsample=self.share,
                max_features=self.columns,
                random_state=int(rng.integers(2**31)),
            )
            members.append(boosted.fit(rows[drawn], means[drawn], sample_weight=repeats[drawn]))

        def summed(asked: FloatArray) -> FloatArray:
            if not len(asked):
                return np.zeros((self.members, 0))
            return np.stack([member.predict(asked) for member in members])

        known, out = summed(rows)[:, places], out[:, places]
        shared = unexplained(scores, known, out)

        def grown(asked: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
            means = summed(with_constant(vectors.of(asked)))
            return means, np.full_like(means, shared)

        posterior = EnsemblePosterior(scores=grown, warp=warp, is_constant=bool((values == values[0]).all()))
        return posterior.leaving_out(known, np.full_like(known, shared), out)
