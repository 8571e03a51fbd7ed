"""Bringing an older database to this version's schema: asked for, backed up, in one transaction."""

import logging
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from nas.errors import StorageError
from nas.store.address import check_file
from nas.store.creation import ADVISORY_LOCK, check_version, stored_version
from nas.store.database import Database
from nas.store.schema import HEAD, REVISIONS, VERSION_TABLE, metadata

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(url: str) -> str:
    """Upgrade a database to this version's schema; returns a line that says what was done.

    A SQLite file is first copied beside itself (`<file>.backup-<schema>`). Workers and controllers should not run.
    """
    database = Database(url)
    try:
        path = database.address.path
        if path is not None:
            check_file(path, create=False)
        version = database.read(stored_version)
        if version is None:
            raise StorageError(f"{database.address} holds no studies; nothing to upgrade")
        if version == HEAD:
            return f"{database.address} has schema {HEAD} already"
        if version not in REVISIONS:
            check_version(database, version)
        backup = None if path is None else back_up(database, path, version)
        database.write(migrate)
        if path is not None:
            _check_integrity(database)
        kept = "" if backup is None else f"; the file as it was is {backup}"
        return f"{database.address} was upgraded from schema {version} to {HEAD}{kept}"
    finally:
        database.close()


def back_up(database: Database, path: Path, version: str) -> Path:
    """Copy a SQLite file as it is now, log included."""
    needed, free = 2 * path.stat().st_size, shutil.disk_usage(path.parent).free
    if free < needed:
        raise StorageError(
            f"{path.parent} has {free / 1e6:.0f} MB free; "
            f"a backup and the upgrade of {path.name} need {needed / 1e6:.0f} MB"
        )
    backup = path.with_name(f"{path.name}.backup-{version}")
    if backup.exists():
        raise StorageError(f"{backup} exists, from an upgrade before; move it away first")
    with database.exclusive(), database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        # not within a transaction, which SQLAlchemy would begin
        driver.execute("VACUUM INTO ?", (str(backup),))
    return backup


def migrate(connection: Connection, target: str = HEAD) -> None:
    """Run the migrations between the stored schema and `target` in the caller's transaction."""
    from alembic.config import Config
    from alembic.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        # migrations may have to wait for, and take, longer than a search's own statements
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    config = Config()
    # the connection is handed over directly: a URL would pass through the configuration's % and {} syntax
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return script._upgrade_revs(target, revision)

    with EnvironmentContext(config, script, fn=steps, destination_rev=target) as environment:
        environment.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            render_as_batch=connection.dialect.name == "sqlite",
            transactional_ddl=True,
            # the transaction is the caller's
            transaction_per_migration=False,
        )
        environment.run_migrations()
    logger.info("migrated to schema %s", target)


def _check_integrity(database: Database) -> None:
    def check(connection: Connection) -> tuple[str, int]:
        told = connection.execute(text("PRAGMA integrity_check")).scalar_one()
        return str(told), len(connection.execute(text("PRAGMA foreign_key_check")).all())

    told, broken = database.read(check)
    if told != "ok" or broken:
        raise StorageError(f"{database.address}: the upgraded file is damaged ({told}, {broken} broken references)")
