import contextlib

import pytest
from fake_queue import SPACE, FakeClock, FakeQueue, claimed_trial, study_spec

from workers.heartbeat import Heartbeat
from workers.in_process import InProcess
from workers.outcome import Failed, Finished, Interrupted
from workers.protocol import FailureKind, Measurement
from workers.running import MEASUREMENTS_PER_METRIC, RunningTrial, checked_note, checked_report
from workers.worker import Worker


class Scripted:
    """An evaluation that does what a test says; `during` runs while a trial is evaluated."""

    def __init__(self, outcome=None, during=None):
        self.outcome = outcome or Finished(metrics={"error": 0.5})
        self.during = during
        self.ran = []
        self.closed = 0

    def run(self, running):
        self.ran.append(running)
        given = self.during(running) if self.during else None
        return given or (Interrupted() if running.is_given_up else self.outcome)

    def close(self):
        self.closed += 1


def make_worker(queue, evaluation=None, **settings):
    clock = FakeClock()
    worker = Worker(queue, evaluation or Scripted(), name="w", clock=clock, pause=clock.pause, **settings)
    return worker, clock


def test_a_trial_is_claimed_evaluated_and_finished():
    queue = FakeQueue([claimed_trial()])
    worker, _ = make_worker(
        queue, InProcess(lambda assignment, report: {"error": 1 / assignment.architecture["width"]})
    )
    assert worker.step() == 1
    assert queue.ended[1000].how == "completed"
    assert queue.ended[1000].metrics == {"error": 1.0}
    assert worker.step() == 0
    assert not queue.held


def test_an_idle_worker_shows_that_it_is_there_and_says_when_it_leaves():
    queue = FakeQueue()
    clock = FakeClock()

    def pause(seconds):
        clock.pause(seconds)
        if clock.now > 200:
            worker.stop()
        return False

    worker = Worker(queue, Scripted(), name="w", clock=clock, pause=pause)
    worker.run()
    assert 4 <= len(queue.registered) <= 6  # in 100 s
    assert queue.left == ["w"]


def test_the_process_is_made_known():
    queue = FakeQueue()
    worker, _ = make_worker(queue)
    worker.open()
    worker.close()
    (known,) = queue.registered
    assert known["worker"] == "w"
    assert known["pid"] > 0
    assert known["started"] > 0
    assert known["host"]


def test_a_failure_is_recorded_with_kind_text_and_measurements():
    def evaluate(assignment, report):
        report(3, error=0.75)
        report.note(size=5)
        raise MemoryError("too much")

    queue = FakeQueue([claimed_trial()])
    worker, _ = make_worker(queue, InProcess(evaluate))
    worker.step()
    ended = queue.ended[1000]
    assert (ended.how, ended.kind) == ("failed", FailureKind.OUT_OF_MEMORY)
    assert "too much" in ended.text
    assert ended.attributes == {"size": 5}
    assert queue.measurements == [Measurement(metric="error", step=3, value=0.75)]


def test_a_result_that_is_none_of_the_study_never_gets_through():
    queue = FakeQueue([claimed_trial(0)])
    worker, _ = make_worker(queue, Scripted(Finished(metrics={"error": float("nan")})))
    worker.step()
    assert queue.ended[1000].kind is FailureKind.NAN


def test_quick_trials_are_claimed_in_batches_and_slow_ones_singly():
    queue = FakeQueue([claimed_trial(number) for number in range(40)])
    worker, clock = make_worker(queue, batch=8)
    clock_steps = {"seconds": 0.001}

    def during(running):
        clock.now += clock_steps["seconds"]

    worker._evaluation.during = during
    while worker.step():
        if len(queue.ended) > 20:
            clock_steps["seconds"] = 3.0
    assert queue.claim_counts[0] == 1
    assert max(queue.claim_counts) == 8
    assert queue.claim_counts[-2] == 1
    assert len(queue.ended) == 40


def test_a_lost_lease_ends_the_evaluation_and_nothing_is_written():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0))

    def during(running):
        queue.held.clear()  # somebody took it
        clock.now += 10.0
        worker._heartbeat.beat()
        assert running.lost
        return Interrupted()

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert queue.ended == {}
    assert not worker._held


