"""Evaluators for tests; imported by evaluation processes by their names."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from workers.protocol import Assignment, Report


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
        device=assignment.device,
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
