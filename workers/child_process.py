"""ChildProcess: evaluates in a persistent child process, watches it, and kills it where asking does not help."""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.calling import with_metrics_so_far
from workers.outcome import Failed, Finished, Interrupted, Outcome, clipped
from workers.processes import (
    evaluation_environment,
    has_exited,
    kill_family,
    memory_is_short,
    out_of_memory_kills,
    resident_bytes,
)
from workers.protocol import FailureKind
from workers.running import RunningTrial
from workers.wire import Lines, outcome_of, write

logger = logging.getLogger(__name__)

PACKAGE_ROOT = str(Path(__file__).resolve().parent.parent)
LOOK_SECONDS = 0.1
"""How long a stop, a lost lease, a limit or a death may go unseen; a message is seen at once."""

NEAR_LIMIT = 0.8
"""An unexplained SIGKILL at this part of the memory limit counts as out of memory."""

LOG_TAIL_BYTES = 2048
SENT_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals a process does not raise itself by mistake: whoever sent them may not send them again."""


@dataclass(frozen=True, kw_only=True)
class ChildSettings:
    """How evaluation processes are run."""

    #: packages beside ours that code named by a study may be imported from
    allow: tuple[str, ...] = ()
    #: folders to import from beside the interpreter's own, in front of them
    import_paths: tuple[str, ...] = ()
    #: the working directory; the parent's unless given
    folder: Path | None = None
    device: str = "cpu"
    #: threads of the numerical libraries
    threads: int = 1
    #: each attempt's output is kept below it (`log_path`); None to keep only what an error shows
    log_folder: Path | None = None
    #: parent of the attempts' scratch folders; the system's own unless given
    scratch_folder: Path | None = None
    #: between SIGTERM and SIGKILL
    grace_seconds: float = 2.0
    #: between asking a trial to stop and killing it
    stop_grace_seconds: float = 30.0
    #: importing a study's code may take this long; it does not count for the trial's time limit
    load_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


def log_path(folder: Path, study_id: int, trial: int, attempt: int) -> Path:
    """Where the output of an attempt is kept."""
    return folder / str(study_id) / f"{trial}-{attempt}.log"


class ChildProcess:
    """Runs trials in one child after another: the same one as long as it lives and behaves.

    The child is killed when the *thread* that runs the first trial ends (that is how Linux defines a parent's death),
    so one thread should do all the running.
    """

    def __init__(self, settings: ChildSettings | None = None) -> None:
        self.settings = settings or ChildSettings()
        self._child: _Child | None = None

    def run(self, running: RunningTrial) -> Outcome:
        """Evaluate a trial; see `Evaluation`."""
        if running.is_given_up:
            return Interrupted()
        with self._scratch() as scratch:
            log = self._log_path(running, scratch)
            try:
                outcome = self._run_in_child(running, scratch, log)
            except _NotStarted as error:
                return Failed(kind=FailureKind.EXCEPTION, text=clipped(str(error)), transient=True)
        return with_metrics_so_far(outcome, running.metrics_so_far())

    def _run_in_child(self, running: RunningTrial, scratch: Path, log: Path) -> Outcome:
        while True:
            has_served = self._child is not None
            child = self._ready_child()
            watch = _Watch(child, running, self.settings, log)
            outcome = None
            try:
                outcome = watch.until_done(str(scratch))
            finally:
                # also when a person interrupts: whatever still runs has nobody to report to
                if outcome is None or not child.is_idle or has_exited(child.process):
                    self._end()
            if watch.died_unheard and has_served:
                continue  # it died while it was idle: that is no fault of this trial
            if isinstance(outcome, Failed) and outcome.kind is FailureKind.OUT_OF_MEMORY:
                self._end()  # what is left of a process that ran out is fragmented: start afresh
            return outcome

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.process.pid if self._child else None

    def close(self) -> None:
        """End the child."""
        self._end()

    def _ready_child(self) -> _Child:
        if self._child is not None and has_exited(self._child.process):
            self._end()
        if self._child is None:
            self._child = _Child(self.settings)
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
        path = log_path(self.settings.log_folder, claimed.study_id, claimed.number, claimed.attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class _NotStarted(Exception):
    """The child did not come up."""


class _Child:
    """A child process and the two pipes to it."""

    def __init__(self, settings: ChildSettings) -> None:
        self.is_idle = True
        self._known: set[int] = set()
        self._runs = 0
        command_end, self._commands = os.pipe()
        self._events, event_end = os.pipe()
        self._boot_output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        # -P: nothing is imported from the working directory unless import_paths says so; -u: a kill loses no output
        command = [
            sys.executable,
            "-u",
            "-P",
            "-m",
            "workers.child",
            str(command_end),
            str(event_end),
            str(os.getpid()),
        ]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._boot_output,
                stderr=self._boot_output,
                pass_fds=(command_end, event_end),
                env=evaluation_environment(os.environ, threads=settings.threads, package_root=PACKAGE_ROOT),
                start_new_session=True,
            )
        finally:
            os.close(command_end)
            os.close(event_end)
        self._lines = Lines(self._events)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._events, selectors.EVENT_READ)
        self._greet(settings)

    def _greet(self, settings: ChildSettings) -> None:
        try:
            self.send(
                {
                    "do": "settings",
                    "allow": settings.allow,
                    "import_paths": settings.import_paths,
                    "folder": None if settings.folder is None else str(settings.folder),
                    "device": settings.device,
                }
            )
            deadline = time.monotonic() + settings.load_seconds
            while not self.receive(LOOK_SECONDS):
                if self._lines.ended or has_exited(self.process) or time.monotonic() > deadline:
                    break
            else:
                return
        except BrokenPipeError:
            pass
        self._boot_output.seek(0)
        said = self._boot_output.read()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
        self.end()
        raise _NotStarted(f"the evaluation process did not start (exit status {self.process.returncode}):\n{said}")

    def send(self, message: dict[str, Any]) -> None:
        """Send a command; BrokenPipeError if nobody reads it."""
        write(self._commands, message)

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """The events that come within `seconds`, as soon as there are any."""
        if self._lines.ended:
            time.sleep(seconds)  # it is dying, or its evaluator closed the pipe: then a limit will end it
            return []
        return self._lines.read() if self._selector.select(seconds) else []

    def begin(self, running: RunningTrial, scratch: str, log: Path) -> int:
        """Order an evaluation; returns the number of this run."""
        claimed, spec = running.claimed, running.spec
        if spec.study_id not in self._known:
            self.send(
                {
                    "do": "study",
                    "study_id": spec.study_id,
                    "space": spec.space,
                    "evaluator": spec.evaluator,
                    "task": spec.task,
                    "metrics": spec.metrics,
                }
            )
            self._known.add(spec.study_id)
        self._runs += 1
        self.is_idle = False
        self.send(
            {
                "do": "evaluate",
                "run": self._runs,
                "study_id": spec.study_id,
                "study": claimed.study,
                "trial": claimed.number,
                "attempt": claimed.attempt,
                "architecture": claimed.architecture,
                "budget": claimed.budget,
                "start_step": claimed.start_step,
                "seed": claimed.seed,
                "known": claimed.known_metrics,
                "scratch": scratch,
                "log": str(log),
            }
        )
        return self._runs

    def exit_status(self) -> int:
        """What the process ended with, a signal as its negative number; leaves nothing of it running."""
        kill_family(self.process)
        return self.process.returncode

    def end(self) -> None:
        """End the process with all it started, and close the pipes."""
        kill_family(self.process)
        self._selector.close()
        os.close(self._commands)
        os.close(self._events)
        self._boot_output.close()


class _Watch:
    """One evaluation in a child, from its order to its outcome."""

    def __init__(self, child: _Child, running: RunningTrial, settings: ChildSettings, log: Path) -> None:
        self._child = child
        self._running = running
        self._settings = settings
        self._log = log
        self._began = time.monotonic()
        #: the child died before it said anything about this run
        self.died_unheard = False
        self._heard = False
        #: when the evaluator was called
        self._started: float | None = None
        self._asked_to_stop: float | None = None
        self._looked_at_memory = 0.0
        self._peak_bytes = 0
        self._kills_before = out_of_memory_kills()

    def until_done(self, scratch: str) -> Outcome:
        """Pass on what the evaluator reports until it ends, or has to be ended."""
        try:
            run = self._child.begin(self._running, scratch, self._log)
        except BrokenPipeError:
            return self._died()
        while True:
            try:
                messages = self._child.receive(LOOK_SECONDS)
            except ValueError as error:
                said = f"the evaluation process sent something that is no message: {error}"
                return Failed(kind=FailureKind.EXCEPTION, text=self._with_log(said))
            for message in messages:
                if message.get("run") == run and (outcome := self._heed(message)) is not None:
                    self._child.is_idle = True
                    return outcome
            if has_exited(self._child.process):
                return self._last_words(run) or self._died()
            ended = self._limits()
            if ended is not None:
                kill_family(self._child.process, 0.0 if self._running.lost else self._settings.grace_seconds)
                return ended
            self._pass_on_stop(run)

    def _heed(self, message: dict[str, Any]) -> Outcome | None:
        self._heard = True
        if message["event"] == "started":
            self._started = time.monotonic()
        elif message["event"] == "report":
            self._running.report(message["step"], message["metrics"])
        elif message["event"] == "note":
            self._running.attributes.update(message["attributes"])
        return outcome_of(message)

    def _limits(self) -> Outcome | None:
        """The outcome of an evaluation that has to be ended now, else None."""
        now, spec = time.monotonic(), self._running.spec
        if self._running.is_given_up:
            return Interrupted()
        if self._started is None:
            if now - self._began > self._settings.load_seconds:
                said = f"importing the study's code took more than {self._settings.load_seconds:g} s"
                return Failed(kind=FailureKind.TIME_OUT, text=self._with_log(said))
        elif spec.time_limit_seconds is not None and now - self._started > spec.time_limit_seconds:
            said = f"ran longer than the limit of {spec.time_limit_seconds:g} s and was killed"
            return Failed(kind=FailureKind.TIME_OUT, text=self._with_log(said))
        if spec.memory_limit_bytes is not None and now - self._looked_at_memory >= LOOK_SECONDS:
            self._looked_at_memory = now
            resident = resident_bytes(self._child.process.pid)
            self._peak_bytes = max(self._peak_bytes, resident)
            if resident > spec.memory_limit_bytes:
                limit = spec.memory_limit_bytes
                said = f"used {resident:,} bytes of memory, more than the limit of {limit:,}, and was killed"
                return Failed(kind=FailureKind.OUT_OF_MEMORY, text=self._with_log(said))
        if self._asked_to_stop is not None and now - self._asked_to_stop > self._settings.stop_grace_seconds:
            return Finished(metrics={}, stopped=self._running.stop_reason)
        return None

    def _pass_on_stop(self, run: int) -> None:
        if self._asked_to_stop is None and self._running.stop_reason is not None:
            self._asked_to_stop = time.monotonic()
            with suppress(BrokenPipeError):  # then it is dead, and the next look sees that
                self._child.send({"do": "stop", "run": run, "reason": self._running.stop_reason})

    def _last_words(self, run: int) -> Outcome | None:
        """The outcome that a child sent before it died, if it did."""
        while messages := self._child.receive(0.0):
            for message in messages:
                if message.get("run") == run and (outcome := self._heed(message)) is not None:
                    return outcome
        return None

    def _died(self) -> Failed:
        """Why a child that ended by itself did so, as far as can be told.

        A SIGKILL that we did not send counts as the kernel's for lack of memory if the kernel says it killed something
        meanwhile, if the process was near its memory limit, or if the machine is short of memory.
        """
        self.died_unheard = not self._heard
        status = self._child.exit_status()
        if status >= 0:
            said = f"the evaluation process ended with exit status {status} instead of returning"
            return Failed(kind=FailureKind.EXCEPTION, text=self._with_log(said))
        number = signal.Signals(-status)
        limit = self._running.spec.memory_limit_bytes
        if number is signal.SIGKILL and (
            out_of_memory_kills() > self._kills_before
            or (limit is not None and self._peak_bytes > NEAR_LIMIT * limit)
            or memory_is_short()
        ):
            said = "the evaluation process was killed from outside while memory was short"
            return Failed(kind=FailureKind.OUT_OF_MEMORY, text=self._with_log(said))
        said = f"the evaluation process died with signal {number.value} ({number.name})"
        transient = number in SENT_FROM_OUTSIDE
        return Failed(kind=FailureKind.EXCEPTION, text=self._with_log(said), transient=transient)

    def _with_log(self, said: str) -> str:
        """A text with the end of the evaluation's output below it."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                tail = file.read().decode("utf-8", "replace").strip()
        except OSError:
            tail = ""
        return clipped(f"{said}; the end of its output:\n{tail}" if tail else said)
