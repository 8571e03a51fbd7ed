"""`nas storage copy`: every row, between both kinds of database, or nothing at all."""

import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

import nas
from nas.errors import StorageError
from nas.store import open_store
from nas.store.check import check
from nas.store.copy import TABLES, copy
from search_spaces import Float, Integer, SearchSpace
from tests.nas.store.filling import SPEC, new
from tests.nas.store.scene import everything
from tests.nas.store.stored_schema import fill

SPACE = SearchSpace({"x": Float(-2.0, 2.0), "width": Integer(1, 9)}, name="toy")
SWAPPED = pytest.mark.parametrize(
    "direction", ["to a server", "to a file", "from file to file", "from server to server"]
)


def evaluate(assignment: Any, report: Callable[..., Any]) -> dict[str, float]:
    chosen = assignment.architecture
    report(0, error=abs(chosen["x"]))
    return {"error": chosen["x"] ** 2, "cost": float(chosen["width"])}


@pytest.fixture
def ends(direction: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, str]:
    """Where from, where to."""
    file = f"sqlite:///{tmp_path / 'a.db'}"
    if direction == "from file to file":
        return file, f"sqlite:///{tmp_path / 'b.db'}"
    server: str = request.getfixturevalue("postgresql_url")
    if direction == "from server to server":
        import psycopg

        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS second_side")
            connection.execute("DROP SCHEMA second_side CASCADE")
            connection.execute("CREATE SCHEMA second_side")
        return server, server.partition("&options")[0] + "&options=-csearch_path%3Dsecond_side"
    return (file, server) if direction == "to a server" else (server, file)


def rows_of(url: str) -> dict[str, list[str]]:
    with open_store(url, create=False) as store:
        return everything(store)


@SWAPPED
def test_a_copied_study_has_the_same_front_and_goes_on(ends: tuple[str, str]) -> None:
    here, there = ends
    study = nas.create_study("toy", space=SPACE, metrics=["error", "cost"], storage=here, seed=3)
    study.run(evaluator=evaluate, trials=12, pool="local")
    with open_store(here) as store:
        fill(store)
        row = store.create_study("gone", SPEC, seed=1)
        store.delete_study("gone")
    copied = copy(here, there)
    assert rows_of(there) == rows_of(here)
    assert copied.rows["trials"] == 18
    assert all(copied.rows[table.name] for table in TABLES if table.name not in ("leases", "checkpoints"))
    assert check(there).findings == ()

    twin = nas.open_study("toy", there)
    assert [trial.number for trial in twin.pareto_front()] == [trial.number for trial in study.pareto_front()]
    assert twin.best.metrics == study.best.metrics
    for end in ends:  # a worker that was seen a minute ago would have one more trial proposed for it
        with open_store(end) as store:
            store.queue.leave("w")
    for one in (study, twin):  # both go on, with the same proposals
        one.run(evaluator=evaluate, trials=16, pool="local")
    assert [trial.architecture for trial in twin.trials] == [trial.architecture for trial in study.trials]
    for one in (study, twin):
        one.close()
    with open_store(there) as store:
        # ids are never given out again, not even those of studies that were deleted before the copy
        assert store.create_study("next", SPEC, seed=0).id > row.id
    assert check(there).findings == ()


@pytest.mark.parametrize("direction", ["to a server", "to a file"])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8),
    whole=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4, unique=True),
)
def test_odd_values_come_out_as_they_went_in(
    ends: tuple[str, str], values: list[float], whole: list[int], words: list[str]
) -> None:
    here, there = ends
    values = [*values, -0.0, 1e-320, 2.0**53 + 2, 1.7976931348623157e308]
    whole = [*whole, 2**53 + 1, 2**63 - 1, -(2**63)]
    with open_store(here) as store:
        for row in store.studies():
            store.delete_study(row.name)
        study = store.create_study("odd", SPEC, seed=2**63 - 1)
        store.propose(study.id, [new(key) for key in [*values, *whole]])
        trial = store.trial(study.id, 0).id

        def plant(connection: Any) -> None:
            measured = text(
                "INSERT INTO measurements (trial_id, attempt, metric, step, value, kind)"
                " VALUES (:trial, 1, :metric, :step, :value, 'finite')"
            )
            for step, value in enumerate(values):
                connection.execute(measured, {"trial": trial, "metric": "m", "step": step, "value": value})
            for step in set(whole):
                connection.execute(measured, {"trial": trial, "metric": "n", "step": step, "value": 0.5})
            for word in words:
                connection.execute(measured, {"trial": trial, "metric": word, "step": -1, "value": 1.0})
                noted = text("INSERT INTO attributes (trial_id, key, value) VALUES (:trial, :word, :word)")
                connection.execute(noted, {"trial": trial, "word": word})

        store._database.write(plant)
    empty(there)
    copy(here, there)
    found, expected = rows_of(there), rows_of(here)
    if here.startswith("postgresql"):  # SQLite's columns of numbers know no -0.0; its JSON does
        expected["measurements"] = sorted(row.replace(" -0.0,", " 0.0,") for row in expected["measurements"])
        assert any("-0.0" in row for row in found["trials"])
    assert found == expected
    with open_store(there) as store:
        first = [trial.architecture["op"] for trial in store.all_trials(store.study("odd").id)][: len(values)]
        assert [math.copysign(1, value) for value in first] == [math.copysign(1, value) for value in values]


