"""Studies and their names, and databases that are opened or refused."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from nas.errors import DatabaseAway, StorageError, StudyExists, UnknownStudy
from nas.store import Store, StudyRow, masked, open_queue, open_store, upgrade
from nas.store.address import file_system
from nas.store.creation import create_schema, stored_version
from nas.store.database import Database
from nas.store.schema import HEAD
from nas.store.upgrade import back_up, migrate
from tests.nas.store.filling import SPEC, new

pytest_plugins = ["tests.nas.store.filling"]


def test_a_study_comes_back_as_it_was_created(store: Store) -> None:
    made = store.create_study("demo", SPEC, seed=2**63 - 1)
    found = store.study("demo")
    assert found == made
    assert (found.spec, found.state, found.seed, found.next_number) == (SPEC, "active", 2**63 - 1, 0)


def test_a_name_is_taken_once(store: Store, study: StudyRow) -> None:
    with pytest.raises(StudyExists, match="'demo' exists"):
        store.create_study("demo", SPEC, seed=7)


def test_of_many_that_create_one_study_at_once_one_succeeds(store: Store) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            store.create_study("demo", SPEC, seed=7)
            outcomes.append("created")
        except StudyExists:
            outcomes.append("exists")

    threads = [threading.Thread(target=create) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created"] + ["exists"] * 11


def test_of_many_that_create_one_database_all_can_use_it(store_url: str) -> None:
    failures: list[BaseException] = []

    def use(index: int) -> None:
        try:
            with open_store(store_url) as store:
                store.create_study(f"study {index}", SPEC, seed=0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with open_store(store_url, create=False) as store:
        assert len(store.studies()) == 6


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\x00b", "a\nb", "a\x7fb", "e\u0301", "\ud800", 3, None])
def test_a_name_that_cannot_be_stored_literally_is_refused(store: Store, name: Any) -> None:
    with pytest.raises(ValueError, match="a study's name must"):
        store.create_study(name, SPEC, seed=0)
    assert store.studies() == []


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE studies; --", "%s %(x)s 100%", "{x}", "../../etc", "\u202etfel", "é", "x" * 200, ":name"]
)
def test_a_hostile_name_is_stored_literally(store: Store, name: str) -> None:
    store.create_study(name, SPEC, seed=0)
    assert store.study(name).name == name
    assert [study.name for study in store.studies()] == [name]
    store.delete_study(name)
    assert store.studies() == []


def test_an_unknown_study_names_the_nearest(store: Store, study: StudyRow) -> None:
    with pytest.raises(UnknownStudy, match="did you mean 'demo'"):
        store.study("dmeo")
    with pytest.raises(UnknownStudy):
        store.delete_study("'demo'")


def test_deleting_a_study_leaves_nothing_of_it(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    other = store.create_study("other", SPEC, seed=0)
    for each in (study, other):
        store.propose(each.id, [new(0, attributes={"a": 1}), new(1)])
    claim(1)
    claim(1)
    store.delete_study("demo")

    def count(connection: Any) -> list[int]:
        tables = ("studies", "trials", "leases", "attempts", "attributes")
        return [connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]

    assert store._database.read(count) == [1, 2, 1, 1, 1]


def test_studies_are_listed_with_their_trials_by_state(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    store.create_study("empty", SPEC, seed=0)
    store.propose(study.id, [new(0), new(1), new(2)])
    claim()
    assert [(row.name, dict(row.counts)) for row in store.studies()] == [
        ("demo", {"running": 1, "waiting": 2}),
        ("empty", {}),
    ]


def test_a_studys_state_and_spec_change_with_its_revision(store: Store, study: StudyRow) -> None:
    for state in ("paused", "active", "stopped", "completed"):
        before = store.revision(study.id)
        store.set_study_state(study.id, state)
        assert (store.state(study.id), store.revision(study.id)) == (state, before + 1)
    changed = store.update_spec(study.id, SPEC | {"stop": {"trials": 60}})
    assert changed.spec["stop"] == {"trials": 60}
    assert changed.spec_hash != study.spec_hash
    with pytest.raises(ValueError, match="one of active, paused"):
        store.set_study_state(study.id, "resting")


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "1"])
def test_a_seed_that_is_no_seed_is_refused(store: Store, seed: Any) -> None:
    with pytest.raises(ValueError, match="seed"):
        store.create_study("demo", SPEC, seed=seed)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:p%7Bx%7D%25@h/db", "postgresql://me:***@h/db"),
        ("postgresql://me@h/db?password=secret&sslpassword=s2", "postgresql://me@h/db?password=***&sslpassword=***"),
        ("sqlite:///a b.db", "sqlite:///a b.db"),
        ("no url://me:secret@h", "no:…"),
        ("postgresql:/me:secret@h/db", "postgresql:…"),
        ("postgres:me:secret@h", "postgres:…"),
        ("postgresql://me:se@cr/et@h/db", "postgresql:…"),
        ("postgresql://me/me:secret[::1]:1/db", "postgresql:…"),
        ("postgresql://127.0.0.1:1/db?user=u&password=@secret", "postgresql:…"),
        ("postgresql://me:/secret%3D@h/db", "postgresql:…"),
    ],
)
def test_urls_are_shown_without_passwords(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_any_password_works(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(password="p{x}%41:%s@/'\\ ü").render_as_string(hide_password=False)
    with open_store(url) as store:
        store.create_study("demo", SPEC, seed=0)
        assert "p{x}" not in repr(store)
        assert "p%7Bx" not in repr(store)
        with open_store(store.url, create=False) as again:
            assert again.study("demo").name == "demo"
    assert "already" in upgrade(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("demo.db", "not a storage URL"),
        ("mysql://h/db", "kind 'mysql' is unknown"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///x.db?mode=ro", "only option"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "127.0.0.1"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_clear_line(
    url: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.store.database.PATIENCE_SECONDS", 0.1)
    with pytest.raises(StorageError, match=says) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.store.database.PATIENCE_SECONDS", 0.1)
    with pytest.raises(DatabaseAway) as caught:
        open_store("postgresql://nobody@127.0.0.1:1/none")
    assert isinstance(caught.value, ConnectionError)


def test_connections_that_a_server_has_cut_are_made_again(postgresql_url: str) -> None:
    with open_store(postgresql_url) as store, open_store(postgresql_url) as other:
        study = store.create_study("demo", SPEC, seed=0)
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid != pg_backend_pid() AND datname IS NOT NULL"
        )
        other._database.read(lambda connection: connection.execute(text(cut)).all())
        assert store.propose(study.id, [new(0)]) == [0]
        other._database.read(lambda connection: connection.execute(text(cut)).all())
        assert store.trial(study.id, 0).number == 0


def test_files_that_are_no_database_are_refused_and_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE cats (name)")
    other.close()
    (tmp_path / "text.db").write_text("these are my notes, not a database\n" * 9)
    (tmp_path / "folder.db").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name, says in [
        ("text.db", "not a SQLite database"),
        ("folder.db", "is a folder"),
        ("none/x.db", "is not a folder"),
        ("other.db", "belongs to another program"),
    ]:
        with pytest.raises(StorageError, match=says):
            open_store(f"sqlite:///{tmp_path / name}")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_missing_file_is_not_made_by_looking(tmp_path: Path) -> None:
    for door in (lambda url: open_store(url, create=False), open_queue, upgrade):
        with pytest.raises(StorageError, match="does not exist"):
            door(f"sqlite:///{tmp_path / 'x.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written"):
        open_store(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_system(Path("/proc")) == "proc"
    monkeypatch.setattr("nas.store.address.file_system", lambda folder: "nfs4")
    with pytest.raises(StorageError, match=r"network file system \(nfs4\)"):
        open_store(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_file_in_use_on_another_host_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with open_store(url) as store:
        study = store.create_study("demo", SPEC, seed=0)
        store.propose(study.id, [new(0)])
        store.queue.register("w", host="elsewhere", boot="another", pid=1, started=1.0, device="cpu")
        [trial] = store.queue.claim("w", 1, claim_key="k")
        with pytest.raises(StorageError, match="in use on the host elsewhere"):
            open_store(url)
        store.queue.release(trial.trial_id, 1)
        open_store(url).close()


def set_version(store: Store, version: str) -> None:
    store._database.write(
        lambda connection: connection.execute(text(f"UPDATE nas_schema SET version_num = '{version}'"))
    )


def test_another_schema_is_refused_with_the_way_out(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_version(store, "9999_later")
    with pytest.raises(StorageError, match="newer version"):
        open_store(store_url)
    with pytest.raises(StorageError, match="newer version"):
        upgrade(store_url)
    monkeypatch.setattr("nas.store.creation.REVISIONS", ("0000_earlier", HEAD))
    set_version(store, "0000_earlier")
    with pytest.raises(StorageError, match="run: nas storage upgrade"):
        open_store(store_url)


def catalogue(database: Database) -> list[Any]:
    """What the database itself says of its tables, columns, constraints and indexes."""
    if database.is_sqlite:
        queries = ["SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"]
    else:
        queries = [
            "SELECT tablename, indexname, replace(indexdef, current_schema(), '') FROM pg_indexes "
            "WHERE schemaname = current_schema()",
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_schema = current_schema()",
            "SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = current_schema()::regnamespace",
            "SELECT relname, reloptions FROM pg_class WHERE relnamespace = current_schema()::regnamespace",
        ]

    def plain(cell: object) -> str:
        # the order of a table's parts is of no consequence
        return " ".join(sorted(re.split("[(),]", "".join(str(cell).split()).replace('"', ""))))

    def read(connection: Any) -> list[Any]:
        rows = [tuple(map(plain, row)) for query in queries for row in connection.execute(text(query))]
        return sorted(row for row in rows if "nas_schema" not in row[0] + row[1])

    return database.read(read)


def test_migrations_make_the_tables_that_the_code_expects(
    tmp_path: Path, request: pytest.FixtureRequest, store_url: str
) -> None:
    fresh = Database(store_url)
    create_schema(fresh)
    expected = catalogue(fresh)
    if fresh.is_sqlite:
        migrated = Database(f"sqlite:///{tmp_path / 'migrated.db'}")
    else:
        fresh.write(lambda c: c.execute(text("DROP SCHEMA IF EXISTS other CASCADE")))
        fresh.write(lambda c: c.execute(text("CREATE SCHEMA other")))
        migrated = Database(store_url.partition("&options")[0] + "&options=-csearch_path%3Dother")
    migrated.write(migrate)
    assert migrated.read(stored_version) == HEAD
    assert [row for row in expected if row not in catalogue(migrated)] == []
    assert len(catalogue(migrated)) == len(expected)
    fresh.close()
    migrated.close()


def test_a_backup_is_a_whole_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with open_store(url) as store:
        store.create_study("demo", SPEC, seed=0)
        backup = back_up(store._database, tmp_path / "x.db", HEAD)
        with pytest.raises(StorageError, match="exists"):
            back_up(store._database, tmp_path / "x.db", HEAD)
    with open_store(f"sqlite:///{backup}", create=False) as copy:
        assert copy.study("demo").spec == SPEC
    assert upgrade(url) == f"{url} has schema {HEAD} already"


def test_every_sqlite_connection_is_durable_and_checks_references(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'x.db'}") as store:

        def pragmas(connection: Any) -> list[Any]:
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

        # a connection that writes leaves the flush to us (test_group_commit.py)
        assert store._database.read(pragmas) == ["wal", 1, 1, 30000]
    with open_store(f"sqlite:///{tmp_path / 'x.db'}") as store:
        assert store._database.read(pragmas) == ["wal", 2, 1, 30000]
    with open_store(f"sqlite:///{tmp_path / 'x.db'}?synchronous=normal") as store:
        assert store._database.read(pragmas)[1] == 1


def test_another_handle_in_the_same_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    # POSIX: closing any descriptor of a file drops all of its process's locks on it. Were a handle to open the database
    # beside SQLite, another process that closes would unlink the log this one still writes into.
    url = f"sqlite:///{tmp_path}/shared.db"
    look = "import sys; from nas.store import open_store; print(open_store(sys.argv[1]).studies()[0].counts)"

    def seen_from_outside() -> str:
        return subprocess.run([sys.executable, "-c", look, url], check=True, capture_output=True, text=True).stdout

    with open_store(url) as first:
        row = first.create_study("demo", SPEC, seed=0)
        first.propose(row.id, [new(number) for number in range(3)])
        for _ in range(2):
            with open_store(url, create=False) as second:
                assert len(second.studies()) == 1
            assert "3" in seen_from_outside()
            assert "3" in seen_from_outside()
        first.propose(row.id, [new(number) for number in range(3, 8)])
        assert "8" in seen_from_outside()
        assert first.counts(row.id) == {"waiting": 8}
