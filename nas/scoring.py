"""Untrained architectures of a space, scored on a data set: from names to a table of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from predictors.zero_cost.ranking import rank_aggregate, rank_correlation
from search_spaces import Architecture, SearchSpace, sample

if TYPE_CHECKING:
    from predictors.zero_cost.batch import Batch
    from predictors.zero_cost.scorer import Scorer, Scores
    from workers.datasets import Dataset

TRIES = 1000
"""Draws in a row that were seen before, until no more are made."""


@dataclass(frozen=True, kw_only=True)
class ScoredArchitectures:
    """What `score_architectures` found.

    Args:
        architectures: n of them, in the order they were drawn.
        proxies: the names.
        values: shape (n, proxies); NaN where a proxy has no score.
        failures: of each architecture, proxy -> why it has no score.
        seconds: shape (n,), building and scoring.
    """

    architectures: tuple[Architecture, ...]
    proxies: tuple[str, ...]
    values: NDArray[np.float64]
    failures: tuple[dict[str, str], ...]
    seconds: NDArray[np.float64]

    @property
    def aggregate(self) -> NDArray[np.float64]:
        """Shape (n,): the rank aggregate of all proxies; larger is better, 0 the best by all of them."""
        return rank_aggregate(self.values)

    @property
    def order(self) -> NDArray[np.intp]:
        """Positions from the best aggregate to the worst; of equal ones, the first drawn."""
        return np.argsort(-self.aggregate, kind="stable")

    @property
    def correlations(self) -> dict[tuple[str, str], float]:
        """Spearman's correlation of each pair of proxies; NaN where one of them is constant."""
        return {
            (self.proxies[i], self.proxies[j]): rank_correlation(self.values[:, i], self.values[:, j])
            for i, j in combinations(range(len(self.proxies)), 2)
        }


def score_architectures(
    scorer: Scorer, architectures: Sequence[Architecture], watch: Callable[[int, Scores], None] | None = None
) -> ScoredArchitectures:
    """Score architectures one after the other; `watch` is told how many are done, and the last one's scores."""
    found: list[Scores] = []
    for architecture in architectures:
        found.append(scorer.scores(architecture))
        if watch is not None:
            watch(len(found), found[-1])
    names = tuple(scorer.proxies)
    return ScoredArchitectures(
        architectures=tuple(architectures),
        proxies=names,
        values=np.array([[scores.values[name] for name in names] for scores in found]).reshape(-1, len(names)),
        failures=tuple(dict(scores.failures) for scores in found),
        seconds=np.array([scores.seconds for scores in found]),
    )


def sample_networks(space: SearchSpace, count: int, seed: int) -> Iterator[Architecture]:
    """Up to `count` architectures drawn at random, no two of which have the same network by its decisions.

    Fewer, if `TRIES` draws in a row give no new one: a space has few others then, if any.
    """
    from predictors.zero_cost.scorer import network_decisions

    rng = np.random.default_rng(seed)
    seen: set[Architecture] = set()
    tries = 0
    while len(seen) < count and tries < TRIES:
        architecture = sample(space, rng)
        network = network_decisions(space, architecture) if space.has_network else architecture
        tries += 1
        if network not in seen:
            seen.add(network)
            tries = 0
            yield architecture


def make_scorer(
    space: SearchSpace,
    dataset: Dataset,
    *,
    proxies: Sequence[str],
    examples: int = 64,
    gaussian: bool = False,
    seed: int = 0,
    allow: Sequence[str] = (),
    device: str = "cpu",
) -> Scorer:
    """A scorer on one batch of a data set's training split.

    Args:
        space: what is scored.
        dataset: gives the batch, the shapes, and the loss: cross-entropy, or the mean squared error.
        proxies: names or paths, see `predictors.zero_cost.catalogue`.
        examples: how many are in the batch.
        gaussian: standard normal inputs in place of the data's, with targets of the data's kind.
        seed: of the batch and of the weights.
        allow: packages that code may be imported from.
        device: "cpu" or "cuda".
    """
    from torch.nn import functional

    from predictors.zero_cost.scorer import Scorer
    from workers.kernels import register
    from workers.measure import checked_device

    if checked_device(device).type != "cpu":
        register()
    return Scorer(
        space=space,
        batch=make_batch(dataset, examples=examples, gaussian=gaussian, seed=seed),
        outputs=dataset.outputs,
        loss=functional.cross_entropy if dataset.kind == "classification" else functional.mse_loss,
        proxies=tuple(proxies),
        seed=seed,
        allow=tuple(allow),
        device=device,
    )


def make_batch(dataset: Dataset, *, examples: int, gaussian: bool, seed: int) -> Batch:
    """Examples drawn at random from the training split, as networks see them in training; see `make_scorer`.

    Never more than there are. Targets of a regression are standardised.
    """
    import torch

    from predictors.zero_cost.batch import Batch

    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise ValueError(f"a batch has a whole number of examples >= 1, got {examples!r}")
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(dataset.train))[:examples]
    inputs = dataset.normalised(dataset.train.inputs[drawn])
    if gaussian:
        inputs = rng.standard_normal(inputs.shape).astype(np.float32)
    targets = dataset.train.targets[drawn]
    if dataset.kind == "regression":
        targets = ((targets - dataset.target_mean) / dataset.target_scale).astype(np.float32)
    return Batch(inputs=torch.tensor(inputs), targets=torch.tensor(targets), seed=seed)