def empty(url: str) -> None:
    """Leave nothing in a database."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).unlink(missing_ok=True)
        return
    with open_store(url) as store:

        def drop(connection: Any) -> None:
            for table in ("nas_schema", *(table.name for table in reversed(TABLES))):
                connection.execute(text(f"DROP TABLE {table}"))

        store._database.write(drop)


@pytest.mark.parametrize("direction", ["to a server"])
def test_what_cannot_be_copied_is_refused_and_the_target_left_empty(ends: tuple[str, str], tmp_path: Path) -> None:
    here, there = ends
    with pytest.raises(StorageError, match="does not exist"):
        copy(here, there)
    with open_store(here) as store:
        study = store.create_study("busy {x}", SPEC, seed=0)
        store.propose(study.id, [new(0), new(1)])
        [held] = store.queue.claim("w", 1, claim_key="k")
        with pytest.raises(StorageError, match=r"hold trials of 'busy \{x\}' \(1\).*nas pause.*nothing was copied"):
            copy(here, there)
        store.queue.release(held.trial_id, held.attempt)
    with pytest.raises(StorageError, match="is the database to copy"):
        copy(here, here)
    copy(here, there)
    before = rows_of(there)
    with pytest.raises(StorageError, match="holds studies already"):
        copy(here, there)
    assert rows_of(there) == before


@pytest.mark.parametrize("direction", ["to a server", "to a file"])
def test_a_lease_that_is_over_is_copied_and_its_trial_comes_back(ends: tuple[str, str]) -> None:
    here, there = ends
    with open_store(here) as store:
        study = store.create_study("demo", SPEC, seed=0)
        store.propose(study.id, [new(0)])
        store.queue.claim("w", 1, claim_key="k")
        store._database.write(lambda connection: connection.execute(text("UPDATE leases SET expires_at = 1")))
    assert copy(here, there).rows["leases"] == 1
    assert rows_of(there) == rows_of(here)
    assert check(there).findings == ()


@pytest.mark.parametrize("direction", ["to a server", "from file to file"])
def test_a_row_that_the_target_changes_is_found_and_nothing_stays(
    ends: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.store import copy as copying

    here, there = ends
    with open_store(here) as store:
        fill(store)
    count = copying._go_on_counting

    def spoil(connection: Any, table: Any, last: int) -> None:
        count(connection, table, last)
        if table.name == "measurements":
            connection.execute(text("UPDATE measurements SET value = value + 1e-12 WHERE step = 1"))

    monkeypatch.setattr(copying, "_go_on_counting", spoil)
    with pytest.raises(StorageError, match=r"does not keep the table measurements.*nothing was copied"):
        copy(here, there)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="holds no studies"):
        open_store(there, create=False)
    copy(here, there)
    assert rows_of(there) == rows_of(here)


def copy_until_killed(here: str, there: str) -> None:
    def die(done: int, total: int) -> None:
        if done == total:  # all is written and compared, nothing committed
            os.kill(os.getpid(), signal.SIGKILL)

    copy(here, there, tell=die)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["to a server", "to a file"])
def test_a_copy_that_is_killed_leaves_the_target_empty(ends: tuple[str, str]) -> None:
    here, there = ends
    with open_store(here) as store:
        fill(store)
    killed = multiprocessing.get_context("spawn").Process(target=copy_until_killed, args=(here, there))
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    with pytest.raises(StorageError, match="holds no studies"):
        open_store(there, create=False)
    copy(here, there)
    assert rows_of(there) == rows_of(here)
