"""Several trials evaluated at once: each keeps its own lease, measurements, failure and end."""

import time
from pathlib import Path

import pytest
from evaluation_samples import Together
from fake_queue import FakeClock, FakeQueue, claimed_trial, study_spec

from workers.child_handle import ChildSettings
from workers.child_process import ChildProcess, log_path
from workers.in_process import InProcess
from workers.outcome import Failed, Finished, Interrupted
from workers.protocol import FailureKind, group_size
from workers.running import RunningTrial
from workers.worker import GATHER_SECONDS, Worker

HERE = Path(__file__).parent


def spec_of(group=3, **changes):
    settings = {"group": group, **changes.pop("settings", {})}
    return study_spec("evaluation_samples:Together", settings=settings, **changes)


def make_worker(queue, evaluator, **settings):
    clock = FakeClock()
    return Worker(queue, InProcess(evaluator, clock=clock), name="w", clock=clock, pause=clock.pause, **settings), clock


def trials(count, **changes):
    return [claimed_trial(number, **changes) for number in range(count)]


@pytest.mark.parametrize(
    ("settings", "size"), [({"group": 4}, 4), ({}, 1), ({"group": "a"}, 1), ({"group": True}, 1), ({"group": 0}, 1)]
)
def test_a_studys_evaluator_says_how_many_it_takes(settings, size):
    assert group_size({"path": "a:b", "settings": settings}) == size
    assert study_spec(settings=settings).group == size
    assert group_size({"function": "f"}) == 1


def test_a_worker_claims_a_group_and_finishes_each_of_its_trials():
    queue = FakeQueue(trials(7), spec_of(3))
    worker, _ = make_worker(queue, Together(), batch=1)
    assert [worker.step() for _ in range(4)] == [3, 3, 1, 0]
    assert {number - 1000: ended.metrics["error"] for number, ended in queue.ended.items()} == dict(enumerate(range(7)))
    assert [queue.ended[1000 + number].attributes["together"] for number in range(7)] == [3] * 6 + [1]
    assert worker.evaluated == 7
    assert not queue.held


def test_less_than_a_group_is_waited_for_a_moment_and_then_evaluated():
    queue = FakeQueue(trials(1), spec_of(3))
    worker, clock = make_worker(queue, Together())
    began = clock.now

    def pause(seconds):
        clock.now += seconds
        queue.waiting = [claimed_trial(1)]
        return False

    worker._pause = pause
    assert worker.step() == 2
    assert clock.now - began == pytest.approx(GATHER_SECONDS)
    assert {ended.attributes["together"] for ended in queue.ended.values()} == {2}


def test_one_whose_result_is_known_and_one_that_is_stopped_before_are_none_of_the_group():
    waiting = trials(4)
    waiting[1] = claimed_trial(1, known_metrics={"error": 9.0}, known_from=0)
    queue = FakeQueue(waiting, spec_of(4))
    worker, _ = make_worker(queue, Together())
    claim = worker._gather

    def stopped(trials):
        found = claim(trials)
        found[2].stop_reason = "not wanted"
        return found

    worker._gather = stopped
    worker.step()
    assert queue.ended[1001].metrics == {"error": 9.0}
    assert queue.ended[1002].stopped == "not wanted"
    assert [queue.ended[1000 + number].attributes["together"] for number in (0, 3)] == [2, 2]


def test_a_failure_fails_one_trial_and_the_others_go_on():
    queue = FakeQueue(trials(3), spec_of(3))
    worker, _ = make_worker(queue, Together(odd="fails"))
    worker.step()
    assert queue.ended[1001].kind is FailureKind.EXCEPTION
    assert "alone" in queue.ended[1001].text
    assert [queue.ended[number].metrics for number in (1000, 1002)] == [{"error": 0.0}, {"error": 2.0}]
    assert [measurement.step for measurement in queue.measurements] == [1, 1, 2, 1, 2], "each its own"


@pytest.mark.parametrize("what", ["lost", "stopped"])
def test_one_whose_lease_is_lost_or_that_is_stopped_drops_out_alone(what):
    queue = FakeQueue(trials(3), spec_of(3))

    class Odd(Together):
        def evaluate_many(self, assignments, reports):
            for index, result in super().evaluate_many(assignments, reports):
                seen.append(index)
                yield index, result

    worker, clock = make_worker(queue, Odd())
    seen = []
    gather = worker._gather

    def disturbed(trials):
        found = gather(trials)
        if what == "lost":
            del queue.held[1001, 1]
        else:
            queue.stops[1001] = "hopeless"
        clock.now += 20.0
        for running in found:
            running.begin = lambda begin=running.begin: (begin(), worker._heartbeat.beat())[0]
        return found

    worker._gather = disturbed
    worker.step()
    assert queue.ended[1000].metrics == {"error": 0.0}
    assert queue.ended[1002].metrics == {"error": 2.0}
    if what == "lost":
        assert 1001 not in queue.ended
    else:
        assert queue.ended[1001].stopped == "hopeless"
    assert not worker._held