def test_a_lease_lost_just_before_the_result_is_no_error():
    queue = FakeQueue([claimed_trial()])
    worker, _ = make_worker(queue, Scripted(during=lambda running: queue.held.clear()))
    worker.step()
    assert queue.ended == {}


def test_a_second_result_of_the_same_attempt_stands_back():
    queue = FakeQueue([claimed_trial()])
    queue.ended[1000] = "first"
    worker, _ = make_worker(queue)
    assert worker.step() == 1
    assert queue.ended[1000] == "first"


def test_without_any_answer_for_most_of_the_lease_the_worker_ends_by_itself_and_gives_it_back():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0))

    def during(running):
        # the heart stands still: the call hangs, or this machine was asleep
        clock.now += 47.0
        assert not running.is_given_up
        clock.now += 1.0
        assert running.is_given_up

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert queue.ended == {}
    assert queue.released == [(1000, 1)], "nobody has taken it, so that no loss needs to be counted"


def test_who_has_taken_a_trial_meanwhile_keeps_it():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0))

    def during(running):
        clock.now += 100.0
        queue.held = {(1000, 2): running.claimed}

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert queue.ended == {}
    assert queue.released == []
    assert list(queue.held) == [(1000, 2)]


def outage(worker, clock, queue, running, seconds):
    """The queue says that it is away, for so long."""
    queue.away = 10**6
    for _ in range(seconds):
        clock.now += 1.0
        worker._heartbeat.beat()
        if running.is_given_up:
            break
    else:
        queue.away = 0
        clock.now += 1.0
        worker._heartbeat.beat()


def test_an_outage_of_a_minute_is_ridden_out():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0))

    def during(running):
        outage(worker, clock, queue, running, 60)
        assert not running.is_given_up
        assert clock.now - running.renewed < 2.0

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert queue.ended[1000].how == "completed"


def test_a_call_that_takes_long_to_fail_counts_as_an_outage_whichever_it_is():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0))
    seen = []

    def during(running):
        def slow_report(*given):
            clock.now += 70.0  # the store tries again and again before it gives up
            seen.append(running.is_given_up)
            raise ConnectionError("the database does not answer")

        queue.report = slow_report
        running.report(1, {"error": 1.0})
        clock.now += 1.5
        worker._heartbeat.beat()
        seen.append(running.is_given_up)
        del queue.report
        clock.now += 1.0
        worker._heartbeat.beat()

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert seen == [False, False]
    assert queue.ended[1000].how == "completed"


def test_in_an_outage_of_ten_minutes_the_worker_stops_and_loses_nothing():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0))
    stopped_after = []

    def during(running):
        began = clock.now
        outage(worker, clock, queue, running, 600)
        assert running.is_given_up
        stopped_after.append(clock.now - began)

    def pause(seconds):
        clock.pause(seconds)
        if clock.now > 700:
            queue.away = 0
        return False

    clock = FakeClock()
    worker = Worker(queue, Scripted(during=during), name="w", clock=clock, pause=pause)
    worker.step()
    assert stopped_after == [300.0]
    assert queue.ended == {}
    assert queue.released == [(1000, 1)]


def test_beats_hold_the_lease_as_long_as_it_takes():
    queue = FakeQueue([claimed_trial()], study_spec(lease_seconds=60.0, beat_seconds=10.0))

    def during(running):
        for _ in range(1000):
            clock.now += 1.0
            worker._heartbeat.beat()
            assert not running.is_given_up

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert queue.ended[1000].how == "completed"
    assert len(queue.beats) == 100


def test_a_result_outlives_an_outage():
    queue = FakeQueue([claimed_trial()])
    worker, _ = make_worker(queue, Scripted(during=lambda running: setattr(queue, "away", 20)))
    worker.step()
    assert queue.ended[1000].metrics == {"error": 0.5}


def test_patience_with_an_outage_ends():
    queue = FakeQueue([claimed_trial()])
    worker, clock = make_worker(queue, Scripted(during=lambda running: setattr(queue, "away", 10**6)))
    worker.step()
    assert queue.ended == {}
    assert clock.now > 3600


def test_a_claim_whose_reply_was_lost_is_repeated_not_doubled():
    queue = FakeQueue([claimed_trial(0), claimed_trial(1)])
    queue.lose_replies = 2
    worker, _ = make_worker(queue)
    assert worker.step() == 1
    assert list(queue.ended) == [1000]
    assert [trial.trial_id for trial in queue.waiting] == [1001]


