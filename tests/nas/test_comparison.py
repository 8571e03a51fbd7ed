"""Predictors compared on a study's own trials, from Python and by `nas predictors`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas import catalogue
from nas.comparison import QUICK, compare, examination
from predictors.predictor import PredictorError
from predictors.quality import LEVELS, cross_validated
from search_spaces import Choice, Float, SearchSpace
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.moves import sample
from tests.nas.strategies.simulated import FLAT, loss
from tests.nas.strategies.small_process import SmallProcess

Run = Callable[..., tuple[int, str, str]]
SPACE = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}, name="toy")
SMALL, FAILING = "tests.nas.strategies.small_process:SmallProcess", "tests.nas.test_comparison:Failing"


@dataclass(frozen=True)
class Failing:
    """Learns nothing."""

    space: SearchSpace

    def fit(self, architectures: Any, losses: Any) -> Any:
        raise PredictorError("these trials teach nothing")


def value_of(architecture: Any) -> float:
    return float(np.sin(4.0 * architecture["x"]) + 0.3 * (architecture["kind"] == "a"))


@pytest.fixture
def study(tmp_path: Path) -> nas.Study:
    made = nas.create_study(
        "demo",
        space=SPACE,
        metrics=["accuracy", "cost"],
        strategy="random_search",
        storage=f"sqlite:///{tmp_path}/nas.db",
        seed=3,
        allow=["tests"],
    )
    rng = np.random.default_rng(0)
    drawn = [{"x": float(x), "kind": kind} for x, kind in zip(rng.random(12), "abbabaabbaba", strict=True)]
    made.add_trials((each, {"accuracy": value_of(each), "cost": 2.0}) for each in drawn)
    made.tell(made.ask(), failed="no luck")
    return made


@pytest.fixture
def run(run: Run) -> Run:
    """Run `nas predictors`; see the fixture of all commands."""
    return partial(run, "predictors")


def test_figures_are_those_of_a_cross_validation_on_the_completed_trials(study: nas.Study) -> None:
    steps: list[int] = []
    wide = {"name": SMALL, "width": 50.0}
    found = study.compare_predictors([FAILING, wide, SMALL], folds=4, watch=steps.append)
    completed = [trial for trial in study.trials if trial.metrics]
    losses = np.array([-trial.metrics["accuracy"] for trial in completed])
    expected = cross_validated(
        SmallProcess(SPACE), [trial.architecture for trial in completed], losses, np.random.default_rng(3), 4
    )
    assert found[0].quality == expected
    assert found[0].quality.count == 12
    assert found[1].quality is not None
    assert found[1].quality.kendall_tau < expected.kendall_tau
    assert [one.predictor for one in found] == [SMALL, SMALL, FAILING]
    assert found[2].quality is None
    assert found[2].failure == "PredictorError: these trials teach nothing"
    assert all(one.seconds >= 0.0 for one in found)
    assert steps == sorted(steps)
    assert steps[-1] == 12


TELLING = {"predictor": "gaussian_process", "features": ["tests.nas.strategies.look_ups:PERFECT"]}


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        ("bayesian", TELLING),
        ("stage_zero", {"strategy": {"name": "bayesian", **TELLING}, "proxies": TELLING["features"]}),
    ],
)
def test_predictors_are_told_what_the_strategy_tells_its_own(
    run: Run, tmp_path: Path, strategy: str, settings: dict[str, Any]
) -> None:
    study = nas.create_study(
        "told",
        space=FLAT,
        metrics=["error"],
        strategy={"name": strategy, **settings},
        storage=f"sqlite:///{tmp_path}/nas.db",
        allow=["tests"],
    )
    rng = np.random.default_rng(0)
    drawn = [sample(FLAT, rng) for _ in range(14)]
    study.add_trials((each, {"error": loss(each)}) for each in drawn)
    forest = {"name": "random_forest", "trees": 5}
    named = [forest, SMALL]
    told = {one.predictor: one for one in study.compare_predictors(named)}
    untold = {one.predictor: one for one in compare(study.history, examination(study.history), named, allow=["tests"])}
    assert told["random_forest"].features == ("perfect",)
    assert told[SMALL].features == ()
    assert {one.features for one in untold.values()} == {()}
    assert told[SMALL].quality == untold[SMALL].quality
    tau, without = told["random_forest"].quality, untold["random_forest"].quality
    assert tau is not None
    assert without is not None
    assert tau.kendall_tau > without.kendall_tau
    given = ("compare", "told", "--predictor", "random_forest", "--predictor", SMALL, "--allow", "tests")
    code, _, err = run(*given)
    assert code == 0
    assert f"told features, as the study's own predictor is: perfect; not so, as they take none: {SMALL}" in err
    records = {record["predictor"]: record for record in json.loads(run(*given, "--json")[1])["predictors"]}
    assert (records["random_forest"]["features"], records[SMALL]["features"]) == (["perfect"], [])


def test_what_is_compared_unless_others_are_named_can_be_fitted(study: nas.Study) -> None:
    assert set(QUICK) <= set(catalogue.names("predictor"))
    (found,) = study.compare_predictors(["gaussian_process"])
    assert found.quality is not None
    assert found.quality.kendall_tau > 0.5


def test_what_nothing_can_be_judged_by_is_refused(study: nas.Study, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 12 completed trials have cost 2"):
        study.compare_predictors([SMALL], metric="cost")
    with pytest.raises(ValueError, match="no such metric; the study has accuracy, cost"):
        study.compare_predictors([SMALL], metric="eror")
    for folds in (1, 0, True, 2.5):
        with pytest.raises(ValueError, match="folds must be"):
            study.compare_predictors([SMALL], folds=folds)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ValueError, match="did you mean 'random_forest'"):
        compare(study.history, examination(study.history), [FAILING, "random_forrest"], allow=["tests"])
    with pytest.raises(ValueError, match="has no setting 'wdith'"):
        study.compare_predictors([{"name": SMALL, "wdith": 1.0}])
    with pytest.raises(ValueError, match="--allow other_lab"):
        study.compare_predictors(["other_lab:Predictor"])
    few = nas.create_study(
        "few", space=SPACE, metrics=["error"], strategy="random_search", storage=f"sqlite:///{tmp_path}/nas.db"
    )
    few.add_trials(({"x": 0.5, "kind": kind}, {"error": 1.0}) for kind in "ab")
    with pytest.raises(ValueError, match="at least 3 different architectures, got 2"):
        few.compare_predictors([SMALL])


def test_json_csv_and_the_table_say_the_same(run: Run, study: nas.Study) -> None:
    given = ("compare", "demo", "--predictor", SMALL, "--predictor", FAILING, "--allow", "tests", "--folds", "3")
    code, out, _ = run(*given, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["metric"], facts["trials"], facts["folds"]) == ("accuracy", 12, 3)
    good, bad = facts["predictors"]
    (expected,) = study.compare_predictors([SMALL], folds=3)
    assert expected.quality is not None
    assert (good["kendall_tau"], good["nll"]) == (
        expected.quality.kendall_tau,
        expected.quality.negative_log_likelihood,
    )
    assert [float(level) for level in good["calibration_curve"]] == list(LEVELS)
    assert "teach nothing" in bad["failure"]
    _, text, _ = run(*given, "--csv")
    header, first, _ = text.splitlines()
    assert header.split(",")[:6] == ["predictor", "kendall_tau", "spearman", "rmse", "nll", "calibration"]
    assert float(first.split(",")[1]) == good["kendall_tau"]
    code, out, err = run(*given)
    assert code == 0
    assert "0." in out
    assert "accuracy of 12 trials, 3 folds" in err


def test_the_table_fits_an_ordinary_terminal(run: Run, study: nas.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("gradient_boosting", "random_forest")
    code, out, _ = run("compare", "demo", *(word for name in names for word in ("--predictor", name)), "--folds", "2")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert all(name in out for name in names)


def test_the_list_names_every_predictor_and_what_it_is(run: Run) -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    records = {record["predictor"]: record["what it is"] for record in json.loads(out)}
    assert tuple(records) == catalogue.names("predictor")
    assert all(len(text) > 20 for text in records.values())
    assert "trees" in records["random_forest"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("demo", "--predictor", "random_forrest"), "did you mean 'random_forest'"),
        (("demo", "--metric", "eror"), "the study has accuracy, cost"),
        (("demo", "--metric", "cost"), "nothing to foretell"),
        (("demo", "--folds", "1"), "--folds"),
        (("dmeo",), "demo"),
        (("demo", "--json", "--csv"), "both"),
        (("demo", "--predictor", SMALL), "--allow tests"),
        (("demo", "--predictor", FAILING, "--allow", "tests"), "teach nothing"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    run: Run, study: nas.Study, arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = run("compare", *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_what_a_sampler_says_of_its_own_fits_is_shown(run: Run, study: nas.Study) -> None:
    tiny = {"name": "hmc", "hidden": [2], "chains": 2, "warm_up": 4, "draws": 4, "leapfrog_steps": 2}
    task = examination(study.history, folds=3)
    sampled, forest = sorted(compare(study.history, task, [tiny, "random_forest"]), key=lambda one: one.predictor)
    assert set(sampled.diagnostics) == {"r_hat", "acceptance", "step_size"}
    assert 0.0 < sampled.diagnostics["acceptance"] <= 1.0
    assert forest.diagnostics == {}
    code, out, _ = run("compare", "demo", "--predictor", "laplace", "--predictor", "random_forest", "--json")
    assert code == 0
    told = {one["predictor"]: one.get("diagnostics") for one in json.loads(out)["predictors"]}
    assert told["random_forest"] is None
    assert set(told["laplace"]) == {"evidence", "prior_precision", "determined"}


def test_the_pieces_that_networks_owe_their_loss_to_are_printed(run: Run, tmp_path: Path) -> None:
    space = nas_bench_201(cells=1, stages=1)
    made = nas.create_study("cells", space=space, metrics=["loss"], storage=f"sqlite:///{tmp_path}/nas.db")
    rng = np.random.default_rng(0)
    cells = [sample(space, rng) for _ in range(25)]
    made.add_trials((cell, {"loss": -float(list(cell.values()).count("nor_conv_3x3"))}) for cell in cells)
    code, out, err = run("effects", "cells", "--most", "2")
    assert (code, err) == (0, "on the loss by loss, of 25 trials\n")
    assert "for one more, " in out
    code, out, _ = run("effects", "cells", "--most", "1", "--json")
    (effect,) = json.loads(out)["effects"]
    assert (code, effect["sub_tree"]) == (0, "nor_conv_3x3")
    assert effect["mean"] < 0.0 < effect["deviation"]


def test_a_space_without_a_network_has_no_pieces(run: Run, study: nas.Study) -> None:
    code, _, err = run("effects", "demo")
    assert code == 2
    assert "space 'toy' describes no network" in err
