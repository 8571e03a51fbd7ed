import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from fake_queue import SPACE, FakeQueue, claimed_trial, study_spec

from workers.checkpoints import usable_checkpoint
from workers.child_handle import ChildSettings
from workers.child_process import ChildProcess, log_path
from workers.outcome import Failed, Finished, Interrupted
from workers.process_limits import ProcessLimits
from workers.processes import descendants, evaluation_environment
from workers.protocol import FailureKind
from workers.remote_folder import folder_named
from workers.running import RunningTrial
from workers.state_file import read_state
from workers.worker import Worker

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def child_settings(**changes):
    return ChildSettings(
        **{
            "allow": ("evaluation_samples",),
            "import_paths": (str(HERE),),
            "grace_seconds": 0.1,
            "stop_grace_seconds": 0.2,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def shared():
    """One child for all tests that do it no harm."""
    evaluation = ChildProcess(child_settings(device_share=0.5))
    yield evaluation
    evaluation.close()


def trial_of(evaluator, number=0, *, study_id=None, checkpoints=None, **changes):
    """A running trial of a study of its own: a child loads each study once."""
    study_id = study_id or abs(hash(evaluator)) % 10**9
    claimed = claimed_trial(number, study_id=study_id, **changes.pop("claimed", {}))
    spec = study_spec(f"evaluation_samples:{evaluator}", study_id=study_id, **changes)
    return RunningTrial(claimed, spec, renewed=time.monotonic(), checkpoints=checkpoints)


def is_gone(pid):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_trials_are_evaluated_in_one_child_after_another(shared):
    for number in range(3):
        outcome = shared.run(trial_of("quick", number))
        assert outcome == Finished(metrics={"error": 1 / (1 + number % 3)})
    first = shared.pid
    shared.run(trial_of("quick"))
    assert shared.pid == first


def test_the_evaluator_gets_all_it_needs_and_nothing_that_leads_to_the_database(shared, monkeypatch):
    running = trial_of("everything", 4, claimed={"budget": 3.0, "attempt": 2}, task={"data": "digits"})
    assert shared.run(running) == Finished(metrics={"error": 0.5})
    given = running.attributes
    assert given["pid"] == shared.pid
    assert not Path(given["scratch"]).exists(), "the scratch folder is removed afterwards"
    assert (given["seed"], given["budget"], given["task"], given["space"]) == (4, 3.0, {"data": "digits"}, SPACE.name)
    assert given["trial"] == ["demo", 4, 2]
    assert given["allow"] == ["evaluation_samples"]
    assert given["folder"] == str(Path.cwd())
    assert given["device"] == ["cpu", 0.5]


def test_the_environment_of_trial_code_has_no_way_to_the_database(monkeypatch):
    canary = "canary-password"
    for name in ("NAS_STORAGE", "PGPASSWORD", "PGPASSFILE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, canary)
    monkeypatch.setenv("MY_DB", f"postgresql+psycopg://me:{canary}@host/db")
    monkeypatch.setenv("MY_FILE", f"sqlite:///{canary}.db")
    monkeypatch.setenv("HARMLESS", "yes")
    evaluation = ChildProcess(child_settings(threads=3))
    try:
        running = trial_of("everything")
        evaluation.run(running)
        environment = running.attributes["environment"]
        assert canary not in str(environment)
        assert environment["HARMLESS"] == "yes"
        assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
        assert canary.encode() not in Path(f"/proc/{evaluation.pid}/cmdline").read_bytes()
    finally:
        evaluation.close()


def test_an_environment_keeps_what_it_has_of_other_addresses():
    base = {"PATH": "/bin", "http_proxy": "http://user:word@proxy:80", "PYTHONPATH": "/a:/b", "PGM": "x"}
    clean = evaluation_environment(base, threads=1, package_root="/ours")
    assert clean["http_proxy"] == base["http_proxy"]
    assert clean["PYTHONPATH"] == "/ours:/a:/b"
    assert clean["PGM"] == "x"


def test_measurements_come_through_nan_included(shared):
    running = trial_of("measure")
    assert shared.run(running) == Finished(metrics={"error": 0.25})
    assert [(m.metric, m.step) for m in running.unsent()] == [
        (name, step) for step in range(3) for name in ("error", "loss")
    ]
    assert str([m.value for m in running.unsent() if m.metric == "loss"]) == "[nan, nan, nan]"


def test_an_exception_keeps_its_traceback_and_the_child_lives(shared):
    shared.run(trial_of("quick"))
    before = shared.pid
    outcome = shared.run(trial_of("broken"))
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.EXCEPTION
    assert "KeyError: 'no such layer'" in outcome.text
    assert "evaluation_samples.py" in outcome.text
    assert shared.pid == before


def test_a_transient_exception_is_marked(shared):
    assert shared.run(trial_of("passing_trouble")).transient


def test_sys_exit_is_a_failure_like_any_other(shared):
    outcome = shared.run(trial_of("exits"))
    assert "SystemExit: 3" in outcome.text


def test_nan_is_classified(shared):
    assert shared.run(trial_of("not_a_number")).kind is FailureKind.NAN


@pytest.mark.slow
def test_a_torch_scalar_is_a_result():
    evaluation = ChildProcess(child_settings())
    try:
        assert evaluation.run(trial_of("torch_scalar")) == Finished(metrics={"error": 0.5})
    finally:
        evaluation.close()


def test_settings_reach_an_evaluator_class(shared):
    assert shared.run(trial_of("Scaled", 1, settings={"factor": 0.25}, study_id=51)) == Finished(metrics={"error": 0.5})


def test_known_results_are_completed_or_taken_over(shared):
    known = {"known_metrics": {"error": 0.125}, "known_from": 3}
    assert shared.run(trial_of("Scaled", claimed=known, study_id=52)) == Finished(metrics={"error": 100.125})
    assert shared.run(trial_of("broken", claimed=known)) == Finished(metrics={"error": 0.125})


@pytest.mark.parametrize(
    ("path", "settings", "said"),
    [
        ("evaluation_samples:quik", {}, "did you mean 'quick'"),
        ("evaluation_samples:not_an_evaluator", {}, "is no evaluator"),
        ("evaluation_samples:quick", {"factor": 1}, "it takes no settings; got factor"),
        ("evaluation_samples:Scaled", {"factor": -1}, "factor must be above 0"),
        ("evaluation_samples:Scaled", {"size": 1}, "does not take the settings"),
        ("os:system", {}, "may not be imported"),
        ("no_such_lab:thing", {}, "--allow no_such_lab"),
        ("training", {}, "module:object"),
    ],
)
def test_an_evaluator_that_cannot_be_had_says_why_in_one_line(shared, path, settings, said):
    claimed = claimed_trial(study_id=(study_id := abs(hash((path, str(settings)))) % 10**9))
    spec = study_spec(path, settings=settings, study_id=study_id)
    outcome = shared.run(RunningTrial(claimed, spec, renewed=time.monotonic()))
    assert outcome.kind is FailureKind.EXCEPTION
    assert said in outcome.text
    assert "Traceback" not in outcome.text


def test_output_is_kept_per_attempt(shared, tmp_path):
    evaluation = ChildProcess(child_settings(log_folder=tmp_path / "logs"))
    try:
        for number in range(2):
            running = trial_of("talks", number, study_id=9)
            evaluation.run(running)
        text = log_path(tmp_path / "logs", "0" * 32, 0, 1).read_text()
        assert text.splitlines() == ["hello from trial 0", "and a warning", "and from a shell"]
        assert "hello from trial 1" in log_path(tmp_path / "logs", "0" * 32, 1, 1).read_text()
    finally:
        evaluation.close()


@pytest.mark.parametrize("evaluator", ["hold_the_interpreter", "spin"])
def test_a_hang_is_killed_at_the_time_limit_and_the_next_trial_runs(evaluator):
    evaluation = ChildProcess(child_settings())
    try:
        outcome = evaluation.run(trial_of(evaluator, time_limit_seconds=0.3))
        assert outcome.kind is FailureKind.TIME_OUT
        assert "0.3 s" in outcome.text
        assert evaluation.pid is None
        assert isinstance(evaluation.run(trial_of("quick")), Finished)
    finally:
        evaluation.close()


@pytest.mark.parametrize("evaluator", ["balloon", "balloon_in_a_grandchild"])
def test_a_memory_balloon_is_killed_with_all_it_started(evaluator):
    evaluation = ChildProcess(child_settings())
    running = trial_of(evaluator, memory_limit_bytes=150_000_000)
    try:
        outcome = evaluation.run(running)
        assert outcome.kind is FailureKind.OUT_OF_MEMORY
        assert "150,000,000" in outcome.text
        if "grandchild" in running.attributes:
            wait_until(lambda: is_gone(running.attributes["grandchild"]))
    finally:
        evaluation.close()


def test_a_stop_request_makes_report_return_true():
    evaluation = ChildProcess(child_settings(stop_grace_seconds=60.0))
    running = trial_of("until_stopped")
    threading.Timer(0.2, lambda: setattr(running, "stop_reason", "not promising")).start()
    try:
        outcome = evaluation.run(running)
        assert outcome == Finished(metrics=running.metrics_so_far(), stopped="not promising")
        assert 0 < outcome.metrics["error"] <= 1
        assert evaluation.pid is not None, "nobody had to be killed"
    finally:
        evaluation.close()


def test_an_evaluation_that_ignores_a_stop_is_killed_and_keeps_its_metrics():
    evaluation = ChildProcess(child_settings())
    running = trial_of("deaf")
    running.stop_reason = "not promising"
    try:
        assert evaluation.run(running) == Finished(metrics={"error": 0.75}, stopped="not promising")
        assert evaluation.pid is None
    finally:
        evaluation.close()


def test_a_lost_lease_kills_the_evaluation():
    evaluation = ChildProcess(child_settings())
    running = trial_of("hold_the_interpreter")
    threading.Timer(0.2, lambda: setattr(running, "lost", True)).start()
    assert isinstance(evaluation.run(running), Interrupted)
    assert evaluation.pid is None


def test_a_lease_that_nobody_renews_kills_the_evaluation():
    running = trial_of("hold_the_interpreter", lease_seconds=0.5)
    assert isinstance(ChildProcess(child_settings()).run(running), Interrupted)


def left_while(running, begun, evaluation):
    """Evaluate; once `begun` holds, the worker leaves."""

    def leave():
        wait_until(begun)
        running.withdrawn = True

    thread = threading.Thread(target=leave)
    thread.start()
    outcome = evaluation.run(running)
    thread.join()
    return outcome


@pytest.mark.parametrize("where", ["{}", "local://{}"], ids=["folder", "url"])
def test_a_worker_that_leaves_takes_a_checkpoint_along(where, tmp_path):
    root = folder_named(where.format(tmp_path / "shared"))
    evaluation = ChildProcess(child_settings())
    task = {"to": 10**6, "seconds": 0.002}
    try:
        running = trial_of("counts", checkpoints=root, task=task)
        outcome = left_while(running, lambda: len(running.unsent()) > 20, evaluation)
        assert isinstance(outcome, Interrupted)
        assert evaluation.pid is not None, "nobody had to be killed"
        saved = running.unrecorded()
        state = read_state(usable_checkpoint(root, saved.key, saved.digest, into=tmp_path))
        assert state["at"] == saved.step == running.unsent()[-1].step
        assert state["array"].tolist() == [saved.step] * 3

        changes = {"attempt": 2, "checkpoint": saved.key, "checkpoint_digest": saved.digest, "start_step": saved.step}
        task = {"to": saved.step + 5}
        again = trial_of("counts", checkpoints=root, task=task, claimed=changes, study_id=5)
        assert evaluation.run(again) == Finished(metrics={"error": saved.step + 5.0})
        assert [m.step for m in again.unsent()] == list(range(saved.step + 1, saved.step + 6))
    finally:
        evaluation.close()


@pytest.mark.parametrize("evaluator", ["until_stopped", "never_gets_to_it"])
def test_an_evaluation_that_keeps_no_checkpoint_is_left_without_one(evaluator, tmp_path):
    evaluation = ChildProcess(child_settings(leave_seconds=0.3))
    running = trial_of(evaluator, checkpoints=tmp_path)
    assert isinstance(left_while(running, lambda: running.unsent(), evaluation), Interrupted)
    assert running.unrecorded() is None
    assert evaluation.pid is None


def test_checkpoints_are_kept_while_it_goes_on(tmp_path, shared):
    running = trial_of("counts", checkpoints=tmp_path, task={"to": 10, "every": 4})
    assert shared.run(running) == Finished(metrics={"error": 10.0})
    assert running.unrecorded().step == 8
    assert running.can_checkpoint


def test_without_a_folder_no_checkpoint_is_kept(shared):
    running = trial_of("counts", task={"to": 10, "every": 4}, study_id=61)
    assert shared.run(running) == Finished(metrics={"error": 10.0})
    assert running.unrecorded() is None


@pytest.mark.parametrize("digest", ["0" * 64, None])
def test_a_checkpoint_that_is_not_believed_is_noted_and_the_trial_starts_anew(digest, tmp_path, shared):
    claimed = {"attempt": 2, "checkpoint": f"{'0' * 32}/0/1-1-8.safetensors", "start_step": 8}
    claimed["checkpoint_digest"] = digest
    running = trial_of("counts", checkpoints=tmp_path, task={"to": 3}, claimed=claimed, study_id=62)
    assert shared.run(running) == Finished(metrics={"error": 3.0})
    assert running.attributes["began_at"] == 0
    assert "cannot be read on this machine" in running.attributes["started_over"]


def test_a_child_that_is_ended_with_its_worker_says_nothing_about_the_trial():
    evaluation = ChildProcess(child_settings())
    running = trial_of("spin")
    outcome = None

    def end_all():
        wait_until(lambda: evaluation.pid is not None)
        os.kill(evaluation.pid, signal.SIGTERM)
        time.sleep(0.3)
        running.withdrawn = True

    thread = threading.Thread(target=end_all)
    thread.start()
    outcome = evaluation.run(running)
    thread.join()
    assert isinstance(outcome, Interrupted)
    evaluation.close()


def test_a_trial_that_breeds_processes_is_killed_with_all_of_them(tmp_path):
    evaluation = ChildProcess(child_settings(limits=ProcessLimits(processes=20)))
    seen = set()
    done = threading.Event()

    def watch():
        while not done.wait(0.02):
            if evaluation.pid is not None:
                seen.update(descendants(evaluation.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        outcome = evaluation.run(trial_of("breeds"))
        done.set()
        thread.join()
        assert outcome.kind is FailureKind.EXCEPTION
        assert "more than 20 processes" in outcome.text
        assert len(seen) > 20
        wait_until(lambda: all(map(is_gone, seen)))
        assert isinstance(evaluation.run(trial_of("quick")), Finished), "the next one lives"
    finally:
        done.set()
        evaluation.close()


@pytest.mark.parametrize(
    ("evaluator", "limits", "said"),
    [
        ("writes_much", {"file_bytes": 1_000_000}, "File too large"),
        ("opens_much", {"open_files": 100}, "Too many open files"),
    ],
)
def test_files_are_limited(evaluator, limits, said):
    evaluation = ChildProcess(child_settings(limits=ProcessLimits(**limits)))
    try:
        outcome = evaluation.run(trial_of(evaluator))
        assert outcome.kind is FailureKind.EXCEPTION
        assert said in outcome.text
    finally:
        evaluation.close()


def test_the_usual_limits_leave_room_for_what_is_usual(shared):
    assert shared.run(trial_of("writes_much", study_id=63)) == Finished(metrics={"error": 0.0})
    assert shared.run(trial_of("opens_much", study_id=64)) == Finished(metrics={"error": 1000.0})


@pytest.mark.parametrize("limits", [{"open_files": 10}, {"file_bytes": 0}, {"processes": True}])
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match="must be a whole number of at least"):
        ProcessLimits(**limits)


@pytest.mark.parametrize(
    ("evaluator", "said", "transient"),
    [
        ("exits_at_once", "exit status 7", False),
        ("crashes", "signal 11 (SIGSEGV)", False),
        ("kills_itself", "signal 9 (SIGKILL)", True),
    ],
)
def test_a_child_that_dies_by_itself_fails_its_trial_and_is_replaced(evaluator, said, transient, monkeypatch):
    monkeypatch.setattr("workers.watch.memory_is_short", lambda: False)
    evaluation = ChildProcess(child_settings())
    try:
        outcome = evaluation.run(trial_of(evaluator))
        assert (outcome.kind, outcome.transient) == (FailureKind.EXCEPTION, transient)
        assert said in outcome.text
        if evaluator == "crashes":
            assert "evaluation_samples.py" in outcome.text, "the stack in native code is in its output"
        assert isinstance(evaluation.run(trial_of("quick")), Finished)
    finally:
        evaluation.close()


def test_a_kill_from_outside_while_memory_is_short_counts_as_out_of_memory(monkeypatch):
    monkeypatch.setattr("workers.watch.memory_is_short", lambda: True)
    evaluation = ChildProcess(child_settings())
    assert evaluation.run(trial_of("kills_itself")).kind is FailureKind.OUT_OF_MEMORY


def test_an_evaluator_that_closes_its_pipes_is_ended_by_the_time_limit():
    evaluation = ChildProcess(child_settings())
    outcome = evaluation.run(trial_of("loses_its_own_pipe", time_limit_seconds=1.0))
    assert isinstance(outcome, Failed)
    assert evaluation.pid is None


@pytest.mark.parametrize(
    "line",
    [
        [],
        {"event": "report", "run": 1},
        {"run": 1},
        {"event": "checkpoint", "run": 1, "key": 3},
        {"event": "failed", "run": 1, "kind": "odd", "text": "", "transient": False},
    ],
)
def test_what_is_no_message_fails_its_trial_only(line):
    evaluation = ChildProcess(child_settings())
    try:
        outcome = evaluation.run(trial_of("scribbles", task={"line": line}))
        assert outcome.kind is FailureKind.EXCEPTION
        assert "something that is no message" in outcome.text
    finally:
        evaluation.close()


@pytest.mark.parametrize("key", ["../../secret", f"{'0' * 32}/0/2-1-1.safetensors", f"{'1' * 32}/0/1-1-1.safetensors"])
def test_a_key_that_is_not_the_attempts_own_is_not_believed(key, tmp_path):
    line = {"event": "checkpoint", "run": 1, "key": key, "step": 1, "digest": "0" * 64, "size_bytes": 1}
    evaluation = ChildProcess(child_settings())
    running = trial_of("scribbles", task={"line": line}, checkpoints=tmp_path, time_limit_seconds=0.3)
    try:
        assert evaluation.run(running).kind is FailureKind.TIME_OUT
        assert running.unrecorded() is None
    finally:
        evaluation.close()


def test_an_idle_child_that_was_killed_is_replaced():
    evaluation = ChildProcess(child_settings())
    try:
        evaluation.run(trial_of("quick"))
        os.kill(evaluation.pid, signal.SIGKILL)
        assert isinstance(evaluation.run(trial_of("quick")), Finished)
    finally:
        evaluation.close()


def test_closing_ends_the_child():
    evaluation = ChildProcess(child_settings())
    evaluation.run(trial_of("quick"))
    pid = evaluation.pid
    evaluation.close()
    evaluation.close()
    assert is_gone(pid)


def test_a_child_that_cannot_start_fails_the_trial_with_what_it_said(tmp_path):
    outcome = ChildProcess(child_settings(folder=tmp_path / "missing")).run(trial_of("quick"))
    assert outcome.kind is FailureKind.EXCEPTION
    assert "did not start" in outcome.text
    assert "missing" in outcome.text


PARENT = """
import sys, time
sys.path[:0] = [{root!r}, {here!r}]
from test_child_process import ChildProcess, child_settings, trial_of
evaluation = ChildProcess(child_settings())
evaluation.run(trial_of("quick"))
sys.stdout.write(f"{{evaluation.pid}}\\n")
sys.stdout.flush()
evaluation.run(trial_of({evaluator!r}))
"""


@pytest.mark.parametrize("evaluator", ["quick", "hold_the_interpreter"])
@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_the_child_dies_with_its_parent_even_if_it_holds_the_interpreter(evaluator):
    code = PARENT.format(root=str(ROOT), here=str(HERE), evaluator=evaluator)
    parent = subprocess.Popen([sys.executable, "-c", code + "\ntime.sleep(600)"], stdout=subprocess.PIPE, text=True)
    try:
        child = int(parent.stdout.readline())
        if evaluator != "quick":
            wait_until(lambda: psutil.Process(child).status() == psutil.STATUS_SLEEPING)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_until(lambda: is_gone(child))


def test_a_worker_with_a_child_goes_through_good_and_bad_trials(caplog):
    caplog.set_level(logging.INFO)
    trials = [claimed_trial(number) for number in range(3)]
    queue = FakeQueue(trials, study_spec("evaluation_samples:hold_the_interpreter", time_limit_seconds=0.2))
    worker = Worker(queue, ChildProcess(child_settings()), name="w")
    worker.open()
    while worker.step():
        pass
    worker.close()
    assert [ended.kind for ended in queue.ended.values()] == [FailureKind.TIME_OUT] * 3
