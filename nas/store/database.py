"""A database that is open: transactions, retries, and errors in words."""

import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from nas.errors import DatabaseAway, StorageError
from nas.store import group_commit
from nas.store.address import Address, parse
from nas.store.clock import host_clock
from nas.store.hints import FileVersion, Hint, Listener
from nas.store.write_lock import WriteLock

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

BUSY_SECONDS = 30
PATIENCE_SECONDS = 15.0
"""How long a transaction is repeated while the server is away, restarts, or calls a deadlock."""

CONNECT_SECONDS = 10
"""A server that does not answer at all, behind a firewall, is away after this time; the system would wait minutes."""

PASSING = ("40001", "40P01", "55P03", "08", "57P0")
"""SQLSTATEs (and classes) after which the same transaction may succeed: serialization, deadlock, lock time-out,
connection, shutdown."""

SESSION_LIMITS = (
    "SET lock_timeout = '5s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s'"
)


class Database:
    """Connections to one database. Thread-safe; a forked child opens its own connections."""

    def __init__(self, url: str, *, clock: Callable[[], int] = host_clock) -> None:
        self.address: Address = parse(url)
        self._clock = clock
        self._random = random.SystemRandom()
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        path = self.address.path
        self._lock = None if path is None else WriteLock(path, patience_seconds=BUSY_SECONDS)
        self.engine = self._sqlite() if path is not None else self._postgresql()
        self._reading = self._single = self.engine
        self._listener = Listener(self.engine)
        if path is None:
            # the same connections. SQLite's transactions see one state anyhow, and cost no messages.
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")
            self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        driver = self.engine.dialect.loaded_dbapi
        #: of the driver itself: from BEGIN, and from `statements`
        self._errors: tuple[type[Exception], ...] = (DBAPIError, driver.Error)
        #: of these our own statements are to blame: no words help
        self._mistakes = (IntegrityError, ProgrammingError, driver.IntegrityError, driver.ProgrammingError)

    def _sqlite(self) -> Engine:
        engine = create_engine(
            self.address.url,
            # a pool that never closes a connection behind our back: the last close is a checkpoint
            pool_size=8,
            max_overflow=0,
            hide_parameters=True,
            # the driver must not begin transactions: its legacy mode sends no BEGIN before a SELECT
            connect_args={"isolation_level": None, "timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        synchronous, clock = self.address.synchronous, self._clock

        @event.listens_for(engine, "connect")
        def prepare(connection: sqlite3.Connection, record: object) -> None:
            connection.create_function("now_us", 0, clock)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA mmap_size = 0")

        return engine

    def _postgresql(self) -> Engine:
        # a URL's own word counts
        patience = {} if "connect_timeout" in self.address.url.query else {"connect_timeout": CONNECT_SECONDS}
        try:
            engine = create_engine(
                self.address.url, pool_size=8, max_overflow=0, hide_parameters=True, connect_args=patience
            )
        except ModuleNotFoundError as error:
            raise StorageError(
                f"PostgreSQL needs the package psycopg ({error}): pip install 'psycopg[binary]'"
            ) from None

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, record: object) -> None:
            connection.execute(SESSION_LIMITS)
            connection.commit()

        return engine

    @property
    def is_sqlite(self) -> bool:
        """True for a file, False for a PostgreSQL server."""
        return self.address.is_sqlite

    def jitter(self) -> float:
        """Uniform in [0, 1); what depends on it is when, never what."""
        return self._random.random()

    def read(self, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction that only reads: all its statements see the database at one moment."""
        return self._run(transaction, write=False)

    def look(self, statements: Callable[[Connection], Result]) -> Result:
        """Run statements that only read, each by itself: on a server without messages to begin and end."""
        return self._run(statements, write=False, single=True)

    def write(self, transaction: Callable[[Connection], Result]) -> Result:
        """Run a transaction that writes. It may run more than once, even after a commit whose answer was lost."""
        return self._run(transaction, write=True)

    def write_at_once(self, statement: Callable[[Connection], Result]) -> Result:
        """Run a transaction of a single statement: on a server without messages to begin and commit."""
        return self._run(statement, write=True, single=True)

    def exclusive(self) -> AbstractContextManager[None]:
        """The write lock of a SQLite file, for work outside `write`."""
        return self._lock if self._lock is not None else nullcontext()

    def _run(self, transaction: Callable[[Connection], Result], *, write: bool, single: bool = False) -> Result:
        if os.getpid() != self._process:
            # the parent's connections are its own: not even closed here
            self._inherited = self.engine, self._listener
            self.engine.dispose(close=False)
            self._open()
        engine = self._single if single else self.engine if write else self._reading
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.05
        while True:
            try:
                if self.is_sqlite:
                    return self._run_on_sqlite(transaction, write=write)
                with engine.begin() as connection, _given_up_if_interrupted(connection):
                    return transaction(connection)
            except PoolTimeout as error:
                raise DatabaseAway(f"{self.address}: no connection came free: {error}") from error
            except self._mistakes as error:
                if getattr(error, "statement", "") is None:  # no statement of ours: the URL asks for what is not there
                    raise self._in_words(error) from error
                raise
            except OverflowError as error:  # of the driver, before it asks the database
                raise ValueError("a number of more than 64 bits can neither be stored nor be looked for") from error
            except self._errors as error:
                if not self._passes(error):
                    raise self._in_words(getattr(error, "orig", None) or error) from error
                if time.monotonic() > deadline:
                    raise DatabaseAway(f"{self.address} does not answer: {_first_line(error)}") from error
                logger.info("%s: %s; trying again", self.address, _first_line(error))
            time.sleep(pause * (0.5 + self.jitter()))
            pause = min(2 * pause, 2.0)

    def _run_on_sqlite(self, transaction: Callable[[Connection], Result], *, write: bool) -> Result:
        path, unflushed = self.address.path, False
        assert path is not None
        with self.exclusive() if write else nullcontext(), self.engine.begin() as connection:
            # Transactions begin by hand, as the driver does not begin them. Straight to the driver: a "begin" hook of
            # the engine would send every statement through SQLAlchemy's event dispatch, a tenth of a trial's overhead.
            driver = connection.connection.driver_connection
            assert driver is not None
            if write and self.address.synchronous == "FULL":
                unflushed = group_commit.leave_flushing_to_us(driver, connection.info)
            driver.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            result = transaction(connection)
        if unflushed:
            group_commit.flush(path)
        return result

    def _passes(self, error: Exception) -> bool:
        if self.is_sqlite:
            return False
        state = getattr(getattr(error, "orig", error), "sqlstate", None)
        if state:
            return bool(state.startswith(PASSING))
        # without a state the connection broke, or could not be made
        return getattr(error, "connection_invalidated", False) or _is_refused(error)

    def _in_words(self, error: BaseException) -> StorageError:
        name = str(getattr(error, "sqlite_errorname", ""))
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return DatabaseAway(f"{self.address} is locked by another program: {_first_line(error)}")
        if name.startswith("SQLITE_NOTADB"):
            return StorageError(f"{self.address} is not a SQLite database; name another file")
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            return StorageError(
                f"{self.address} cannot be written: {_first_line(error)}; check its folder's permissions"
            )
        if name.startswith("SQLITE_FULL"):
            return StorageError(f"{self.address}: {_first_line(error)}; free some space, then go on: nothing is lost")
        if name.startswith("SQLITE_CORRUPT"):
            return StorageError(f"{self.address}: {_first_line(error)}; go on with a backup, and look at the disk")
        return StorageError(f"{self.address}: {_first_line(error)}")

    @contextmanager
    def change_hint(self, study_id: int) -> Iterator[Hint]:
        """Hints on whether a study may have changed: SQLite's version of the file, PostgreSQL's notifications."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                yield FileVersion(connection.connection.driver_connection)
        else:
            with self._listener.hint(study_id) as hint:
                yield hint

    def journal_in_a_log(self) -> None:
        """Switch a new SQLite file to write-ahead logging: readers and the writer then do not wait for each other."""
        try:
            with self.engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.execute("PRAGMA journal_mode = WAL")
        except DBAPIError as error:
            raise self._in_words(error.orig or error) from error
        except sqlite3.Error as error:
            raise self._in_words(error) from error

    def close(self) -> None:
        """Close all connections (on SQLite the last one moves the log into the file)."""
        if os.getpid() != self._process:
            return
        self._listener.close()
        try:
            # a file that was only looked at is left without a lock beside it
            with self._lock if self._lock is not None and self._lock.path.exists() else nullcontext():
                self.engine.dispose()
        except (DatabaseAway, OSError):
            # somebody else is writing or the folder is gone: their close will do what ours would have done
            self.engine.dispose()
        if self._lock is not None:
            self._lock.close()


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]


def _is_refused(error: Exception) -> bool:
    """Whether a server is starting, stopping or unreachable rather than refusing who asks."""
    text = str(getattr(error, "orig", error))
    return any(
        part in text
        for part in (
            "starting up",
            "not yet accepting connections",
            "system is not accepting connections",
            "shutting down",
            "recovery mode",
            "server closed the connection",
            "Is the server running",  # what libpq adds when nobody listens, be it a port or a socket's file
            "Connection refused",
            "accepting connections",
            "the connection is lost",
            "the connection is closed",
            "no connection to the server",
            "Connection reset",
            "Connection timed out",
            "No route to host",
            "timeout expired",
            "too many clients",
            "connection slots are reserved",
        )
    )


@contextmanager
def _given_up_if_interrupted(connection: Connection) -> Iterator[None]:
    """Throw a server's connection away when Ctrl-C or the like strikes: the answer to a statement may be under way.

    Nothing else could be said over it, not even to roll back; and what that raised would hide the interrupt.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException:
        connection.invalidate()
        raise
