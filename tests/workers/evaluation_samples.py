"""Evaluators for tests; imported by evaluation processes by their names."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from workers.protocol import Assignment, Report
from workers.state_file import read_state


def quick(assignment: Assignment, report: Report) -> dict[str, float]:
    return {"error": 1.0 / assignment.architecture["width"]}


def everything(assignment: Assignment, report: Report) -> dict[str, float]:
    """Notes what it was given."""
    (assignment.scratch / "file").write_text("x")
    report.note(
        pid=os.getpid(),
        scratch=str(assignment.scratch),
        seed=assignment.seed,
        budget=assignment.budget,
        task=dict(assignment.task),
        space=assignment.space.name,
        device=[assignment.device, assignment.device_share],
        allow=list(assignment.allow),
        folder=str(Path.cwd()),
        environment=dict(os.environ),
        trial=[assignment.study, assignment.trial, assignment.attempt],
    )
    return {"error": 0.5}


def measure(assignment: Assignment, report: Report) -> dict[str, float]:
    for step in range(3):
        report(step, error=1.0 / (step + 1), loss=float("nan"))
    return {"error": 0.25}


def hold_the_interpreter(assignment: Assignment, report: Report) -> dict[str, float]:
    """Sleep in C without letting go of the interpreter lock: no thread and no signal handler runs."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(600)
    return {"error": 0.0}


def spin(assignment: Assignment, report: Report) -> dict[str, float]:
    while True:
        pass


def balloon(assignment: Assignment, report: Report) -> dict[str, float]:
    held = []
    while True:
        held.append(b"x" * 10_000_000)
        time.sleep(0.005)


def balloon_in_a_grandchild(assignment: Assignment, report: Report) -> dict[str, float]:
    code = "import time; held = b'x' * 200_000_000; time.sleep(600)"
    grandchild = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    report.note(grandchild=grandchild.pid)
    grandchild.wait()
    return {"error": 0.0}


def until_stopped(assignment: Assignment, report: Report) -> dict[str, float]:
    step = 0
    while not report(step, error=1.0 / (step + 1)):
        step += 1
        time.sleep(0.01)
    return {}


def deaf(assignment: Assignment, report: Report) -> dict[str, float]:
    report(0, error=0.75)
    time.sleep(600)
    return {"error": 0.0}


def broken(assignment: Assignment, report: Report) -> dict[str, float]:
    report(0, error=0.5)
    raise KeyError("no such layer")


def passing_trouble(assignment: Assignment, report: Report) -> dict[str, float]:
    error = RuntimeError("the file server is away")
    error.transient = True
    raise error


def exits(assignment: Assignment, report: Report) -> dict[str, float]:
    sys.exit(3)


def exits_at_once(assignment: Assignment, report: Report) -> dict[str, float]:
    os._exit(7)


def kills_itself(assignment: Assignment, report: Report) -> dict[str, float]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def crashes(assignment: Assignment, report: Report) -> dict[str, float]:
    ctypes.string_at(0)
    return {}


def talks(assignment: Assignment, report: Report) -> dict[str, float]:
    print("hello from trial", assignment.trial)
    print("and a warning", file=sys.stderr)
    os.system("echo and from a shell")
    return {"error": 0.5}


def not_a_number(assignment: Assignment, report: Report) -> dict[str, float]:
    return {"error": float("nan")}


def torch_scalar(assignment: Assignment, report: Report) -> dict[str, float]:
    import torch

    return {"error": torch.tensor(0.5)}


def loses_its_own_pipe(assignment: Assignment, report: Report) -> dict[str, float]:
    os.closerange(3, 256)
    time.sleep(600)
    return {}


