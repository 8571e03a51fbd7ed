"""deviations: every kernel done once on a small case, beside its reference, before PyTorch is told of it.

A GPU or a compiler that nobody has met yet may make of a source what nobody meant; no search is to learn from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from search_spaces.operations import batched_mlp, depthwise, sum_relu

TOLERANCES: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: 1e-3, torch.bfloat16: 5e-2})
"""What a result may be off by: more than rounding and any order of sums make, less than any wrong address.

Of bfloat16 relative to the largest one, as its inputs are rounded too.
"""

CPU = torch.device("cpu")

Kernel = Callable[..., Any]


class Case(NamedTuple):
    """Arguments on the CPU, and what must come out; where nothing does, what the first argument must become."""

    arguments: Sequence[Any]
    expected: Sequence[Tensor]


def deviations(kernels: Mapping[str, Kernel], device: torch.device) -> dict[str, str]:
    """Operator -> what is wrong with its kernel on this device; empty if nothing is.

    Args:
        kernels: operator of the namespace ``nas`` -> its implementation.
        device: where they run.
    """
    found = {}
    cases = _cases()
    for name, kernel in kernels.items():
        for dtype, case in product(TOLERANCES, cases[name]):
            try:
                wrong = _deviation(kernel, case, device, dtype)
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            if wrong is not None:
                found[name] = f"with {dtype}: {wrong}"
                break
    return found


def _deviation(kernel: Kernel, case: Case, device: torch.device, dtype: torch.dtype) -> str | None:
    there = [_moved(argument, device, dtype) for argument in case.arguments]
    returned = kernel(*there)
    results = [there[0]] if returned is None else [returned] if isinstance(returned, Tensor) else list(returned)
    for number, (result, known) in enumerate(zip(results, case.expected, strict=True)):
        here, expected = result.cpu(), _moved(known, CPU, dtype)
        if here.shape != expected.shape or here.dtype != expected.dtype:
            return f"result {number} is {here.dtype} of {tuple(here.shape)}, not {expected.dtype} of {expected.shape}"
        if dtype == torch.bfloat16 and expected.dtype == torch.uint8:
            continue  # which sums are above 0: near 0 that hangs on the rounding
        scale = 1.0 if dtype == torch.float32 else max(1.0, float(expected.abs().max()))
        if not torch.allclose(here.double(), expected.double(), rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * scale):
            apart = float((here.double() - expected.double()).abs().max())
            return f"result {number} is off by up to {apart:.3g}"
    return None


def _moved(argument: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A copy there; numbers that are not whole become of this type."""
    if isinstance(argument, Tensor):
        return argument.to(device, dtype if argument.is_floating_point() else argument.dtype, copy=True)
    if isinstance(argument, list) and argument and isinstance(argument[0], Tensor):
        return [_moved(value, device, dtype) for value in argument]
    return argument


def _cases() -> Mapping[str, Sequence[Case]]:
    """Sizes that fill no block, and more than one."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "activation_overlap": _overlap(drawn(70, 3, 19)),
        **_sums([drawn(3, 10, 9, 11) for _ in range(3)], drawn(3, 10, 9, 11)),
        **_convolutions(drawn),
        **_layers(drawn),
    }


def _overlap(given: Tensor) -> Sequence[Case]:
    # its reference stands on a floor that is not seen from here; this is what the operator is defined as
    on = given.flatten(1) > 0
    alike = (on[:, None] == on[None]).sum(2, dtype=torch.int32)
    return [Case((torch.ones_like(alike), given), (1 + alike,))]


def _sums(values: list[Tensor], gradient: Tensor) -> Mapping[str, Sequence[Case]]:
    forward = (values, True)
    rectified, total, mask = torch.ops.nas.sum_relu(*forward)
    backward = (gradient, total, mask, sum_relu.layout_of(gradient) == torch.channels_last)
    return {
        "sum_relu": [Case(forward, (rectified, total, mask))],
        "sum_relu_backward": [Case(backward, (torch.ops.nas.sum_relu_backward(*backward),))],
    }


def _convolutions(drawn: Callable[..., Tensor]) -> Mapping[str, Sequence[Case]]:
    cases: dict[str, list[Case]] = {"depthwise_conv2d": [], "depthwise_conv2d_backward": []}
    for kernel, stride in zip(depthwise.KERNELS, (1, 2, 1), strict=True):
        x = drawn(2, 34, 13, 11).contiguous(memory_format=torch.channels_last)
        forward = (x, drawn(34, 1, kernel, kernel), stride)
        output = torch.ops.nas.depthwise_conv2d(*forward)
        gradient = drawn(*output.shape).contiguous(memory_format=torch.channels_last)
        backward = (gradient, *forward, True, True)
        cases["depthwise_conv2d"].append(Case(forward, (output,)))
        cases["depthwise_conv2d_backward"].append(Case(backward, torch.ops.nas.depthwise_conv2d_backward(*backward)))
    return cases


def _layers(drawn: Callable[..., Tensor]) -> Mapping[str, Sequence[Case]]:
    parts, reads, writes, weights = [], 0, 0, 0
    for inputs, outputs in ((5, 70), (40, 3)):
        parts.append(batched_mlp.Part(reads=reads, inputs=inputs, writes=writes, outputs=outputs, weight=weights))
        reads, writes, weights = reads + inputs, writes + outputs, weights + inputs * outputs
    group = batched_mlp.Grouping(tuple(parts))
    table = group.table(torch.device("cpu"))
    x, weight = drawn(reads, 67), drawn(weights)
    forward = (x, weight, drawn(writes), table, group.rows, *group.widest)
    backward = (drawn(writes, 67), x, weight, table, *group.widest, [True, True, True])
    return {
        "batched_mlp": [Case(forward, (torch.ops.nas.batched_mlp(*forward),))],
        "batched_mlp_backward": [Case(backward, torch.ops.nas.batched_mlp_backward(*backward))],
    }
