"""The rows of `gpu.py` that measure one operator each, beside PyTorch's own operations on the same GPU."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from gpu_timing import Row, device_ms
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.operations.depthwise import convolved
from search_spaces.operations.sum_relu import sum_relu
from workers.kernels.activation_overlap import activation_overlap

EXAMPLES = 128
LAYERS = (1_000_000, 3_000_000, 10_000_000)
SUMMED = (256, 64, 32, 32)
INPUTS = 4
MOBILE_SHAPES = ((64, 96, 112, 2), (128, 144, 56, 1), (128, 192, 28, 1), (128, 576, 14, 1), (128, 960, 7, 1))
"""Batch, channels, rows and columns, stride: of depthwise layers of MobileNetV2, from the first to the last."""
MOBILE_KERNEL = 5


def overlap_rows(bytes_per_ms: float) -> Iterator[Row]:
    """`activation_overlap` of 128 examples, products of bits and of bytes, beside the formula of the paper."""
    for units in LAYERS:
        buffers = [torch.randn(EXAMPLES, units, device="cuda").bfloat16() for _ in range(2 if units > 5_000_000 else 4)]
        total = torch.zeros(EXAMPLES, EXAMPLES, dtype=torch.int32, device="cuda")
        kernel = torch.zeros(EXAMPLES, EXAMPLES, device="cuda")

        def formula(given: Tensor, kernel: Tensor = kernel) -> None:
            codes = (given > 0).to(given.dtype)
            kernel.add_(codes @ codes.T).add_((1 - codes) @ (1 - codes).T)

        floor = EXAMPLES * units * 2 / bytes_per_ms
        peer = device_ms([_bound(formula, given) for given in buffers])
        of_bytes = device_ms([_bound(activation_overlap, total, given, bits=False) for given in buffers])
        ours = device_ms([_bound(activation_overlap, total, given) for given in buffers])
        yield Row(
            what=f"activation_overlap, N={EXAMPLES}, D={units:.0e}, bfloat16",
            ours=ours,
            peer=peer,
            against="K += c c' + (1 - c)(1 - c)'",
            floor=floor,
            wanted=">= 10x, >= 60 % of copy bandwidth",
            reached=peer / ours >= 10 and floor / ours >= 0.6,
            notes=f"products of bytes in place of bits: {of_bytes:.4g} ms",
        )


def sum_relu_row(bytes_per_ms: float) -> Row:
    """`sum_relu` forward and backward, beside eager PyTorch."""
    sets = [[torch.randn(SUMMED, device="cuda").bfloat16().requires_grad_() for _ in range(INPUTS)] for _ in range(3)]
    gradient = torch.randn(SUMMED, device="cuda").bfloat16()

    def eager(values: Sequence[Tensor]) -> Tensor:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return functional.relu(total)

    def both_ways(way: Callable[[Sequence[Tensor]], Tensor], values: Sequence[Tensor]) -> None:
        torch.autograd.grad(way(values), values, gradient)

    ours = device_ms([_bound(both_ways, sum_relu, values) for values in sets])
    peer = device_ms([_bound(both_ways, eager, values) for values in sets])
    size = math.prod(SUMMED)
    # forward reads the inputs, writes the result and a bit per element; backward reads gradient and bits, writes one
    floor = size * (2 * (INPUTS + 1) + 2 * 2 + 2 / 8) / bytes_per_ms
    return Row(
        what=f"sum_relu forward + backward, {INPUTS} inputs, {'x'.join(map(str, SUMMED))} bfloat16",
        ours=ours,
        peer=peer,
        against="eager PyTorch",
        floor=floor,
        wanted=">= 2x, >= 75 % of copy bandwidth",
        reached=peer / ours >= 2 and floor / ours >= 0.75,
    )


def depthwise_rows(bytes_per_ms: float) -> Iterator[Row]:
    """`depthwise_conv2d` forward and backward in five shapes, beside cuDNN through PyTorch; then their mean ratio."""
    ratios, times, peers, floors = [], [], [], []
    for batch, channels, size, stride in MOBILE_SHAPES:
        layer = nn.Conv2d(channels, channels, MOBILE_KERNEL, stride, MOBILE_KERNEL // 2, groups=channels, bias=False)
        layer = layer.cuda().bfloat16()
        inputs = [
            torch.randn(batch, channels, size, size, device="cuda")
            .bfloat16()
            .contiguous(memory_format=torch.channels_last)
            .requires_grad_()
            for _ in range(3)
        ]
        gradient = torch.randn_like(layer(inputs[0]))

        def both_ways(
            way: Callable[[Tensor], Tensor], given: Tensor, layer: nn.Conv2d = layer, gradient: Tensor = gradient
        ) -> None:
            torch.autograd.grad(way(given), (given, layer.weight), gradient)

        def ours_is(given: Tensor, layer: nn.Conv2d = layer) -> Tensor:
            return convolved(layer, given)

        times.append(device_ms([_bound(both_ways, ours_is, given) for given in inputs]))
        peers.append(device_ms([_bound(both_ways, layer, given) for given in inputs]))
        # forward reads and writes, each gradient reads two tensors, one of them writes
        floors.append(2 * (3 * inputs[0].numel() + 3 * gradient.numel()) / bytes_per_ms)
        ratios.append(peers[-1] / times[-1])
        yield Row(
            what=f"depthwise_conv2d {MOBILE_KERNEL}x{MOBILE_KERNEL}/{stride} forward + backward, "
            f"{batch}x{channels}x{size}x{size} bfloat16 channels-last",
            ours=times[-1],
            peer=peers[-1],
            against="cuDNN",
            floor=floors[-1],
            wanted=">= 0.95x",
            reached=ratios[-1] >= 0.95,
        )
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    yield Row(
        what="depthwise_conv2d, all five; the ratio is their geometric mean",
        ours=sum(times),
        peer=mean * sum(times),
        against="cuDNN, as if slower by the mean ratio",
        floor=sum(floors),
        wanted=">= 1.5x",
        reached=mean >= 1.5,
    )


def _bound(function: Callable[..., object], *arguments: object, **settings: object) -> Callable[[], object]:
    return lambda: function(*arguments, **settings)
