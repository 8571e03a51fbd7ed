"""Real Ray, real child processes, a real SQLite file: one pool for the module, since starting Ray takes seconds."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from fake_queue import SPACE

from nas.store import NewTrial, open_store
from nas.trial import Proposal, TrialState
from search_spaces import Architecture
from workers.child_process import log_path
from workers.pool import PoolError
from workers.processes import is_alive, this_process
from workers.ray_pool import RayPool, gpus_needed
from workers.ray_session import PASSWORD, Head

HERE = Path(__file__).parent
CANARY = "canary-in-the-storage"


def wait_until(condition, pool=None, seconds=240.0):
    """Wait, tending the pool meanwhile; returns what `tend` said."""
    events = []
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        if pool is not None:
            events += pool.tend()
        time.sleep(0.05)
    return events


class Lab:
    """Studies in one store, served by one pool (whose queue is that of all studies)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/{CANARY}.db"
        self.store = open_store(self.url)
        self.studies = 0

    def study(self, evaluator: str, trials: int, *, task=None, **limits):
        self.studies += 1
        spec = {
            "format": 1,
            "space": SPACE.to_document(),
            "metrics": [{"name": "error", "goal": "minimize", "limit": None}],
            "evaluator": {"path": f"evaluation_samples:{evaluator}", "settings": {}},
            "task": {"folder": str(self.folder), **(task or {})},
            "limits": {"lease_seconds": 60, "beat_seconds": 0.2, "lost": 3, "transient": 1, **limits},
            "reuse": False,
        }
        row = self.store.create_study(f"study-{self.studies}", spec, seed=1)
        proposals = [Proposal(architecture=Architecture({"width": 1 + number % 3})) for number in range(trials)]
        new = [NewTrial(proposal, f"key-{number}") for number, proposal in enumerate(proposals)]
        self.store.propose(row.id, new, first_number=0, proposed_revision=0)
        return row.id

    def trials(self, study):
        return list(self.store.all_trials(study))

    def are_done(self, study):
        return all(trial.state.is_terminal for trial in self.trials(study))

    def attributes(self, study):
        return [self.store.attributes(trial.id) for trial in self.trials(study)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.store.close()


@pytest.fixture(scope="module")
def pool(lab):
    if find_spec("ray") is None:  # looked for, not imported: it must be told before that to ask for a token
        pytest.skip("needs ray")
    pool = RayPool(
        queue="nas.store:open_queue",
        url=lab.url,
        workers=2,
        allow=("evaluation_samples",),
        import_paths=(str(HERE),),
        log_folder=lab.folder / "logs",
        checkpoints=lab.folder / "checkpoints",
        batch=1,  # else one worker may claim both of two trials, and which one is killed would decide what is seen
    )
    with pool:
        yield pool


@pytest.mark.slow
def test_trials_are_evaluated_by_two_workers_in_processes_of_their_own(lab, pool):
    study = lab.study("append", 40)
    wait_until(lambda: lab.are_done(study), pool)
    trials = lab.trials(study)
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert all(trial.metrics == {"error": 1 / (1 + trial.number % 3)} for trial in trials)
    ran = [json.loads(line) for line in (lab.folder / "ran").read_text().splitlines()]
    assert sorted(number for number, _ in ran) == list(range(40)), "each exactly once"
    health = wait_for_health(pool, 2)
    assert not {entry["pid"] for entry in health} & {pid for _, pid in ran}
    assert all(psutil.pid_exists(entry["pid"]) for entry in health)


def wait_for_health(pool, count):
    health = []

    def answered():
        health[:] = pool.health()
        return len(health) == count

    wait_until(answered)
    return health


@pytest.mark.slow
def test_trial_code_and_the_logs_of_ray_never_see_the_storage(lab, pool):
    import ray

    study = lab.study("everything", 1)
    wait_until(lambda: lab.are_done(study), pool)
    (attributes,) = lab.attributes(study)
    assert CANARY not in str(attributes["environment"])
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    for path in session.rglob("*"):
        if path.is_file() and path.stat().st_size < 10**7:
            assert CANARY.encode() not in path.read_bytes(), path
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            assert CANARY not in " ".join(process.cmdline())


@pytest.mark.slow
def test_output_is_kept_where_the_pool_was_told(lab, pool):
    study = lab.study("talks", 1)
    wait_until(lambda: lab.are_done(study), pool)
    assert (
        "hello from trial 0"
        in log_path(lab.folder / "logs", lab.store.study(f"study-{lab.studies}").uuid, 0, 1).read_text()
    )


@pytest.mark.slow
def test_a_stop_from_the_store_reaches_a_running_trial(lab, pool):
    study = lab.study("until_stopped", 1)
    wait_until(lambda: lab.trials(study)[0].state is TrialState.RUNNING, pool)
    lab.store.stop_trial(study, 0, "not promising")
    wait_until(lambda: lab.are_done(study), pool)
    (trial,) = lab.trials(study)
    assert trial.state is TrialState.STOPPED
    assert "error" in trial.metrics


@pytest.mark.slow
def test_a_killed_actor_is_replaced_its_child_dies_and_its_trial_is_evaluated_again(lab, pool):
    study = lab.study("everything", 1)
    wait_until(lambda: lab.are_done(study), pool)
    before = {entry["pid"] for entry in wait_for_health(pool, 2)}
    hanging = lab.study("until_stopped", 2, backoff_seconds=0)
    wait_until(lambda: all(trial.state is TrialState.RUNNING for trial in lab.trials(hanging)), pool)
    victim = min(before)
    wait_until(lambda: psutil.Process(victim).children())
    children = psutil.Process(victim).children()
    os.kill(victim, signal.SIGKILL)
    me = this_process()

    def is_running_again():
        lab.store.release_dead(me.host, me.boot, is_alive)
        return max(trial.attempt for trial in lab.trials(hanging)) == 2

    events = wait_until(is_running_again, pool)
    assert len(events) == 1
    assert events[0].reason
    wait_until(lambda: not any(child.is_running() for child in children))
    after = {entry["pid"] for entry in wait_for_health(pool, 2)}
    assert victim not in after
    assert len(after & before) == 1
    for number in range(2):
        lab.store.stop_trial(hanging, number, "enough")
    wait_until(lambda: lab.are_done(hanging), pool)


@pytest.mark.slow
def test_sigterm_to_a_worker_is_no_loss_and_its_trial_goes_on_from_its_checkpoint(lab, pool):
    study = lab.study("counts", 2, task={"to": 120, "seconds": 0.02}, backoff_seconds=600)
    wait_until(lambda: len(lab.store.measurements(study)) > 20 and len(running(lab, study)) == 2, pool)
    before = {entry["pid"] for entry in wait_for_health(pool, 2)}
    victim = min(before)
    os.kill(victim, signal.SIGTERM)
    events = wait_until(lambda: lab.are_done(study), pool)
    assert len(events) == 1
    wait_until(lambda: not psutil.pid_exists(victim), pool)
    trials = lab.trials(study)
    assert [trial.metrics for trial in trials] == [{"error": 120.0}] * 2
    outcomes = [[attempt.outcome for attempt in lab.store.attempts(trial.id)] for trial in trials]
    assert sorted(outcomes) == [["completed"], ["released", "completed"]]
    (again,) = [trial for trial in trials if trial.attempt == 2]
    began = lab.store.attributes(again.id)["began_at"]
    assert began > 0
    steps = [row.step for row in lab.store.measurements(study, number=again.number)]
    assert steps == list(range(1, 121)), "no step was done twice, and none was left out"
    # cleared away once the result is delivered, and so a moment after the trial is done
    wait_until(lambda: not [path for path in (lab.folder / "checkpoints").rglob("*") if path.is_file()], pool)


def running(lab, study):
    return [trial for trial in lab.trials(study) if trial.state is TrialState.RUNNING]


@pytest.mark.slow
def test_two_studies_share_the_workers_and_a_pool_serves_those_it_is_told_to(lab, pool):
    first, second, third = (lab.study("until_stopped", count) for count in (4, 4, 1))
    studies = (first, second, third)
    pool.serve([first, second])
    wait_until(lambda: len(running(lab, first)) == len(running(lab, second)) == 1, pool)
    assert running(lab, third) == []
    lab.store.set_study_state(second, "paused")
    pool.serve(studies)
    for trial in [*running(lab, first), *running(lab, second)]:
        lab.store.stop_trial(first if trial in lab.trials(first) else second, trial.number, "enough")
    wait_until(lambda: len(running(lab, first)) == len(running(lab, third)) == 1, pool)
    assert running(lab, second) == [], "a paused study's trials are not handed out"
    lab.store.set_study_state(second, "active")
    lab.store.stop_all(third, "enough")
    wait_until(lambda: len(running(lab, first)) == len(running(lab, second)) == 1, pool)
    for study in studies:
        lab.store.stop_all(study, "enough")
    wait_until(lambda: all(map(lab.are_done, studies)), pool)
    assert {trial.state for trial in lab.trials(first)} == {TrialState.STOPPED}


STRANGER = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1])
except Exception as error:
    print(type(error).__name__)
