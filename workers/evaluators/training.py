"""TrainingEvaluator: builds the network, trains it on the task's data, measures it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from search_spaces.build import build
from search_spaces.cost import cost
from search_spaces.space import SearchSpace
from workers.datasets.dataset import DataError, Dataset
from workers.datasets.load import load_dataset
from workers.measure import peak_memory
from workers.measuring import MeasuringSettings
from workers.metrics import METRICS, check_metrics
from workers.protocol import Assignment, Report
from workers.state_file import read_state
from workers.training.decisions import check_decisions, training_decisions
from workers.training.grouped import Member, company, train_together
from workers.training.loop import TrainingResult, train
from workers.training.memory import (
    check_memory,
    fitting_together,
    keep_to_share,
    memory_limit,
    predicted_memory,
)
from workers.training.seeding import derived_seed, repeatable, seeded, threads
from workers.training.settings import TrainingSettings

COST_METRICS = frozenset({"parameters", "macs", "activation_bytes"})

LARGEST_GROUP = 4096
"""Of trials that one worker takes; each has a lease of its own."""


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
class TrainingEvaluator(TrainingSettings, MeasuringSettings):
    """Trains networks; its fields are the training settings, and how latency and energy are measured.

    The task says which data: ``{"data": name or path, "settings": {…}}`` as for `load_dataset`. What the space decides
    beside its network takes the place of the settings here. The study's full budget takes the place of `epochs`: a
    trial with a smaller one is the beginning of the same training. In a study without it, a trial's own budget does.

    A loss that becomes NaN or infinite raises `workers.training.finite.NanLoss`, a FloatingPointError; a network that
    would not fit in memory `workers.training.memory.WouldNotFit`, a MemoryError, before the device is touched.
    """

    checkpoint_seconds: float = 120.0
    """So much training may be lost with a worker: this often a checkpoint is kept. 0 keeps one after every step."""
    group: int = 1
    """A worker takes up to so many trials at once, and trains those of multilayer perceptrons that have batch size and
    optimiser in common together (see `workers.training.grouped`), each to the result that it has alone."""

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        MeasuringSettings.__post_init__(self)
        interval = self.checkpoint_seconds
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval < math.inf:
            raise ValueError(f"checkpoint_seconds must be a number of at least 0, got {interval!r}")
        if isinstance(self.group, bool) or not isinstance(self.group, int) or not 1 <= self.group <= LARGEST_GROUP:
            raise ValueError(f"group must be a whole number from 1 to {LARGEST_GROUP}, got {self.group!r}")

    def check(self, assignment: Assignment) -> None:
        """Load the data, hold metrics and decisions against it, and build the network."""
        if not assignment.space.has_network:
            raise ValueError(
                f"space {assignment.space.name!r} describes no network to train; give an evaluator of your own"
            )
        dataset = _dataset(assignment)
        check_metrics(assignment.metrics, dataset.kind)
        self.check_space(assignment.space)
        self.settings_for(assignment).check_task(dataset.kind, dataset.input_shape)
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
        with threads(settings.threads), repeatable(settings.deterministic):
            network = _network(assignment, dataset)
            foretold = check_memory(network, dataset, settings, assignment.device, assignment.device_share)
            keep_to_share(assignment.device, assignment.device_share)
            if foretold is not None:
                report.note(predicted_memory_bytes=foretold)
            measured = self._architecture_metrics(network, dataset, assignment, report)
            with peak_memory(assignment.device) as peak:
                result = train(
                    network,
                    dataset,
                    settings,
                    seed=derived_seed(assignment.seed, 1),
                    device=assignment.device,
                    report=_after_epoch(assignment, report),
                    start=assignment.checkpoint,
                    keeper=Periodic(report=report, interval_seconds=self.checkpoint_seconds),
                    until=_epochs(assignment.budget),
                    keep_end=assignment.keep_end,
                )
        if peak.bytes is not None:
            report.note(peak_memory_bytes=peak.bytes)
        if result.notes:
            report.note(**result.notes)
        found = {**result.scores, **measured, "training_seconds": result.seconds}
        metrics = {name: float(found[name]) for name in assignment.metrics}
        return Fitted(network=network, dataset=dataset, metrics=metrics)

    def evaluate_many(
        self, assignments: Sequence[Assignment], reports: Sequence[Report]
    ) -> Iterator[tuple[int, Mapping[str, float] | BaseException]]:
        """Train those together that can be, the others one after the other; see `EvaluatorOfGroups`."""
        groups: dict[object, list[int]] = {}
        networks: dict[int, nn.Module] = {}
        alone: list[int] = []
        for index, assignment in enumerate(assignments):
            try:
                common, networks[index] = self._company(assignment)
            except Exception:
                common = None  # alone, where what is wrong is said of this trial only
            (alone if common is None else groups.setdefault(common, [])).append(index)
        for company_of in groups.values():
            for indices in self._that_fit(company_of, assignments, networks):
                if len(indices) == 1:
                    alone += indices
                    continue
                members = [(index, assignments[index], networks[index], reports[index]) for index in indices]
                yield from self._trained_together(members)
        for index in alone:
            try:
                yield index, self.evaluate(assignments[index], reports[index])
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # a report may end its own trial with any
                yield index, error

    def _that_fit(
        self, indices: Sequence[int], assignments: Sequence[Assignment], networks: Mapping[int, nn.Module]
    ) -> Iterator[list[int]]:
        """A company in parts, each of which fits into the memory there is."""
        first = assignments[indices[0]]
        settings, dataset = self.settings_for(first), _dataset(first)
        limit = memory_limit(settings, first.device, first.device_share)
        if limit is None:
            yield list(indices)
            return
        device = torch.device(first.device)
        needs = [predicted_memory(networks[index], dataset, settings, device) for index in indices]
        for places in fitting_together(needs, limit):
            yield [indices[place] for place in places]

    def _company(self, assignment: Assignment) -> tuple[object, nn.Module]:
        """With whom a trial may be trained, see `company`, and its network; None for alone."""
        check_metrics(assignment.metrics)
        dataset = _dataset(assignment)
        network, settings = _network(assignment, dataset), self.settings_for(assignment)
        is_trained = not all(METRICS[name].of_architecture for name in assignment.metrics)
        # what its training takes by itself can only be measured alone
        if not is_trained or "training_seconds" in assignment.metrics:
            return None, network
        if assignment.checkpoint is not None and read_state(assignment.checkpoint).get("steps"):
            return None, network  # it goes on from within an epoch
        return company(network, settings, dataset, assignment.device), network

    def _trained_together(
        self, trials: Sequence[tuple[int, Assignment, nn.Module, Report]]
    ) -> Iterator[tuple[int, Mapping[str, float] | BaseException]]:
        dataset = _dataset(trials[0][1])
        device, count = trials[0][1].device, self.settings_for(trials[0][1]).threads
        members: list[Member] = []
        which: list[tuple[int, Assignment, dict[str, float]]] = []
        keep_to_share(device, trials[0][1].device_share)
        with threads(count):
            for index, assignment, network, report in trials:
                try:
                    measured = self._architecture_metrics(network, dataset, assignment, report)
                    report.note(trained_together=len(trials))
                    members.append(self._member(assignment, dataset, network, report))
                except (KeyboardInterrupt, GeneratorExit):
                    raise
                except BaseException as error:  # as above
                    yield index, error
                else:
                    which.append((index, assignment, measured))
            for place, result in train_together(members, dataset, device=device):
                index, assignment, measured = which[place]
                if not isinstance(result, TrainingResult):
                    yield index, result
                    continue
                scored = {**result.scores, **measured}
                yield index, {name: float(scored[name]) for name in assignment.metrics}

    def _member(self, assignment: Assignment, dataset: Dataset, network: nn.Module, report: Report) -> Member:
        check_metrics(assignment.metrics, dataset.kind)
        settings = self.settings_for(assignment)
        settings.check_task(dataset.kind, dataset.input_shape)
        return Member(
            network=network,
            settings=settings,
            seed=derived_seed(assignment.seed, 1),
            report=_after_epoch(assignment, report),
            start=assignment.checkpoint,
            keeper=Periodic(report=report, interval_seconds=self.checkpoint_seconds),
            until=_epochs(assignment.budget),
            keep_end=assignment.keep_end,
        )

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
        space, device = assignment.space.name, assignment.device
        return found | self.device_metrics(network, space, dataset.input_shape, wanted, report, device)


def _after_epoch(assignment: Assignment, report: Report) -> Callable[[int, Mapping[str, float]], bool]:
    """What an epoch led to is reported with: the metrics that are wanted, and the loss."""
    wanted = {*assignment.metrics, "loss"}

    def after_epoch(epoch: int, scores: Mapping[str, float]) -> bool:
        return report(epoch, **{name: value for name, value in scores.items() if name in wanted})

    return after_epoch


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
