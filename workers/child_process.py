"""ChildProcess: evaluates in a persistent child process, watches it, and kills it where asking does not help."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from workers.calling import with_metrics_so_far
from workers.child_handle import ChildHandle, ChildSettings, NotStarted
from workers.group_watch import GroupWatch
from workers.outcome import Failed, Interrupted, Outcome, clipped
from workers.processes import has_exited
from workers.protocol import FailureKind
from workers.running import RunningTrial
from workers.watch import Watch

logger = logging.getLogger(__name__)


def log_path(folder: Path, study: str, trial: int, attempt: int) -> Path:
    """Where the output of an attempt is kept; `study` is the uuid."""
    return folder / study / f"{trial}-{attempt}.log"


class ChildProcess:
    """Runs trials in one child after another: the same one as long as it lives and behaves.

    The child is killed when the *thread* that runs the first trial ends (that is how Linux defines a parent's death),
    so one thread should do all the running.
    """

    def __init__(self, settings: ChildSettings | None = None) -> None:
        self.settings = settings or ChildSettings()
        self._child: ChildHandle | None = None

    def run(self, running: RunningTrial) -> Outcome:
        """Evaluate a trial; see `Evaluation`."""
        if running.is_given_up:
            return Interrupted()
        with self._scratch() as scratch:
            log = self._log_path(running, scratch)
            try:
                outcome = self._run_in_child(running, scratch, log)
            except NotStarted as error:
                return Failed(kind=FailureKind.EXCEPTION, text=clipped(str(error)), transient=True)
        return with_metrics_so_far(outcome, running.metrics_so_far())

    def run_many(self, together: Sequence[RunningTrial]) -> Iterator[tuple[RunningTrial, Outcome]]:
        """Evaluate several trials at once; see `Evaluation`.

        Where their process dies or takes more than it may, those that are left are evaluated one after the other, each
        held against the limits by itself.
        """
        left, ran_out = list(together), False
        with ExitStack() as folders:
            scratches = [folders.enter_context(self._scratch()) for _ in together]
            log = self._log_path(together[0], scratches[0])
            for running, scratch in zip(together[1:], scratches[1:], strict=True):
                path = self._log_path(running, scratch)
                path.write_text(f"evaluated together with trial {together[0].claimed.number}: see {log.name}\n")
            try:
                for running, outcome in self._run_together(together, list(map(str, scratches)), log):
                    left.remove(running)
                    ran_out |= _ran_out(outcome)
                    yield running, with_metrics_so_far(outcome, running.metrics_so_far())
            except NotStarted as error:
                logger.warning("%s", error)
        if ran_out:
            self._end()
        for running in left:
            yield running, self.run(running)

    def _run_together(
        self, together: Sequence[RunningTrial], scratches: Sequence[str], log: Path
    ) -> Iterator[tuple[RunningTrial, Outcome]]:
        child = self._ready_child()
        try:
            yield from GroupWatch(child, together, self.settings, log).until_done(scratches)
        finally:
            # also when a person interrupts: whatever still runs has nobody to report to
            if not child.is_idle or has_exited(child.process):
                self._end()

    def _run_in_child(self, running: RunningTrial, scratch: Path, log: Path) -> Outcome:
        while True:
            has_served = self._child is not None
            child = self._ready_child()
            watch = Watch(child, running, self.settings, log)
            outcome = None
            try:
                outcome = watch.until_done(str(scratch))
            finally:
                # also when a person interrupts: whatever still runs has nobody to report to
                if outcome is None or not child.is_idle or has_exited(child.process):
                    self._end()
            if watch.died_unheard and has_served:
                continue  # it died while it was idle: that is no fault of this trial
            if _ran_out(outcome):
                self._end()  # what is left of a process that ran out is fragmented: start afresh
            return outcome

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.process.pid if self._child else None

    def close(self) -> None:
        """End the child."""
        self._end()

    def _ready_child(self) -> ChildHandle:
        if self._child is not None and has_exited(self._child.process):
            self._end()
        if self._child is None:
            self._child = ChildHandle(self.settings)
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="nas-", dir=self.settings.scratch_folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _log_path(self, running: RunningTrial, scratch: Path) -> Path:
        if self.settings.log_folder is None:
            return scratch / "output.log"
        claimed = running.claimed
        path = log_path(self.settings.log_folder, running.spec.uuid, claimed.number, claimed.attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _ran_out(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.kind is FailureKind.OUT_OF_MEMORY
