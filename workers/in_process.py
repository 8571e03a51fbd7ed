"""InProcess: evaluates in the calling thread, for functions that cannot be named and so cannot be run elsewhere."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from search_spaces.architecture import Architecture
from search_spaces.nodes import SpaceError
from search_spaces.space import SearchSpace
from workers.calling import GivenUp, OverTime, call, call_many, callee, with_metrics_so_far
from workers.keeping import CheckpointWriter, starting_point
from workers.outcome import Failed, Outcome, clipped
from workers.protocol import Assignment, FailureKind
from workers.running import RunningTrial, checked_note, checked_report

logger = logging.getLogger(__name__)


class InProcess:
    """Calls an evaluator right here.

    Nothing can be killed here: a time limit, a stop or a lost lease takes effect when the evaluator calls `report`, and
    a memory limit not at all.

    Args:
        evaluator: a function (assignment, report) -> metrics, or an object with `evaluate`.
        space: the study's space, where the caller has it; made from its document unless given.
        device: where to evaluate.
        allow: packages beside ours that code named by the study may be imported from.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        evaluator: Any,
        *,
        space: SearchSpace | None = None,
        device: str = "cpu",
        allow: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callee = callee(evaluator)
        self._space = space
        self._device = device
        self._allow = allow
        self._clock = clock
        self._spaces: dict[int, SearchSpace] = {}

    def run(self, running: RunningTrial) -> Outcome:
        """Evaluate a trial; see `Evaluation`."""
        report = DirectReport(running, self._clock)
        with tempfile.TemporaryDirectory(prefix="nas-", ignore_cleanup_errors=True) as scratch:
            try:
                assignment = self._assignment(running, report, Path(scratch))
            except SpaceError as error:
                return Failed(kind=FailureKind.EXCEPTION, text=clipped(str(error)))
            outcome = call(self._callee, assignment, report, running.claimed.known_metrics)
        return _judged(outcome, running, report)

    def run_many(self, together: Sequence[RunningTrial]) -> Iterator[tuple[RunningTrial, Outcome]]:
        """Evaluate several trials at once; see `Evaluation`. Each one's time is that of all of them together."""
        runnings, assignments, reports = [], [], []
        with ExitStack() as folders:
            for running in together:
                report = DirectReport(running, self._clock, together=len(together))
                scratch = tempfile.TemporaryDirectory(prefix="nas-", ignore_cleanup_errors=True)
                try:
                    assignments.append(self._assignment(running, report, Path(folders.enter_context(scratch))))
                except SpaceError as error:
                    yield running, Failed(kind=FailureKind.EXCEPTION, text=clipped(str(error)))
                    continue
                runnings.append(running)
                reports.append(report)
            for index, outcome in call_many(self._callee, assignments, reports):
                yield runnings[index], _judged(outcome, runnings[index], reports[index])

    def _assignment(self, running: RunningTrial, report: DirectReport, scratch: Path) -> Assignment:
        claimed, spec = running.claimed, running.spec
        space, architecture = self._space_of(running), Architecture.from_json(claimed.architecture)
        start = starting_point(
            None if running.place is None else running.place.root,
            claimed.checkpoint,
            claimed.checkpoint_digest,
            claimed.start_step,
            promoted_from=claimed.promoted_from,
            scratch=scratch,
        )
        if start.note is not None and claimed.known_metrics is None:
            report.note(started_over=start.note)
        return Assignment(
            study=claimed.study,
            trial=claimed.number,
            attempt=claimed.attempt,
            architecture=architecture,
            space=space,
            task=spec.task,
            metrics=spec.metrics,
            budget=claimed.budget,
            full_budget=spec.full_budget,
            keep_end=running.keeps_end,
            seed=claimed.seed,
            checkpoint=start.checkpoint,
            start_step=start.step,
            scratch=scratch,
            device=self._device,
            allow=self._allow,
        )

    def close(self) -> None:
        """Nothing to free."""

    def _space_of(self, running: RunningTrial) -> SearchSpace:
        if self._space is not None:
            return self._space
        study_id = running.spec.study_id
        if study_id not in self._spaces:
            if running.spec.memory_limit_bytes is not None:
                logger.warning("study %r: its memory limit is not watched in this process", running.spec.name)
            self._spaces[study_id] = SearchSpace.from_document(running.spec.space)
        return self._spaces[study_id]


class DirectReport:
    """A `Report` that writes into the `RunningTrial`, one of so many that are evaluated `together`."""

    def __init__(self, running: RunningTrial, clock: Callable[[], float], *, together: int = 1) -> None:
        self._running = running
        self._together = together
        self._clock = clock
        self._started = clock()
        self._writer = CheckpointWriter(running.place, running.claimed.attempt)
        self.stopped: str | None = None

    def __call__(self, step: int, **metrics: float) -> bool:
        """Keep the metrics; True if the trial should stop early."""
        if self._running.is_given_up and (self._running.lost or not self._running.can_checkpoint):
            raise GivenUp  # else it is left at its next checkpoint
        self._running.report(*checked_report(step, metrics))
        if self.is_over_time:
            raise OverTime(self.over_time_text)
        self.stopped = self._running.stop_reason
        return self.stopped is not None

    def note(self, **attributes: Any) -> None:
        """Attach JSON values to the trial."""
        self._running.attributes.update(checked_note(attributes))

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the worker waits for one in order to leave."""
        self._running.can_checkpoint = True
        return self._running.is_given_up

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; ends the evaluation if the worker waits for that."""
        self._running.can_checkpoint = True
        saved = None if self._running.lost else self._writer.write(step, state)
        if saved is not None:
            self._running.saved(saved)
        if self._running.is_given_up:
            raise GivenUp

    @property
    def is_over_time(self) -> bool:
        """Whether the study's time limit has passed, once for each of those evaluated together."""
        limit = self._running.spec.time_limit_seconds
        return limit is not None and self._clock() - self._started > self._together * limit

    @property
    def over_time_text(self) -> str:
        """What is said of it."""
        return f"ran longer than the limit of {self._running.spec.time_limit_seconds:g} s"


def _judged(outcome: Outcome, running: RunningTrial, report: DirectReport) -> Outcome:
    """The outcome, unless it came too late."""
    if report.is_over_time:
        return Failed(kind=FailureKind.TIME_OUT, text=report.over_time_text)
    return with_metrics_so_far(outcome, running.metrics_so_far())
