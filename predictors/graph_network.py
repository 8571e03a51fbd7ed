"""graph_network: networks that pass messages along an architecture's graph and learn which of two losses is smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from predictors.bayesian_network.standardisation import Standardisation
from predictors.ensemble import EnsemblePosterior
from predictors.features import Features, features_of
from predictors.message_passing.batch import Graphs, bags
from predictors.message_passing.network import MessagePassing
from predictors.message_passing.ranking import line, pairwise_hinge
from predictors.one_thread import on_one_thread
from predictors.predictor import checked_trials
from predictors.quality import fold_numbers
from predictors.settings import check_counts, check_not_negative, check_positive, check_seed
from predictors.structures import Structures
from predictors.warping import check_warp, learn_warp
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]
Scores = Callable[[Sequence[Architecture]], FloatArray]

BESIDE_THE_GRAPH = Structures(depth=-1, paths=False)
"""The decisions that the graph does not tell."""

LEAST_SHARED = 0.1
"""Of the members' errors, the part that they have in common: they saw nearly the same trials."""

AT_ONCE = 1024
"""So many architectures are asked about in one piece."""


@dataclass(frozen=True)
class GraphNetwork:
    """Networks on graphs, each trained on the pairs among the trials of all folds but one.

    A member's scores know an order and no unit: they are standardised over the trials, and one line brings all members'
    scores to losses on the scale of the warp. It is the line that fits the trials a member has not seen, so its slope
    is smaller the less is known, and its residuals are what a member errs by. The variance is that between the members
    plus the part of those errors that they have in common (what is left after the members' mean variance).

    Source: see `predictors.message_passing`; members by cross-validation: Krogh, Vedelsby, "Neural Network Ensembles,
    Cross Validation, and Active Learning", NIPS 1994.

    A space without a network is learnt from the features alone.

    Args:
        space: of the architectures.
        features: what stands beside the graph: by default the decisions that it does not tell.
        members: networks.
        width: units of a node's state.
        rounds: of messages: a node learns of others so far away.
        hidden: units of each hidden layer after the graph's.
        margin: by which the score of the worse of two trials is to be larger.
        steps: of Adam.
        batch: trials that a step looks at; all of them where there are no more.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        decay: how strongly weights are drawn to zero: a share of their prior's logarithm per trial.
        warp: "ranks" believes in normal quantiles of the losses' ranks, "none" in the losses.
        seed: of the weights that training starts from, the folds and the batches.
    """

    space: SearchSpace
    features: Features = BESIDE_THE_GRAPH
    _: KW_ONLY
    members: int = 5
    width: int = 16
    rounds: int = 2
    hidden: tuple[int, ...] = (64,)
    margin: float = 0.1
    steps: int = 150
    batch: int = 200
    learning_rate: float = 0.01
    decay: float = 0.1
    warp: str = "ranks"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", features_of(self.features, self.space))
        check_seed(self.seed)
        check_counts(width=self.width, rounds=self.rounds, steps=self.steps)
        check_positive(margin=self.margin, learning_rate=self.learning_rate)
        check_counts(2, members=self.members, batch=self.batch)
        check_not_negative(decay=self.decay)
        check_warp(self.warp)
        self._network(1, 1).end  # noqa: B018  # refuses hidden layers that are none

    def _network(self, labels: int, features: int) -> MessagePassing:
        return MessagePassing(
            labels=labels, features=features, width=self.width, rounds=self.rounds, hidden=self.hidden
        )

    @on_one_thread
    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> EnsemblePosterior:
        """See `Predictor.fit`."""
        values = checked_trials(self.space, architectures, losses)
        warp = learn_warp(self.warp, values)
        wanted = warp.forward(values)
        is_constant = bool((values == values[0]).all())
        seen = self._seen(architectures)
        raw = self._learn(architectures, values, seen)
        own = Standardisation.of(raw(architectures).T)

        def standard(asked: Sequence[Architecture]) -> FloatArray:
            scores: FloatArray = ((raw(asked).T - own.mean) / own.scale).T
            return scores

        scores = standard(architectures)
        found = line(scores[~seen], np.broadcast_to(wanted, scores.shape)[~seen])
        spread = float((found.slope**2 * scores.var(axis=0, ddof=1)).mean())
        shared = max(found.variance - spread, LEAST_SHARED * found.variance)

        def given(asked: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
            means = found.offset + found.slope * standard(asked)
            return means, np.full_like(means, shared)

        posterior = EnsemblePosterior(scores=given, warp=warp, is_constant=is_constant)
        if is_constant or seen.all(axis=0).any():
            return posterior
        unseen = np.where(seen, 0.0, found.offset + found.slope * scores).sum(axis=0) / (~seen).sum(axis=0)
        return replace(posterior, left_out=warp.belief(unseen, np.full(len(values), found.variance)))

    def _seen(self, architectures: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Which member is trained on which trial: shape (members, n). Each leaves out a fold if there are enough."""
        if len(set(architectures)) < 3:
            return np.ones((self.members, len(architectures)), dtype=np.bool_)
        fold_of, _ = fold_numbers(architectures, self.members, np.random.default_rng(self.seed))
        return np.asarray(fold_of != np.arange(self.members)[:, None])

    def _learn(self, architectures: Sequence[Architecture], values: FloatArray, seen: NDArray[np.bool_]) -> Scores:
        """The members' scores, m architectures -> (members, m)."""
        trials = bags(self.space, architectures)
        graphs = Graphs.learn(trials)
        vectors = self.features.learn(self.space, architectures)
        rows = vectors.of(architectures)
        scale = Standardisation.of(rows)
        inputs = scale.of_rows(rows)
        network = self._network(len(graphs.labels), rows.shape[1])
        generator = torch.Generator().manual_seed(self.seed)
        theta = network.draw(self.members, generator).requires_grad_()
        adam = torch.optim.Adam([theta], lr=self.learning_rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        order, known = torch.from_numpy(values), torch.from_numpy(seen).double()
        is_constant = bool((values == values[0]).all())
        with torch.enable_grad():
            for step in range(0 if is_constant else self.steps):
                if step == 0 or len(values) > self.batch:
                    places = torch.randperm(len(values), generator=generator)[: self.batch]
                    batch = graphs.of([trials[place] for place in places.tolist()])
                    worse = (order[places][:, None] > order[places][None, :]).double()
                    pairs = worse * known[:, places, None] * known[:, None, places]
                scores = network.scores(theta, batch, inputs[places])
                (slopes,) = torch.autograd.grad(pairwise_hinge(scores, pairs, self.margin).sum(), theta)
                theta.grad = slopes + (self.decay / len(values)) * theta.detach()
                adam.step()
                falling.step()
        weights = theta.detach()

        @on_one_thread
        def scores_of(asked: Sequence[Architecture]) -> FloatArray:
            pieces = [asked[start : start + AT_ONCE] for start in range(0, len(asked), AT_ONCE)]
            found = [
                network.scores(weights, graphs.of(bags(self.space, piece)), scale.of_rows(vectors.of(piece))).numpy()
                for piece in pieces
            ]
            return np.concatenate([np.zeros((self.members, 0)), *found], axis=1)

        return scores_of
