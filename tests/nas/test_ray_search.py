"""Whole searches as a person starts them: the command line, Ray workers, a database; killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

import nas
from workers.ray_session import lives

pytestmark = pytest.mark.slow

LAB = """
import os, time
from search_spaces import Choice, Float, SearchSpace

space = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}, name="lab")


def evaluate(assignment, report):
    with open("calls.txt", "a") as calls:
        calls.write(f"{assignment.trial} {assignment.attempt} {os.getpid()}\\n")
    print("evaluating", assignment.trial)
    for step in range(4):
        time.sleep(float(os.environ.get('LAB_SECONDS', '0.05')))
        if report(step, error=assignment.architecture["x"]):
            break
    return {"error": assignment.architecture["x"], "cost": 1.0 - assignment.architecture["x"]}
"""


class Lab:
    """A folder with a module of a user's own, and the command line in it."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "lab.py").write_text(LAB)
        self.folder = folder
        self.url = url
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from nas.cli import main; main()", *arguments]
        environment = {**os.environ, "NAS_STORAGE": self.url, "NAS_ALLOW": "lab", **variables}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # tests that were started in the background ignore Ctrl-C, and so would this
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=180)
        return process.returncode, out, err

    def search(self, trials: int, **variables: str) -> subprocess.Popen[str]:
        return self.start(
            *("search", "--name", "study", "--space", "lab:space", "--evaluator", "lab:evaluate", "--metric", "error"),
            *("--metric", "cost", "--trials", str(trials), "--workers", "2"),
            # nothing below may wait for a lease to end
            *("--set", "limits.lease_seconds=86400", "--set", "limits.beat_seconds=0.5"),
            **variables,
        )

    def completed(self) -> int:
        return self.count("completed")

    def count(self, state: str) -> int:
        try:
            study = nas.open_study("study", self.url)
        except nas.NasError:
            return 0
        counts = study.counts()
        study.close()
        return counts[state]

    def outcomes(self) -> list[list[str | None]]:
        """How the attempts of each trial ended."""
        study = nas.open_study("study", self.url)
        found = [[attempt.outcome for attempt in study.store.attempts(trial.id)] for trial in study.trials]
        study.close()
        return found

    def pools(self) -> set[str]:
        """Which pools have ended attempts: the worker's name without its own number."""
        study = nas.open_study("study", self.url)
        found = {row.worker.rsplit("-", 1)[0] for row in study.store.workers(study.id)}
        study.close()
        return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    yield from made_lab(tmp_path, f"sqlite:///{tmp_path}/studies.db")


@pytest.fixture
def postgresql_lab(tmp_path: Path, postgresql_url: str) -> Iterator[Lab]:
    yield from made_lab(tmp_path, postgresql_url)


def made_lab(folder: Path, url: str) -> Iterator[Lab]:
    made = Lab(folder, url)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


