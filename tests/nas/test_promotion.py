"""A promoted trial is the training it continues, further on: on whichever worker, as if it had never paused."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nas
from nas.export import _Silent, export_trial
from nas.files import checkpoint_folder
from nas.store import NewTrial
from nas.trial import Proposal
from search_spaces import canonical_key, sample
from search_spaces.catalogue.mlp import mlp
from workers.checkpoints import kept_trials
from workers.protocol import Keep
from workers.state_file import read_state

SPACE = mlp(layers=2, widths=(8, 16), training=False)
BUDGET = "epochs:1:4"
"""Trials end at three epochs below, short of the full budget, so that their weights are kept to be compared."""


def studied(folder: Path, name: str, checkpoints: Keep = "last") -> nas.Study:
    """A study with one trial of the architecture, and more to come."""
    storage = f"sqlite:///{folder / f'{name}.db'}"
    given = {"name": "training", "batch_size": 40, "schedule": "one_cycle"}
    return nas.create_study(
        "s",
        space=SPACE,
        metrics=["loss", "error"],
        data="iris",
        evaluator=given,
        storage=storage,
        budget=BUDGET,
        checkpoints=checkpoints,
    )


def propose(study: nas.Study, budget: float, promoted_from: int | None = None) -> None:
    architecture = sample(SPACE, np.random.default_rng(3))
    proposal = Proposal(architecture=architecture, budget=budget, promoted_from=promoted_from)
    trial = NewTrial(proposal, canonical_key(SPACE, architecture))
    study.store.propose(study.id, [trial], first_number=None, proposed_revision=0)


def run(study: nas.Study, trials: int) -> None:
    study.run(trials=trials, pool="local")


def weights(study: nas.Study, number: int) -> dict[str, object]:
    (file,) = (checkpoint_folder(study.store) / study.uuid / str(number)).iterdir()
    state = read_state(file)
    state.pop("seconds")
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in state.items()}


@pytest.fixture
def straight(tmp_path: Path) -> nas.Study:
    """Three epochs without a pause."""
    study = studied(tmp_path, "straight")
    propose(study, 3)
    run(study, 1)
    return study


def test_a_promotion_ends_as_a_training_that_never_paused(tmp_path: Path, straight: nas.Study) -> None:
    study = studied(tmp_path, "promoted")
    propose(study, 1)
    run(study, 1)
    assert weights(study, 0)["epochs"] == 1
    propose(study, 3, promoted_from=0)
    run(study, 2)
    assert study.trial(1).metrics == straight.trial(0).metrics
    assert weights(study, 1) == weights(straight, 0)
    curves, whole = study.curves(), straight.curves()
    assert curves[1, "loss"].steps.tolist() == [2, 3], "the first epoch is not trained again"
    assert curves[1, "loss"].values.tolist() == whole[0, "loss"].values.tolist()[1:]
    assert not (checkpoint_folder(study.store) / study.uuid / "0").exists(), "nothing starts from it any more"


@pytest.mark.slow
def test_the_process_that_goes_on_may_be_another_one(tmp_path: Path, straight: nas.Study) -> None:
    study = studied(tmp_path, "promoted")
    propose(study, 1)
    run(study, 1)
    propose(study, 3, promoted_from=0)
    storage = f"sqlite:///{tmp_path / 'promoted.db'}"
    code = f"import nas; nas.open_study('s', {storage!r}).run(trials=2, pool='local')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert study.trial(1).metrics == straight.trial(0).metrics
    assert weights(study, 1) == weights(straight, 0)


def test_without_its_checkpoint_it_is_trained_from_scratch_and_says_so(tmp_path: Path, straight: nas.Study) -> None:
    for spoil in ("gone", "changed", "never recorded"):
        study = studied(tmp_path, spoil.replace(" ", "_"))
        propose(study, 1)
        run(study, 1)
        (file,) = (checkpoint_folder(study.store) / study.uuid / "0").iterdir()
        if spoil == "gone":
            file.unlink()
        elif spoil == "changed":
            file.write_bytes(file.read_bytes()[:-1] + b"?")
        else:
            study.store.close()
            with sqlite3.connect(tmp_path / "never_recorded.db") as database:
                database.execute("UPDATE trials SET checkpoint = NULL")
            study = nas.open_study("s", f"sqlite:///{tmp_path / 'never_recorded.db'}")
        propose(study, 3, promoted_from=0)
        run(study, 2)
        said = study.attributes(1)["started_over"]
        assert ("trial 0" if spoil == "never recorded" else "checkpoint") in said
        assert study.curves()[1, "loss"].steps.tolist() == [1, 2, 3]
        assert study.trial(1).metrics == straight.trial(0).metrics, "the seed is the one of the trial it continues"


def test_a_promotion_of_a_promotion_goes_on_too_and_the_full_budget_leaves_no_checkpoint(tmp_path: Path) -> None:
    whole, study = studied(tmp_path, "whole"), studied(tmp_path, "steps")
    propose(whole, 4)
    run(whole, 1)
    for number, budget in enumerate((1, 3, 4)):
        propose(study, budget, promoted_from=number - 1 if number else None)
        run(study, number + 1)
    assert study.trial(2).metrics == whole.trial(0).metrics
    assert study.curves()[2, "loss"].steps.tolist() == [4]
    assert not list((checkpoint_folder(study.store) / study.uuid).iterdir())


def test_a_result_that_was_taken_over_leaves_the_checkpoint_before_it_to_go_on_from(tmp_path: Path) -> None:
    study = studied(tmp_path, "twins")
    propose(study, 1)
    propose(study, 2)
    run(study, 2)
    propose(study, 2, promoted_from=0)  # the same computation as trial 1: not trained again
    run(study, 3)
    assert study.attributes(2) == {"same_computation_as": 1}
    propose(study, 3, promoted_from=2)
    run(study, 4)
    assert study.curves()[3, "loss"].steps.tolist() == [2, 3], "on from the first epoch of trial 0"
    assert weights(study, 3)["epochs"] == 3


def test_the_checkpoint_of_a_training_that_failed_further_on_is_deleted(tmp_path: Path) -> None:
    study = studied(tmp_path, "failing")
    propose(study, 1)
    run(study, 1)
    folder = checkpoint_folder(study.store) / study.uuid
    assert (folder / "0").is_dir()
    propose(study, 3, promoted_from=0)
    study.store.stop_trial(study.id, 1, "no more of it")  # while it waits: no worker is there to delete anything
    run(study, 2)
    assert not (folder / "0").exists()


def test_an_exported_network_is_the_one_that_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is kept it is taken from there; where it is not, the training is repeated, to the same bits."""
    exported, trained = {}, []

    def exporting(network: torch.nn.Module, *_: object, provenance: dict[str, Any], **__: object) -> list[Path]:
        exported[keep] = {name: tensor.tolist() for name, tensor in network.state_dict().items()}
        assert provenance["metrics_of_this_training"] == provenance["metrics_of_the_trial"]
        return []

    def counting(self: _Silent, step: int, **metrics: float) -> bool:
        trained.append((keep, step))
        return False

    monkeypatch.setattr("nas.export.export_network", exporting)
    monkeypatch.setattr(_Silent, "__call__", counting)
    for keep in ("best", "last"):
        study = studied(tmp_path, keep, checkpoints=keep)
        propose(study, 4)
        run(study, 1)
        assert kept_trials(checkpoint_folder(study.store), study.uuid) == ([0] if keep == "best" else [])
        export_trial(study, 0, tmp_path / "exported")
        if keep == "best":
            kept = {name.removeprefix("network/"): values for name, values in weights(study, 0).items() if "/" in name}
            assert exported[keep].items() <= kept.items()
    assert exported["best"] == exported["last"]
    assert trained == [("last", epoch) for epoch in (1, 2, 3, 4)]
