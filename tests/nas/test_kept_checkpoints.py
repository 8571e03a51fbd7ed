"""Which checkpoints of completed trials are kept: those that are needed to go on, those of all rungs, or the best."""

from pathlib import Path

import pytest

import nas
import nas.controller
from nas.files import checkpoint_folder
from search_spaces import Float, SearchSpace
from workers.checkpoints import kept_trials
from workers.protocol import POLICIES, Assignment, Report
from workers.state_file import read_state

SPACE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, name="square")
ONE = ["error"]
TWO = ["error", "size"]


def count(assignment: Assignment, report: Report) -> dict[str, float]:
    """Count up to the budget; further on all results are better. Goes on from a checkpoint."""
    at = 0 if assignment.checkpoint is None else read_state(assignment.checkpoint)["at"]
    end = int(assignment.budget or assignment.full_budget or 4)
    x, y = (float(assignment.architecture[name]) for name in "xy")
    for step in range(at + 1, end + 1):
        report(step, error=x + 1 / step)
    if assignment.keep_end:
        report.checkpoint(end, {"at": end, "x": x})
    return {name: value for name, value in (("error", x + 1 / end), ("size", y)) if name in assignment.metrics}


def searched(
    folder: Path, keep: str, *, trials: int, metrics: list[str] = ONE, budget: str | None = "epochs:1:4:2"
) -> nas.Study:
    study = nas.create_study(
        "s",
        space=SPACE,
        metrics=metrics,
        strategy="random_search" if budget is None else "asha",
        storage=f"sqlite:///{folder / 's.db'}",
        budget=budget,
        checkpoints=keep,
    )
    study.run(evaluator=count, trials=trials, pool="local")
    return study


def kept(study: nas.Study) -> set[int]:
    return set(kept_trials(checkpoint_folder(study.store), study.uuid))


def may_go_on(study: nas.Study) -> set[int]:
    """Those below the full budget that nothing has gone on from."""
    promoted = {trial.promoted_from for trial in study.trials}
    return {trial.number for trial in study.trials if trial.budget != 4 and trial.number not in promoted}


def test_last_keeps_of_each_training_what_it_may_go_on_from(tmp_path: Path) -> None:
    study = searched(tmp_path, "last", trials=25)
    assert {trial.budget for trial in study.trials} == {1, 2, 4}
    assert kept(study) == may_go_on(study)


def test_rungs_keeps_the_end_of_every_trial(tmp_path: Path) -> None:
    study = searched(tmp_path, "rungs", trials=25)
    assert kept(study) == set(range(25))
    root = checkpoint_folder(study.store)
    for trial in study.trials:
        (file,) = (root / study.uuid / str(trial.number)).iterdir()
        assert read_state(file) == {"at": trial.budget, "x": trial.architecture["x"]}


@pytest.mark.parametrize("metrics", [ONE, TWO], ids=["one", "two"])
def test_best_keeps_the_end_of_the_best_of_those_trained_furthest(tmp_path: Path, metrics: list[str]) -> None:
    study = searched(tmp_path, "best", trials=28, metrics=metrics)
    full = [trial for trial in study.trials if trial.budget == 4]
    values = [tuple(trial.metrics[name] for name in metrics) for trial in full]
    best = {
        trial.number
        for trial, own in zip(full, values, strict=True)
        if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in values)
    }
    assert len(full) > len(best)
    assert kept(study) == may_go_on(study) | best
    assert {trial.number for trial in study.pareto_front()} == best
    assert study.best is not None
    assert study.best.number in best


@pytest.mark.parametrize("keep", POLICIES)
def test_in_a_study_without_a_budget(tmp_path: Path, keep: str) -> None:
    study = searched(tmp_path, keep, trials=8, budget=None)
    assert study.best is not None
    assert kept(study) == {"last": set(), "rungs": set(range(8)), "best": {study.best.number}}[keep]


def test_while_a_search_runs_what_is_beaten_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.controller, "SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(nas.controller, "TEND_SECONDS", 0.0)
    seen = []

    def watched(assignment: Assignment, report: Report) -> dict[str, float]:
        seen.append(len(list((tmp_path / "s.db.checkpoints").glob("*/*"))))
        return count(assignment, report)

    study = nas.create_study(
        "s",
        space=SPACE,
        metrics=ONE,
        strategy="random_search",
        storage=f"sqlite:///{tmp_path / 's.db'}",
        checkpoints="best",
    )
    study.run(evaluator=watched, trials=12, pool="local")
    assert len(seen) == 12
    assert max(seen) <= 2, "the best, and one that ended since the last look"


def test_a_failed_trial_keeps_nothing_and_its_training_keeps_its_rungs(tmp_path: Path) -> None:
    def fail_further_on(assignment: Assignment, report: Report) -> dict[str, float]:
        if (assignment.budget or 4) > 1:
            report.checkpoint(1, {"at": 1})
            raise ArithmeticError("no further")
        return count(assignment, report)

    for keep in POLICIES:
        (tmp_path / keep).mkdir()
        study = nas.create_study(
            "s",
            space=SPACE,
            metrics=ONE,
            strategy="asha",
            storage=f"sqlite:///{tmp_path / keep / 's.db'}",
            budget="epochs:1:4:2",
            checkpoints=keep,
            limits=nas.Limits(breaker=False),
        )
        study.run(evaluator=fail_further_on, trials=6, pool="local")
        failed = {trial.number for trial in study.trials if trial.state == "failed"}
        assert failed
        completed = {trial.number for trial in study.trials if trial.state == "completed"}
        best = {study.best.number} if keep == "best" and study.best else set()
        assert kept(study) == (completed if keep == "rungs" else (completed & may_go_on(study)) | best)


def test_a_promotion_goes_on_from_behind_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CHECKPOINTS", f"local://{tmp_path}/shared")
    study = searched(tmp_path, "best", trials=25)
    promoted = [trial for trial in study.trials if trial.promoted_from is not None]
    assert promoted
    curves = study.curves()
    for trial in promoted:
        before = study.trial(trial.promoted_from)
        assert curves[trial.number, "error"].steps.tolist() == list(
            range(int(before.budget) + 1, int(trial.budget) + 1)
        )
    assert study.best is not None
    assert kept(study) == may_go_on(study) | {study.best.number}
    nas.delete_study("s", f"sqlite:///{tmp_path / 's.db'}")
    assert list((tmp_path / "shared").iterdir()) == []


def test_the_setting_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoints must be one of last, rungs, best, got 'all'"):
        searched(tmp_path, "all", trials=1)
