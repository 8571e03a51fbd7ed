"""The ReLU of a sum: one pass over memory on a GPU that has the kernel, plain PyTorch everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.operations.accelerated import is_available

MOST = 8
"""Inputs of the operator; a longer sum is PyTorch's."""


def sum_relu(values: Sequence[Tensor]) -> Tensor:
    """max(0, sum of the values); they must be `is_accelerated`."""
    outputs: tuple[Tensor, Tensor, Tensor] = _operator(list(values), False)
    return outputs[0]


def sum_and_relu(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The sum of the values, and max(0, sum); they must be `is_accelerated`."""
    outputs: tuple[Tensor, Tensor, Tensor] = _operator(list(values), True)
    return outputs[1], outputs[0]


def activated_sum(values: Sequence[Tensor], activation: nn.ReLU) -> Tensor:
    """The activation of the sum of the values, from left to right."""
    if is_accelerated(values) and not is_observed(activation):
        return sum_relu(values)
    total = values[0]
    for value in values[1:]:
        total = total + value
    rectified: Tensor = activation(total)
    return rectified


def is_accelerated(values: Sequence[Tensor]) -> bool:
    """Whether the operator takes these values, and they are where a kernel for it is.

    Also asked while a network is traced, when values are no tensors: then it is False, and what is traced is PyTorch's.
    """
    first = values[0]
    return (
        2 <= len(values) <= MOST
        and all(isinstance(value, Tensor) for value in values)
        and first.is_cuda
        and is_available("nas::sum_relu")
        and first.is_floating_point()
        and all(
            value.dtype == first.dtype and value.shape == first.shape and value.device == first.device
            for value in values[1:]
        )
    )


def is_observed(*modules: nn.Module) -> bool:
    """Whether somebody's hooks look at what goes into or comes out of these modules or what is inside them."""
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for module in modules
        for part in module.modules()
    )


@torch.library.custom_op("nas::sum_relu", mutates_args=())
def _operator(values: list[Tensor], keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The reference: max(0, sum), the sum (empty unless `keep`), and where the gradient passes.

    The sum is computed in float32 (float64 for doubles) and rounded once. Layout of the results: channels-last if the
    first value is, else contiguous. The mask has a bit per element in the order of that layout, eight to a byte.
    """
    layout = layout_of(values[0])
    total = values[0].to(_wide(values[0]))
    for value in values[1:]:
        total = total + value
    total = total.to(values[0].dtype).contiguous(memory_format=layout)
    passes = ~(total <= 0)  # so does NaN, as in PyTorch's own ReLU
    rectified = torch.where(passes, total, 0).contiguous(memory_format=layout)
    return rectified, total if keep else total.new_empty(0), _packed(_in_order(passes, layout))


@_operator.register_fake
def _shapes(values: list[Tensor], keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    rectified = torch.empty_like(values[0], memory_format=layout_of(values[0]))
    mask = rectified.new_empty((rectified.numel() + 7) // 8, dtype=torch.uint8)
    return rectified, torch.empty_like(rectified) if keep else rectified.new_empty(0), mask


@torch.library.custom_op("nas::sum_relu_backward", mutates_args=())
def _backward_operator(of_rectified: Tensor, of_sum: Tensor | None, mask: Tensor, channels_last: bool) -> Tensor:
    """The reference: the gradient of each value; `channels_last` says in which order the mask is."""
    layout = _LAYOUTS[channels_last]
    passes = _out_of_order(_unpacked(mask, of_rectified.numel()), of_rectified, layout)
    gradient = torch.where(passes, of_rectified, 0)
    if of_sum is not None:
        gradient = (gradient.to(_wide(gradient)) + of_sum).to(gradient.dtype)
    return gradient.contiguous(memory_format=layout)


@_backward_operator.register_fake
def _backward_shapes(of_rectified: Tensor, of_sum: Tensor | None, mask: Tensor, channels_last: bool) -> Tensor:
    return torch.empty_like(of_rectified, memory_format=_LAYOUTS[channels_last])


def _remember(ctx: Any, inputs: tuple[list[Tensor], bool], output: tuple[Tensor, Tensor, Tensor]) -> None:
    values, ctx.keep = inputs
    ctx.count, ctx.channels_last = len(values), layout_of(values[0]) == torch.channels_last
    ctx.save_for_backward(output[2])
    ctx.mark_non_differentiable(output[2], *(() if ctx.keep else (output[1],)))


def _backward(ctx: Any, of_rectified: Tensor, of_sum: Tensor | None, of_mask: Any) -> tuple[list[Tensor], None]:
    (mask,) = ctx.saved_tensors
    gradient = _backward_operator(of_rectified, of_sum if ctx.keep else None, mask, ctx.channels_last)
    return [gradient] * ctx.count, None


def _remember_mask(ctx: Any, inputs: tuple[Tensor, Tensor | None, Tensor, bool], output: Tensor) -> None:
    _, of_sum, mask, ctx.channels_last = inputs
    ctx.keep = of_sum is not None
    ctx.save_for_backward(mask)


def _backward_of_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
    (mask,) = ctx.saved_tensors
    passed = _backward_operator(gradient, None, mask, ctx.channels_last)
    return passed, gradient if ctx.keep else None, None, None


_operator.register_autograd(_backward, setup_context=_remember)
_backward_operator.register_autograd(_backward_of_backward, setup_context=_remember_mask)

_LAYOUTS = (torch.contiguous_format, torch.channels_last)
"""By whether it is channels-last."""


def layout_of(value: Tensor) -> torch.memory_format:
    """The layout of what is computed from `value` and others like it."""
    channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return _LAYOUTS[channels_last and not value.is_contiguous()]


def _wide(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _in_order(value: Tensor, layout: torch.memory_format) -> Tensor:
    """All elements in one row, in the order in which they lie in memory."""
    return (value.permute(0, 2, 3, 1) if layout == torch.channels_last else value).reshape(-1)


def _out_of_order(row: Tensor, like: Tensor, layout: torch.memory_format) -> Tensor:
    if layout == torch.channels_last:
        batch, channels, height, width = like.shape
        return row.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    return row.reshape(like.shape)


def _packed(bits: Tensor) -> Tensor:
    """Eight to a byte, the first one lowest."""
    padded = functional.pad(bits.to(torch.uint8), (0, -bits.numel() % 8)).reshape(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)


def _unpacked(mask: Tensor, count: int) -> Tensor:
    bits = mask[:, None] >> torch.arange(8, dtype=torch.uint8, device=mask.device) & 1
    return bits.reshape(-1)[:count].bool()
