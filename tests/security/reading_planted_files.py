"""Read, under an audit hook, everything we read from disk or a database, with pickles planted in it.

Run as ``python reading_planted_files.py FOLDER``; prints a JSON object: what the hook saw, and how often each reader
was tried and refused. A process of its own, since an audit hook cannot be taken away again.
"""

import gzip
import io
import json
import os
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import load_file
from sqlalchemy import Text

import nas
from nas.history import History
from nas.settings import read_study_file
from nas.store.schema import metadata
from search_spaces import Choice, Float, SearchSpace
from workers.checkpoints import usable_checkpoint
from workers.datasets import load_dataset
from workers.evaluators.tables.table import read_table
from workers.latency_predictor import read_predictor
from workers.latency_table import LatencyTable
from workers.protocol import Measurement
from workers.state_file import read_state
from workers.training.checkpoint import restore_training

SPACE = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}, name="toy")
FORBIDDEN_EVENTS = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "os.fork",
    "pickle.find_class",
}
FORBIDDEN_IMPORTS = {"dill", "cloudpickle", "shelve", "antigravity", "planted"}


class Planted:
    """Unpickling it makes a folder, and imports what nobody asked for."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"mkdir {self.marker}",)


def payloads(folder: Path) -> list[bytes | str]:
    """A planted object in the forms in which it may lie somewhere."""
    raw = pickle.dumps(Planted(folder / "unpickled"), protocol=0)
    saved = io.BytesIO()
    torch.save(Planted(folder / "unpickled"), saved)
    return [
        raw,
        raw.decode("ascii"),
        pickle.dumps(Planted(folder / "unpickled"), protocol=4),
        saved.getvalue(),
        json.dumps({"py/reduce": [{"py/function": "os.system"}, ["id"]], "py/object": "planted.Planted"}),
        "!!python/object/apply:os.system ['id']",
        "__import__('planted')",
    ]


def plant_in_files(folder: Path, payload: bytes) -> None:
    """Files of every kind that is read."""
    objects = np.array([Planted(folder / "unpickled")], dtype=object)
    np.savez(folder / "objects.npz", x=objects, y=objects, X=objects, test_mask=objects, datasets=objects)
    np.save(folder / "array.npy", objects, allow_pickle=True)
    shutil.copy(folder / "array.npy", folder / "array.npz")
    for name in (
        "raw.npz",
        "raw.csv",
        "raw.tsv",
        "raw.parquet",
        "state.safetensors",
        "study.toml",
        "weights.safetensors",
    ):
        (folder / name).write_bytes(payload)
    with gzip.open(folder / "packed.csv.gz", "wb") as file:
        file.write(payload)
    field = pyarrow.field(
        "x",
        pyarrow.int64(),
        metadata={b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload},
    )
    table = pyarrow.table([pyarrow.array([1, 2])], schema=pyarrow.schema([field], metadata={b"pandas": payload}))
    pyarrow.parquet.write_table(table, folder / "extension.parquet")
    strange = pandas.DataFrame({"x": [payload] * 30, "target": [1, 2] * 15})
    strange.to_parquet(folder / "bytes.parquet")
    for group, name in (
        ("mnist", "train-images-idx3-ubyte"),
        ("mnist", "train-labels-idx1-ubyte"),
        ("cifar", "data_batch_1.bin"),
    ):
        (folder / group).mkdir(exist_ok=True)
        (folder / group / name).write_bytes(payload)
    for group in ("cat", "dog"):
        (folder / "images" / group).mkdir(parents=True, exist_ok=True)
        (folder / "images" / group / "one.png").write_bytes(payload)


def read_files(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """(what is read, how) for each of them."""
    for name in ("objects.npz", "array.npz", "array.npy", "raw.npz", "mnist", "cifar", "images"):
        yield name, lambda name=name: load_dataset(folder / name)
    for name in ("raw.csv", "raw.tsv", "raw.parquet", "packed.csv.gz", "extension.parquet", "bytes.parquet"):
        yield name, lambda name=name: load_dataset(folder / name, target="target")
    for name in ("objects.npz", "array.npz", "raw.npz"):
        yield f"table {name}", lambda name=name: read_table(str(folder / name), "unused")
    yield "state", lambda: read_state(folder / "state.safetensors")
    yield "checkpoint", lambda: restore_training(folder / "state.safetensors", torch.nn.Linear(1, 1))
    yield "checkpoint key", lambda: usable_checkpoint(folder, "../state.safetensors", None)
    yield "study file", lambda: read_study_file(folder / "study.toml")
    yield "latency table", lambda: LatencyTable(folder / "raw.csv", torch.device("cpu"))
    yield "latency predictor", lambda: read_predictor(folder / "raw.csv")
    yield "export", lambda: load_file(folder / "weights.safetensors")


def make_database(path: Path) -> None:
    """A study with something in every table."""
    study = nas.create_study("planted", space=SPACE, metrics=["error"], storage=f"sqlite:///{path}")
    study.add_trials([({"x": 0.5, "kind": "a"}, {"error": 0.5})])
    queue = study.store.queue
    queue.register("worker", host="h", boot="b", pid=1, started=1.0, device="cpu")
    for number in range(3):
        study.enqueue({"x": number / 10, "kind": "b"})
    for claimed in queue.claim("worker", 2, claim_key="key"):
        queue.report(claimed.trial_id, claimed.attempt, [Measurement(metric="error", step=1, value=0.5)])
        queue.checkpoint(claimed.trial_id, claimed.attempt, step=1, key="a/b", digest="0", size_bytes=1)
    queue.finish(claimed.trial_id, claimed.attempt, {"error": 1.0}, attributes={"note": [1]})
    study.close()


def read_database(path: Path) -> None:
    """Everything that is ever read from it, and a new claim."""
    study = nas.open_study("planted", f"sqlite:///{path}")
    reads: list[Callable[[], object]] = [
        lambda: study.space,
        lambda: study.metrics,
        lambda: study.strategy,
        lambda: study.stop,
        lambda: History(study.space, study.metrics, seed=0).update(study.store.changes(study.id, 0)),
        lambda: (study.trials, study.best, study.pareto_front(), study.counts(), study.to_dataframe()),
        lambda: [study.store.attributes(number) for number in range(1, 5)],
        lambda: (study.store.measurements(study.id), study.store.events(study.id), study.store.workers(study.id)),
        lambda: [study.store.attempts(number) for number in range(1, 5)],
        lambda: study.store.queue.spec(study.id),
        lambda: study.store.queue.claim("worker", 5, claim_key="another"),
        lambda: study.store.reap(study.id),
        lambda: study.ask(),
    ]
    errors = []
    for read in reads:
        try:
            read()
        except Exception as error:
            errors.append(error)
    study.close()
    if errors:
        raise errors[0]


def read_databases(folder: Path, planted: list[bytes | str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every text column of every table, each with a pickle as bytes and as JSON."""
    make_database(folder / "good.db")
    copy = folder / "bad.db"
    for table in metadata.sorted_tables:
        for column in table.columns:
            if not isinstance(column.type, Text):
                continue
            for index, payload in enumerate((planted[0], planted[4])):

                def read(table: str = table.name, column: str = column.name, payload: bytes | str = payload) -> None:
                    for suffix in ("", "-wal", "-shm"):
                        Path(f"{copy}{suffix}").unlink(missing_ok=True)
                    shutil.copy(folder / "good.db", copy)
                    with sqlite3.connect(copy) as connection:
                        # one row where they must differ
                        one = f" WHERE rowid = (SELECT min(rowid) FROM {table})" if table in ("studies",) else ""
                        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ?{one}", (payload,))
                    connection.close()
                    read_database(copy)

                yield f"{table.name}.{column.name} {index}", read


def main(folder: Path) -> None:
    """Plant, then read with the hook in place."""
    planted = payloads(folder)
    assert isinstance(planted[0], bytes)
    plant_in_files(folder, planted[0])
    (folder / "planted.py").write_text("import os\nos.mkdir('imported')\n")
    sys.path.insert(0, str(folder))
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN_EVENTS or (
            event == "import" and str(arguments[0]).partition(".")[0] in FORBIDDEN_IMPORTS
        ):
            seen.append(f"{event} {str(arguments)[:200]}")

    jobs = [*read_files(folder), *read_databases(folder, planted)]
    sys.addaudithook(hook)
    refused = {}
    for what, read in jobs:
        try:
            read()
        except Exception as error:
            refused[what] = f"{type(error).__name__}: {error}"[:200]
    forgotten = list(seen)
    seen.clear()
    pickle.loads(pickle.dumps(Path))  # the hook sees what it should
    print(json.dumps({"seen": forgotten, "hook works": bool(seen), "jobs": len(jobs), "refused": refused}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
