import threading
import time

import pytest
from fake_queue import FakeQueue, claimed_trial

from workers.local_pool import LocalPool


class SharedQueue(FakeQueue):
    """A fake queue for several threads."""

    def __init__(self, *given):
        super().__init__(*given)
        self.lock = threading.RLock()
        self.closed = 0

    def claim(self, *given, **named):
        with self.lock:
            return super().claim(*given, **named)

    def finish(self, *given, **named):
        with self.lock:
            return super().finish(*given, **named)

    def close(self):
        self.closed += 1


def test_one_worker_evaluates_in_the_calling_thread():
    queue = SharedQueue([claimed_trial(0), claimed_trial(1)])
    threads, waits = set(), []

    def evaluate(assignment, report):
        threads.add(threading.get_ident())
        return {"error": 1.0}

    with LocalPool(lambda: queue, evaluate) as pool:
        assert pool.size == 1
        while not waits:
            assert pool.tend() == ()
            pool.work(0.5, waits.append)
    assert threads == {threading.get_ident()}
    assert len(queue.ended) == 2
    assert waits == [0.5]
    assert queue.closed == 1


def test_several_workers_evaluate_at_once():
    queue = SharedQueue([claimed_trial(number) for number in range(6)])
    together = threading.Barrier(3, timeout=30)

    def evaluate(assignment, report):
        if assignment.trial < 3:
            together.wait()
        return {"error": 1.0}

    with LocalPool(lambda: queue, evaluate, workers=3) as pool:
        assert pool.size == 3
        while len(queue.ended) < 6:
            pool.tend()
            pool.work(0.01, time.sleep)
    assert {ended.how for ended in queue.ended.values()} == {"completed"}
    assert len({known["worker"] for known in queue.registered}) == 3


def test_leaving_the_pool_gives_running_trials_back():
    queue = SharedQueue([claimed_trial(0)])
    running = threading.Event()

    def evaluate(assignment, report):
        while True:
            running.set()
            report(0, error=1.0)
            time.sleep(0.001)

    with LocalPool(lambda: queue, evaluate, workers=2):
        assert running.wait(30)
    assert [trial.number for trial in queue.waiting] == [0]
    assert queue.ended == {}


def test_a_function_that_never_reports_is_left_behind_and_its_result_dropped():
    queue = SharedQueue([claimed_trial(0)])
    running, go_on = threading.Event(), threading.Event()

    def evaluate(assignment, report):
        running.set()
        go_on.wait(30)
        return {"error": 1.0}

    pool = LocalPool(lambda: queue, evaluate, workers=2)
    pool.__enter__()
    assert running.wait(30)
    threads = list(pool._threads)
    pool.stop(grace_seconds=0.05)
    assert [trial.number for trial in queue.waiting] == [0]
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert queue.ended == {}
    pool.close()


def test_an_error_of_the_queue_comes_out_of_tend():
    class Bad(SharedQueue):
        def claim(self, *given, **named):
            raise RuntimeError("corrupt")

    with LocalPool(Bad, print, workers=2) as pool:
        for thread in pool._threads:
            thread.join(30)
        with pytest.raises(RuntimeError, match="corrupt"):
            pool.tend()


def test_an_interrupt_within_an_evaluation_gives_the_trial_back():
    queue = SharedQueue([claimed_trial(0)])

    def evaluate(assignment, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), LocalPool(lambda: queue, evaluate) as pool:
        pool.work(0.0, time.sleep)
    assert [trial.number for trial in queue.waiting] == [0]


def test_a_pool_needs_a_worker():
    with pytest.raises(ValueError, match="at least 1 worker"):
        LocalPool(SharedQueue, print, workers=0)