def test_an_idle_worker_asks_ever_more_seldom():
    queue = FakeQueue()
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 30:
            worker.stop()
        return False

    worker = Worker(queue, Scripted(), name="w", pause=pause)
    worker.run()
    assert pauses[0] < 0.05
    assert max(pauses) <= 1.5
    assert min(pauses[-5:]) >= 0.5


def test_stopping_gives_running_and_waiting_trials_back():
    queue = FakeQueue([claimed_trial(number) for number in range(3)])
    evaluation = Scripted()
    worker, _ = make_worker(queue, evaluation)
    worker._typical_seconds = 0.001  # so that it claims all three
    evaluation.during = lambda running: worker.stop()
    worker.run()
    assert queue.ended == {}
    assert sorted(trial.number for trial in queue.waiting) == [0, 1, 2]
    assert len(evaluation.ran) == 1
    assert evaluation.closed


def test_an_interrupt_gives_trials_back():
    def during(running):
        raise KeyboardInterrupt

    queue = FakeQueue([claimed_trial()])
    worker, _ = make_worker(queue, Scripted(during=during))
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert [trial.number for trial in queue.waiting] == [0]


def test_an_interrupt_within_a_write_does_not_undo_the_result():
    queue = FakeQueue([claimed_trial()])
    interrupts = [KeyboardInterrupt()]

    def on_finish():
        if interrupts:
            raise interrupts.pop()

    queue.on_finish = on_finish
    worker, _ = make_worker(queue)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert queue.ended[1000].how == "completed"


def test_an_error_of_ours_leaves_its_trial_to_be_counted_as_lost():
    def during(running):
        raise RuntimeError("a bug")

    queue = FakeQueue([claimed_trial()])
    worker, _ = make_worker(queue, Scripted(during=during))
    with pytest.raises(RuntimeError, match="a bug"):
        worker.run()
    assert queue.waiting == []
    assert (1000, 1) in queue.held


def test_known_results_are_taken_over_and_marked():
    queue = FakeQueue([claimed_trial(known_metrics={"error": 0.125}, known_from=7)])

    def evaluate(assignment, report):
        raise AssertionError("trained again")

    worker, _ = make_worker(queue, InProcess(evaluate))
    worker.step()
    assert queue.ended[1000].metrics == {"error": 0.125}
    assert queue.ended[1000].attributes == {"same_computation_as": 7}


def test_known_results_are_completed_by_an_evaluator_that_can():
    from evaluation_samples import Scaled

    queue = FakeQueue([claimed_trial(known_metrics={"error": 0.125}, known_from=7)])
    worker, _ = make_worker(queue, InProcess(Scaled()))
    worker.step()
    assert queue.ended[1000].metrics == {"error": 100.125}


def test_a_stop_reaches_an_evaluation_and_its_metrics_so_far_are_kept():
    queue = FakeQueue([claimed_trial()])

    def evaluate(assignment, report):
        step = 0
        while not report(step, error=1 / (step + 1)):
            step += 1
            clock.now += 1.0
            if step == 4:
                queue.stops[1000] = "worse than the median"
            worker._heartbeat.beat()
        return {}

    worker, clock = make_worker(queue, InProcess(evaluate))
    worker.step()
    ended = queue.ended[1000]
    assert (ended.how, ended.stopped) == ("stopped", "worse than the median")
    assert ended.metrics == {"error": 1 / 5}
    assert [m.step for m in queue.measurements] == [0, 1, 2, 3, 4]


def test_a_stop_arrives_within_two_beats_of_an_evaluator_that_reports_nothing():
    queue = FakeQueue([claimed_trial()], study_spec(beat_seconds=10.0))
    beats_before = []

    def during(running):
        clock.now += 3.0  # somewhere between two beats
        worker._heartbeat.beat()
        queue.stops[1000] = "not wanted"
        beats = len(queue.beats)
        while running.stop_reason is None:
            clock.now += 1.0
            worker._heartbeat.beat()
        beats_before.append(len(queue.beats) - beats)
        return Finished(metrics={}, stopped=running.stop_reason)

    worker, clock = make_worker(queue, Scripted(during=during))
    worker.step()
    assert beats_before == [1]
    assert queue.ended[1000].stopped == "not wanted"


