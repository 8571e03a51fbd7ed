import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import build, load_space
from search_spaces.catalogue import CATALOGUE
from search_spaces.catalogue.nas_bench_201 import (
    EDGES,
    OPERATIONS,
    from_ids,
    from_string,
    nas_bench_201,
    published_key,
    to_ids,
    to_string,
)
from search_spaces.moves import enumerate_all, sample, size
from search_spaces.nodes import SpaceError
from search_spaces.space import SearchSpace


@pytest.fixture(scope="session")
def tables(benchmark_data: Path) -> Any:
    path = benchmark_data / "nasbench201" / "nb201_core.npz"
    if not path.exists():
        pytest.skip("the benchmark data has no nasbench201 folder")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in ("ops", "op_names", "edges", "iso_rep", "params_M")}


def test_the_space_has_six_decisions_and_15625_cells() -> None:
    space = nas_bench_201()
    assert [decision.path for decision in space.decisions] == [f"cell/{i}->{j}" for j in range(1, 4) for i in range(j)]
    assert size(space) == 15_625
    assert space.is_flat


def test_names_and_orders_are_the_benchmark_s(tables: Any) -> None:
    assert tuple(tables["op_names"]) == OPERATIONS
    assert tuple(f"{i}->{j}" for i, j in tables["edges"]) == EDGES


def test_the_published_key_gives_the_6466_published_classes(tables: Any) -> None:
    first: dict[str, int] = {}
    for index, ids in enumerate(tables["ops"]):
        assert first.setdefault(published_key(from_ids(ids)), index) == tables["iso_rep"][index]
    assert len(first) == 6_466


def test_ids_and_texts_lead_back_to_the_cell() -> None:
    for cell in enumerate_all(nas_bench_201()):
        assert from_ids(to_ids(cell)) == cell
        assert from_string(to_string(cell)) == cell
    assert (
        to_string(from_ids((0, 1, 2, 3, 4, 0)))
        == "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|",
        "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_another_text_is_no_cell(text: str) -> None:
    with pytest.raises(SpaceError, match="must read"):
        from_string(text)


@pytest.mark.parametrize("ids", [(0, 1), (0, 1, 2, 3, 4, 5), (-1, 0, 0, 0, 0, 0)])
def test_other_ids_are_no_cell(ids: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match="6 operation ids from 0 to 4"):
        from_ids(ids)


@pytest.mark.slow
def test_parameters_equal_the_published_ones_for_all_cells(tables: Any) -> None:
    """Real networks give the count of each operation on each edge; the published table must be their sum everywhere."""
    space = nas_bench_201()

    def parameters(ids: tuple[int, ...], outputs: int) -> int:
        network = build(space, from_ids(ids), (3, 32, 32), outputs)
        return sum(parameter.numel() for parameter in network.parameters())

    with torch.random.fork_rng():
        for column, outputs in enumerate((10, 100, 120)):
            bare = parameters((0,) * 6, outputs)
            counts = np.array([parameters((operation, 0, 0, 0, 0, 0), outputs) - bare for operation in range(5)])
            expected = bare + counts[tables["ops"]].sum(axis=1)
            assert np.array_equal(np.round(tables["params_M"][:, column].astype(float) * 1e6), expected)
        rng = np.random.default_rng(0)  # and that counts add up is checked on whole cells
        for ids in rng.choice(tables["ops"], 3, replace=False):
            assert parameters(tuple(ids), 120) == bare + counts[ids].sum()


def test_small_networks_take_the_digits_images() -> None:
    space = nas_bench_201(channels=8, cells=1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        network = build(space, sample(space, rng), (1, 8, 8), 10)
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("settings", [{"channels": 0}, {"cells": 1.5}, {"stages": True}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match="must be a whole number >= 1"):
        nas_bench_201(**settings)


# ---- loading by name

LAB = """
from search_spaces import Boolean, Choice, Op, SearchSpace
space = SearchSpace({"x": Boolean()})
def with_settings(options=2, *, name): return SearchSpace({"x": Choice(list(range(options)))}, name=name)
def broken(): raise KeyError("missing piece")
def other(): return 3
number = 3
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_lab_of_spaces.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_lab_of_spaces", raising=False)
    return "my_lab_of_spaces"


def test_ready_spaces_are_loaded_by_name_with_settings() -> None:
    for name in CATALOGUE:
        assert isinstance(load_space(name), SearchSpace)
    assert load_space("nas_bench_201", channels=4) == nas_bench_201(channels=4)


def test_own_spaces_are_loaded_by_path(lab: str) -> None:
    assert size(load_space(f"{lab}:space")) == 2
    assert size(load_space(f"{lab}:with_settings", name="mine", options=3, allow=[lab])) == 3


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        ("nas_bench_21", {}, "did you mean 'nas_bench_201'"),
        ("nas_bench_201", {"chanels": 3}, "unknown setting 'chanels'; did you mean 'channels'"),
        ("{lab}:space", {"x": 3}, "takes no settings"),
        ("{lab}:with_settings", {}, "missing a required argument: 'name'"),
        ("{lab}:broken", {}, "KeyError: 'missing piece'"),
        ("{lab}:other", {}, "must return a SearchSpace, got int"),
        ("{lab}:number", {}, "must be a SearchSpace or return one"),
        ("{lab}:nothing", {}, "has no 'nothing'"),
        ("no_such_lab:space", {}, "there is no module 'no_such_lab'"),
        ("{lab}:space", {"allow": []}, "may not be imported here"),
    ],
)
def test_what_cannot_be_loaded_is_explained(lab: str, path: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_space(path.replace("{lab}", lab), **settings)
