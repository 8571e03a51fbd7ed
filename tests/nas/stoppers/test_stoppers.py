"""What stoppers say of curves that are written down here."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

import nas
from nas.budget import Budget
from nas.metric import Metric
from nas.stoppers.asha import Asha
from nas.stoppers.median import Median
from nas.strategies.random_search import RandomSearch
from search_spaces import Float, SearchSpace
from tests.nas.strategies.simulated import FLOATS, Simulated

BUDGET = Budget(name="epochs", least=1, most=9)


ERROR = (Metric("error"),)


def reported(curves, *, running, metrics=ERROR, budget=BUDGET):
    """A history in which trial i has reported curves[i] from step 1 on (one metric: numbers, several: tuples)."""
    study = Simulated(FLOATS, metrics, budget=budget)
    proposals = RandomSearch().propose(study.history(), len(curves), study.rng())
    study.add(proposals)
    for number in range(len(curves)):
        (study.run if number in running else study.finish)(number)
    history = study.history()
    for number, curve in enumerate(curves):
        for step, values in enumerate(curve, start=1):
            row = values if isinstance(values, tuple) else (values,)
            history.reported.take_in(
                SimpleNamespace(number=number, metric=metric.name, step=step, value=value)
                for metric, value in zip(metrics, row, strict=True)
            )
    return history


def asked(stopper, history, number):
    return stopper.should_stop(history.trial(number), history)


def test_median_compares_the_best_so_far_with_the_running_means_of_others() -> None:
    done = [[1.0, 0.5, 0.1], [0.8, 0.6, 0.1], [0.9, 0.1, 0.1]]  # means up to step 2: 0.75, 0.7, 0.5
    for best, is_stopped in ((0.69, False), (0.70, False), (0.71, True)):
        history = reported([*done, [2.0, best]], running={3})
        said = asked(Median(enough=3), history, 3)
        assert (said is not None) == is_stopped, best
        if said:
            assert "median 0.7" in said
        assert asked(Median(enough=4), history, 3) is None
        assert asked(Median(enough=3, after=3), history, 3) is None


def test_median_knows_that_larger_may_be_better() -> None:
    curves = [[0.5], [0.6], [0.7], [0.65], [0.55]]
    history = reported(curves, running={3, 4}, metrics=(Metric("size", "maximize"),))
    assert asked(Median(enough=3), history, 3) is None
    assert "size 0.55, median 0.6" in (asked(Median(enough=3), history, 4) or "")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 9])
def test_asha_lets_the_best_third_of_those_at_a_level_go_on(count: int) -> None:
    values = np.random.default_rng(count).random(count)
    history = reported([[1.0, 1.0, value] for value in values.tolist()], running=set(range(count)))
    goes_on = [number for number in range(count) if asked(Asha(), history, number) is None]
    wanted = count if count < 3 else count // 3
    assert goes_on == sorted(np.argsort(values)[:wanted].tolist())


def test_asha_compares_at_the_level_that_was_reached_last_and_never_at_the_full_budget() -> None:
    history = reported([[0.1, 0.9, 0.9, 0.9], [0.2] * 3, [0.3] * 3, [0.9]], running={0, 1, 2, 3})
    assert "place 3 of 3 at epochs 3" in (asked(Asha(), history, 0) or "")
    assert asked(Asha(), history, 1) is None
    assert asked(Asha(after=3), history, 3) is None
    assert "place 4 of 4 at epochs 1" in (asked(Asha(), history, 3) or "")
    full = reported([[0.1] * 9, [0.2] * 9, [0.3] * 9], running={0, 1, 2})
    assert [asked(Asha(), full, number) for number in range(3)] == [None] * 3
    with pytest.raises(ValueError, match="--budget"):
        asked(Asha(), reported([[0.1]], running={0}, budget=None), 0)


def test_asha_orders_several_metrics_by_fronts() -> None:
    metrics = (Metric("error"), Metric("size", "maximize"))
    curves = [[(0.1, 1.0)], [(0.9, 9.0)], [(0.5, 0.5)], [(0.9, 0.1)], [(0.2, 0.9)], [(1.0, 0.0)]]
    history = reported(curves, running=set(range(6)), metrics=metrics)
    assert [number for number in range(6) if asked(Asha(), history, number) is None] == [0, 1]


LINE = SearchSpace({"x": Float(0.0, 1.0)}, name="line")


SOON = nas.Limits(report_seconds=0.02, beat_seconds=0.05, lease_seconds=60)


def create(tmp_path, *, strategy="random_search", **given):
    storage = f"sqlite:///{tmp_path / 's.db'}"
    return nas.create_study("s", space=LINE, metrics=["error"], strategy=strategy, storage=storage, **given)


def test_a_search_ends_what_its_stopper_gives_up(tmp_path) -> None:
    reached: list[float] = []

    def evaluate(assignment, report):
        error = float(assignment.trial)
        for epoch in range(1, 28):
            report(epoch, error=error)
            if epoch == 9:
                reached.append(error)
                # the last of three or more is given up, however long the controller takes to see it
                if len(reached) >= 3 and error == max(reached):
                    deadline = time.monotonic() + 120
                    while not report(epoch, error=error) and time.monotonic() < deadline:
                        time.sleep(0.05)
                    break
        return {"error": error}

    study = create(tmp_path, stopper="asha", budget="epochs:1:27", limits=SOON)
    study.run(evaluator=evaluate, trials=9, workers=3, pool="local")
    counts = study.counts()
    assert counts["stopped"] >= 1
    assert counts["completed"] == 9 - counts["stopped"] >= 1
    stopped = next(trial for trial in study.trials if trial.state == "stopped")
    assert stopped.error_kind.startswith("asha: place")
    assert stopped.metrics["error"] > min(trial.metrics["error"] for trial in study.trials if trial.metrics)
    assert nas.open_study("s", f"sqlite:///{tmp_path / 's.db'}").stopper == Asha()


def test_what_decides_at_levels_of_a_budget_needs_one_and_there_is_only_one_that_does(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"stopper 'asha' needs to know .* --budget epochs:1:27"):
        create(tmp_path, stopper="asha")
    with pytest.raises(ValueError, match=r"strategy 'hyperband' needs to know .* --budget epochs:1:27"):
        create(tmp_path, strategy="hyperband", stopper="median")
    with pytest.raises(ValueError, match=r"stopper 'asha' would end trials at the levels .* or stopper 'median'"):
        create(tmp_path, strategy="asha", stopper="asha", budget="epochs:1:9")
    create(tmp_path, strategy="asha", stopper="median", budget="epochs:1:9").close()


@pytest.mark.parametrize("order", [("error", "size"), ("size", "error")])
def test_median_looks_at_what_is_reported_whichever_metric_comes_first(order) -> None:
    metrics = tuple(Metric(name) for name in order)

    def told(error):
        return tuple(error if name == "error" else math.nan for name in order)

    history = reported([[told(0.1)], [told(0.2)], [told(0.3)], [told(0.5)]], running={3}, metrics=metrics)
    assert "error 0.5, median 0.2" in (asked(Median(enough=3), history, 3) or "")


def test_median_ends_a_trial_that_is_worse_in_every_metric_it_reports() -> None:
    metrics = (Metric("error"), Metric("size"))
    done = [[(0.1, 1.0)], [(0.2, 2.0)], [(0.3, 3.0)]]
    for own, is_stopped in (((0.25, 2.5), True), ((0.25, 1.5), False), ((0.15, 2.5), False)):
        history = reported([*done, [own]], running={3}, metrics=metrics)
        assert (asked(Median(enough=3), history, 3) is not None) == is_stopped


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_in_this_process_are_stopped_however_few_they_are(tmp_path, workers) -> None:
    def evaluate(assignment, report):
        is_bad = assignment.trial > 1
        for epoch in range(1, 400 if is_bad else 4):
            if report(epoch, error=10.0 if is_bad else 1.0 / epoch):
                break
            time.sleep(0.02)
        return {"error": 10.0 if is_bad else 0.1}

    study = create(tmp_path, stopper={"name": "median", "enough": 2}, limits=SOON)
    study.run(evaluator=evaluate, trials=3, workers=workers, pool="local")
    assert [trial.state for trial in study.trials] == ["completed", "completed", "stopped"]
    study.close()
