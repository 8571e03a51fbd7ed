"""add_overlap: which units of a layer two examples have alike, added to what earlier layers had."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.operations.accelerated import is_available

EXACT = 2**22
"""Units per matrix product: sums of so many ones are exact in float32."""


def add_overlap(total: Tensor, given: Tensor) -> None:
    """Add to ``total`` (b x b, int32) the units of ``given`` (b x ...) that are alike, in place.

    A unit of an example is on where it is above zero. Entry (i, j) grows by the number of units that are both on or
    both off in examples i and j; entry (i, i), where all would be, by the number of those that are finite.
    """
    if given.is_cuda and is_available("nas::activation_overlap"):
        _operator(total, given)
    else:
        _reference(total, given)


def _reference(total: Tensor, given: Tensor) -> None:
    flat = given.flatten(1)
    signs = ((flat > 0).float() - 0.5) * 2
    for part in torch.split(signs, EXACT, dim=1):  # (s s^T)_ij is the units alike minus the units that differ
        total += (((part @ part.T) + part.shape[1]) / 2).round().to(total.dtype)
    total.diagonal().sub_((~torch.isfinite(flat)).sum(1, dtype=total.dtype))


@torch.library.custom_op("nas::activation_overlap", mutates_args=("total",))
def _operator(total: Tensor, given: Tensor) -> None:
    _reference(total, given)


@_operator.register_fake
def _nothing(total: Tensor, given: Tensor) -> None:
    return None
