"""Checkpoints from the evaluator to the queue and back, with a fake queue and a clock that moves when told to."""

from fake_queue import FakeClock, FakeQueue, claimed_trial, study_spec

from workers.in_process import InProcess
from workers.state_file import read_state
from workers.worker import Worker


class Bench:
    """A worker whose trials count to 10, a step a second, and keep a checkpoint every third step."""

    def __init__(self, root):
        self.root = root
        self.queue = FakeQueue([claimed_trial()], study_spec())
        self.clock = FakeClock()
        self.began = []
        self.at_step = {}
        self.notes = []
        self.worker = self.make()

    def make(self):
        self.worker = Worker(
            self.queue,
            InProcess(self.count),
            name="w",
            clock=self.clock,
            pause=self.clock.pause,
            checkpoints=self.root,
        )
        return self.worker

    def count(self, assignment, report):
        at = 0 if assignment.checkpoint is None else read_state(assignment.checkpoint)["at"]
        assert at == assignment.start_step
        self.began.append(at)
        while at < 10:
            at += 1
            self.clock.now += 1.0
            self.at_step.pop(at, lambda: None)()
            report(at, error=float(at))
            if report.wants_checkpoint or at % 3 == 0:
                report.checkpoint(at, {"at": at})
            self.worker._heartbeat.beat()
        return {"error": float(at)}

    def again(self):
        self.queue.again()
        self.make().step()

    def files(self):
        return sorted(path.name for path in self.root.rglob("*") if path.is_file())


def test_a_trial_that_is_given_back_goes_on_where_it_was(tmp_path):
    bench = Bench(tmp_path)
    bench.at_step[5] = lambda: bench.worker.stop()
    bench.worker.step()
    assert bench.queue.released == [(1000, 1)]
    assert [m.step for m in bench.queue.measurements] == [1, 2, 3, 4, 5]
    assert [key.split("/")[-1] for key in bench.queue.checkpoints] == ["1-1-3.safetensors", "1-2-5.safetensors"]
    assert bench.files() == ["1-2-5.safetensors"], "the one before is of no use any more"

    bench.again()
    assert bench.began == [0, 5]
    assert bench.queue.ended[1000].metrics == {"error": 10.0}
    assert [m.step for m in bench.queue.measurements] == list(range(1, 11))
    assert bench.files() == [], "nothing starts from the checkpoints of a trial that has ended"


def test_a_lost_trial_goes_on_from_its_last_checkpoint(tmp_path):
    bench = Bench(tmp_path)

    def die():
        raise KeyboardInterrupt

    bench.at_step[8] = die
    try:
        bench.worker.step()
    except KeyboardInterrupt:
        bench.queue.waiting = list(bench.queue.held.values())  # the reaper's doing
        bench.queue.held.clear()
    bench.again()
    assert bench.began == [0, 6]
    assert bench.queue.ended[1000].how == "completed"


def test_a_checkpoint_whose_file_is_gone_or_changed_is_noted_and_the_trial_starts_anew(tmp_path):
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"something else")):
        bench = Bench(tmp_path)
        bench.at_step[5] = bench.worker.stop
        bench.worker.step()
        spoil(next(tmp_path.rglob("*.safetensors")))
        bench.again()
        assert bench.began == [0, 0]
        assert "checkpoint" in bench.queue.ended[1000].attributes["started_over"]


def test_after_ten_minutes_without_a_database_the_trial_is_given_back_with_its_checkpoint(tmp_path):
    bench = Bench(tmp_path)

    def go_away():
        bench.queue.away = 10**6
        for _ in range(600):
            bench.clock.now += 1.0
            bench.worker._heartbeat.beat()

    def pause(seconds):
        bench.clock.pause(seconds)
        if bench.clock.now > 900:
            bench.queue.away = 0
        return False

    bench.worker._pause = pause
    bench.at_step[5] = go_away
    bench.worker.step()
    assert bench.queue.ended == {}
    assert bench.queue.released == [(1000, 1)]
    assert bench.queue.checkpoints[-1].endswith("1-2-5.safetensors")
    bench.again()
    assert bench.began == [0, 5]


def test_the_checkpoint_of_a_worker_that_was_presumed_dead_counts_for_nothing(tmp_path):
    bench = Bench(tmp_path)

    def be_taken():
        bench.queue.held.clear()

    bench.at_step[5] = be_taken
    bench.worker.step()
    assert [key.split("/")[-1] for key in bench.queue.checkpoints] == ["1-1-3.safetensors"]
    assert bench.queue.ended == {}


def test_a_checkpoint_that_could_not_be_recorded_is_recorded_later(tmp_path):
    bench = Bench(tmp_path)
    bench.at_step[3] = lambda: setattr(bench.queue, "away", 2)  # the report and the checkpoint of this step
    seen = []
    bench.at_step[5] = lambda: seen.extend(bench.queue.checkpoints)
    bench.worker.step()
    assert [key.split("/")[-1] for key in seen] == ["1-1-3.safetensors"]
    assert bench.queue.ended[1000].how == "completed"


def test_a_failed_trial_leaves_no_checkpoints(tmp_path):
    bench = Bench(tmp_path)

    def fail():
        raise ValueError("no")

    bench.at_step[5] = fail
    bench.worker.step()
    assert bench.queue.ended[1000].how == "failed"
    assert bench.files() == []


def test_a_trial_that_is_stopped_as_its_worker_leaves_leaves_no_checkpoints(tmp_path):
    bench = Bench(tmp_path)

    def leave():
        bench.worker.stop()
        bench.queue.stops[1000] = "the study was stopped"

    bench.at_step[5] = leave
    bench.worker.step()
    assert bench.queue.released == [(1000, 1)]
    assert bench.queue.waiting == []
    assert bench.files() == []


def test_a_disk_without_room_costs_the_checkpoint_not_the_trial(tmp_path, caplog):
    (tmp_path / "file").write_text("where a folder should be")
    bench = Bench(tmp_path / "file")
    bench.worker.step()
    assert bench.queue.ended[1000].how == "completed"
    assert "no checkpoint at step 3" in caplog.text
