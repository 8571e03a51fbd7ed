"""Depthwise convolution: a kernel of our own on a GPU that has it, PyTorch's convolution everywhere else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.operations.accelerated import is_available
from search_spaces.operations.sum_relu import is_observed

KERNELS = (3, 5, 7)
STRIDES = (1, 2)
MOST = 2**31
"""Elements that a tensor must have less of."""


def convolved(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """What the convolution gives, whichever way is the quickest.

    Also called while a network is traced, when x is no tensor: then the convolution is applied as it is.
    """
    if not isinstance(x, Tensor) or not x.is_cuda or not _is_depthwise(convolution) or is_observed(convolution):
        result: Tensor = convolution(x)
        return result
    weight = convolution.weight
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        x, weight = x.to(dtype), weight.to(dtype)
    fits = x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    fits = fits and x.is_contiguous(memory_format=torch.channels_last) and 0 < x.numel() < MOST
    if not fits or not is_available("nas::depthwise_conv2d"):
        unchanged: Tensor = convolution(x)
        return unchanged
    output: Tensor = _operator(x, weight, convolution.stride[0])
    return output


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether it is of a kind that the kernel knows."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    return (
        convolution.groups == convolution.in_channels == convolution.out_channels
        and kernel in KERNELS
        and stride in STRIDES
        and convolution.kernel_size == (kernel, kernel)
        and convolution.stride == (stride, stride)
        and convolution.padding == (kernel // 2, kernel // 2)
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and convolution.bias is None
    )


@torch.library.custom_op("nas::depthwise_conv2d", mutates_args=())
def _operator(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The reference: b x c x h x w and c x 1 x k x k to b x c x ceil(h / stride) x ceil(w / stride), channels-last."""
    output = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))
    return output.contiguous(memory_format=torch.channels_last)


@_operator.register_fake
def _shape(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    batch, channels, height, width = x.shape
    output = x.new_empty(batch, channels, -(-height // stride), -(-width // stride))
    return torch.empty_like(output, memory_format=torch.channels_last)


@torch.library.custom_op("nas::depthwise_conv2d_backward", mutates_args=())
def _backward_operator(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, of_x: bool, of_weight: bool
) -> tuple[Tensor, Tensor]:
    """The reference: the gradients of x (channels-last) and of the weight; empty where they are not asked for."""
    border = weight.shape[-1] // 2
    first, second, _ = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        [stride, stride],
        [border, border],
        [1, 1],
        False,
        [0, 0],
        len(weight),
        [of_x, of_weight, False],
    )
    return (
        first.contiguous(memory_format=torch.channels_last) if of_x else x.new_empty(0),
        second.contiguous() if of_weight else x.new_empty(0),
    )


@_backward_operator.register_fake
def _backward_shapes(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, of_x: bool, of_weight: bool
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=torch.channels_last) if of_x else x.new_empty(0),
        torch.empty_like(weight, memory_format=torch.contiguous_format) if of_weight else x.new_empty(0),
    )


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    x, weight, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, _ = ctx.needs_input_grad
    first, second = _backward_operator(gradient, x, weight, ctx.stride, of_x, of_weight)
    return first if of_x else None, second if of_weight else None, None


def _remember_backward(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, bool, bool], output: tuple[Tensor, Tensor]
) -> None:
    gradient, x, weight, ctx.stride, ctx.of_x, ctx.of_weight = inputs
    ctx.save_for_backward(gradient, x, weight)
    ctx.mark_non_differentiable(
        *(result for result, asked in zip(output, (ctx.of_x, ctx.of_weight), strict=True) if not asked)
    )


def _backward_of_backward(ctx: Any, along_x: Tensor, along_weight: Tensor) -> tuple[Any, ...]:
    """Both gradients are bilinear: that of x in (gradient, weight), that of the weight in (gradient, x)."""
    gradient, x, weight = ctx.saved_tensors
    of_gradient = of_x = of_weight = None
    if ctx.of_x:
        along_x = along_x.contiguous(memory_format=torch.channels_last)
        of_gradient = _operator(along_x, weight, ctx.stride)
        _, of_weight = _backward_operator(gradient, along_x, weight, ctx.stride, False, True)
    if ctx.of_weight:
        second = _operator(x, along_weight, ctx.stride)
        of_gradient = second if of_gradient is None else of_gradient + second
        of_x, _ = _backward_operator(gradient, x, along_weight, ctx.stride, True, False)
    return of_gradient, of_x, of_weight, None, None, None


_operator.register_autograd(_backward, setup_context=_remember)
_backward_operator.register_autograd(_backward_of_backward, setup_context=_remember_backward)
