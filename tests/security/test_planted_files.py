"""Pickles planted in every file and every column that we read are never unpickled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

READER = Path(__file__).with_name("reading_planted_files.py")
ROOT = READER.parent.parent.parent


@pytest.mark.slow
def test_planted_pickles_are_never_unpickled(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, READER, tmp_path], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["hook works"]
    assert found["seen"] == []
    assert not (tmp_path / "unpickled").exists()
    assert not (tmp_path / "imported").exists()
    assert found["jobs"] > 80
    refused = found["refused"]
    for name in (
        "objects.npz",
        "array.npz",
        "array.npy",
        "raw.npz",
        "raw.parquet",
        "extension.parquet",
        "packed.csv.gz",
    ):
        assert refused[name].startswith("DataError: "), refused[name]
    for name in ("state", "checkpoint", "study file", "latency predictor", "table objects.npz", "table raw.npz"):
        assert refused[name].startswith(("ValueError: ", "TableError: ")), refused[name]
    assert "UnusableCheckpoint" in refused["checkpoint key"]