def test_a_trial_that_waits_in_a_batch_and_is_stopped_does_not_begin():
    queue = FakeQueue([claimed_trial(0), claimed_trial(1)], study_spec(beat_seconds=0.5))
    evaluation = Scripted()
    worker, clock = make_worker(queue, evaluation)
    worker._typical_seconds = 0.001

    def during(running):
        queue.stops[1001] = "not wanted"
        clock.now += 0.6
        worker._heartbeat.beat()

    evaluation.during = during
    worker.step()
    assert queue.ended[1000].how == "completed"
    assert queue.ended[1001].stopped == "not wanted"
    assert len(evaluation.ran) == 1


def test_a_slow_trial_lets_go_of_those_claimed_with_it():
    queue = FakeQueue([claimed_trial(number) for number in range(3)])
    evaluation = Scripted()
    worker, clock = make_worker(queue, evaluation)
    worker._typical_seconds = 0.001
    shared = []

    def during(running):
        queue.away = 2
        clock.now += 1.5
        worker._heartbeat.beat()
        assert queue.waiting == []
        clock.now += 1.0
        worker._heartbeat.beat()
        shared.extend(trial.number for trial in queue.waiting)

    evaluation.during = during
    worker.step()
    assert shared == [1, 2]
    assert [trial.number for trial in queue.waiting] == [1, 2]
    assert list(queue.ended) == [1000]
    assert len(evaluation.ran) == 1
    assert not worker._held


def test_a_function_over_its_time_limit_ends_at_its_next_report():
    queue = FakeQueue([claimed_trial()], study_spec(time_limit_seconds=5.0))
    clock = FakeClock()

    def evaluate(assignment, report):
        for step in range(100):
            with contextlib.suppress(Exception):
                report(step, error=1.0)
            clock.now += 1.0
        return {"error": 0.0}

    worker = Worker(queue, InProcess(evaluate, clock=clock), name="w", clock=clock, pause=clock.pause)
    worker.step()
    assert queue.ended[1000].kind is FailureKind.TIME_OUT
    assert "5 s" in queue.ended[1000].text


def test_a_function_ends_at_its_next_report_when_the_worker_stops():
    queue = FakeQueue([claimed_trial()])

    def evaluate(assignment, report):
        worker.stop()
        try:
            report(0, error=1.0)
        except Exception:
            pytest.fail("an ordinary handler caught it")
        return {"error": 0.0}

    worker, _ = make_worker(queue, InProcess(evaluate))
    worker.run()
    assert queue.ended == {}
    assert len(queue.waiting) == 1


def test_an_architecture_that_cannot_be_read_fails_its_trial_only():
    queue = FakeQueue([claimed_trial(0, architecture="[1]"), claimed_trial(1)])
    worker, _ = make_worker(queue, InProcess(lambda assignment, report: {"error": 1.0}))
    worker.step()
    worker.step()
    assert queue.ended[1000].kind is FailureKind.EXCEPTION
    assert queue.ended[1001].how == "completed"


def test_the_space_given_is_the_space_received():
    seen = []

    def evaluate(assignment, report):
        seen.append(assignment.space)
        return {"error": 1.0}

    for given in (None, SPACE):
        worker, _ = make_worker(FakeQueue([claimed_trial()]), InProcess(evaluate, space=given))
        worker.step()
    assert seen[0] == SPACE
    assert seen[1] is SPACE


def test_measurements_are_sent_once_a_second_and_the_rest_with_the_result():
    queue = FakeQueue([claimed_trial()])

    def evaluate(assignment, report):
        for step in range(100):
            report(step, error=float(step))
            clock.now += 0.1
            worker._heartbeat.beat()
        return {"error": 0.0}

    worker, clock = make_worker(queue, InProcess(evaluate))
    worker.step()
    assert queue.reports <= 10
    assert [m.step for m in queue.measurements] == list(range(100))


def test_a_study_may_ask_for_measurements_more_often():
    queue = FakeQueue([claimed_trial()], study_spec(report_seconds=0.25))

    def evaluate(assignment, report):
        for step in range(100):
            report(step, error=float(step))
            clock.now += 0.125
            worker._heartbeat.beat()
        return {"error": 0.0}

    worker, clock = make_worker(queue, InProcess(evaluate))
    worker.step()
    assert queue.reports == 50


