"""Code that a study names is imported only where whoever runs it allows its package; and ours only for its own use."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from nas import catalogue
from nas.preflight import check_stored
from search_spaces import Choice, Float, Op, SearchSpace, load_space
from search_spaces.build import build
from search_spaces.loading import ImportRefused
from workers.calling import load_evaluator
from workers.datasets import load_dataset

OUTSIDE = (
    *("os:system", "builtins:eval", "builtins:exec", "subprocess:run", "posix:system", "shutil:rmtree", "pickle:loads"),
    *(
        "importlib:import_module",
        "torch:load",
        "torch.hub:load",
        "torch.jit:load",
        "ctypes:CDLL",
        "antigravity:fly_like",
    ),
    *("nass:x", "nas_evil:x", "workers_:x", "torch.nnx:x", "torch.nn.functional:torch.load"),
)
OURS_OF_ANOTHER_KIND = (
    *("nas.cli:main", "nas.studies:delete_study", "nas.store:open_store", "nas.store.upgrade:upgrade"),
    *("nas.store.database:Database", "workers.child_process:ChildProcess", "workers.checkpoints:remove_study"),
    *("search_spaces.export:export_network", "search_spaces.loading:load_object", "workers.processes:kill_family"),
)


def operation(path: str) -> object:
    space = SearchSpace([Op(path, label="op", name="x"), Op("torch.nn:Flatten")], name="s")
    return build(space, {}, input_shape=(3,), outputs=2)


DOORS: dict[str, Callable[[str], object]] = {
    "strategy": lambda path: catalogue.load("strategy", path, {}),
    "evaluator": lambda path: catalogue.load("evaluator", path, {}),
    "evaluator in the child": lambda path: load_evaluator({"path": path, "settings": {}}),
    "space": lambda path: load_space(path, allow=()),
    "data": load_dataset,
    "operation": operation,
}


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_plug_in_is_refused_at_every_door(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (*OUTSIDE, *OURS_OF_ANOTHER_KIND):
        is_refused(door, path, monkeypatch)


def is_refused(door: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    with monkeypatch.context() as patch:
        if not path.startswith("torch.nn."):  # that module is allowed, what it has imported is not
            patch.setattr("search_spaces.loading.importlib.import_module", imported.append)
        with pytest.raises(ValueError, match=r"may not be imported|nothing that may be named|is a module") as refused:
            DOORS[door](path)
    causes = [refused.value, refused.value.__cause__, refused.value.__context__]
    assert any(isinstance(cause, ImportRefused) for cause in causes), refused.value
    assert imported == [], "refused before anything is imported"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a mark when it is imported."""
    (tmp_path / "marking_lab.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"
        "def evaluate(assignment, report):\n    return {'error': 0.0}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "marking_lab", None)
    del sys.modules["marking_lab"]
    monkeypatch.delenv("NAS_ALLOW", raising=False)
    return tmp_path


def plant(database: Path, **changes: Any) -> None:
    """Write into the spec of the only study, as whoever can write to the database could."""
    with sqlite3.connect(database) as connection:
        [(text,)] = connection.execute("SELECT spec FROM studies").fetchall()
        connection.execute("UPDATE studies SET spec = ?", (json.dumps({**json.loads(text), **changes}),))
    connection.close()


@pytest.mark.parametrize("path", ["marking_lab:evaluate", "os:system", "nas.studies:delete_study"])
@pytest.mark.parametrize("place", ["evaluator", "strategy", "space", "data"])
def test_a_stored_study_cannot_have_its_code_imported_unless_it_is_allowed(lab: Path, place: str, path: str) -> None:
    url = f"sqlite:///{lab}/nas.db"
    space = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}, name="toy")
    nas.create_study("victim", space=space, metrics=["error"], storage=url, evaluator="training", data="iris").close()
    part = {"path": path, "settings": {}}
    changes: dict[str, Any] = {
        "evaluator": {"evaluator": part},
        "strategy": {"strategy": part},
        "data": {"task": {"data": path, "settings": {"name": "victim", "storage": url}}},
        "space": {"space": operation_document(path), "space_source": part},
    }[place]
    plant(lab / "nas.db", **changes)
    study = nas.open_study("victim", url)
    with pytest.raises(ValueError, match=r"may not be imported|nothing that may be named"):
        use(study)
    study.close()
    assert not (lab / "imported").exists()
    assert [row.name for row in nas.list_studies(url)] == ["victim"]


def use(study: nas.Study) -> None:
    """What a resumed search does with the code that its study names."""
    check_stored(study)
    task = study.spec["task"]
    load_dataset(task["data"], **task["settings"])  # what the evaluator does with it, in its own process


def operation_document(path: str) -> dict[str, Any]:
    op = {"node": "op", "factory": path, "label": "op", "traits": [], "settings": [["name", "victim"]]}
    return {"name": "planted", "root": [op]}


def test_permission_comes_from_who_runs_never_from_the_database(lab: Path) -> None:
    url = f"sqlite:///{lab}/nas.db"
    space = SearchSpace({"x": Float(0.0, 1.0)}, name="toy")
    nas.create_study("s", space=space, metrics=["error"], storage=url, evaluator="training", data="iris").close()
    plant(
        lab / "nas.db", evaluator={"path": "marking_lab:evaluate", "settings": {}}, allow=["marking_lab"], NAS_ALLOW="*"
    )
    refused = nas.open_study("s", url)
    with pytest.raises(ImportRefused, match="--allow marking_lab"):
        check_stored(refused)
    assert not (lab / "imported").exists()
    allowed = nas.open_study("s", url, allow=["marking_lab"])
    check_stored(allowed)
    assert (lab / "imported").exists()
    refused.close()
    allowed.close()
