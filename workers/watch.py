"""Watch: one evaluation in a child, from its order to its outcome; the limits are kept here."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.checkpoints import SavedCheckpoint
from workers.child_handle import LOG_TAIL_BYTES, LOOK_SECONDS, ChildHandle, ChildSettings
from workers.outcome import Failed, Finished, Interrupted, Outcome, clipped
from workers.processes import family_size, has_exited, kill_family, memory_is_short, out_of_memory_kills, resident_bytes
from workers.protocol import FailureKind
from workers.running import RunningTrial
from workers.wire import outcome_of

NEAR_LIMIT = 0.8
"""An unexplained SIGKILL at this part of the memory limit counts as out of memory."""

COUNT_SECONDS = 0.25
"""How often the processes of an evaluation are counted."""

ORDERS_TO_END = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ORDER_SECONDS = 1.0
"""Whoever ends a whole job sends one of these to each process of it: for so long it may reach the child alone."""

SENT_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals a process does not raise itself by mistake: whoever sent them may not send them again."""


class Watch:
    """One evaluation in a child, from its order to its outcome; one of so many that are evaluated `together`."""

    def __init__(
        self, child: ChildHandle, running: RunningTrial, settings: ChildSettings, log: Path, *, together: int = 1
    ) -> None:
        self._child = child
        self._running = running
        self._together = together
        self._settings = settings
        self._log = log
        self._began = time.monotonic()
        #: the child died before it said anything about this run
        self.died_unheard = False
        self._heard = False
        #: when the evaluator was called
        self._started: float | None = None
        self._asked_to_stop: float | None = None
        self._asked_to_leave: float | None = None
        self._looked_at_memory = self._counted = 0.0
        self._has_too_many = False
        self._peak_bytes = 0
        self._kills_before = out_of_memory_kills()

    def until_done(self, scratch: str) -> Outcome:
        """Pass on what the evaluator reports until it ends, or has to be ended."""
        try:
            (run,) = self._child.begin([self._running], [scratch], self._log)
        except BrokenPipeError:
            return self.died()
        while True:
            _, outcome = self._hear(run, LOOK_SECONDS)
            if outcome is not None:
                return outcome
            if has_exited(self._child.process):
                return self._last_words(run) or self.died()
            ended = self._limits(run)
            if ended is not None:
                at_once = self._running.lost or self._has_too_many
                kill_family(self._child.process, 0.0 if at_once else self._settings.grace_seconds)
                return ended
            self.pass_on_stop(run)

    def _hear(self, run: int, seconds: float) -> tuple[int, Outcome | None]:
        """Heed the messages that come within `seconds`: how many, and the outcome if it is among them."""
        try:
            messages = self._child.receive(seconds)
            for message in messages:
                if message.get("run") == run and (outcome := self.heed(message)) is not None:
                    self._child.is_idle = True
                    return len(messages), outcome
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # trial code can write there, too
            said = f"the evaluation process sent something that is no message: {error!r}"
            return 1, Failed(kind=FailureKind.EXCEPTION, text=self._with_log(said))
        return len(messages), None

    def heed(self, message: dict[str, Any]) -> Outcome | None:
        """Take a message about this evaluation; the outcome if it is one."""
        self._heard = True
        if message["event"] == "started":
            self._started = time.monotonic()
        elif message["event"] == "report":
            self._running.report(message["step"], message["metrics"])
        elif message["event"] == "note":
            self._running.attributes.update(message["attributes"])
        elif message["event"] == "can_checkpoint":
            self._running.can_checkpoint = True
        elif message["event"] == "checkpoint":
            self._heed_checkpoint(message)
        return outcome_of(message)

    def _heed_checkpoint(self, message: dict[str, Any]) -> None:
        """Believe what is said of a checkpoint only if its key is one of this attempt's own."""
        saved = SavedCheckpoint(**{name: message[name] for name in ("key", "step", "digest", "size_bytes")})
        place = self._running.place
        if place is not None and place.owns(saved.key, self._running.claimed.attempt):
            self._running.saved(saved)

    def is_left(self, run: int) -> bool:
        """Whether to wait no longer for an evaluation that was given up: it may still keep a checkpoint, if it can."""
        running = self._running
        if not running.is_given_up and self._asked_to_leave is None:
            return False
        if running.lost or not running.can_checkpoint:
            return True
        if self._asked_to_leave is None:
            self._asked_to_leave = time.monotonic()
            with suppress(BrokenPipeError):  # then it is dead, and the next look sees that
                self._child.send({"do": "leave", "run": run})
        return time.monotonic() - self._asked_to_leave > self._settings.leave_seconds

    def _limits(self, run: int) -> Outcome | None:
        """The outcome of an evaluation that has to be ended now, else None."""
        if self.is_left(run):
            return Interrupted()
        exceeded = self.exceeded()
        if exceeded is not None:
            return exceeded
        return Finished(metrics={}, stopped=self._running.stop_reason) if self.is_deaf else None

    def exceeded(self) -> Failed | None:
        """What is said of a process that takes more than it may; None if it does not."""
        now, spec = time.monotonic(), self._running.spec
        if self._started is None:
            if now - self._began > self._settings.load_seconds:
                said = f"importing the study's code took more than {self._settings.load_seconds:g} s"
                return Failed(kind=FailureKind.TIME_OUT, text=self._with_log(said))
        elif spec.time_limit_seconds is not None and now - self._started > self._together * spec.time_limit_seconds:
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
        if now - self._counted >= COUNT_SECONDS:
            self._counted = now
            most = self._settings.limits.processes
            if family_size(self._child.process.pid, enough=most) > most:
                self._has_too_many = True
                said = f"started more than {most} processes and was killed"
                return Failed(kind=FailureKind.EXCEPTION, text=self._with_log(said))
        return None

    @property
    def is_deaf(self) -> bool:
        """Whether it has been asked to stop, and has not."""
        asked = self._asked_to_stop
        return asked is not None and time.monotonic() - asked > self._settings.stop_grace_seconds

    def pass_on_stop(self, run: int) -> None:
        """Ask it to stop, once, if its study wants that."""
        if self._asked_to_stop is None and self._running.stop_reason is not None:
            self._asked_to_stop = time.monotonic()
            with suppress(BrokenPipeError):  # then it is dead, and the next look sees that
                self._child.send({"do": "stop", "run": run, "reason": self._running.stop_reason})

    def _last_words(self, run: int) -> Outcome | None:
        """The outcome that a child sent before it died, if it did."""
        while True:
            heard, outcome = self._hear(run, 0.0)
            if outcome is not None or not heard:
                return outcome

    def died(self) -> Failed | Interrupted:
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
        if number in ORDERS_TO_END and self._is_given_up_soon():
            return Interrupted()
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

    def _is_given_up_soon(self) -> bool:
        deadline = time.monotonic() + ORDER_SECONDS
        while not self._running.is_given_up and time.monotonic() < deadline:
            time.sleep(0.02)
        return self._running.is_given_up

    def _with_log(self, said: str) -> str:
        """A text with the end of the evaluation's output below it."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                tail = file.read().decode("utf-8", "replace").strip()
        except OSError:
            tail = ""
        return clipped(f"{said}; the end of its output:\n{tail}" if tail else said)
