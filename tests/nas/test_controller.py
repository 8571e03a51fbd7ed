"""The controller: several of them on one study, a database that goes away, signals, and what a round costs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import nas
from nas import controller as controller_module
from nas.controller import AWAY_SECONDS, FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, Controller
from nas.errors import DatabaseAway
from nas.settings import Limits, StopRules
from nas.store import FinishedTrial, NewTrial
from nas.strategies.random_search import RandomSearch
from nas.termination import sigterm_interrupts
from nas.trial import Proposal
from search_spaces import Choice, Float, Integer, SearchSpace, sample
from tests.nas.recomputed import proposed_again

SPACE = SearchSpace(
    {"x": Float(-2.0, 2.0), "n": Integer(1, 1000), "kind": Choice(["a", "b", "c"])},
    name="toy",
)
ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


def evaluate(assignment, report):
    time.sleep(0.005)
    return {"error": assignment.architecture["x"] ** 2 + 1 / assignment.architecture["n"]}


def until_stopped(assignment, report):
    """Reports until it is told to stop."""
    for step in range(10_000):
        if report(step, error=1.0 / (step + 1)):
            return {}
        time.sleep(0.01)
    raise AssertionError("nobody stopped this trial")


class NoWorkers:
    """A pool of workers that do nothing by themselves."""

    def __init__(self, size: int, work: Callable[[], None] = lambda: None) -> None:
        self.size = size
        self._work = work

    def owns(self, worker: str) -> bool:
        return worker.startswith("mine")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def tend(self):
        return ()

    def work(self, seconds, wait):
        self._work()
        wait(0.0)


def a_controller(study: nas.Study, pool: NoWorkers, *, trials: int | None = None, strategy=None) -> Controller:
    return Controller(
        store=study.store,
        study_id=study.id,
        seed=study.seed,
        history=study.history,
        strategy=strategy or study.strategy,
        pool=pool,
        stop=StopRules(trials=trials),
    )


def a_study(url: str, name: str = "toy", **settings) -> nas.Study:
    settings = {"strategy": {"name": "regularized_evolution", "population": 10, "tournament": 3}, "seed": 5, **settings}
    return nas.create_study(name, space=SPACE, metrics=["error"], storage=url, **settings)


def eventually(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has said "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


SEARCH = """
import sys, nas
study = nas.open_study("toy", sys.argv[1], allow=("tests",))
study.strategy, study.space
print("ready", flush=True)
sys.stdin.readline()
print(study.run(trials=60, workers=2, pool="local"), flush=True)
"""


@pytest.mark.slow
def test_two_controllers_in_two_processes_search_as_one(store_url):
    study = a_study(store_url, evaluator="tests.nas.test_controller:evaluate", allow=("tests",))
    with started(SEARCH, store_url) as one, started(SEARCH, store_url) as other:
        for process in (one, other):
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in (one, other):
            said, _ = process.communicate(timeout=PATIENCE)
            assert said == "all 60 trials are done\n"
            assert process.returncode == 0
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(60))
    assert len({trial.architecture for trial in trials}) == 60
    assert [(str(trial.state), trial.attempt) for trial in trials] == [("completed", 1)] * 60
    assert study.state == "completed"
    rows = study.store.workers(study.id)
    assert sum(row.attempts for row in rows) == 60
    assert {row.pid for row in rows} == {one.pid, other.pid}
    assert not any(row.holds for row in rows)
    changes = study.store.changes(study.id, 0)
    for trial in trials:
        again = proposed_again(study.strategy, study.space, study.metrics, study.seed, changes, trial.number)
        assert (again.architecture, again.lineage) == (trial.architecture, trial.lineage)
    study.close()


def test_a_controller_goes_on_where_the_rules_of_another_one_ended(store_url):
    study = a_study(store_url)
    first, second = a_controller(study, NoWorkers(2), trials=3), a_controller(study, NoWorkers(2), trials=5)
    first.one_round()
    for claimed in study.store.queue.claim("mine", 3, claim_key="1"):
        study.store.queue.finish(claimed.trial_id, claimed.attempt, {"error": 1.0})
    while first.one_round() is None:
        for claimed in study.store.queue.claim("mine", 3, claim_key="2"):
            study.store.queue.finish(claimed.trial_id, claimed.attempt, {"error": 1.0})
    assert study.state == "completed"
    changes = len(study.store.events(study.id))
    assert first.one_round() == "all 3 trials are done"
    assert len(study.store.events(study.id)) == changes  # what has ended is left alone
    assert second.one_round() is None
    assert study.state == "active"
    assert study.counts()["waiting"] == 2
    study.close()


def test_workers_that_finish_at_once_are_served_by_one_batch(tmp_path):
    study = a_study(f"sqlite:///{tmp_path}/studies.db?synchronous=normal")
    controller, trained = a_controller(study, NoWorkers(150)), [0.0]
    controller.clock = lambda: controller._started + trained[0]
    for turn in range(3):
        assert controller.one_round() is None
        assert study.counts()["waiting"] == 150
        claimed = study.store.queue.claim("mine", 150, claim_key=f"turn {turn}")
        assert len(claimed) == 150
        assert controller.one_round() is None
        assert study.counts()["waiting"] == 0
        trained[0] += 100.0  # trials of minutes: none is proposed ahead
        for trial in claimed:
            study.store.queue.finish(trial.trial_id, trial.attempt, {"error": float(trial.number)})
    proposed = [event.note for event in study.store.events(study.id) if event.to_state == "waiting"]
    assert proposed == ["proposed trials 0 to 149", "proposed trials 150 to 299", "proposed trials 300 to 449"]
    assert len({trial.architecture for trial in study.trials}) == 450
    study.close()


def test_for_workers_that_take_groups_a_group_is_proposed_for_each(tmp_path):
    study = a_study(f"sqlite:///{tmp_path / 'toy.db'}")
    controller = a_controller(study, NoWorkers(2))
    controller.group = 4
    controller.one_round()
    controller.refresh()
    assert study.counts()["waiting"] == 8
    claimed = study.store.queue.claim("mine", 4, claim_key="k")
    controller.one_round()
    assert len(claimed) == study.counts()["running"] == study.counts()["waiting"] == 4
    study.close()


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Notes with how many others a trial was evaluated."""

    group: int = 1

    def evaluate(self, assignment, report):
        raise AssertionError("not one by one")

    def evaluate_many(self, assignments, reports):
        for place, (assignment, report) in enumerate(zip(assignments, reports, strict=True)):
            report.note(together=len(assignments))
            yield place, evaluate(assignment, report)


