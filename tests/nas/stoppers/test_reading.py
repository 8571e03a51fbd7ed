"""What the controller reads for a stopper: one query for all that runs, and in time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event

import nas
from nas.history import History
from nas.metric import Metric
from nas.proposed import Proposed
from nas.reported import Reported
from nas.stoppers.reading import Reading
from nas.store import MeasurementRow, open_queue
from search_spaces import Float, SearchSpace
from workers.protocol import Measurement

LINE = SearchSpace({"x": Float(0.0, 1.0)}, name="line")
METRICS = ["error", nas.Metric("size", "maximize")]


@dataclass(frozen=True)
class Above:
    """Stops what has reported an error above a limit."""

    limit: float = 1.0

    def should_stop(self, trial: Proposed, history: History) -> str | None:
        last = history.reported.losses(trial.number)[-1, 0]
        return f"error {last:g}" if last > self.limit else None


class Desk:
    """A study with running trials, their queue, and what reads for the stopper."""

    def __init__(self, url: str, trials: int) -> None:
        self.study = nas.create_study("s", space=LINE, metrics=METRICS, storage=url, strategy="random_search")
        for index in range(trials):
            self.study.enqueue({"x": index / 100})
        self.queue = open_queue(url, "s")
        self.held = [(one.trial_id, one.attempt) for one in self.queue.claim("w", trials, claim_key="k")]
        self.reading = Reading(
            store=self.study.store, study_id=self.study.id, history=self.study.history, stopper=Above()
        )

    def report(self, place: int, step: int, **metrics: float) -> str | None:
        told = [Measurement(metric=name, step=step, value=value) for name, value in metrics.items()]
        return self.queue.report(*self.held[place], told)

    def tick(self) -> int:
        _ = self.study.history  # as the controller does: what it knows is up to date
        return self.reading.stop_hopeless()

    def close(self) -> None:
        self.queue.close()
        self.study.close()


@pytest.fixture
def desk(store_url: str) -> Iterator[Callable[[int], Desk]]:
    made: list[Desk] = []

    def make(trials: int) -> Desk:
        made.append(Desk(store_url, trials))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_worker_learns_with_the_beat_after_its_report_that_its_trial_is_given_up(desk) -> None:
    one = desk(2)
    one.tick()
    assert [one.report(0, 1, error=2.0), one.report(1, 1, error=0.5)] == [None, None]
    assert one.tick() == 1
    assert one.queue.beat(one.held) == {one.held[0][0]: "error 2", one.held[1][0]: None}


@pytest.mark.parametrize("trials", [1, 12])
def test_each_look_is_one_query_however_many_trials_run(desk, trials: int) -> None:
    one = desk(trials)
    one.tick()
    for step in (1, 2):
        for place in range(trials):
            one.report(place, step, error=0.1 * step, loss=7.0)
        _ = one.study.history
        asked: list[str] = []
        engine = one.study.store._database.engine

        def hear(*call: Any, into: list[str] = asked) -> None:
            into.append(call[2])

        event.listen(engine, "before_cursor_execute", hear)
        assert one.reading.stop_hopeless() == 0
        event.remove(engine, "before_cursor_execute", hear)
        assert len([statement for statement in asked if "measurements" in statement]) == 1
        assert [one.study.history.reported.last_step(number) for number in range(trials)] == [step] * trials


def test_a_metric_that_comes_later_at_the_same_step_is_read_too(desk) -> None:
    one = desk(1)
    one.tick()
    one.report(0, 1, error=0.5)
    one.tick()
    one.report(0, 1, size=3.0)
    one.tick()
    assert one.study.history.reported.losses(0).tolist() == [[0.5, -3.0]]
    one.queue.finish(
        *one.held[0], {"error": 0.4, "size": 3.0}, measurements=[Measurement(metric="error", step=2, value=0.4)]
    )
    one.tick()
    assert one.study.history.reported.last_step(0) == 2, "what came with the result is known for later comparisons"


def test_of_a_look_that_brings_nothing_new_the_stopper_is_not_asked() -> None:
    reported = Reported([Metric("error")])
    row = MeasurementRow(0, 1, 1, "error", 1, 0.5)
    nan = row._replace(step=2, value=float("nan"))
    assert reported.take_in([row]) == {0}
    assert reported.take_in([row]) == set()
    assert reported.take_in([nan, row]) == set()
    assert reported.take_in([row._replace(value=0.4)]) == {0}
