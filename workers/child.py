"""The evaluation process: ``python -m workers.child COMMANDS EVENTS PARENT``, started by `ChildProcess` only.

It evaluates one trial at a time, or several together, in its main thread, knows neither queue nor database, and does
not outlive its parent.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from search_spaces.architecture import Architecture
from search_spaces.loading import LoadError
from search_spaces.nodes import SpaceError
from search_spaces.space import SearchSpace
from workers.calling import Callee, GivenUp, call, call_many, load_evaluator
from workers.checkpoints import CheckpointPlace
from workers.keeping import CheckpointWriter, StartingPoint, starting_point
from workers.outcome import Failed, Outcome, clipped, outcome_of_exception
from workers.process_limits import ProcessLimits
from workers.protocol import Assignment, FailureKind
from workers.remote_folder import folder_named
from workers.running import checked_note, checked_report
from workers.wire import Lines, message_of, write

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, kw_only=True)
class LoadedStudy:
    """A study's constants, with its code imported."""

    space: SearchSpace
    evaluator: Callee
    task: Mapping[str, Any]
    metrics: tuple[str, ...]


class Pipe:
    """Where events go; several threads of an evaluator may report at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one event."""
        with self._lock:
            write(self._descriptor, message)


class Orders:
    """What the parent wants of the runs that are under way; the thread that reads commands writes it down."""

    def __init__(self) -> None:
        #: run -> why it should end early
        self.stops: dict[int, str] = {}
        #: runs that should end with their next checkpoint
        self.leaving: set[int] = set()
        #: runs that should end with their next report
        self.dropped: set[int] = set()

    def heed(self, command: Mapping[str, Any]) -> bool:
        """Write a command down; False if it is another one."""
        if command["do"] == "stop":
            self.stops[command["run"]] = command["reason"]
        elif command["do"] == "leave":
            self.leaving.add(command["run"])
        elif command["do"] == "drop":
            self.dropped.add(command["run"])
        else:
            return False
        return True


class ChildReport:
    """The `Report` an evaluator gets: it sends, and knows what the parent asked for."""

    def __init__(self, pipe: Pipe, run: int, orders: Orders, writer: CheckpointWriter) -> None:
        self._pipe = pipe
        self._run = run
        self._orders = orders
        self._writer = writer
        self._can_checkpoint = False
        self.stopped: str | None = None

    def __call__(self, step: int, **metrics: float) -> bool:
        """Send the metrics; True if the trial should stop early."""
        if self._run in self._orders.dropped:
            raise GivenUp
        whole, checked = checked_report(step, metrics)
        self._pipe.send({"event": "report", "run": self._run, "step": whole, "metrics": checked})
        self.stopped = self._orders.stops.get(self._run)
        return self.stopped is not None

    def note(self, **attributes: Any) -> None:
        """Attach JSON values to the trial."""
        self._pipe.send({"event": "note", "run": self._run, "attributes": checked_note(attributes)})

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the worker waits for one in order to leave."""
        self._say_that_it_can()
        return self._run in self._orders.leaving

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint and send its key; ends the evaluation if the worker waits for that."""
        self._say_that_it_can()
        saved = self._writer.write(step, state)
        if saved is not None:
            self._pipe.send({"event": "checkpoint", "run": self._run, **vars(saved)})
        if self._run in self._orders.leaving:
            raise GivenUp

    def _say_that_it_can(self) -> None:
        if not self._can_checkpoint:
            self._can_checkpoint = True
            self._pipe.send({"event": "can_checkpoint", "run": self._run})


