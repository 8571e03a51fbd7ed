"""A study from creation to Pareto front, in one process, on SQLite and PostgreSQL."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nas
from nas.errors import NotResumable, SpecChanged, StudyExists, UnknownStudy
from nas.metric import Goal
from nas.trial import TrialState
from search_spaces import Boolean, Choice, Float, Integer, Repeat, SearchSpace, sample
from workers.local_pool import LocalPool
from workers.protocol import LeaseLost

SPACE = SearchSpace(
    {"x": Float(-2.0, 2.0), "layers": Repeat({"width": Integer(1, 4)}, Integer(1, 3)), "kind": Choice(["a", "b"])},
    name="toy",
)
QUICK = "regularized_evolution"
"""Where the strategy does not matter: one that proposes at once."""


def evaluate(assignment, report):
    chosen = assignment.architecture
    widths = sum(value for path, value in chosen.items() if path.endswith("width"))
    for step in range(2):
        report(step, error=float(step))
    return {"error": chosen["x"] ** 2 + (chosen["kind"] == "a"), "cost": float(widths)}


@pytest.fixture
def study(store_url: str) -> Iterator[nas.Study]:
    made = nas.create_study("toy", space=SPACE, metrics=["error", "cost"], strategy=QUICK, storage=store_url, seed=3)
    yield made
    made.close()


def test_a_search_runs_to_its_number_of_trials_and_finds_a_front(study: nas.Study) -> None:
    reason = study.run(evaluator=evaluate, trials=25, pool="local")
    assert "25" in reason
    assert study.counts() == {"waiting": 0, "running": 0, "completed": 25, "failed": 0, "stopped": 0}
    front = study.pareto_front()
    values = {(trial.metrics["error"], trial.metrics["cost"]) for trial in front}
    for trial in study.trials:
        error, cost = trial.metrics["error"], trial.metrics["cost"]
        dominated = any(e <= error and c <= cost and (e, c) != (error, cost) for e, c in values)
        assert dominated != ((error, cost) in values)
    assert study.best.metrics["error"] == min(trial.metrics["error"] for trial in study.trials)


def test_the_number_of_trials_is_a_total(study: nas.Study) -> None:
    study.run(evaluator=evaluate, trials=5, pool="local")
    study.run(evaluator=evaluate, trials=5, pool="local")
    assert len(study.trials) == 5
    study.run(evaluator=evaluate, trials=8, pool="local")
    assert [trial.number for trial in study.trials] == list(range(8))


def test_no_worker_is_started_for_a_search_that_is_over(study: nas.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    said = study.run(evaluator=evaluate, trials=4)

    def started(pool: LocalPool) -> LocalPool:
        raise AssertionError("a worker is started")

    monkeypatch.setattr(LocalPool, "__enter__", started)
    told: list[str] = []
    assert study.run(evaluator=evaluate, trials=4, watch=lambda progress: told.append(progress.state)) == said
    assert told == ["ended"]
    with pytest.raises(AssertionError, match="a worker is started"):
        study.run(evaluator=evaluate, trials=5)


def test_a_search_that_is_interrupted_and_reopened_proposes_the_same(study: nas.Study, store_url: str) -> None:
    study.run(evaluator=evaluate, trials=12, pool="local")
    twin = nas.create_study("twin", space=SPACE, metrics=["error", "cost"], strategy=QUICK, storage=store_url, seed=3)
    for trials in (1, 4, 5, 9, 12):
        twin.run(evaluator=evaluate, trials=trials, pool="local")
        twin.close()
        twin = nas.open_study("twin", store_url)
    assert [trial.architecture for trial in twin.trials] == [trial.architecture for trial in study.trials]
    twin.close()


def test_asking_and_telling_is_a_search_too(study: nas.Study) -> None:
    for _ in range(4):
        trial = study.ask()
        assert trial.state is TrialState.RUNNING
        told = study.tell(trial, {"error": 0.5, "cost": 2.0})
        assert told.state is TrialState.COMPLETED
        study.tell(trial, {"error": 0.5, "cost": 2.0})  # a repeated answer does no harm
    assert len(study.pareto_front()) >= 1
    failed = study.tell(study.ask(), failed="the oven was cold")
    assert failed.state is TrialState.FAILED
    assert "oven" in failed.error_text


def test_what_is_told_after_somebody_else_took_the_trial_is_refused(study: nas.Study) -> None:
    trial = study.ask()
    study.store.queue.release(trial.id, trial.attempt)
    with pytest.raises(LeaseLost):
        study.tell(trial, {"error": 0.5, "cost": 2.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_failure_with_a_reason(study: nas.Study, value: float) -> None:
    told = study.tell(study.ask(), {"error": value, "cost": 1.0})
    assert (told.state, told.error_kind) == (TrialState.FAILED, "nan")
    assert "error" in told.error_text


@pytest.mark.parametrize(
    "metrics",
    [{"error": v, "cost": 1.0} for v in ("0.5", True, None, 1j)] + [{"eror": 1.0, "cost": 1.0}, {"cost": 1.0}],
)
def test_what_cannot_be_meant_is_refused_and_may_be_told_again(study: nas.Study, metrics: dict[str, object]) -> None:
    trial = study.ask()
    with pytest.raises(ValueError, match="error"):
        study.tell(trial, metrics)
    told = study.tell(trial, {"error": np.float32(0.5), "cost": 3})
    assert told.metrics == {"error": 0.5, "cost": 3.0}


def test_a_paused_study_hands_out_nothing(study: nas.Study) -> None:
    study.pause()
    with pytest.raises(nas.NasError, match="resume"):
        study.ask()


def test_an_enqueued_architecture_comes_first(study: nas.Study) -> None:
    wanted = sample(SPACE, np.random.default_rng(5))
    study.ask()
    study.enqueue(wanted)
    assert study.ask().architecture == wanted
    with pytest.raises(ValueError, match="kind"):
        study.enqueue({**wanted, "kind": "c"})


def test_limits_make_trials_infeasible_not_failed(store_url: str) -> None:
    metrics = ["error", nas.Metric("cost", limit=4.0)]
    study = nas.create_study("limited", space=SPACE, metrics=metrics, storage=store_url, strategy="nsga2")
    study.run(evaluator=evaluate, trials=30, pool="local")
    assert study.counts()["completed"] == 30
    assert any(trial.metrics["cost"] > 4 for trial in study.trials)
    assert all(trial.metrics["cost"] <= 4 for trial in study.pareto_front())
    assert study.best.metrics["cost"] <= 4
    study.close()


def test_hypervolume_is_the_area_below_the_reference(study: nas.Study) -> None:
    for error, cost in ((0.2, 3.0), (0.5, 1.0), (0.6, 3.0)):
        study.tell(study.ask(), {"error": error, "cost": cost})
    assert study.hypervolume({"error": 1.0, "cost": 4.0}) == pytest.approx(0.8 * 1 + 0.5 * 2)
    with pytest.raises(ValueError, match="error, cost"):
        study.hypervolume({"error": 1.0})


def test_the_same_computation_is_evaluated_once(store_url: str) -> None:
    space = SearchSpace({"on": Boolean()}, name="coin")
    study = nas.create_study("coin", space=space, metrics=["value"], storage=store_url)
    calls = []

    def count(assignment, report):
        calls.append(dict(assignment.architecture))
        return {"value": float(assignment.architecture["on"])}

    study.enqueue({"on": True})
    study.enqueue({"on": True})
    study.enqueue({"on": True}, repeat=1)
    study.run(evaluator=count, trials=3, pool="local")
    assert len(calls) == 2  # the second is taken over, the repeat is not
    assert [trial.metrics["value"] for trial in study.trials] == [1.0, 1.0, 1.0]
    study.close()


def test_what_belongs_to_the_architecture_is_measured_for_each(store_url: str) -> None:
    space = SearchSpace({"on": Boolean()}, name="coin")
    study = nas.create_study("costs", space=space, metrics=["error", "macs"], storage=store_url)
    values = iter([10.0, 20.0])

    def measure(assignment, report):  # equal keys, but different dead parts
        return {"error": 0.5, "macs": next(values)}

    study.enqueue({"on": True})
    study.enqueue({"on": True})
    study.run(evaluator=measure, trials=2, pool="local")
    assert [trial.metrics["macs"] for trial in study.trials] == [10.0, 20.0]
    study.close()


def test_a_finite_space_that_is_used_up_ends_the_search(store_url: str) -> None:
    space = SearchSpace({"on": Boolean(), "kind": Choice(["a", "b", "c"])}, name="six")
    study = nas.create_study("six", space=space, metrics=["value"], storage=store_url, strategy="random_search")
    reason = study.run(evaluator=lambda assignment, report: {"value": 1.0}, trials=50, pool="local")
    assert "nothing more to propose" in reason
    assert len(study.trials) == 6
    study.close()


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (nas.StopRules(trials=200, target={"error": 1.9}), "error reached"),
        (nas.StopRules(trials=200, patience=6), "no improvement"),
        (nas.StopRules(trials=200, time_limit_seconds=1e-3), "time limit"),
        (nas.StopRules(trials=200, worker_hours=1e-9), "worker hours"),
    ],
)
def test_each_stop_rule_ends_a_search(store_url: str, stop: nas.StopRules, said: str) -> None:
    study = nas.create_study(
        "rules", space=SPACE, metrics=["error", "cost"], strategy=QUICK, storage=store_url, stop=stop
    )
    assert said in study.run(evaluator=evaluate, pool="local")
    assert len(study.trials) < 200
    study.close()


def test_an_evaluator_that_raises_fails_its_trial_and_the_search_goes_on(store_url: str) -> None:
    study = nas.create_study("raises", space=SPACE, metrics=["value"], strategy=QUICK, storage=store_url)

    def sometimes(assignment, report):
        if assignment.trial % 3 == 0:
            raise KeyError("lost the thread")
        return {"value": 1.0}

    study.run(evaluator=sometimes, trials=9, pool="local")
    assert study.counts()["failed"] == 3
    assert "lost the thread" in study.trial(0).error_text
    study.close()


def test_threads_of_one_process_share_a_search(study: nas.Study) -> None:
    study.run(evaluator=lambda assignment, report: {"error": 1.0, "cost": 1.0}, trials=40, workers=3, pool="local")
    assert study.counts()["completed"] == 40


def test_the_dataframe_has_a_row_per_trial_and_a_column_per_path(study: nas.Study) -> None:
    study.run(evaluator=evaluate, trials=4, pool="local")
    frame = study.to_dataframe()
    assert list(frame["number"]) == [0, 1, 2, 3]
    assert {"error", "cost", "x", "kind", "layers/count"} <= set(frame.columns)


def test_names_are_unique_and_the_unknown_names_its_neighbour(study: nas.Study, store_url: str) -> None:
    with pytest.raises(StudyExists, match="toy"):
        nas.create_study("toy", space=SPACE, metrics=["error"], storage=store_url)
    with pytest.raises(UnknownStudy, match="toy"):
        nas.open_study("toi", store_url)
    nas.delete_study("toy", store_url)
    assert nas.list_studies(store_url) == []


def test_another_evaluator_or_space_is_refused(study: nas.Study, store_url: str) -> None:
    study.run(evaluator=evaluate, trials=1, pool="local")
    with pytest.raises(SpecChanged, match="evaluate"):
        study.run(evaluator="table", trials=2, pool="local")
    with pytest.raises(SpecChanged, match="another search space"):
        nas.open_study("toy", store_url, space=SearchSpace({"on": Boolean()}))


def test_a_function_without_a_name_runs_only_where_it_is(store_url: str) -> None:
    study = nas.create_study("lambda", space=SPACE, metrics=["value"], storage=store_url)
    study.run(evaluator=lambda assignment, report: {"value": 1.0}, trials=2, pool="local")
    again = nas.open_study("lambda", store_url)
    with pytest.raises(NotResumable, match="lambda"):
        again.run(trials=3)
    again.close()
    study.close()


def test_settings_that_cannot_be_are_refused_when_the_study_is_made(store_url: str) -> None:
    nas.create_study("right", space=SPACE, metrics=["error"], storage=store_url).close()
    for wrong, said in (
        ({"strategy": "regularised_evolution"}, "regularized_evolution"),
        ({"strategy": {"name": "regularized_evolution", "populatoin": 3}}, "population"),
        ({"metrics": []}, "at least one"),
        ({"stop": nas.StopRules(target={"eror": 0.1})}, "no such metric"),
        ({"space": "nas_bench_202"}, "nas_bench_201"),
        ({"strategy": {"name": "bayesian", "acquisition": "qlognehvi"}}, "judges several metrics, the study has 1"),
        ({"confirm": -1}, "confirm must be"),
        ({"confirm": True}, "confirm must be"),
        ({"confirm": 3, "stop": nas.StopRules(trials=10)}, "12 trials are needed, got 10"),
    ):
        given = {"space": SPACE, "metrics": ["error"], "storage": store_url, **wrong}
        with pytest.raises((ValueError, nas.NasError), match=said):
            nas.create_study("wrong", **given)
    assert [row.name for row in nas.list_studies(store_url)] == ["right"]


def test_a_total_that_was_asked_for_is_remembered(study: nas.Study, store_url: str) -> None:
    study.run(evaluator=evaluate, trials=3, pool="local")
    again = nas.open_study("toy", store_url)
    assert again.stop.trials == 3
    again.close()


def test_a_search_whose_trials_all_fail_is_paused_and_says_so(study: nas.Study) -> None:
    def broken(assignment, report):
        raise RuntimeError("the data is gone")

    reason = study.run(evaluator=broken, trials=100, pool="local")
    assert "paused" in reason
    assert study.counts()["failed"] < 12
    assert study.state == "paused"


def test_a_trial_somebody_asked_for_does_not_hold_up_a_search(study: nas.Study) -> None:
    asked = study.ask()
    assert "asked for" in study.run(evaluator=evaluate, trials=5, pool="local")
    assert study.counts()["completed"] == 4
    assert study.trial(asked.number).state is TrialState.RUNNING


def test_a_search_waits_for_its_database_and_goes_on(study: nas.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.errors import DatabaseAway

    away = iter([False, True, True, False, True])
    news = study.store.news

    def sometimes(study_id: int, after: int):
        if next(away, False):
            raise DatabaseAway("restarting")
        return news(study_id, after)

    monkeypatch.setattr(study.store, "news", sometimes)
    assert "6" in study.run(evaluator=evaluate, trials=6, pool="local")


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_the_recommended_trial_is_believed_not_lucky(tmp_path: Path, goal: Goal) -> None:
    # a smooth function and one measurement that is far better than all around it
    space = SearchSpace({"x": Float(0.0, 1.0)})
    sign = 1.0 if goal == "minimize" else -1.0
    study = nas.create_study(
        "noisy",
        space=space,
        metrics=[nas.Metric("value", goal=goal)],
        strategy="random_search",
        storage=f"sqlite:///{tmp_path}/nas.db",
    )
    noise = np.random.default_rng(0).normal(0.0, 0.1, 40)
    places = np.linspace(0.0, 1.0, 40)
    values = (places - 0.25) ** 2 * 4 + noise
    values[35] = values.min() - 0.05
    study.add_trials(({"x": float(x)}, {"value": sign * float(value)}) for x, value in zip(places, values, strict=True))
    found = study.recommended()
    assert study.best is not None
    assert study.best.number == 35
    assert found is not None
    assert abs(places[found.number] - 0.25) < 0.2
    assert found.learnt_from == 40
    assert sign * found.mean == pytest.approx(4 * (places[found.number] - 0.25) ** 2, abs=4 * found.sd + 0.05)


NOISY = SearchSpace({"x": Float(0.0, 1.0)}, name="noisy")
LEARNING = {"name": "bayesian", "predictor": "tests.nas.strategies.small_process:SmallProcess", "initial": 4}


def noisy(assignment, report):
    noise = np.random.default_rng(assignment.seed).normal(0.0, 0.1)
    return {"value": (assignment.architecture["x"] - 0.25) ** 2 + float(noise)}


def test_the_last_trials_of_a_search_confirm_its_finalists(tmp_path: Path) -> None:
    study = nas.create_study(
        "confirmed",
        space=NOISY,
        metrics=["value"],
        strategy=LEARNING,
        storage=f"sqlite:///{tmp_path}/nas.db",
        confirm=2,
        allow=["tests"],
    )
    with pytest.raises(ValueError, match="how many there are in all"):
        study.run(evaluator=noisy, pool="local")
    with pytest.raises(ValueError, match="8 trials are needed"):
        study.run(evaluator=noisy, trials=7, pool="local")
    study.run(evaluator=noisy, trials=14, pool="local")
    repeats = [trial for trial in study.trials if trial.repeat]
    assert [trial.number for trial in repeats] == [10, 11, 12, 13]
    measured: dict[float, list[float]] = {}
    for trial in study.trials:
        measured.setdefault(trial.architecture["x"], []).append(trial.metrics["value"])
    assert all(len(set(values)) == len(values) for values in measured.values())  # other seeds, other values
    means = {x: float(np.mean(values)) for x, values in measured.items()}
    assert study.best is not None
    assert study.best.repeat == 0
    assert means[study.best.architecture["x"]] == min(means.values())
    found = study.recommended()
    assert found is not None
    chosen = measured[study.trial(found.number).architecture["x"]]
    assert (found.measured, found.measurements) == (pytest.approx(np.mean(chosen)), len(chosen))
    study.close()


def test_a_search_killed_between_any_two_trials_confirms_the_same(tmp_path: Path) -> None:
    url, proposed = f"sqlite:///{tmp_path}/nas.db", {}
    for name in ("whole", "killed"):
        made = nas.create_study(
            name,
            space=NOISY,
            metrics=["value"],
            strategy=LEARNING,
            storage=url,
            stop=nas.StopRules(trials=12),
            confirm=2,
            allow=["tests"],
        )
        for number in range(12):
            trial = made.ask()
            made.tell(trial, {"value": (trial.architecture["x"] - 0.25) ** 2 + 0.05 * (number % 3)})
            if name == "killed":
                made.close()
                made = nas.open_study(name, url, allow=["tests"])
        proposed[name] = [(trial.architecture, trial.repeat) for trial in made.trials]
        made.close()
    assert proposed["killed"] == proposed["whole"]
    assert [repeat for _, repeat in proposed["whole"]][:8] == [0] * 8
    assert all(repeat in (1, 2) for _, repeat in proposed["whole"][8:])


def test_the_best_is_the_best_mean_of_what_was_measured(tmp_path: Path) -> None:
    study = nas.create_study(
        "means",
        space=NOISY,
        metrics=[nas.Metric("value", limit=0.5)],
        strategy="random_search",
        storage=f"sqlite:///{tmp_path}/nas.db",
    )
    for x, repeat, value in ((0.1, 0, 0.1), (0.2, 0, 0.2), (0.1, 1, 0.4), (0.3, 0, 0.6), (0.3, 1, 0.0)):
        study.enqueue({"x": x}, repeat=repeat)
        study.tell(study.ask(), {"value": value})
    best = study.best
    assert best is not None
    assert (best.number, best.metrics) == (1, {"value": 0.2})  # means .25, .2 and .3, of which all keep the limit
    study.close()


def test_whoever_made_the_study_and_whoever_opens_it_search_alike(tmp_path):
    one = Float(0.0, 1.0)
    space = SearchSpace({"a": one, "b": one, "c": one}, name="one node in three places")
    settings = {"name": "bayesian", "predictor": "gaussian_process", "initial": 4, "candidates": {"count": 30}}

    def weighted(assignment, report):
        a, b, c = (float(value) for value in assignment.architecture.values())
        return {"error": a + 2 * b + 3 * c}

    url, found = f"sqlite:///{tmp_path}/nas.db", []
    for name, stages in (("at once", [10]), ("in two", [6, 10])):
        study = nas.create_study(name, space=space, metrics=["error"], strategy=settings, storage=url)
        for trials in stages:
            study.run(evaluator=weighted, trials=trials)
            architectures = [trial.architecture for trial in study.trials]
            study.close()
            study = nas.open_study(name, storage=url)
        study.close()
        found.append(architectures)
    assert found[0] == found[1]
