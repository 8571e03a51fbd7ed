"""Files beside the database belong to one study, and go with it."""

from pathlib import Path

import pytest

import nas
from nas.files import checkpoint_folder, log_folder, sweep_checkpoints
from nas.preflight import check
from nas.settings import settings_from
from nas.store import open_store
from search_spaces import Choice, SearchSpace

SPACE = SearchSpace({"x": Choice([1, 2])}, name="toy")


def create(url: str, name: str = "study") -> nas.Study:
    return nas.create_study(name, space=SPACE, metrics="error", storage=url)


def fill(study: nas.Study) -> list[Path]:
    """A log and a checkpoint of trial 0."""
    made = [
        log_folder(study.store) / study.uuid / "0-1.log",
        checkpoint_folder(study.store) / study.uuid / "0" / "1-1-1.safetensors",
    ]
    for path in made:
        path.parent.mkdir(parents=True)
        path.write_text("text")
    return made


def test_deleting_a_study_deletes_its_files_and_no_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    studies = [create(url, name) for name in ("one", "two")]
    files = [fill(study) for study in studies]
    for study in studies:
        study.close()
    nas.delete_study("one", url)
    assert not any(path.exists() for path in files[0])
    assert not any(path.parent.parent.name == studies[0].uuid for path in tmp_path.rglob("*"))
    assert all(path.exists() for path in files[1])


def test_a_database_made_anew_does_not_find_the_files_of_the_old_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    old = create(url)
    fill(old)
    old.close()
    for path in tmp_path.glob("studies.db*"):
        if path.is_file():
            path.unlink()
    new = create(url)
    assert new.id == old.id
    assert not (log_folder(new.store) / new.uuid).exists()
    new.close()


def test_checkpoints_of_trials_that_ended_unattended_are_swept(tmp_path: Path) -> None:
    study = create(f"sqlite:///{tmp_path}/studies.db")
    for _ in range(2):
        study.enqueue({"x": 1})
    folder = checkpoint_folder(study.store) / study.uuid
    for name in ("0", "1", "99", "notes"):
        (folder / name).mkdir(parents=True)
    study.store.stop_trial(study.id, 0, "not wanted")
    sweep_checkpoints(checkpoint_folder(study.store), study.uuid, study.history)
    assert sorted(path.name for path in folder.iterdir() if path.name in ("0", "1")) == ["1"]
    assert (folder / "notes").is_dir()
    study.close()


def test_the_folder_of_checkpoints_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(f"sqlite:///{tmp_path}/studies.db") as store:
        assert checkpoint_folder(store) == tmp_path / "studies.db.checkpoints"
        monkeypatch.setenv("NAS_CHECKPOINTS", "shared/checkpoints")
        assert checkpoint_folder(store) == tmp_path / "shared" / "checkpoints"


def test_a_url_that_cannot_be_used_is_refused_before_a_study_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"name": "s", "space": "mlp", "data": "iris", "metrics": "error"}
    for url, said in (("nowhere://bucket", "no file system for 'nowhere'"), ("sftp://u:p@host/x", "password")):
        monkeypatch.setenv("NAS_CHECKPOINTS", url)
        with pytest.raises(ValueError, match=said):
            check(settings_from(document))
        with open_store(f"sqlite:///{tmp_path}/studies.db") as store, pytest.raises(ValueError, match=said):
            checkpoint_folder(store)
    monkeypatch.setenv("NAS_CHECKPOINTS", "memory://checkpoints")
    with open_store(f"sqlite:///{tmp_path}/studies.db") as store:
        assert str(checkpoint_folder(store)) == "memory://checkpoints"


def test_on_a_server_the_folders_are_here_unless_named(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(postgresql_url) as store:
        assert checkpoint_folder(store) == tmp_path / "nas-checkpoints"
        assert log_folder(store) == tmp_path / "nas-logs"
