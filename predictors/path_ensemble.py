"""path_ensemble: an ensemble of small networks over the ways through a network's cells (BANANAS)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictors.bayesian_network.network import Network
from predictors.ensemble import EnsemblePosterior
from predictors.features import Features, features_of
from predictors.one_thread import on_one_thread
from predictors.predictor import checked_trials
from predictors.quality import fold_numbers
from predictors.settings import check_counts, check_not_negative, check_positive, check_seed
from predictors.structures import STRUCTURES
from predictors.warping import check_warp, learn_warp
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PathEnsemble:
    """Networks that start apart and are trained on all trials; they are computed together, in one tensor.

    Source: White, Neiswanger, Savani, "BANANAS", AAAI 2021, section 4 (path encoding, 5 networks, absolute errors).
    Differs: sub-trees and decisions stand beside the paths, for spaces without cells and for what paths do not tell
    (`Structures(depth=-1)` leaves out the sub-trees, `predictors.features.Paths` is the paper's truncated encoding);
    weights decay; losses are learnt as normal quantiles of their ranks instead of relative to a lower bound; the
    networks are wider and shallower than ten layers of 20 units; each step sees all trials. And members that learnt
    from the same trials err together, which their spread does not tell: as many more networks, each trained beside them
    without one fold of the trials, say how far off they are. What that is beyond the spread widens every belief.

    Args:
        space: of the architectures.
        features: how they become vectors; `predictors.features.Paths()`, "paths" in a study, is the
            paper's.
        members: networks.
        hidden: units of each hidden layer.
        steps: of Adam.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        decay: how strongly weights are drawn to zero: a share of their prior's logarithm per trial.
        warp: "ranks" learns normal quantiles of the losses' ranks, "none" the losses.
        seed: of the weights that training starts from.
    """

    space: SearchSpace
    features: Features = STRUCTURES
    _: KW_ONLY
    members: int = 5
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 300
    learning_rate: float = 0.01
    decay: float = 1.0
    warp: str = "ranks"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(2, members=self.members)
        check_counts(steps=self.steps)
        check_positive(learning_rate=self.learning_rate)
        check_not_negative(decay=self.decay)
        check_warp(self.warp)
        self._network(1)

    def _network(self, inputs: int) -> Network:
        return Network(inputs=inputs, hidden=self.hidden, activation="relu", weight_scale=math.sqrt(2.0))

    @on_one_thread
    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> EnsemblePosterior:
        """See `Predictor.fit`."""
        values = checked_trials(self.space, architectures, losses)
        warp = learn_warp(self.warp, values)
        vectors = self.features.learn(self.space, architectures)
        rows = vectors.of(architectures)
        centre, width = rows.mean(axis=0), rows.std(axis=0)
        width = np.where(width > 1e-9, width, 1.0)
        network = self._network(rows.shape[1])
        x, wanted = torch.from_numpy((rows - centre) / width), warp.forward(values)
        seen = self._seen(architectures)
        trained = self._trained(network, x, torch.from_numpy(wanted), torch.from_numpy(seen))
        theta = trained[: self.members]
        own = network.outputs_of(trained, x)[:, :, 0].numpy()
        # each trial by the network that has not seen its fold; two different architectures have no such networks
        unseen = (~seen).any(axis=0)
        left_out = own[np.argmin(seen, axis=0), np.arange(len(wanted))]
        missed = float(np.mean((wanted - left_out)[unseen] ** 2)) if unseen.any() else 0.0
        shared = max(missed - float(own[: self.members].var(axis=0, ddof=1).mean()), 0.0)

        def given(asked: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
            points = torch.from_numpy((vectors.of(asked) - centre) / width)
            means = network.outputs_of(theta, points)[:, :, 0].numpy()
            return means, np.zeros_like(means)

        is_constant = bool((values == values[0]).all())
        posterior = EnsemblePosterior(
            scores=given, warp=warp, is_constant=is_constant, shared=0.0 if is_constant else shared
        )
        if is_constant or not unseen.all():
            return posterior
        return replace(posterior, left_out=warp.belief(left_out, np.full(len(values), missed)))

    def _seen(self, architectures: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Which network is trained on which trial, (k, n): the members on all, then one more without each fold."""
        every = np.ones((self.members, len(architectures)), dtype=np.bool_)
        if len(set(architectures)) < 3:
            return every
        fold_of, folds = fold_numbers(architectures, self.members, np.random.default_rng(self.seed))
        return np.concatenate([every, fold_of != np.arange(folds)[:, None]])

    def _trained(self, network: Network, x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        """The weights of k networks, (k, p): Adam on absolute errors at the trials each sees, (k, n)."""
        generator = torch.Generator().manual_seed(self.seed)
        begun = [network.draw(count, generator) for count in (self.members, len(seen) - self.members)]
        theta = torch.cat(begun).requires_grad_()
        counts = seen.sum(1, keepdim=True)
        adam = torch.optim.Adam([theta], lr=self.learning_rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        for _ in range(self.steps):
            with torch.no_grad():
                outputs, pull = network.with_gradient(theta, x)
                slopes = pull((outputs - y[:, None]).sign() * (seen / counts)[:, :, None])
                theta.grad = slopes + (self.decay / counts) * theta
            adam.step()
            falling.step()
        return theta.detach()
