"""random_forest: trees on architectures as vectors, each from a resample of the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.distinct import distinct
from predictors.ensemble import EnsemblePosterior, with_constant
from predictors.features import Features, features_of
from predictors.predictor import checked_trials
from predictors.settings import check_counts, check_seed, check_shares
from predictors.structures import STRUCTURES
from predictors.warping import check_warp, learn_warp
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RandomForest:
    """A random forest; its variance is that between the trees' means plus the mean variance within their leaves.

    Source: Hutter, Xu, Hoos, Leyton-Brown, "Algorithm runtime prediction: Methods & evaluation", 2014, section 4.3.2.
    Draws of the posterior are trees, with the doubts of their leaves.

    Args:
        space: of the architectures.
        features: how they become vectors; a study names them, see `predictors.features.NAMED`.
        trees: how many.
        leaf: a leaf holds at least so many architectures.
        columns: the share of columns that a split looks at.
        warp: "ranks" learns normal quantiles of the losses' ranks, "none" the losses.
        seed: of the resamples and the columns.
    """

    space: SearchSpace
    features: Features = STRUCTURES
    _: KW_ONLY
    trees: int = 100
    leaf: int = 1
    columns: float = 1 / 3
    warp: str = "ranks"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(2, trees=self.trees)
        check_counts(leaf=self.leaf)
        check_shares(columns=self.columns)
        check_warp(self.warp)

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> EnsemblePosterior:
        """See `Predictor.fit`."""
        from sklearn.ensemble import RandomForestRegressor

        values = checked_trials(self.space, architectures, losses)
        warp = learn_warp(self.warp, values)
        scores = warp.forward(values)
        vectors = self.features.learn(self.space, architectures)
        # each architecture once, with its mean: a tree that drew one repeat would tell what another is held against
        different, places = distinct(architectures)
        repeats = np.bincount(places)
        rows = with_constant(vectors.of(different))
        forest = RandomForestRegressor(
            self.trees, min_samples_leaf=self.leaf, max_features=self.columns, random_state=self.seed, n_jobs=1
        ).fit(
            rows,
            np.bincount(places, scores) / repeats,
            # weights of 1 draw other resamples than none
            sample_weight=None if (repeats == 1).all() else repeats,
        )

        def grown(asked: FloatArray) -> tuple[FloatArray, FloatArray]:
            cells = asked.astype(np.float32)
            leaves = np.stack([tree.tree_.apply(cells) for tree in forest.estimators_])
            trees = [tree.tree_ for tree in forest.estimators_]
            means = np.stack([tree.value[at, 0, 0] for tree, at in zip(trees, leaves, strict=True)])
            doubts = np.stack([tree.impurity[at] for tree, at in zip(trees, leaves, strict=True)])
            return means, np.maximum(doubts, 0.0)

        posterior = EnsemblePosterior(
            scores=lambda asked: grown(with_constant(vectors.of(asked))),
            warp=warp,
            is_constant=bool((values == values[0]).all()),
        )
        means, doubts = grown(rows)
        in_bag = np.stack(forest.estimators_samples_)  # (trees, architectures) which ones each has drawn
        out = np.ones((self.trees, len(different)), dtype=np.bool_)
        np.put_along_axis(out, in_bag, False, axis=1)
        return posterior.leaving_out(means[:, places], doubts[:, places], out[:, places])
