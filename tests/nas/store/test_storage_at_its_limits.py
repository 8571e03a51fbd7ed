"""A full disk, 200 creations at once, a role whose password is full of odd characters."""

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from nas.errors import StorageError, StudyExists
from nas.store import Store, open_store, upgrade
from nas.store.check import check
from nas.store.copy import copy
from tests.nas.store.filling import GOOD, SPEC, new
from workers.protocol import Measurement


def create_many(url: str, count: int) -> list[str]:
    """Create one study from so many threads of a process; what became of each."""

    def create(store: Store) -> str:
        try:
            made = store.create_study("demo", SPEC, seed=0)
        except StudyExists:
            assert store.study("demo").spec == SPEC
            return "there"
        return f"made {made.uuid}"

    with open_store(url) as store, ThreadPoolExecutor(8) as threads:
        return list(threads.map(create, [store] * count))


@pytest.mark.slow
def test_of_200_creations_at_once_one_makes_the_study_and_the_others_find_it(store_url: str) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        said = [line for lines in processes.map(create_many, [store_url] * 2, [100] * 2) for line in lines]
    assert len(said) == 200
    assert said.count("there") == 199
    with open_store(store_url) as store:
        assert f"made {store.study('demo').uuid}" in said
    assert check(store_url).findings == ()


def work(store: Store, study_id: int, done: list[int], *, trials: int = 1) -> None:
    """Trials from proposal to result; `done` gets each one's number once it is acknowledged."""
    for _ in range(trials):
        store.propose(study_id, [new(len(done), attributes={"note": "x" * 900})])
        [trial] = store.queue.claim("w", 1, claim_key=f"{store.study('demo').next_number}")
        store.queue.report(
            trial.trial_id, trial.attempt, [Measurement(metric="error", step=step, value=0.5) for step in range(60)]
        )
        store.queue.finish(trial.trial_id, trial.attempt, GOOD)
        done.append(trial.number)


@pytest.mark.slow
def test_a_disk_that_is_full_at_50_moments_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    # SQLite's own limit of pages gives the same answer as a disk without room, at any page
    url = f"sqlite:///{tmp_path / 'full.db'}"
    with open_store(url) as store:
        study, done = store.create_study("demo", SPEC, seed=0), list[int]()
        limit = 0
        engine = store._database.engine

        @event.listens_for(engine, "checkout")
        def fill_up(connection: sqlite3.Connection, record: object, proxy: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {limit or 1_000_000}")

        for moment in range(50):
            with closing(sqlite3.connect(tmp_path / "full.db")) as look:
                limit = look.execute("PRAGMA page_count").fetchone()[0] + moment % 3
            with pytest.raises(StorageError, match="full") as full:
                work(store, study.id, done, trials=20)
            assert "\n" not in str(full.value)
            limit = 0  # there is room again: what was begun can be ended
            for trial in store.trials(study.id, states=["running"]):
                store.queue.release(trial.id, trial.attempt)
            if moment % 10 == 0:
                assert check(url).findings == ()
            store.stop_all(study.id, "begun while the disk was full")
        ended = {trial.number for trial in store.all_trials(study.id, states=["completed"])}
        assert set(done) <= ended
        work(store, study.id, done)
    assert check(url).findings == ()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mounting, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if made.returncode:
        pytest.skip(f"file systems cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'full.db'}"
    with open_store(url) as store:
        study, done = store.create_study("demo", SPEC, seed=0), list[int]()
        with pytest.raises(StorageError, match="full"):
            work(store, study.id, done, trials=5000)
        assert done
        subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
        ended = {trial.number for trial in store.all_trials(study.id, states=["completed"])}
        assert set(done) <= ended
        work(store, study.id, done)
    assert check(url).findings == ()


def test_a_role_with_an_odd_password_is_let_in_and_its_password_is_not_shown(
    postgresql_server: str, postgresql_url: str, tmp_path: Path
) -> None:
    import psycopg
    from psycopg import sql

    password = "{}%@:/ p{x}%41'\\"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        schema = make_url(postgresql_url).query["options"].rpartition("=")[2]  # type: ignore[union-attr]
        connection.execute("SET password_encryption = 'scram-sha-256'")
        connection.execute(sql.SQL("CREATE ROLE odd LOGIN PASSWORD {}").format(sql.Literal(password)))
        connection.execute(sql.SQL("GRANT ALL ON SCHEMA {} TO odd").format(sql.Identifier(schema)))
        [found] = connection.execute("SHOW hba_file").fetchone() or ()
        rules = Path(found)
        before = rules.read_text()
        try:
            rules.write_text("local all odd scram-sha-256\nhost all odd all scram-sha-256\n" + before)
            connection.execute("SELECT pg_reload_conf()")
            as_odd = make_url(postgresql_url).set(username="odd")
            url = as_odd.set(password=password).render_as_string(hide_password=False)
            wrong = as_odd.set(password="wrong").render_as_string(hide_password=False)
            plain = make_url(wrong).render_as_string(hide_password=False)
            for _ in range(200):  # until the server has read its rules
                try:
                    psycopg.connect(plain).close()
                except psycopg.OperationalError:
                    break
                time.sleep(0.05)
            with pytest.raises(StorageError, match="password") as refusal:
                open_store(wrong)
            assert "wrong" not in str(refusal.value)
            with open_store(url) as store:
                store.create_study("demo", SPEC, seed=0)
            assert "already" in upgrade(url)
            copied = copy(url, f"sqlite:///{tmp_path / 'copy.db'}")
            assert "***" in copied.source
            assert "p{x}" not in f"{copied} {upgrade(url)}"
            assert "p%7Bx" not in f"{copied} {upgrade(url)}"
        finally:
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP OWNED BY odd CASCADE")
            connection.execute("DROP ROLE odd")
