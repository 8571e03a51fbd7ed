"""Seeded splits: a share of the examples, with every class in proportion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.datasets.dataset import Array


def held_out(classes: Array | None, total: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Choose round(share x total) of `total` examples.

    Args:
        classes: the class of each example, for a stratified choice; None for a plain one.
        total: how many examples there are.
        share: of them to hold out, in [0, 1).
        seed: the same seed gives the same choice, on every machine.

    Returns:
        A mask. Each class is represented within one example of its exact share, and keeps at least one example
        outside the mask.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(total)
    count = round(share * total)
    mask = np.zeros(total, dtype=bool)
    if classes is None:
        mask[order[: min(count, total - 1)]] = True
        return mask
    labels, sizes = np.unique(classes, return_counts=True)
    exact = sizes * share
    take = np.floor(exact).astype(np.int64)
    # the largest remainders get the places that rounding down left over; ties go to the first class
    for index in np.argsort(take - exact, kind="stable"):
        if take.sum() < count and take[index] < sizes[index] - 1:
            take[index] += 1
    shuffled = np.asarray(classes)[order]
    for label, number in zip(labels, take, strict=True):
        mask[order[shuffled == label][:number]] = True
    return mask
