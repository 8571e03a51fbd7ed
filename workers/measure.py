"""What is measured on the device itself: latency and peak memory."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from search_spaces.network import evaluating
from search_spaces.operations.accelerated import plain

PRECISIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
)
"""What weights and inputs may be while a network is measured, by name."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long a forward pass takes."""

    #: median over the repeats
    median_ms: float
    #: inputs per pass
    batch_size: int
    repeats: int
    device_name: str


def latency(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    precision: str = "float32",
    warm_up: int = 5,
    repeats: int = 30,
) -> Latency:
    """Time a forward pass in evaluation mode, without gradients, on zeros.

    Before each reading of the clock the device is waited for. The median is taken because other processes only ever
    add time, now and then much of it.

    Args:
        network: what to time; see `forward_pass` for what becomes of it.
        input_shape: of one input, without the batch.
        device: where to run.
        batch_size: inputs per pass.
        precision: a name in `PRECISIONS`.
        warm_up: passes that are not counted: the first ones allocate memory and choose kernels.
        repeats: passes that are counted.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    device = torch.device(device)
    times = []
    with forward_pass(network, input_shape, device=device, batch_size=batch_size, precision=precision) as run:
        for index in range(warm_up + repeats):
            wait_for(device)
            began = time.perf_counter()
            run()
            wait_for(device)
            if index >= warm_up:
                times.append(time.perf_counter() - began)
    return Latency(
        median_ms=1e3 * median(times), batch_size=batch_size, repeats=repeats, device_name=device_name(device)
    )


@contextmanager
def forward_pass(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    device: torch.device,
    batch_size: int,
    precision: str,
) -> Iterator[Callable[[], object]]:
    """A function that runs one forward pass in evaluation mode, without gradients, on zeros; it does not wait.

    A network that is not on `device` and in this precision is left alone: a copy of it runs. CUDA kernels of our own,
    which train it, take no part: what is measured is what an exported network does, whatever was trained here before.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    dtype = PRECISIONS[precision]
    inputs = torch.zeros(batch_size, *input_shape, device=device, dtype=dtype)
    weights = [value for value in (*network.parameters(), *network.buffers()) if value.is_floating_point()]
    if any(weight.device != inputs.device or weight.dtype != dtype for weight in weights):
        network = copy.deepcopy(network).to(device, dtype)
    with evaluating(network), torch.inference_mode(), plain():
        yield lambda: network(inputs)


def each_ms(
    calls: Sequence[Callable[[], object]], device: torch.device, *, warm_up: int = 2, repeats: int = 10
) -> list[float]:
    """Milliseconds of each of several calls that follow one another, as they do in a network: medians over the repeats.

    One call again and again would find all it needs in the caches, and take half as long. A GPU takes the times itself
    (events in its stream), so that nobody waits for it in between; where it waits for the next call, that counts.
    """
    events = device.type == "cuda"
    times = []
    for _ in range(warm_up + repeats):
        marks = [_mark(device, events)]
        for call in calls:
            call()
            marks.append(_mark(device, events))
        wait_for(device)
        times.append([_between_ms(first, second, events) for first, second in pairwise(marks)])
    return [median(of_one) for of_one in zip(*times[warm_up:], strict=True)]


def _mark(device: torch.device, events: bool) -> Any:
    """This moment: an event in the stream of a GPU, the clock's reading elsewhere."""
    if not events:
        wait_for(device)
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _between_ms(first: Any, second: Any, events: bool) -> float:
    return float(first.elapsed_time(second)) if events else 1e3 * (second - first)


def checked_device(name: str) -> torch.device:
    """A device that is there, by its name: "cpu", "cuda", "cuda:1"; else a `ValueError`."""
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda")
    except (RuntimeError, TypeError):
        known = False
    if not known:
        raise ValueError(f"device must be 'cpu' or 'cuda', or one of several such as 'cuda:1', got {name!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"device {name!r} is not there; this machine or this torch has no CUDA")
        if (device.index or 0) >= count:
            raise ValueError(
                f"device {name!r} is not there; there are {', '.join(f'cuda:{at}' for at in range(count))}"
            )
    return device


def device_name(device: torch.device | str) -> str:
    """What the device is sold as; for a CPU with the number of torch's threads."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    return f"{_processor()}, {torch.get_num_threads()} threads"


@dataclass
class PeakMemory:
    """Filled in when the block it watches ends."""

    bytes: int | None = field(default=None)


@contextmanager
def peak_memory(device: torch.device | str) -> Iterator[PeakMemory]:
    """Watch the most device memory that tensors take inside the block.

    `bytes` stays None where torch keeps no such count (on CPUs).
    """
    device = torch.device(device)
    seen = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield seen
    if device.type == "cuda":
        seen.bytes = torch.cuda.max_memory_allocated(device)


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
