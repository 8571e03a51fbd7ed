"""TrainingEvaluator: builds the network, trains it on the task's data, measures it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from torch import nn

from search_spaces.build import build
from search_spaces.cost import cost
from search_spaces.space import SearchSpace
from workers.datasets.dataset import DataError, Dataset
from workers.datasets.load import load_dataset
from workers.measure import latency, peak_memory
from workers.metrics import METRICS, check_metrics
from workers.protocol import Assignment, Report
from workers.training.decisions import check_decisions, training_decisions
from workers.training.loop import train
from workers.training.seeding import derived_seed, seeded, threads
from workers.training.settings import TrainingSettings

COST_METRICS = frozenset({"parameters", "macs", "activation_bytes"})


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training leaves behind."""

    network: nn.Module
    dataset: Dataset
    #: those the assignment asked for
    metrics: dict[str, float]


class Periodic:
    """Keeps a checkpoint every so many seconds, and when the worker asks for one.

    Args:
        report: who keeps it.
        interval_seconds: between the end of one and the next.
    """

    def __init__(self, *, report: Report, interval_seconds: float) -> None:
        self._report = report
        self._interval = interval_seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether to keep one now."""
        return self._report.wants_checkpoint or time.monotonic() - self._last >= self._interval

    def keep(self, epochs: int, state: Mapping[str, Any]) -> None:
        """Keep one."""
        self._report.checkpoint(epochs, state)
        self._last = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class TrainingEvaluator(TrainingSettings):
    """Trains networks; its fields are the training settings, and how latency is measured.

    The task says which data: ``{"data": name or path, "settings": {…}}`` as for `load_dataset`. What the space decides
    beside its network takes the place of the settings here. The study's full budget takes the place of `epochs`: a
    trial with a smaller one is the beginning of the same training. In a study without it, a trial's own budget does.

    A loss that becomes NaN or infinite raises `workers.training.loop.NanLoss`, a FloatingPointError.
    """

    checkpoint_seconds: float = 120.0
    """So much training may be lost with a worker: this often a checkpoint is kept. 0 keeps one after every step."""
    latency_batch_size: int = 1
    """Inputs per forward pass when latency is measured."""
    latency_repeats: int = 30
    """Forward passes whose median is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("latency_batch_size", "latency_repeats"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        interval = self.checkpoint_seconds
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval < math.inf:
            raise ValueError(f"checkpoint_seconds must be a number of at least 0, got {interval!r}")

    def check(self, assignment: Assignment) -> None:
        """Load the data, hold metrics and decisions against it, and build the network."""
        if not assignment.space.has_network:
            raise ValueError(
                f"space {assignment.space.name!r} describes no network to train; give an evaluator of your own"
            )
        dataset = _dataset(assignment)
        check_metrics(assignment.metrics, dataset.kind)
        self.check_space(assignment.space)
        self.settings_for(assignment)
        _network(assignment, dataset)

    def evaluate(self, assignment: Assignment, report: Report) -> dict[str, float]:
        """Train, and return the metrics the assignment asks for; those on data are of the validation split.

        Where all of them belong to the architecture itself, nothing is trained.
        """
        check_metrics(assignment.metrics)
        if all(METRICS[name].of_architecture for name in assignment.metrics):
            return self.complete(assignment, {}, report)
        return self.fit(assignment, report).metrics

    def fit(self, assignment: Assignment, report: Report) -> Fitted:
        """Train, and keep the network."""
        dataset = _dataset(assignment)
        check_metrics(assignment.metrics, dataset.kind)
        settings = self.settings_for(assignment)
        with threads(settings.threads):
            network = _network(assignment, dataset)
            measured = self._architecture_metrics(network, dataset, assignment, report)
            wanted = {*assignment.metrics, "loss"}

            def after_epoch(epoch: int, scores: Mapping[str, float]) -> bool:
                return report(epoch, **{name: value for name, value in scores.items() if name in wanted})

            with peak_memory(assignment.device) as peak:
                result = train(
                    network,
                    dataset,
                    settings,
                    seed=derived_seed(assignment.seed, 1),
                    device=assignment.device,
                    report=after_epoch,
                    start=assignment.checkpoint,
                    keeper=Periodic(report=report, interval_seconds=self.checkpoint_seconds),
                    until=_epochs(assignment.budget),
                )
        if peak.bytes is not None:
            report.note(peak_memory_bytes=peak.bytes)
        found = {**result.scores, **measured, "training_seconds": result.seconds}
        metrics = {name: float(found[name]) for name in assignment.metrics}
        return Fitted(network=network, dataset=dataset, metrics=metrics)

    def complete(self, assignment: Assignment, known: Mapping[str, float], report: Report) -> dict[str, float]:
        """Take the trained metrics from `known`; measure those that belong to the architecture itself."""
        check_metrics(assignment.metrics)
        trained = [name for name in assignment.metrics if not METRICS[name].of_architecture]
        missing = [name for name in trained if name not in known]
        if missing:
            raise ValueError(f"the known result lacks the metric {missing[0]!r}; it has {', '.join(known) or 'none'}")
        found = {name: known[name] for name in trained}
        if len(trained) < len(assignment.metrics):
            dataset = _dataset(assignment)
            with threads(self.settings_for(assignment).threads):
                found |= self._architecture_metrics(_network(assignment, dataset), dataset, assignment, report)
        return {name: float(found[name]) for name in assignment.metrics}

    def check_space(self, space: SearchSpace) -> None:
        """Raise `ValueError` if the space can decide what is no training setting, or a value it may not have."""
        check_decisions(space)

    def settings_for(self, assignment: Assignment) -> TrainingSettings:
        """The settings of one trial."""
        settings = self.with_decisions(training_decisions(assignment.space, assignment.architecture))
        epochs, full = _epochs(assignment.budget), _epochs(assignment.full_budget)
        longest = max((given for given in (epochs, full) if given is not None), default=None)
        return settings if longest is None else replace(settings, epochs=longest)

    def _architecture_metrics(
        self, network: nn.Module, dataset: Dataset, assignment: Assignment, report: Report
    ) -> dict[str, float]:
        """Those of the wanted metrics that belong to the architecture."""
        wanted = set(assignment.metrics)
        found: dict[str, float] = {}
        if wanted & COST_METRICS:
            costs = cost(network, dataset.input_shape)
            found |= {name: float(getattr(costs, name)) for name in COST_METRICS}
        if "latency_ms" in wanted:
            timed = latency(
                network,
                dataset.input_shape,
                device=assignment.device,
                batch_size=self.latency_batch_size,
                repeats=self.latency_repeats,
            )
            report.note(latency_device=timed.device_name, latency_batch_size=timed.batch_size)
            found["latency_ms"] = timed.median_ms
        return found


def _epochs(budget: float | None) -> int | None:
    if budget is None:
        return None
    if budget < 1 or budget != int(budget):
        raise ValueError(f"a training's budget is a whole number of epochs >= 1, got {budget}")
    return int(budget)


def _network(assignment: Assignment, dataset: Dataset) -> nn.Module:
    """The untrained network, its weights drawn from the assignment's seed."""
    with seeded(derived_seed(assignment.seed, 0)):
        network: nn.Module = build(
            assignment.space,
            assignment.architecture,
            input_shape=dataset.input_shape,
            outputs=dataset.outputs,
            allow=assignment.allow,
        )
    return network


def _dataset(assignment: Assignment) -> Dataset:
    task = assignment.task
    unknown = sorted(set(task) - {"data", "settings"})
    if "data" not in task or unknown:
        raise DataError(f"a training task is {{'data': name or path, 'settings': {{…}}}}, got {dict(task)!r}")
    return _cached(str(task["data"]), json.dumps(dict(task.get("settings") or {}), sort_keys=True), assignment.allow)


@lru_cache(maxsize=2)
def _cached(name: str, settings: str, allow: tuple[str, ...]) -> Dataset:
    """Data sets stay in the process: the next trial of a study uses the same one."""
    decoded: dict[str, Any] = json.loads(settings)
    return load_dataset(name, allow=allow, **decoded)
