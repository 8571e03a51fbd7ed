"""Energy of forward passes, from the counters that processors and GPUs keep of themselves.

They count all that the device does: what others compute there meanwhile, and what it takes when idle, is in the figure.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from workers.measure import device_name, forward_pass, wait_for

POWERCAP = Path("/sys/class/powercap")
WARM_UP = 5


class NoEnergyMeter(ValueError):
    """A device whose energy cannot be measured here; the message says what was looked for and what to do."""


class Meter(Protocol):
    """A counter of energy."""

    @property
    def name(self) -> str:
        """What counts."""
        ...

    def joules(self) -> float:
        """Energy since some moment."""
        ...


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What forward passes take."""

    #: of one forward pass
    millijoules: float
    #: forward passes that were counted
    passes: int
    #: mean power of the device meanwhile
    watts: float
    meter: str


def energy(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    meter: Meter,
    device: torch.device,
    batch_size: int = 1,
    precision: str = "float32",
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Energy:
    """Run forward passes one after the other for some seconds, and divide what the counter says by their number.

    Args:
        network: see `workers.measure.forward_pass`.
        input_shape: of one input, without the batch.
        meter: of `device`; see `meter_for`.
        device: where to run.
        batch_size: inputs per pass.
        precision: a name in `workers.measure.PRECISIONS`.
        seconds: how long; counters of GPUs move some ten times a second only.
        clock: monotonic seconds.

    Raises:
        NoEnergyMeter: the counter did not move.
    """
    with forward_pass(network, input_shape, device=device, batch_size=batch_size, precision=precision) as run:
        for _ in range(WARM_UP):
            run()
        wait_for(device)
        passes, before, began = 0, meter.joules(), clock()
        while not passes or clock() - began < seconds:
            run()
            wait_for(device)
            passes += 1
        joules, lasted = meter.joules() - before, clock() - began
    if joules <= 0:
        raise NoEnergyMeter(
            f"energy_mj: the counter of {meter.name} did not move in {lasted:.3g} s; measure for longer "
            "(evaluator.energy_seconds), or leave the metric out"
        )
    return Energy(millijoules=1e3 * joules / passes, passes=passes, watts=joules / lasted, meter=meter.name)


def meter_for(device: torch.device) -> Meter:
    """The counter of a device: NVML's for a GPU, RAPL's for the processor.

    Raises:
        NoEnergyMeter: there is none that can be read.
    """
    if device.type == "cuda":
        # not by its number: CUDA_VISIBLE_DEVICES renumbers, and NVML knows nothing of that
        return nvml_meter(f"GPU-{torch.cuda.get_device_properties(device).uuid}", name=device_name(device))
    return rapl_meter()


class RaplMeter:
    """Sum of the counters of some zones of Linux's powercap, each in microjoules, starting again at its largest.

    Args:
        zones: folders with ``energy_uj`` and ``max_energy_range_uj``.
    """

    def __init__(self, zones: Sequence[Path]) -> None:
        self.zones = tuple(zones)
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in self.zones]
        self._last = [_number(zone / "energy_uj") for zone in self.zones]
        self._total = 0

    @property
    def name(self) -> str:
        """The zones, as they call themselves."""
        return f"RAPL ({', '.join((zone / 'name').read_text().strip() for zone in self.zones)})"

    def joules(self) -> float:
        """Energy since it was made; to be asked before a counter has gone round twice, which takes minutes."""
        now = [_number(zone / "energy_uj") for zone in self.zones]
        for last, current, most in zip(self._last, now, self._ranges, strict=True):
            self._total += current - last if current >= last else current - last + most
        self._last = now
        return 1e-6 * self._total


def rapl_meter(root: Path = POWERCAP) -> RaplMeter:
    """The counter of all processors of this machine and, where it is kept apart, of their memory.

    Zones of parts of a processor (core, uncore) are in the processor's own; "psys" counts the processors once more.
    """
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_counted(zone)]
    looked = f"energy_mj cannot be measured on the processor: looked for readable {root}/intel-rapl:*/energy_uj"
    if zones:
        try:
            return RaplMeter(zones)
        except OSError as error:
            raise NoEnergyMeter(
                f"{looked}; they are there, but not for this user ({error.strerror}): as root, chmod a+r them, or "
                "leave the metric out"
            ) from error
    raise NoEnergyMeter(
        f"{looked}, there are none (virtual machines and containers seldom have them); measure on a GPU "
        "(evaluator.latency_device = 'cuda') or on the machine itself, or leave the metric out"
    )


class NvmlMeter:
    """The counter that a GPU keeps.

    Args:
        nvml: the module ``pynvml``, ready to be asked.
        handle: its name of the GPU.
        name: what the GPU is sold as.
    """

    def __init__(self, nvml: Any, handle: Any, name: str) -> None:
        self._nvml = nvml
        self._handle = handle
        self._name = name

    @property
    def name(self) -> str:
        """The GPU."""
        return f"NVML ({self._name})"

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return 1e-3 * float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


def nvml_meter(uuid: str, *, name: str, nvml: Any = None) -> NvmlMeter:
    """The counter of the GPU with this identity; `nvml` takes the place of ``pynvml``."""
    looked = f"energy_mj cannot be measured on {name}: looked for its counter through NVML"
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise NoEnergyMeter(
                f"{looked}, but {error}; pip install nvidia-ml-py brings it, or leave the metric out"
            ) from error
    try:
        nvml.nvmlInit()
        meter = NvmlMeter(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid), name)
        meter.joules()
    except nvml.NVMLError as error:
        raise NoEnergyMeter(
            f"{looked}, which says: {error}; GPUs older than Volta and parts of a GPU (MIG) have none: leave the "
            "metric out"
        ) from error
    return meter


def _is_counted(zone: Path) -> bool:
    try:
        name = (zone / "name").read_text().strip()
    except OSError:
        return False
    return name.startswith("package") or name == "dram"


def _number(file: Path) -> int:
    return int(file.read_text())