def processes(of: int, word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_search_survives_the_kill_of_a_worker_and_of_itself(postgresql_lab: Lab) -> None:
    lab = postgresql_lab
    search = lab.search(60)
    until(lambda: lab.completed() >= 5)
    actor = next(iter(processes(search.pid, "WorkerActor")))
    actor.kill()
    until(lambda: lab.completed() >= 20)
    orphans = processes(search.pid, "workers.child")
    search.kill()
    search.communicate()
    before = lab.completed()
    assert before < 60
    until(lambda: not any(map(lives, orphans)), 20.0)

    code, out, err = lab.run("resume", "study", "--workers", "2")
    assert code == 0, err
    assert "60 completed" in err
    _, out, _ = lab.run("trials", "study", "--json")
    trials = json.loads(out)
    assert [trial["trial"] for trial in trials] == list(range(60))
    assert {trial["state"] for trial in trials} == {"completed"}
    for trial in trials:
        assert trial["metrics"]["error"] == trial["architecture"]["x"]
    evaluated = [line.split()[0] for line in (lab.folder / "calls.txt").read_text().splitlines()]
    repeated = len(evaluated) - len(set(evaluated))
    assert repeated <= 4  # only what ran when something was killed
    assert "evaluating 3" in lab.run("logs", "study", "3")[1]


def test_ctrl_c_gives_running_trials_back_and_says_how_to_resume(lab: Lab) -> None:
    search = lab.search(200)
    until(lambda: lab.completed() >= 3)
    search.send_signal(signal.SIGINT)
    _, err = search.communicate(timeout=60)
    assert search.returncode == 130
    assert "nas resume study" in err
    assert lab.count("running") == 0
    study = nas.open_study("study", lab.url)
    assert all(attempt.outcome != "lost" for trial in study.trials for attempt in study.store.attempts(trial.id))
    study.close()


def test_a_stop_from_another_terminal_ends_the_search(lab: Lab) -> None:
    search = lab.search(500)
    until(lambda: lab.completed() >= 3)
    assert lab.run("pause", "study")[0] == 0
    time.sleep(2)
    paused = lab.completed()
    assert lab.run("stop", "study")[0] == 0
    _, err = search.communicate(timeout=60)
    assert search.returncode == 0
    assert "stopped" in err
    assert lab.completed() <= paused + 4
    assert lab.count("running") == 0


def test_a_worker_of_another_terminal_helps_and_ends_with_the_study(lab: Lab) -> None:
    # trials of a second: too slow for any to be proposed ahead
    search = lab.search(2000, LAB_SECONDS="0.25")
    until(lambda: lab.completed() >= 3)
    helper = lab.start("worker", "study", LAB_SECONDS="0.25")
    until(lambda: len(lab.pools()) == 2)
    assert lab.run("stop", "study")[0] == 0
    for process in (search, helper):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert lab.count("running") == 0


TRAINING = (
    *("search", "--name", "study", "--space", "mlp", "--data", "digits", "--metric", "error", "--trials", "2"),
    *("--epochs", "1000000", "--set", "evaluator.batch_size=16", "--set", "evaluator.checkpoint_seconds=3600"),
    *("--set", "limits.report_seconds=0.2", "--workers", "2"),
)
TERMINATIONS = int(os.environ.get("NAS_TERMINATIONS", "1"))
"""How often training is terminated below; once in the suite."""


def progress(url: str) -> dict[tuple[int, int], list[int]]:
    """(trial, attempt) -> the epochs it has reported."""
    try:
        study = nas.open_study("study", url)
    except nas.NasError:
        return {}
    rows = study.store.measurements(study.id)
    study.close()
    found: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        if row.metric == "error":
            found.setdefault((row.number, row.attempt), []).append(row.step)
    return found


def has_begun(url: str, attempt: int) -> bool:
    epochs = progress(url)
    return all(len(epochs.get((trial, attempt), ())) > 2 for trial in range(2))


def test_training_that_is_terminated_goes_on_from_where_it_was(lab: Lab) -> None:
    process = lab.start(*TRAINING)
    for attempt in range(1, TERMINATIONS + 1):
        until(partial(has_begun, lab.url, attempt))
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert time.monotonic() - sent < 60
        assert lab.outcomes() == [["released"] * attempt] * 2, "given back, and no loss"
        files = [path.name for path in (lab.folder / "studies.db.checkpoints").rglob("*.safetensors")]
        assert sorted(name.partition("-")[0] for name in files) == [str(attempt)] * 2, "the newest of each trial"
        process = lab.start("resume", "study", "--workers", "2")
    last = TERMINATIONS + 1
    until(partial(has_begun, lab.url, last))
    assert lab.run("stop", "study")[0] == 0
    process.communicate(timeout=60)
    epochs = progress(lab.url)
    for trial in range(2):
        steps = [step for attempt in range(1, last + 1) for step in epochs[trial, attempt]]
        assert steps == list(range(1, len(steps) + 1)), "no epoch was done twice, and none was left out"
    assert not list((lab.folder / "studies.db.checkpoints").rglob("*.safetensors"))
    assert lab.run("delete", "study", "--yes")[0] == 0
    for folder in ("logs", "checkpoints"):
        assert list((lab.folder / f"studies.db.{folder}").iterdir()) == [], f"{folder} go with their study"


def test_a_search_whose_ray_breaks_says_so_loses_nothing_and_resumes(lab: Lab) -> None:
    search = lab.search(10, LAB_SECONDS="0.1")
    until(lambda: lab.completed() >= 3)
    tree = psutil.Process(search.pid).children(recursive=True)
    (heart,) = [process for process in tree if process.name() == "raylet"]
    heart.kill()
    _, err = search.communicate(timeout=90)
    assert search.returncode == 2
    assert "Ray has lost its raylet" in err
    assert lab.count("running") == 0
    assert "lost" not in str(lab.outcomes())
    until(lambda: not any(map(lives, tree)), 20.0)
    code, _, err = lab.run("resume", "study", "--workers", "2")
    assert code == 0, err
    assert "10 completed" in err


def test_workers_that_wait_serve_whatever_studies_come(lab: Lab) -> None:
    worker = lab.start("worker", "--wait", "--workers", "2")
    sys.path.append(str(lab.folder))
    try:
        from lab import space  # type: ignore[import-not-found]

        studies = [
            nas.create_study(name, space=space, metrics=["error", "cost"], evaluator=evaluator, storage=lab.url)
            for name, evaluator in (("first", "lab:evaluate"), ("second", "lab:evaluate"), ("odd", "os:system"))
        ]
        for study in studies:
            for index in range(6):
                study.enqueue({"x": index / 10, "kind": "a"})
        until(lambda: [study.counts()["completed"] for study in studies] == [6, 6, 0])
        served = [{row.worker for row in study.store.workers(study.id)} for study in studies]
        assert served[0] | served[1]
        assert served[2] == set(), "code that is not allowed is neither imported nor failed"
        assert studies[2].counts()["waiting"] == 6
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=60)
        assert worker.returncode == 130
        assert "'odd' is not served" in err
        for study in studies:
            study.close()
    finally:
        sys.path.remove(str(lab.folder))
        sys.modules.pop("lab", None)