def test_who_fails_as_a_whole_evaluates_one_by_one():
    queue = FakeQueue(trials(3), spec_of(3))
    worker, _ = make_worker(queue, Together(odd="breaks"))
    worker.step()
    assert {ended.metrics["error"] for ended in queue.ended.values()} == {0.0, 1.0, 2.0}
    assert [queue.ended[1000 + number].attributes["together"] for number in range(3)] == [1, 1, 1]


def test_a_function_that_takes_no_groups_gets_its_trials_one_by_one():
    queue = FakeQueue(trials(3), spec_of(3))
    worker, _ = make_worker(queue, lambda assignment, report: {"error": float(assignment.trial)})
    assert worker.step() == 3
    assert [queue.ended[1000 + number].metrics["error"] for number in range(3)] == [0.0, 1.0, 2.0]


def test_an_architecture_that_cannot_be_read_fails_its_trial_only():
    queue = FakeQueue([claimed_trial(0), claimed_trial(1, architecture="[1]"), claimed_trial(2)], spec_of(3))
    worker, _ = make_worker(queue, Together())
    worker.step()
    assert queue.ended[1001].kind is FailureKind.EXCEPTION
    assert {queue.ended[number].how for number in (1000, 1002)} == {"completed"}


def test_a_group_may_take_as_long_as_its_trials_one_after_the_other():
    queue = FakeQueue(trials(2), spec_of(2, time_limit_seconds=5.0))

    class Slow(Together):
        def evaluate_many(self, assignments, reports):
            clock.now += 9.0
            reports[0](1, error=1.0)
            yield 0, {"error": 1.0}
            clock.now += 2.0
            try:
                reports[1](1, error=1.0)
            except BaseException as error:
                yield 1, error

    worker, clock = make_worker(queue, Slow())
    worker.step()
    assert queue.ended[1000].how == "completed"
    assert queue.ended[1001].kind is FailureKind.TIME_OUT


def test_a_worker_that_stops_gives_all_of_a_group_back():
    queue = FakeQueue(trials(3), spec_of(3))

    class Stopping(Together):
        def evaluate_many(self, assignments, reports):
            worker.stop()
            return super().evaluate_many(assignments, reports)

    worker, _ = make_worker(queue, Stopping())
    worker.run()
    assert not queue.ended
    assert len(queue.released) == 3


# In a child process


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One child for all tests that do it no harm."""
    folder = tmp_path_factory.mktemp("logs")
    evaluation = ChildProcess(
        ChildSettings(
            allow=("evaluation_samples",),
            import_paths=(str(HERE),),
            grace_seconds=0.1,
            stop_grace_seconds=0.5,
            log_folder=folder,
        )
    )
    yield evaluation
    evaluation.close()


def running_trials(count, study_id, **settings):
    spec = spec_of(count, study_id=study_id, settings=settings)
    return [
        RunningTrial(claimed_trial(number, study_id=study_id), spec, renewed=time.monotonic())
        for number in range(count)
    ]


def test_a_group_runs_in_one_child_and_each_is_heard_by_itself(shared):
    together = running_trials(3, 11, odd="fails")
    outcomes = dict(shared.run_many(together))
    first, failed, last = (outcomes[running] for running in together)
    assert (first, last) == (Finished(metrics={"error": 0.0}), Finished(metrics={"error": 2.0}))
    assert isinstance(failed, Failed)
    assert "alone" in failed.text
    assert {running.attributes["pid"] for running in together} == {shared.pid}
    assert len({running.attributes["scratch"] for running in together}) == 3
    assert [measurement.step for measurement in together[0].unsent()] == [1, 2]
    log = log_path(shared.settings.log_folder, together[1].spec.uuid, 1, 1)
    assert "together with trial 0: see 0-1.log" in log.read_text()


def test_in_a_child_too_those_that_are_lost_or_stopped_drop_out_and_the_others_go_on(shared):
    together = running_trials(4, 12, odd="stays")
    pid = shared.pid
    outcomes = {}
    began = shared.run_many(together)
    together[1].lost = True
    together[2].stop_reason = "hopeless"
    for running, outcome in began:
        outcomes[running] = outcome
        if len(outcomes) == 2:  # whichever comes first
            assert set(outcomes) == {together[1], together[2]}
    assert outcomes[together[1]] == Interrupted()
    assert isinstance(outcomes[together[2]], Finished)
    assert outcomes[together[2]].stopped == "hopeless"
    assert outcomes[together[0]] == Finished(metrics={"error": 0.0})
    assert outcomes[together[3]] == Finished(metrics={"error": 3.0})
    assert pid is None or shared.pid == pid, "the same child goes on"


def test_where_the_process_dies_those_that_are_left_are_evaluated_one_by_one(shared):
    together = running_trials(3, 13, odd="dies")
    outcomes = dict(shared.run_many(together))
    assert [outcomes[running] for running in together] == [Finished(metrics={"error": float(n)}) for n in range(3)]
    assert {running.attributes["together"] for running in together} == {1}


def test_when_all_of_a_group_are_given_up_its_process_is_ended(shared):
    together = running_trials(2, 14, odd="stays")
    began = shared.run_many(together)
    for running in together:
        running.withdrawn = True
    assert {outcome for _, outcome in began} == {Interrupted()}
    assert shared.pid is None