class Child:
    """Takes commands and evaluates."""

    def __init__(self, pipe: Pipe, settings: Mapping[str, Any]) -> None:
        self._pipe = pipe
        self._device: str = settings["device"]
        self._device_share: float = settings["device_share"]
        self._allow: tuple[str, ...] = tuple(settings["allow"])
        self._documents: dict[int, Mapping[str, Any]] = {}
        self._studies: dict[int, LoadedStudy] = {}

    def know(self, command: Mapping[str, Any]) -> None:
        """Keep what is constant in a study; its code is imported with its first trial."""
        self._documents[command["study_id"]] = command

    def evaluate(self, command: Mapping[str, Any], orders: Orders) -> None:
        """Evaluate one trial, or several together, and send each outcome."""
        _write_output_to(command["log"])
        begun: list[tuple[Mapping[str, Any], Assignment, ChildReport]] = []
        for trial in command["trials"]:
            try:
                study = self._study(command["study_id"])
                start = self._start(trial)
                assignment = self._assignment(trial, study, start)
            except (LoadError, SpaceError) as error:  # these messages are meant for people: no traceback
                self._send(Failed(kind=FailureKind.EXCEPTION, text=clipped(str(error))), trial)
                continue
            except Exception as error:
                self._send(outcome_of_exception(error), trial)
                continue
            self._pipe.send({"event": "started", "run": trial["run"]})
            writer = CheckpointWriter(self._place(trial), trial["attempt"])
            report = ChildReport(self._pipe, trial["run"], orders, writer)
            if start.note is not None and trial["known"] is None:
                report.note(started_over=start.note)
            begun.append((trial, assignment, report))
        if len(begun) == 1:
            ((trial, assignment, report),) = begun
            self._send(call(study.evaluator, assignment, report, trial["known"]), trial)
        elif begun:
            trials, assignments, reports = zip(*begun, strict=True)
            for index, outcome in call_many(study.evaluator, assignments, reports):
                self._send(outcome, trials[index])

    def _send(self, outcome: Outcome, trial: Mapping[str, Any]) -> None:
        self._pipe.send({**message_of(outcome), "run": trial["run"]})

    def _place(self, command: Mapping[str, Any]) -> CheckpointPlace | None:
        root = command["checkpoints"]
        if root is None:
            return None
        return CheckpointPlace(root=folder_named(root), study=command["study_uuid"], trial=command["trial"])

    def _start(self, command: Mapping[str, Any]) -> StartingPoint:
        root = command["checkpoints"]
        return starting_point(
            None if root is None else folder_named(root),
            command["checkpoint"],
            command["checkpoint_digest"],
            command["start_step"],
            promoted_from=command["promoted_from"],
            scratch=Path(command["scratch"]),
        )

    def _assignment(self, command: Mapping[str, Any], study: LoadedStudy, start: StartingPoint) -> Assignment:
        return Assignment(
            study=command["study"],
            trial=command["trial"],
            attempt=command["attempt"],
            architecture=Architecture.from_json(command["architecture"]),
            space=study.space,
            task=study.task,
            metrics=study.metrics,
            budget=command["budget"],
            full_budget=command["full_budget"],
            keep_end=command["keep_end"],
            seed=command["seed"],
            checkpoint=start.checkpoint,
            start_step=start.step,
            scratch=Path(command["scratch"]),
            device=self._device,
            device_share=self._device_share,
            allow=self._allow,
        )

    def _study(self, study_id: int) -> LoadedStudy:
        if study_id not in self._studies:
            document = self._documents[study_id]
            self._studies[study_id] = LoadedStudy(
                space=SearchSpace.from_document(document["space"]),
                evaluator=load_evaluator(document["evaluator"], self._allow),
                task=document["task"],
                metrics=tuple(document["metrics"]),
            )
        return self._studies[study_id]


def main(arguments: Sequence[str]) -> NoReturn:
    """Serve commands until the parent closes its end or dies."""
    commands, events, parent = map(int, arguments)
    _die_with(parent)
    faulthandler.enable()  # a crash in native code leaves its stack in the log
    lines, pipe = Lines(commands), Pipe(events)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    orders = Orders()
    threading.Thread(target=partial(_listen, lines, tasks, orders), name="commands", daemon=True).start()
    settings = tasks.get()
    ProcessLimits(**settings["limits"]).impose()
    sys.path[:0] = [path for path in settings["import_paths"] if path not in sys.path]
    if settings["folder"] is not None:
        os.chdir(settings["folder"])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    child = Child(pipe, settings)
    pipe.send({"event": "ready"})
    while True:
        command = tasks.get()
        if command["do"] == "study":
            child.know(command)
        else:
            child.evaluate(command, orders)


def _listen(lines: Lines, tasks: queue.SimpleQueue[dict[str, Any]], orders: Orders) -> None:
    """Read commands while the main thread evaluates; the end of the pipe ends this process and all it started."""
    while not lines.ended:
        for command in lines.read():
            if not orders.heed(command):
                tasks.put(command)
    os.killpg(0, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Be killed when the thread that started this process ends, however it ends.

    The end of the pipe says the same, but only to a process whose interpreter still runs.
    """
    if sys.platform == "linux":
        control = ctypes.CDLL(None).prctl
        control(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # what trial code starts and leaves behind stays in this family: counted, and killed with it
        control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os.killpg(0, signal.SIGKILL)


def _write_output_to(path: str) -> None:
    """Let standard output and error, those of native code included, go to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    main(sys.argv[1:])
