"""launch: a compiled kernel on the stream that PyTorch is using, through `cuda-core`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from workers.kernels.compile import Program, machine_code

ELEMENTS = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16", torch.float16: "float16"}
"""What the sources call a tensor's numbers."""


def launch(
    program: Program,
    entry: str,
    *,
    grid: tuple[int, int],
    block: int,
    arguments: Sequence[Tensor | int | None],
    device: torch.device,
) -> None:
    """Put one kernel onto the current stream of `device`; nothing is waited for.

    Args:
        program: what it is compiled from.
        entry: its name in there.
        grid: blocks along x and y.
        block: threads.
        arguments: the address of a tensor (None: a null pointer), or a whole number, always ``long long`` there.
        device: where all the tensors are.
    """
    from cuda.core import LaunchConfig
    from cuda.core import launch as put

    values = [_value(argument) for argument in arguments]
    stream = _stream(torch.cuda.current_stream(device).cuda_stream)
    with torch.cuda.device(device):
        _bind(device)
        put(stream, LaunchConfig(grid=grid, block=block), _kernel(program, entry, _architecture(device)), *values)


_THREAD = threading.local()


def _bind(device: torch.device) -> None:
    """Make the device's context this thread's, once.

    PyTorch leaves that to the first of its own calls that needs one, and a thread of autograd's may not have made any.
    """
    bound: set[int | None] = _THREAD.__dict__.setdefault("bound", set())
    if device.index not in bound:
        from cuda.core import Device

        Device(device.index).set_current()
        bound.add(device.index)


@cache
def multiprocessors(device: torch.device) -> int:
    """How many blocks run at once, if each takes all that a multiprocessor has."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _value(argument: Tensor | int | None) -> int:
    """Python's whole numbers arrive as 64 bits, addresses and values alike."""
    if argument is None:
        return 0
    return argument.data_ptr() if isinstance(argument, Tensor) else argument


@cache
def _architecture(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@cache
def _kernel(program: Program, entry: str, architecture: str) -> Any:
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(machine_code(program, architecture), name=program.source).get_kernel(entry)


@cache
def _stream(handle: int) -> Any:
    from cuda.core import Stream

    return Stream.from_handle(handle)
