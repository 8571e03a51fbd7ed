"""A budget's levels, and the forms in which it is written."""

from pathlib import Path

import pytest

import nas
from nas.budget import Budget
from nas.cli import main
from nas.settings import settings_from
from search_spaces import Float, SearchSpace


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("epochs:1:27", (1, 3, 9, 27)),
        ("epochs:1:50", (1, 3, 9, 27, 50)),
        ("steps:10:100:10", (10, 100)),
        ("epochs:1:10:1.2", (1, 2, 3, 4, 5, 6, 7, 9, 10)),
        ("share:0.125:1:2", (0.125, 0.25, 0.5, 1)),
        ("epochs:5:5", (5,)),
    ],
)
def test_levels_rise_by_the_factor_up_to_the_full_budget(text: str, levels: tuple[float, ...]) -> None:
    assert Budget.of(text).levels == levels


def test_text_and_table_say_the_same_and_come_back_from_the_document() -> None:
    budget = Budget.of("epochs:1:27:4")
    assert Budget.of({"name": "epochs", "least": 1, "most": 27, "factor": 4}) == budget
    assert Budget.of(budget.to_document()) == budget
    document = {"name": "s", "space": "mlp", "data": "iris", "metrics": ["error"], "budget": "epochs:1:27:4"}
    assert settings_from(document).budget == budget


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("epochs:1", "epochs:1:27"),
        ("epochs:one:27", "epochs:1:27"),
        ("epochs:1:inf", "most must be a number"),
        ("epochs:3:1", "at most budget.most"),
        ("epochs:1:27:1", "at least 1.1"),
        ("x:1e-300:1e300:1.1", "larger factor"),
        ("two words:1:3", "a word"),
        ({"name": "epochs", "least": 1, "mots": 3}, "did you mean 'most'"),
        ({"name": "epochs", "least": 1}, "budget.most is missing"),
        ({"name": "epochs", "least": True, "most": 3}, "least must be a number"),
        (27, "epochs:1:27"),
    ],
)
def test_what_is_no_budget_is_refused_with_the_form_it_has(given: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Budget.of(given)


DEMO = ["search", "--name", "demo", "--space", "mlp", "--data", "iris", "--metric", "error", "--trials", "3"]


def test_budget_and_stopper_are_options_of_a_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nas", *DEMO, "--budget", "epochs:1:4:2", "--stopper", "median", "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code in (0, None)
    assert "epochs" in out
    assert "median" in out


@pytest.mark.parametrize("option", ["--strategy", "--stopper"])
def test_what_needs_a_budget_is_refused_without_one_before_anything_starts(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nas", *DEMO, option, "asha"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{option[2:]} 'asha' needs to know" in said
    assert "--budget epochs:1:27" in said


def test_the_study_keeps_its_budget_and_its_history_knows_it(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 's.db'}"
    space = SearchSpace({"x": Float(0.0, 1.0)}, name="line")
    strategy = {"name": "hyperband", "strategy": "kde"}
    given = {"space": space, "metrics": ["error"], "strategy": strategy, "storage": storage}
    made = nas.create_study("s", **given, budget="steps:2:8:2")
    made.run(evaluator=lambda assignment, report: {"error": 1 / assignment.budget}, trials=12, pool="local")
    again = nas.open_study("s", storage)
    assert again.budget == made.history.budget == Budget(name="steps", least=2, most=8, factor=2)
    promoted = [trial for trial in again.trials if trial.promoted_from is not None]
    assert promoted
    for trial in promoted:
        before = again.trial(trial.promoted_from)
        assert (trial.architecture, trial.budget) == (before.architecture, 2 * before.budget)