def test_measurements_that_could_not_be_sent_are_sent_again():
    queue = FakeQueue([claimed_trial()])
    running = RunningTrial(claimed_trial(), queue.study, renewed=100.0, clock=(clock := FakeClock()))
    queue.held[running.fence] = running.claimed
    heartbeat = Heartbeat(queue, clock=clock)
    heartbeat.hold(running)
    running.report(1, {"error": 1.0})
    clock.now += 1.5
    queue.away = 1
    heartbeat.beat()
    running.report(2, {"error": 2.0})
    clock.now += 1.5
    heartbeat.beat()
    assert [m.step for m in queue.measurements] == [1, 2]
    assert running.unsent() == ()


def test_a_failed_beat_is_repeated_soon():
    queue = FakeQueue([claimed_trial()])
    running = RunningTrial(claimed_trial(), queue.study, renewed=100.0, clock=(clock := FakeClock()))
    queue.held[running.fence] = running.claimed
    heartbeat = Heartbeat(queue, clock=clock)
    heartbeat.hold(running)
    clock.now += 10.0
    queue.away = 1
    heartbeat.beat()
    clock.now += 1.0
    heartbeat.beat()
    assert running.renewed == clock.now


def test_a_trial_that_ends_while_the_queue_is_asked_for_it_is_not_lost(caplog):
    queue = FakeQueue([claimed_trial()])
    running = RunningTrial(claimed_trial(), queue.study, renewed=100.0, clock=(clock := FakeClock()))
    heartbeat = Heartbeat(queue, clock=clock)  # the queue knows of no trial that is held
    heartbeat.hold(running)
    running.is_delivered = True
    clock.now += 11
    heartbeat.beat()
    assert not running.lost
    assert not caplog.text
    running.is_delivered = False
    clock.now += 11
    heartbeat.beat()
    assert running.lost
    assert "its lease is lost" in caplog.text


def test_the_heart_survives_any_error_of_the_queue(caplog):
    class Odd(FakeQueue):
        def beat(self, held):
            raise ZeroDivisionError

    running = RunningTrial(claimed_trial(), study_spec(), renewed=100.0, clock=(clock := FakeClock()))
    heartbeat = Heartbeat(Odd(), clock=clock)
    heartbeat.hold(running)
    clock.now += 11
    heartbeat.beat()
    assert "ZeroDivisionError" in caplog.text
    assert not running.lost


def test_the_heart_beats_in_a_thread_of_its_own():
    import threading

    beaten = threading.Event()

    class Signalling(FakeQueue):
        def beat(self, held):
            beaten.set()
            return {trial_id: None for trial_id, _ in held}

    spec = study_spec(beat_seconds=0.01)
    running = RunningTrial(claimed_trial(), spec, renewed=0.0)
    with Heartbeat(Signalling()) as heartbeat:
        heartbeat.hold(running)
        assert beaten.wait(30)


def test_measurements_beyond_the_cap_are_counted_not_kept():
    running = RunningTrial(claimed_trial(), study_spec(), renewed=0.0)
    for step in range(MEASUREMENTS_PER_METRIC + 3):
        running.report(step, {"error": 1.0})
    assert len(running.unsent()) == MEASUREMENTS_PER_METRIC
    assert running.attributes == {"measurements_dropped": 3}


@pytest.mark.parametrize("step", [-1, 2**63, 1.0, "1", None, True])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(ValueError, match="a step is a whole number"):
        checked_report(step, {})


@pytest.mark.parametrize("value", ["1", True, None, 1j, [1]])
def test_a_measurement_is_a_number(value):
    with pytest.raises(ValueError, match="metric 'error' at step 3"):
        checked_report(3, {"error": value})


def test_a_measurement_may_be_nan():
    assert str(checked_report(3, {"error": float("nan")})) == "(3, {'error': nan})"


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, "x" * 70_000])
def test_a_note_is_a_small_json_value(value):
    with pytest.raises(ValueError, match="attribute 'thing'"):
        checked_note({"thing": value})


def test_a_failed_outcome_keeps_whether_it_is_transient():
    queue = FakeQueue([claimed_trial()])
    failed = Failed(kind=FailureKind.EXCEPTION, text="busy", transient=True)
    worker, _ = make_worker(queue, Scripted(failed))
    worker.step()
    assert queue.ended[1000].transient
