"""MeasuringSettings: where, how and from what the metrics of an evaluator's device come (latency, energy)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from workers.energy import energy, meter_for
from workers.latency_predictor import LatencyPredictor, read_predictor
from workers.latency_table import table_for
from workers.measure import PRECISIONS, checked_device, device_name, latency
from workers.metrics import DEVICE_METRICS
from workers.operators import OperatorReader
from workers.protocol import Report

Source = Literal["measured", "look_up", "predicted"]


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings:
    """How latency and energy are measured; what was used is noted with the trial."""

    latency_device: str | None = None
    """Where latency and energy are measured, "cpu" or "cuda:1", say; unless given, on the worker's own device."""
    latency_batch_size: int = 1
    """Inputs per forward pass."""
    latency_precision: str = "float32"
    """Of weights and inputs: "float32", "bfloat16" or "float16"."""
    latency_repeats: int = 30
    """Forward passes whose median is taken."""
    latency_source: Source = "measured"
    """"look_up" adds up the network's operators, each of which is measured once on a device and remembered on disk;
    "predicted" asks `latency_predictor`."""
    latency_predictor: str | None = None
    """A file that ``nas latency fit`` has made."""
    energy_seconds: float = 2.0
    """So long are forward passes run while energy is counted."""

    def __post_init__(self) -> None:
        for name in ("latency_batch_size", "latency_repeats"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        for name, allowed in (("latency_precision", tuple(PRECISIONS)), ("latency_source", get_args(Source))):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name in ("latency_device", "latency_predictor"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be text, got {value!r}")
        seconds = self.energy_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise ValueError(f"energy_seconds must be a number above 0, got {seconds!r}")
        if self.latency_predictor is not None and self.latency_device is not None:
            raise ValueError("a latency predictor holds for the device that it was fitted on; leave latency_device out")
        if (self.latency_source == "predicted") != (self.latency_predictor is not None):
            raise ValueError(
                'latency_source = "predicted" and latency_predictor = FILE belong together (nas latency fit makes the '
                f"file), got {self.latency_source!r} and {self.latency_predictor!r}"
            )

    def check_device(self, metrics: Iterable[str], device: str) -> None:
        """Raise `ValueError`, saying what to do, if one of these metrics cannot be had on this machine.

        Args:
            metrics: names; those that no device is asked for are left alone.
            device: the worker's own.
        """
        wanted = DEVICE_METRICS.intersection(metrics)
        if "energy_mj" in wanted or ("latency_ms" in wanted and self.latency_source != "predicted"):
            at = self._device(device)
            if "energy_mj" in wanted:
                meter_for(at)
        if "latency_ms" in wanted and self.latency_predictor is not None:
            self._predictor()

    def device_metrics(
        self,
        network: nn.Module,
        space: str,
        input_shape: Sequence[int],
        metrics: Iterable[str],
        report: Report,
        device: str,
    ) -> dict[str, float]:
        """Those of the wanted metrics that depend on a device; notes what they were measured on, and how.

        Args:
            network: on any device; it is not changed.
            space: the name of the space that it is from.
            input_shape: of one input, without the batch.
            metrics: names; those that need no device are left alone.
            report: takes the notes.
            device: the worker's own.
        """
        wanted = DEVICE_METRICS.intersection(metrics)
        found: dict[str, float] = {}
        if wanted:
            report.note(latency_batch_size=self.latency_batch_size, latency_precision=self.latency_precision)
        if "latency_ms" in wanted:
            found["latency_ms"], name = self._latency(network, space, input_shape, device)
            report.note(latency_device=name, latency_source=self.latency_source)
        if "energy_mj" in wanted:
            at = self._device(device)
            taken = energy(
                network,
                input_shape,
                meter=meter_for(at),
                device=at,
                batch_size=self.latency_batch_size,
                precision=self.latency_precision,
                seconds=self.energy_seconds,
            )
            report.note(energy_meter=taken.meter, energy_passes=taken.passes, energy_watts=taken.watts)
            found["energy_mj"] = taken.millijoules
        return found

    def _latency(self, network: nn.Module, space: str, input_shape: Sequence[int], device: str) -> tuple[float, str]:
        """Milliseconds, and the device they hold for."""
        batch_size, precision = self.latency_batch_size, self.latency_precision
        if self.latency_source == "predicted":
            predictor = self._predictor()
            if (predictor.space, predictor.input_shape) != (space, tuple(input_shape)):
                raise ValueError(
                    f"{self.latency_predictor} foretells networks of space {predictor.space!r} on inputs of shape "
                    f"{predictor.input_shape}, got {space!r} and {tuple(input_shape)}: nas latency fit makes another"
                )
            operators = _reader().read(network, input_shape, batch_size=batch_size, precision=precision)
            return predictor.latency_ms(operators), predictor.device
        at = self._device(device)
        if self.latency_source == "look_up":
            table = table_for(at, device_name(at))
            return table.latency_ms(network, input_shape, batch_size=batch_size, precision=precision), device_name(at)
        timed = latency(
            network,
            input_shape,
            device=at,
            batch_size=batch_size,
            precision=precision,
            repeats=self.latency_repeats,
        )
        return timed.median_ms, timed.device_name

    def _device(self, device: str) -> torch.device:
        return checked_device(device if self.latency_device is None else self.latency_device)

    def _predictor(self) -> LatencyPredictor:
        assert self.latency_predictor is not None
        predictor = _predictor(Path(self.latency_predictor))
        for name in ("batch_size", "precision"):
            fitted, stated = getattr(predictor, name), getattr(self, f"latency_{name}")
            if fitted != stated:
                raise ValueError(
                    f"{self.latency_predictor} was fitted to latencies with {name} {fitted!r}; set "
                    f"evaluator.latency_{name} to that, got {stated!r}"
                )
        return predictor


@lru_cache(maxsize=8)
def _predictor(path: Path) -> LatencyPredictor:
    return read_predictor(path)


@lru_cache(maxsize=1)
def _reader() -> OperatorReader:
    return OperatorReader()