def test_a_study_whose_evaluator_takes_groups_is_searched_by_groups(tmp_path):
    study = a_study(f"sqlite:///{tmp_path / 'toy.db'}", evaluator=Groups(group=5))
    study.run(evaluator=Groups(group=5), trials=10, pool="local")
    assert [study.attributes(number)["together"] for number in range(10)] == [5] * 10
    study.close()


def test_a_round_costs_what_is_new_and_not_what_is_stored(tmp_path):
    """Function calls of the rounds around one trial, in a small and in a large study."""
    calls = {}
    for stored in (50, 1500):
        study = a_study(f"sqlite:///{tmp_path}/{stored}.db?synchronous=normal")
        rng = np.random.default_rng(0)
        imported = [NewTrial(Proposal(architecture=sample(SPACE, rng)), str(number)) for number in range(stored)]
        study.store.add_finished(
            study.id, [FinishedTrial(new=new, metrics={"error": rng.random()}) for new in imported]
        )
        controller = a_controller(study, NoWorkers(3))
        counted = []
        for turn in range(8):
            count = [0]
            sys.setprofile(lambda frame, event, argument, count=count: count.__setitem__(0, count[0] + 1))
            try:
                controller.one_round()
            finally:
                sys.setprofile(None)
            counted.append(count[0])
            for trial in study.store.queue.claim("mine", 1, claim_key=f"{stored} {turn}"):
                study.store.queue.finish(trial.trial_id, trial.attempt, {"error": 0.5})
        assert controller.history.next_number > stored
        calls[stored] = sorted(counted)[4]
        study.close()
    assert calls[1500] < 1.5 * calls[50]


def test_a_search_waits_longer_and_longer_for_a_database_that_is_away(store_url, monkeypatch):
    """Wherever it was noticed: in a round, or while waiting for news."""
    study = a_study(store_url)
    away = {"news": 0, "wait": 0}
    pauses = []

    def failing(name):
        real = getattr(study.store, name)

        def call(*arguments, **keywords):
            if away[name]:
                away[name] -= 1
                raise DatabaseAway("nobody answers")
            return real(*arguments, **keywords)

        return call

    for name in away:
        monkeypatch.setattr(study.store, name, failing(name))
    monkeypatch.setattr(controller_module.time, "sleep", pauses.append)
    turns = []

    def work():
        turns.append(len(pauses))
        if len(turns) == 1:
            away["wait"] = 3
        elif len(turns) == 5:  # the wait was tried four times
            away["news"] = 8
        else:
            for claimed in study.store.queue.claim("mine", 1, claim_key=f"{len(turns)}"):
                study.store.queue.finish(claimed.trial_id, claimed.attempt, {"error": 1.0})

    assert a_controller(study, NoWorkers(1, work), trials=4).run() == "all 4 trials are done"
    assert not any(away.values())
    assert len(pauses) == 3 + 8
    for pauses_of_one in (pauses[:3], pauses[3:]):
        for turn, pause in enumerate(pauses_of_one):
            typical = min(FIRST_PAUSE_SECONDS * 2**turn, LAST_PAUSE_SECONDS)
            assert 0.5 * typical <= pause <= 1.5 * typical
    assert len({pause / FIRST_PAUSE_SECONDS for pause in pauses}) == len(pauses)  # by chance, not in step with others
    study.close()