else:
    print("came in")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("token", "answer"), [("", "AuthenticationError"), ("own", "came in")])
def test_who_does_not_know_the_token_is_not_obeyed(pool, token, answer):
    import ray

    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"] if token else "0" * 64}
    node = ray._private.worker._global_node
    stranger = subprocess.run(
        [sys.executable, "-c", STRANGER, node.gcs_address],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert stranger.stdout.strip() == answer, stranger.stderr
    assert not node.webui_url, "there is no dashboard"


@pytest.mark.slow
def test_a_ray_that_is_started_here_listens_on_loopback_only(pool):
    wait_for_health(pool, 2)
    me = psutil.Process()
    listening = {}
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):
            places = process.net_connections(kind="inet")
            listening |= {place.laddr: process.name() for place in places if place.status == psutil.CONN_LISTEN}
    assert {"gcs_server", "raylet"} <= set(listening.values())
    assert {place.ip.removeprefix("::ffff:") for place in listening} <= {"127.0.0.1", "::1"}, listening


def test_a_head_is_gone_once_it_was_silent_for_long(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}")
        for now[0] in range(0, 100, 10):
            assert head.broken() is None
    for now[0] in range(100, 110, 2):
        assert head.broken() is None, "it may come back"
    now[0] = 112.0
    assert head.broken() == "head"


