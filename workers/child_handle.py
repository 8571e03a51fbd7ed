"""ChildHandle: a child process that evaluates (`workers.child`), and the two pipes to it."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.process_limits import ProcessLimits
from workers.processes import evaluation_environment, has_exited, kill_family
from workers.running import RunningTrial
from workers.wire import Lines, checked_event, write

PACKAGE_ROOT = str(Path(__file__).resolve().parent.parent)
LOOK_SECONDS = 0.1
"""How long a stop, a lost lease, a limit or a death may go unseen; a message is seen at once."""

LOG_TAIL_BYTES = 2048


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
    #: of the device's memory
    device_share: float = 1.0
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
    #: how long a worker that leaves waits for a checkpoint, where the evaluator keeps any
    leave_seconds: float = 12.0
    #: importing a study's code may take this long; it does not count for the trial's time limit
    load_seconds: float = 300.0
    limits: ProcessLimits = field(default_factory=ProcessLimits)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


class NotStarted(Exception):
    """The child did not come up."""


class ChildHandle:
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
            self.process = subprocess.Popen(  # noqa: S603 (this interpreter, with arguments of ours)
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
                    "device_share": settings.device_share,
                    "limits": vars(settings.limits),
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
        raise NotStarted(f"the evaluation process did not start (exit status {self.process.returncode}):\n{said}")

    def send(self, message: dict[str, Any]) -> None:
        """Send a command; BrokenPipeError if nobody reads it."""
        write(self._commands, message)

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """The events that come within `seconds`, as soon as there are any; `ValueError` for what is none."""
        if self._lines.ended:
            time.sleep(seconds)  # it is dying, or its evaluator closed the pipe: then a limit will end it
            return []
        return list(map(checked_event, self._lines.read())) if self._selector.select(seconds) else []

    def begin(self, together: Sequence[RunningTrial], scratches: Sequence[str], log: Path) -> list[int]:
        """Order an evaluation, or one of several trials of a study together; returns the number of each run."""
        spec = together[0].spec
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
        first = self._runs + 1
        self._runs += len(together)
        self.is_idle = False
        trials = [_order(run, *each) for run, each in enumerate(zip(together, scratches, strict=True), start=first)]
        self.send({"do": "evaluate", "study_id": spec.study_id, "log": str(log), "trials": trials})
        return [trial["run"] for trial in trials]

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


def _order(run: int, running: RunningTrial, scratch: str) -> dict[str, Any]:
    """One trial of an order to evaluate."""
    claimed, spec = running.claimed, running.spec
    return {
        "run": run,
        "study": claimed.study,
        "trial": claimed.number,
        "attempt": claimed.attempt,
        "architecture": claimed.architecture,
        "budget": claimed.budget,
        "full_budget": spec.full_budget,
        "keep_end": running.keeps_end,
        "study_uuid": spec.uuid,
        "checkpoints": None if running.place is None else str(running.place.root),
        "checkpoint": claimed.checkpoint,
        "checkpoint_digest": claimed.checkpoint_digest,
        "start_step": claimed.start_step,
        "promoted_from": claimed.promoted_from,
        "seed": claimed.seed,
        "known": claimed.known_metrics,
        "scratch": scratch,
    }
