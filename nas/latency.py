"""fit_latency: a latency predictor for a space, from networks measured here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.scoring import sample_networks
from predictors.quality import fold_numbers, kendall_tau
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from workers.datasets import Dataset
    from workers.latency_predictor import HeldOut, LatencyPredictor

FEWEST = 10
"""Networks that a fit needs."""
FOLDS = 5


def fit_latency(
    space: SearchSpace,
    dataset: Dataset,
    *,
    count: int = 60,
    device: str = "cpu",
    batch_size: int = 1,
    precision: str = "float32",
    repeats: int = 30,
    threads: int = 1,
    seed: int = 0,
    allow: Sequence[str] = (),
    watch: Callable[[int], None] | None = None,
) -> LatencyPredictor:
    """Measure networks drawn at random, and fit a predictor to them.

    How good it is is told by fits to four fifths of them each, held against the others.

    Args:
        space: where networks are drawn from.
        dataset: gives the shape of an input and the number of outputs.
        count: networks; fewer where the space has fewer.
        device: where they are measured.
        batch_size: inputs per forward pass.
        precision: a name in `workers.measure.PRECISIONS`.
        repeats: forward passes, whose median is taken.
        threads: of the CPU, as a training's setting `threads`.
        seed: of what is drawn.
        allow: packages that operations may be imported from.
        watch: is told how many networks are measured.
    """
    from search_spaces.build import build
    from workers.latency_predictor import LatencyPredictor, features, fit
    from workers.latency_table import software
    from workers.measure import checked_device, latency
    from workers.operators import OperatorReader
    from workers.training.seeding import seeded
    from workers.training.seeding import threads as with_threads

    at, reader = checked_device(device), OperatorReader()
    drawn = list(sample_networks(space, count, seed))
    if len(drawn) < FEWEST:
        raise ValueError(f"a latency predictor needs at least {FEWEST} networks, got {len(drawn)} of {space.name!r}")
    rows, measured, name = [], [], ""
    with with_threads(threads), seeded(seed):
        for done, architecture in enumerate(drawn, 1):
            network = build(space, architecture, dataset.input_shape, dataset.outputs, allow=allow)
            operators = reader.read(network, dataset.input_shape, batch_size=batch_size, precision=precision)
            timed = latency(
                network,
                dataset.input_shape,
                device=at,
                batch_size=batch_size,
                precision=precision,
                repeats=repeats,
            )
            rows.append(features(operators))
            measured.append(timed.median_ms)
            name = timed.device_name
            if watch is not None:
                watch(done)
    fold_of, folds = fold_numbers(drawn, FOLDS, np.random.default_rng(seed))
    return LatencyPredictor(
        space=space.name,
        input_shape=dataset.input_shape,
        device=name,
        software=software(),
        batch_size=batch_size,
        precision=precision,
        coefficients=fit(rows, measured),
        held_out=_held_out(rows, np.array(measured), fold_of, folds),
    )


def _held_out(
    rows: Sequence[dict[str, float]], measured: NDArray[np.float64], fold_of: NDArray[np.int64], folds: int
) -> HeldOut:
    """Each network foretold by a fit to the other folds; a kind of operator that none of them had adds nothing."""
    from workers.latency_predictor import HeldOut, fit

    foretold = np.empty(len(rows))
    for fold in range(folds):
        seen, unseen = ((fold_of != fold).nonzero()[0].tolist(), (fold_of == fold).nonzero()[0].tolist())
        coefficients = fit([rows[at] for at in seen], measured[seen].tolist())
        for at in unseen:
            foretold[at] = sum(coefficients.get(name, 0.0) * value for name, value in rows[at].items())
    return HeldOut(
        kendall_tau=kendall_tau(foretold, measured),
        relative_error=float(np.mean(np.abs(foretold - measured) / measured)),
        count=len(rows),
    )