@pytest.mark.slow
def test_stopping_gives_running_trials_back_and_leaves_no_process(lab, pool):
    study = lab.study("until_stopped", 3)
    pool.serve([study])
    wait_until(lambda: sum(trial.state is TrialState.RUNNING for trial in lab.trials(study)) == 2, pool)
    processes = [
        process
        for entry in wait_for_health(pool, 2)
        for process in psutil.Process(entry["pid"]).children(recursive=True)
    ]
    assert processes
    pool.stop()
    assert {trial.state for trial in lab.trials(study)} == {TrialState.WAITING}
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_gpus_are_counted_whole():
    assert gpus_needed(4, 0.0) == 0
    assert gpus_needed(4, 0.25) == 1
    assert gpus_needed(5, 0.25) == 2
    assert gpus_needed(3, 0.4) == 2
    assert gpus_needed(2, 2) == 4


@pytest.mark.parametrize(
    ("url", "has_password"),
    [
        ("postgresql://me:secret@host/db", True),
        ("postgresql+psycopg://host/db?user=me&password=secret", True),
        ("postgresql://me@host:5432/db", False),
        ("sqlite:////folder/file.db", False),
    ],
)
def test_a_password_in_a_url_is_seen(url, has_password):
    assert bool(PASSWORD.search(url)) is has_password


@pytest.mark.parametrize("settings", [{"workers": 0}, {"cpus_per_worker": -1}, {"gpus_per_worker": 1.5}])
def test_sizes_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=r"must be|at least"):
        RayPool(queue="nas.store:open_queue", **settings)


@pytest.mark.slow
def test_workers_that_cannot_work_end_in_an_error_that_says_why(pool, tmp_path):
    # runs last: it needs a Ray of its own, so the module's is left first
    pool.stop()
    pool.close()
    with (
        RayPool(queue="nas.store:open_queue", url=f"sqlite:///{tmp_path}/missing/x.db", workers=1) as broken,
        pytest.raises(PoolError, match="missing"),
    ):
        wait_until(lambda: False, broken)
