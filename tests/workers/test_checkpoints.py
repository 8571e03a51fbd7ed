import pickle
import resource

import numpy as np
import pytest
import torch

from workers.checkpoints import CheckpointPlace, UnusableCheckpoint, remove_study, usable_checkpoint
from workers.state_file import read_state, write_state

STUDY = "a" * 32


@pytest.fixture
def place(tmp_path):
    return CheckpointPlace(root=tmp_path / "checkpoints", study=STUDY, trial=7)


def folder(place):
    return place.root / STUDY / "7"


def files(place):
    return sorted(path.name for path in folder(place).iterdir()) if folder(place).is_dir() else []


def test_a_state_comes_back_as_it_was(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    state = {
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "scalar": torch.tensor(3),
        "left": tied,
        "right": tied.T,
        "array": np.array([[1.0, np.nan]]),
        "counts": np.array([1, 2], dtype=np.int16),
        "step": 5,
        "name": "ünïcode",
        "nested": {"list": [1, None, True]},
    }
    write_state(tmp_path / "state", state)
    back = read_state(tmp_path / "state")
    assert set(back) == set(state)
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert back[name].dtype == value.dtype
            assert torch.equal(back[name], value), name
        elif isinstance(value, np.ndarray):
            assert back[name].dtype == value.dtype
            np.testing.assert_array_equal(back[name], value)
        else:
            assert back[name] == value


def test_a_state_of_arrays_alone_needs_no_torch(tmp_path):
    write_state(tmp_path / "state", {"array": np.arange(3), "empty": []})
    back = read_state(tmp_path / "state")
    np.testing.assert_array_equal(back["array"], np.arange(3))
    assert back["empty"] == []


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), np.array(["text"]), b"bytes"])
def test_what_is_no_number_and_no_json_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="a state"):
        write_state(tmp_path / "state", {"thing": value})


def test_a_pickle_is_no_state(tmp_path):
    (tmp_path / "state").write_bytes(pickle.dumps({"step": 1}))
    with pytest.raises(ValueError, match="cannot be read as a state"):
        read_state(tmp_path / "state")


def test_a_checkpoint_is_found_by_its_key_and_believed_by_its_hash(place):
    saved = place.save(1, 1, 30, {"x": np.arange(4)})
    path = usable_checkpoint(place.root, saved.key, saved.digest)
    np.testing.assert_array_equal(read_state(path)["x"], np.arange(4))
    assert saved.size_bytes == path.stat().st_size
    assert saved.key == f"{STUDY}/7/1-1-30.safetensors"
    assert files(place) == ["1-1-30.safetensors"]


def test_a_file_that_was_changed_is_not_believed(place):
    saved = place.save(1, 1, 30, {"x": np.arange(4)})
    path = place.root / saved.key
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnusableCheckpoint, match="its hash differs"):
        usable_checkpoint(place.root, saved.key, saved.digest)
    with pytest.raises(UnusableCheckpoint, match="its hash differs"):
        usable_checkpoint(place.root, saved.key, None)


def test_a_missing_file_and_a_missing_folder_say_so(place):
    with pytest.raises(UnusableCheckpoint, match="cannot be read on this machine"):
        usable_checkpoint(place.root, place.key(1, 1, 1), "0" * 64)
    with pytest.raises(UnusableCheckpoint, match="no folder of checkpoints"):
        usable_checkpoint(None, place.key(1, 1, 1), "0" * 64)


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        f"{STUDY}/7/../../secret.safetensors",
        f"{STUDY}/7/1-1-1.safetensors/../../../secret",
        f"/{STUDY}/7/1-1-1.safetensors",
        f"{STUDY}/7/%2e%2e",
        f"{STUDY}/7/1-1-1.safetensors\0",
        f"{STUDY}/7/1-1-1.safetensors\n",
        f"{STUDY}/7/1-1-1.pkl",
        "",
    ],
)
def test_a_key_leads_nowhere_else(place, key):
    (place.root.parent / "secret.safetensors").write_text("secret")
    with pytest.raises(UnusableCheckpoint, match="is no key"):
        usable_checkpoint(place.root, key, "0" * 64)


@pytest.mark.parametrize("study", ["", "..", "A" * 32, "a" * 31, "a" * 31 + "/"])
def test_a_place_is_below_a_uuid(tmp_path, study):
    with pytest.raises(ValueError, match="uuid"):
        CheckpointPlace(root=tmp_path, study=study, trial=0)
    (tmp_path / "kept").mkdir()
    remove_study(tmp_path, study)
    assert (tmp_path / "kept").is_dir()


def test_a_full_disk_is_an_error_of_the_disk_and_leaves_nothing(place):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            place.save(1, 1, 30, {"x": np.arange(10_000)})
        with pytest.raises(OSError, match="File too large"):
            place.save(1, 1, 30, {"x": torch.arange(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert files(place) == []


def test_a_link_is_not_followed(place, tmp_path):
    saved = place.save(1, 1, 30, {"x": np.arange(4)})
    path = place.root / saved.key
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnusableCheckpoint):
        usable_checkpoint(place.root, saved.key, saved.digest)


def test_a_folder_that_leads_elsewhere_is_not_written_to_nor_read(place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place.root / STUDY).mkdir(parents=True)
    folder(place).symlink_to(elsewhere)
    with pytest.raises(OSError, match="leads out of"):
        place.save(1, 1, 30, {"x": np.arange(4)})
    with pytest.raises(UnusableCheckpoint):
        usable_checkpoint(place.root, place.key(1, 1, 30), "0" * 64)
    assert list(elsewhere.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(place):
    with pytest.raises(ValueError, match="a state"):
        place.save(1, 1, 30, {"x": object()})
    assert files(place) == []


def test_only_what_was_made_before_is_deleted(place):
    kept = {}
    for attempt, count in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1)]:
        kept[attempt, count] = place.save(attempt, count, 10 * count, {"x": np.arange(2)})
    (folder(place) / ("1-3-9.safetensors." + "0" * 16 + ".partial")).write_text("left by a kill")
    (folder(place) / "notes.txt").write_text("somebody's own")
    place.remove_before(kept[2, 2].key)
    assert files(place) == ["2-2-20.safetensors", "2-3-30.safetensors", "3-1-10.safetensors", "notes.txt"]
    place.remove()
    assert files(place) == []
    place.remove()


def test_an_attempt_owns_its_own_keys_only(place):
    assert place.owns(place.key(2, 1, 1), 2)
    assert not place.owns(place.key(1, 1, 1), 2)
    assert not place.owns(f"{'b' * 32}/7/2-1-1.safetensors", 2)
    assert not place.owns(f"{STUDY}/7/2-../../x", 2)