def test_a_search_gives_up_on_a_database_that_stays_away(tmp_path, monkeypatch):
    study = a_study(f"sqlite:///{tmp_path}/studies.db")
    controller = a_controller(study, NoWorkers(1))
    waited = [0.0]

    def away(*arguments):
        raise DatabaseAway("nobody answers")

    monkeypatch.setattr(study.store, "news", away)
    monkeypatch.setattr(controller_module.time, "sleep", lambda pause: waited.append(waited[-1] + pause))
    controller.clock = lambda: waited[-1]
    with pytest.raises(DatabaseAway, match="nobody answers"):
        controller.run()
    assert AWAY_SECONDS < waited[-1] < AWAY_SECONDS + 2 * LAST_PAUSE_SECONDS
    study.close()


@pytest.mark.slow
def test_pause_resume_and_stop_from_another_handle_reach_a_running_search(store_url):
    limits = Limits(beat_seconds=0.2, lease_seconds=2.0)
    study = a_study(store_url, strategy="random_search", evaluator=until_stopped, limits=limits)
    from_afar = nas.open_study("toy", store_url, space=SPACE)
    said = []
    runs = threading.Thread(target=lambda: said.append(study.run(evaluator=until_stopped, workers=2, pool="local")))
    runs.start()

    def running():
        return {trial.number for trial in from_afar.trials if trial.state == "running"}

    eventually(lambda: len(running()) == 2)
    one, other = sorted(running())
    from_afar.pause()
    assert from_afar.store.stop_trial(study.id, one, "enough of it")
    eventually(lambda: from_afar.trial(one).state == "stopped")
    assert (from_afar.trial(one).error_kind, running()) == ("enough of it", {other})
    time.sleep(0.4)  # two beats: nothing new is begun meanwhile
    assert running() == {other}
    from_afar.resume()
    eventually(lambda: len(running()) == 2)
    from_afar.stop_search()
    runs.join(PATIENCE)
    assert said == ["the study was stopped"]
    assert from_afar.counts()["running"] == from_afar.counts()["waiting"] == 0
    assert not any(row.holds for row in from_afar.store.workers(study.id))
    study.close()
    from_afar.close()


INTERRUPTED = """
import sys, nas
study = nas.open_study("toy", sys.argv[1], allow=("tests",))
print("ready", flush=True)
try:
    study.run(workers=2, pool="local")
except KeyboardInterrupt:
    print("interrupted", study.counts()["running"], flush=True)
"""


@pytest.mark.slow
def test_sigterm_returns_running_trials_and_ends_the_search(store_url):
    study = a_study(store_url, evaluator="tests.nas.test_controller:until_stopped", allow=("tests",))
    with started(INTERRUPTED, store_url) as process:
        eventually(lambda: study.counts()["running"] == 2)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
    assert said == "interrupted 0\n"
    assert process.returncode == 0
    trials = study.trials
    assert {str(trial.state) for trial in trials} == {"waiting"}
    assert not any(row.holds for row in study.store.workers(study.id))
    for trial in trials:  # given back, not lost
        assert {attempt.outcome for attempt in study.store.attempts(trial.id)} <= {"released"}
    study.close()


def test_sigterm_is_an_interrupt_only_meanwhile_and_only_where_nobody_handles_it():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def send_twice():
        with sigterm_interrupts():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # a second one does not disturb what the first has begun

    with pytest.raises(KeyboardInterrupt):
        send_twice()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with sigterm_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def elsewhere():
        with sigterm_interrupts():
            got.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert got[1:] == [signal.SIG_DFL]


def test_a_controller_of_a_stored_study_knows_who_holds_what(tmp_path):
    study = a_study(f"sqlite:///{tmp_path}/studies.db", strategy="random_search")
    a_controller(study, NoWorkers(4)).one_round()
    study.store.queue.claim("mine-1", 1, claim_key="1")
    study.store.queue.claim("theirs", 1, claim_key="2")
    again = a_controller(study, NoWorkers(4), strategy=RandomSearch())
    again.one_round()
    assert dict(again.history.holders)[0] == "mine-1"
    assert dict(again.history.holders)[1] == "theirs"
    # three of four workers are idle, two trials wait; one more waits for the worker of others
    assert study.counts()["waiting"] == 4
    study.close()
