"""What is measured on the device itself: latency and peak memory."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import nn


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
    input_shape: tuple[int, ...],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    warm_up: int = 5,
    repeats: int = 30,
) -> Latency:
    """Time a forward pass in evaluation mode, without gradients, on zeros.

    The network is left on `device`, in the mode it was in. Before each reading of the clock the device is waited for.
    The median is taken because other processes only ever add time, now and then much of it.

    Args:
        network: what to time.
        input_shape: of one input, without the batch.
        device: where to run.
        batch_size: inputs per pass.
        warm_up: passes that are not counted: the first ones allocate memory and choose kernels.
        repeats: passes that are counted.
    """
    for name, value in (("batch_size", batch_size), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    device = torch.device(device)
    network.to(device)
    was_training = network.training
    network.eval()
    inputs = torch.zeros(batch_size, *input_shape, device=device)
    times = []
    try:
        with torch.inference_mode():
            for index in range(warm_up + repeats):
                _wait_for(device)
                began = time.perf_counter()
                network(inputs)
                _wait_for(device)
                if index >= warm_up:
                    times.append(time.perf_counter() - began)
    finally:
        network.train(was_training)
    return Latency(
        median_ms=1e3 * median(times), batch_size=batch_size, repeats=repeats, device_name=device_name(device)
    )


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


def _wait_for(device: torch.device) -> None:
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
