"""The CUDA implementation of ``nas::sum_relu``, which `search_spaces.operations.sum_relu` declares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.operations.sum_relu import MOST, layout_of
from workers.kernels import launch
from workers.kernels.compile import Program

VALUES = 8
"""Neighbours that a thread has: a byte of the mask."""
THREADS = 256
VECTOR_BYTES = 16


def sum_relu(values: Sequence[Tensor], keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """max(0, sum), the sum (empty unless `keep`), and where the gradient passes; see the operator's reference."""
    first = values[0]
    if not 2 <= len(values) <= MOST:
        raise ValueError(f"sum_relu takes 2 to {MOST} values, got {len(values)}")
    layout = layout_of(first)
    rectified = torch.empty_like(first, memory_format=layout)
    total = torch.empty_like(rectified) if keep else rectified.new_empty(0)
    mask = rectified.new_empty(-(-first.numel() // VALUES), dtype=torch.uint8)
    if first.numel():
        dense = [_dense(value, layout) for value in values]
        _launch(
            "sum_relu_forward",
            (("ELEMENT", launch.ELEMENTS[first.dtype]), ("COUNT", len(values)), ("KEEP", int(keep))),
            (*dense, *[None] * (MOST - len(dense)), rectified, total, mask, first.numel()),
            mask,
        )
    return rectified, total, mask


def sum_relu_backward(of_rectified: Tensor, of_sum: Tensor | None, mask: Tensor, channels_last: bool) -> Tensor:
    """The gradient of each value."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    gradient = torch.empty_like(of_rectified, memory_format=layout)
    if gradient.numel():
        keep = of_sum is not None
        others = _dense(of_sum, layout) if of_sum is not None else None
        _launch(
            "sum_relu_backward",
            (("ELEMENT", launch.ELEMENTS[gradient.dtype]), ("COUNT", 2), ("KEEP", int(keep))),
            (_dense(of_rectified, layout), others, mask, gradient, gradient.numel()),
            mask,
        )
    return gradient


def _launch(
    entry: str, defines: tuple[tuple[str, str | int], ...], arguments: Sequence[Tensor | int | None], mask: Tensor
) -> None:
    """A thread for each byte of the mask."""
    launch.launch(
        Program("sum_relu", defines),
        entry,
        grid=(-(-mask.numel() // THREADS), 1),
        block=THREADS,
        arguments=arguments,
        device=mask.device,
    )


def _dense(value: Tensor, layout: torch.memory_format) -> Tensor:
    """The value in this layout, from an address that vectors can be read from."""
    value = value.contiguous(memory_format=layout)
    return value.clone(memory_format=layout) if value.data_ptr() % VECTOR_BYTES else value
