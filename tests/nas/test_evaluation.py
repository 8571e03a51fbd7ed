"""Which workers a study gets."""

from pathlib import Path
from typing import Any

import pytest

import nas
from nas.settings import Limits
from search_spaces import Choice, SearchSpace
from workers.local_pool import LocalPool
from workers.ray_pool import RayPool

SPACE = SearchSpace({"x": Choice([1, 2])}, name="toy")


def study(folder: Path, name: str, evaluator: Any, **limits: Any) -> nas.Study:
    return nas.create_study(
        name,
        space=SPACE,
        metrics="error",
        evaluator=evaluator,
        limits=Limits(**limits),
        storage=f"sqlite:///{folder}/studies.db",
    )


def pool_of(study: nas.Study, function: Any = None, *, workers: int = 1, kind: str = "auto", gpus: float = 0.0) -> Any:
    pool = study.make_pool(function, kind=kind, workers=workers, gpus_per_worker=gpus, ray_address=None)
    study.close()
    return pool


def test_one_worker_evaluates_here_and_several_in_processes(tmp_path: Path) -> None:
    assert isinstance(pool_of(study(tmp_path, "one", "table")), LocalPool)
    assert isinstance(pool_of(study(tmp_path, "two", "table"), workers=2), RayPool)


@pytest.mark.parametrize("limits", [{"time_limit_seconds": "2m"}, {"memory_limit_bytes": "1GiB"}])
def test_limits_are_held_by_a_process_even_around_one_worker(tmp_path: Path, limits: Any, caplog: Any) -> None:
    assert isinstance(pool_of(study(tmp_path, "limited", "table", **limits)), RayPool)
    assert caplog.text == ""


def test_a_share_of_a_gpu_is_for_processes_only(tmp_path: Path) -> None:
    def evaluate(assignment: Any, report: Any) -> dict[str, float]:
        return {"error": 1.0}

    assert isinstance(pool_of(study(tmp_path, "one", "table"), gpus=0.5), RayPool)
    for name, evaluator, kind in (("local", "table", "local"), ("function", evaluate, "auto")):
        made = study(tmp_path, name, evaluator)
        with pytest.raises(nas.NasError, match=f"'{name}': gpus_per_worker 0.5 needs Ray workers"):
            pool_of(made, evaluate, kind=kind, gpus=0.5)


def test_limits_that_cannot_be_held_are_called_by_name(tmp_path: Path, caplog: Any) -> None:
    def evaluate(assignment: Any, report: Any) -> dict[str, float]:
        return {"error": 1.0}

    made = study(tmp_path, "limited", evaluate, memory_limit_bytes="1GiB")
    assert isinstance(pool_of(made, evaluate), LocalPool)
    assert "'limited': its limits are not held in this process" in caplog.text
    assert "memory not at all" in caplog.text
    caplog.clear()
    assert isinstance(pool_of(study(tmp_path, "here", "table", time_limit_seconds=5), kind="local"), LocalPool)
    assert "'here': its limits are not held" in caplog.text


def test_data_is_stored_as_it_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    given = {"digits": "digits", "table.csv": f"{tmp_path}/table.csv", "lab:data": "lab:data", "no.npz": "no.npz"}
    for index, (data, stored) in enumerate(given.items()):
        made = nas.create_study(
            f"study {index}", space=SPACE, metrics="error", data=data, storage=f"sqlite:///{tmp_path}/studies.db"
        )
        assert made.spec["task"]["data"] == stored
        made.close()
