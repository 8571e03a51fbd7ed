"""Checkpoints behind a URL: the same promises as in a folder, on whatever file system fsspec has."""

import subprocess
import sys
import uuid

import fsspec
import numpy as np
import pytest
from fake_queue import FakeQueue, claimed_trial, study_spec

from workers.checkpoints import CheckpointPlace, UnusableCheckpoint, kept_trials, remove_study, usable_checkpoint
from workers.in_process import InProcess
from workers.remote_folder import RemoteFolder, folder_named
from workers.state_file import read_state
from workers.worker import Worker

STUDY = "a" * 32


@pytest.fixture(params=["memory", "local"])
def root(request, tmp_path):
    """A folder behind a URL: in this process's memory, or one that other processes see as well."""
    if request.param == "local":
        return folder_named(f"local://{tmp_path}/shared")
    return folder_named(f"memory://{uuid.uuid4().hex}/checkpoints")


@pytest.fixture
def place(root):
    return CheckpointPlace(root=root, study=STUDY, trial=7)


def files(place):
    return place.root.names(f"{STUDY}/7")


def test_a_checkpoint_comes_back_and_is_believed_by_its_hash(place, tmp_path):
    saved = place.save(1, 1, 30, {"x": np.arange(4)})
    assert saved.key == f"{STUDY}/7/1-1-30.safetensors"
    assert files(place) == ["1-1-30.safetensors"]
    path = usable_checkpoint(place.root, saved.key, saved.digest, into=tmp_path)
    assert path.parent == tmp_path
    assert path.stat().st_size == saved.size_bytes
    np.testing.assert_array_equal(read_state(path)["x"], np.arange(4))
    for digest in ("0" * 64, None):
        with pytest.raises(UnusableCheckpoint, match="its hash differs"):
            usable_checkpoint(place.root, saved.key, digest, into=tmp_path)


def test_a_torn_file_is_not_believed_and_a_missing_one_says_so(place, tmp_path):
    saved = place.save(1, 1, 30, {"x": np.arange(400)})
    whole = usable_checkpoint(place.root, saved.key, saved.digest, into=tmp_path).read_bytes()
    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2])
    place.root.put(tmp_path / "torn", saved.key)
    with pytest.raises(UnusableCheckpoint, match="its hash differs"):
        usable_checkpoint(place.root, saved.key, saved.digest, into=tmp_path)
    with pytest.raises(UnusableCheckpoint, match="cannot be read"):
        usable_checkpoint(place.root, place.key(9, 9, 9), saved.digest, into=tmp_path)


@pytest.mark.parametrize(
    "key", ["../secret", f"{STUDY}/7/../../secret.safetensors", f"/{STUDY}/7/1-1-1.safetensors", ""]
)
def test_a_key_leads_nowhere_else(place, tmp_path, key):
    with pytest.raises(UnusableCheckpoint, match="is no key"):
        usable_checkpoint(place.root, key, "0" * 64, into=tmp_path)


def test_what_was_made_before_is_deleted_and_nothing_else(place, root, tmp_path):
    kept = {n: place.save(*n, 10, {"x": np.arange(2)}) for n in [(1, 1), (1, 2), (2, 1), (2, 2)]}
    other = CheckpointPlace(root=root, study="b" * 32, trial=7)
    other.save(1, 1, 1, {})
    (tmp_path / "notes").write_text("somebody's own")
    root.put(tmp_path / "notes", f"{STUDY}/7/notes.txt")
    place.remove_before(kept[2, 1].key)
    assert files(place) == ["2-1-10.safetensors", "2-2-10.safetensors", "notes.txt"]
    CheckpointPlace(root=root, study=STUDY, trial=12).save(1, 1, 1, {})
    assert sorted(kept_trials(root, STUDY)) == [7, 12]
    place.remove()
    place.remove()
    assert kept_trials(root, STUDY) == [12]
    for study in (STUDY, "..", ""):
        remove_study(root, study)
    assert kept_trials(root, STUDY) == []
    assert kept_trials(root, "b" * 32) == [7]


def test_a_trial_that_is_given_back_goes_on_from_behind_a_url(root):
    began, queue = [], FakeQueue([claimed_trial()], study_spec())

    def count(assignment, report):
        at = read_state(assignment.checkpoint)["at"] if assignment.checkpoint else 0
        assert at == assignment.start_step
        began.append(at)
        for step in range(at + 1, 11):
            report(step, error=float(step))
            if step == 5 and at == 0:
                workers[-1].stop()
            if report.wants_checkpoint or step % 3 == 0:
                report.checkpoint(step, {"at": step})
        return {"error": 10.0}

    workers = []
    for _ in range(2):
        workers.append(Worker(queue, InProcess(count), name=f"w{len(workers)}", checkpoints=root))
        workers[-1].step()
        queue.again()
    assert began == [0, 5]
    assert queue.ended[1000].how == "completed"
    assert root.names(study_spec().uuid) == []


def test_another_process_finds_what_this_one_has_put_there(tmp_path):
    url = f"local://{tmp_path}/shared"
    code = (
        "import numpy, sys; from workers.checkpoints import CheckpointPlace; from workers.remote_folder import *;"
        f"place = CheckpointPlace(root=folder_named({url!r}), study={STUDY!r}, trial=3);"
        "print(place.save(1, 1, 5, {'x': numpy.arange(3)}).digest)"
    )
    root = folder_named(url)
    assert kept_trials(root, STUDY) == []
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert kept_trials(root, STUDY) == [3]
    path = usable_checkpoint(root, f"{STUDY}/3/1-1-5.safetensors", done.stdout.strip(), into=tmp_path)
    np.testing.assert_array_equal(read_state(path)["x"], np.arange(3))


def test_a_store_that_fails_costs_the_checkpoint_not_the_trial(root, monkeypatch, caplog):
    class NetworkError(Exception):
        """What is no OSError, as network libraries have them."""

    def refuse(*_, **__):
        raise NetworkError("nobody answers")

    monkeypatch.setattr(type(fsspec.core.url_to_fs(root.url)[0]), "put_file", refuse)
    queue = FakeQueue([claimed_trial()], study_spec())

    def evaluate(assignment, report):
        report.checkpoint(1, {"at": 1})
        return {"error": 1.0}

    Worker(queue, InProcess(evaluate), name="w", checkpoints=root).step()
    assert queue.ended[1000].how == "completed"
    assert "NetworkError: nobody answers" in caplog.text


def test_a_url_says_what_is_missing_and_holds_no_password(tmp_path):
    assert folder_named(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert folder_named("relative/folder") == (tmp_path / "relative/folder").relative_to(tmp_path)
    assert str(folder_named("memory://x")) == "memory://x"
    with pytest.raises(ValueError, match="leave the password out") as raised:
        folder_named("sftp://user:secret@host/folder")
    assert "secret" not in str(raised.value)
    with pytest.raises(ValueError, match="no file system for 'nowhere'"):
        folder_named("nowhere://x")


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/x", "s3"), ("gs://bucket/x", "gcs")])
def test_a_file_system_that_is_not_installed_names_the_extra(url, extra, monkeypatch):
    def missing(scheme):
        raise ImportError(f"install what serves {scheme}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ValueError, match=rf"pip install 'nas-service\[{extra}\]'"):
        RemoteFolder(url)
