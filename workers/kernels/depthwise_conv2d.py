"""The CUDA implementation of ``nas::depthwise_conv2d``, which `search_spaces.operations.depthwise` declares."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.kernels import launch
from workers.kernels.compile import Program

THREADS = 128
ROWS = 4
"""Rows of results that a thread makes; both as in the source."""
TILES = (4, 8)
"""Columns that a thread may make."""
LANES = 32
BLOCKS_PER_MULTIPROCESSOR = 8
STRIPS_PER_THREAD = 4
"""At least, for the gradient of the filters: each thread's sums are written once."""


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """See the operator's reference."""
    batch, channels, height, width = x.shape
    out_height, out_width = -(-height // stride), -(-width // stride)
    output = torch.empty(
        (batch, channels, out_height, out_width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    if output.numel():
        program = _program(weight, stride, out_width)
        sizes = (batch, channels, height, width, out_height, out_width)
        arguments = (_dense(x), weight.contiguous(), output, *sizes, 0)
        _launch(program, "depthwise_forward", arguments, _threads(output, program), x.device)
    return output


def depthwise_conv2d_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, of_x: bool, of_weight: bool
) -> tuple[Tensor, Tensor]:
    """See the operator's reference."""
    gradient, weight = _dense(gradient), weight.contiguous()
    return (
        _of_input(gradient, x, weight, stride) if of_x else x.new_empty(0),
        _of_filters(gradient, x, weight, stride) if of_weight else x.new_empty(0),
    )


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    result = torch.empty_like(x, memory_format=torch.channels_last)
    if not result.numel():
        return result
    program = _program(weight, stride, x.shape[3])
    arguments = (gradient, weight, result, *x.shape, *gradient.shape[2:])
    if stride == 1:
        _launch(program, "depthwise_forward", (*arguments, 1), _threads(result, program), x.device)
    else:
        _launch(program, "depthwise_input_gradient", arguments, _threads(result, program), x.device)
    return result


def _of_filters(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if not gradient.numel():
        return torch.zeros_like(weight)
    batch, channels, height, width = x.shape
    out_height, out_width = gradient.shape[2:]
    program = _program(weight, stride, out_width)
    tile, per_thread = int(dict(program.defines)["TILE"]), int(dict(program.defines)["CHANNELS"])
    groups = channels // per_thread
    lanes = min(groups, LANES)
    columns = -(-groups // lanes)
    strips = batch * out_height * -(-out_width // tile)
    filling = -(-BLOCKS_PER_MULTIPROCESSOR * launch.multiprocessors(x.device) // columns)
    rows = max(1, min(filling, strips // (THREADS // lanes * STRIPS_PER_THREAD)))
    taps = weight.shape[-1] ** 2
    parts = torch.empty((rows, taps, channels), dtype=torch.float32, device=x.device)
    launch.launch(
        program,
        "depthwise_filter_gradient",
        grid=(columns, rows),
        block=THREADS,
        arguments=(_dense(x), gradient, parts, batch, channels, height, width, out_height, out_width, lanes),
        device=x.device,
    )
    return parts.sum(0).t().reshape(weight.shape).to(weight.dtype, memory_format=torch.contiguous_format)


def _program(weight: Tensor, stride: int, width: int) -> Program:
    """For results of so many columns: the tile that computes the fewest that are not there, the larger of equals."""
    tile = min(TILES, key=lambda tile: (-(-width // tile) * (tile + 2), -tile))
    return Program(
        "depthwise_conv2d",
        (
            ("ELEMENT", launch.ELEMENTS[weight.dtype]),
            ("KERNEL", weight.shape[-1]),
            ("STRIDE", stride),
            ("TILE", tile),
            ("CHANNELS", 1 if len(weight) % 2 else 2),
        ),
    )


def _threads(result: Tensor, program: Program) -> int:
    batch, channels, height, width = result.shape
    defines = dict(program.defines)
    tiles = -(-width // int(defines["TILE"]))
    return batch * -(-height // ROWS) * tiles * (channels // int(defines["CHANNELS"]))


def _launch(
    program: Program, entry: str, arguments: tuple[Tensor | int, ...], threads: int, device: torch.device
) -> None:
    grid = (-(-threads // THREADS), 1)
    launch.launch(program, entry, grid=grid, block=THREADS, arguments=arguments, device=device)


def _dense(value: Tensor) -> Tensor:
    """Channels-last, from an address that two channels can be read from at once."""
    value = value.contiguous(memory_format=torch.channels_last)
    misaligned = value.data_ptr() % (2 * value.element_size())
    return value.clone(memory_format=torch.channels_last) if misaligned else value