def counts(assignment: Assignment, report: Report) -> dict[str, float]:
    """Counts to the task's `to`, on from where it was; keeps a checkpoint at every `every`-th step, and if asked."""
    at, to, every = 0, int(assignment.task["to"]), int(assignment.task.get("every", 10**9))
    if assignment.checkpoint is not None:
        at = int(read_state(assignment.checkpoint)["at"])
        assert at == assignment.start_step
    report.note(began_at=at)
    while at < to:
        at += 1
        report(at, error=1.0 / at)
        time.sleep(float(assignment.task.get("seconds", 0.0)))
        if report.wants_checkpoint or at % every == 0:
            report.checkpoint(at, {"at": at, "array": np.full(3, at)})
    return {"error": float(at)}


def never_gets_to_it(assignment: Assignment, report: Report) -> dict[str, float]:
    """Looks as if it kept checkpoints."""
    report(0, error=float(report.wants_checkpoint))
    time.sleep(600)
    return {"error": 0.0}


def breeds(assignment: Assignment, report: Report) -> dict[str, float]:
    """Processes that start processes, in sessions of their own: at most 2^6 of them, for a minute."""
    for _ in range(6):
        if os.fork() == 0:
            os.setsid()
    time.sleep(60)
    os._exit(0)


def writes_much(assignment: Assignment, report: Report) -> dict[str, float]:
    (assignment.scratch / "file").write_bytes(b"x" * 10_000_000)
    return {"error": 0.0}


def opens_much(assignment: Assignment, report: Report) -> dict[str, float]:
    files = [(assignment.scratch / str(number)).open("w") for number in range(1000)]
    return {"error": float(len(files))}


def scribbles(assignment: Assignment, report: Report) -> dict[str, float]:
    """Writes into the pipe that its reports go through."""
    report(1, error=0.5)
    line = json.dumps(assignment.task["line"]).encode() + b"\n"
    pipe = report._pipe._descriptor  # type: ignore[attr-defined]
    os.write(pipe, line)
    time.sleep(60)
    return {"error": 0.0}


def append(assignment: Assignment, report: Report) -> dict[str, float]:
    """Writes down, outside the queue, that it ran."""
    with (Path(assignment.task["folder"]) / "ran").open("a") as file:
        file.write(json.dumps([assignment.trial, os.getpid()]) + "\n")
    return {"error": 1.0 / assignment.architecture["width"]}


class Scaled:
    """An evaluator with settings, and with something to say about known results."""

    def __init__(self, *, factor: float = 1.0) -> None:
        if factor <= 0:
            raise ValueError(f"factor must be above 0, got {factor}")
        self.factor = factor

    def evaluate(self, assignment: Assignment, report: Report) -> dict[str, float]:
        return {"error": self.factor * assignment.architecture["width"]}

    def complete(self, assignment: Assignment, known: dict[str, float], report: Report) -> dict[str, float]:
        return {"error": known["error"] + 100.0}


not_an_evaluator = {"a": 1}


class Together:
    """Evaluates groups: says in which process and with how many others; `odd` names what one of them does."""

    def __init__(self, *, group: int = 1, odd: str = "nothing", which: int = 1) -> None:
        self.odd, self.which = odd, which

    def evaluate(self, assignment: Assignment, report: Report) -> dict[str, float]:
        report.note(pid=os.getpid(), together=1)
        return {"error": float(assignment.trial)}

    def evaluate_many(self, assignments: list[Assignment], reports: list[Report]):
        left = dict(enumerate(assignments))
        if self.odd == "breaks":
            raise MemoryError("too many at once")
        for step in range(1, 200 if self.odd == "stays" else 3):
            time.sleep(0.01)
            for index in list(left):
                report, trial = reports[index], left[index].trial
                try:
                    report.note(pid=os.getpid(), together=len(assignments), scratch=str(left[index].scratch))
                    if report(step, error=float(step)):
                        yield index, {}
                        del left[index]
                    elif trial == self.which and self.odd == "fails":
                        raise ArithmeticError("alone")
                    elif trial == self.which and self.odd == "dies":
                        os._exit(7)
                except BaseException as error:
                    del left[index]
                    yield index, error
        for index, assignment in left.items():
            yield index, {"error": float(assignment.trial)}
