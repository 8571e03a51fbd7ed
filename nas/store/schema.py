"""The tables. Times are microseconds since 1970 UTC; JSON is canonical text; numbers count from 0 within a study."""

from typing import Any, TypeAlias

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row as a query gives it; it does not leave this package."""

HEAD = "0001_first"
"""The schema this code works with: the name of its last migration."""

REVISIONS = (HEAD,)
"""All released schemas, oldest first; anything else was written by a newer version."""

VERSION_TABLE = "nas_schema"
"""Alembic's version table, under a name of our own: a server's database may be shared."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is spelled INTEGER
Id = BigInteger().with_variant(Integer, "sqlite")


def _study() -> Column[int]:
    return Column("study_id", Id, ForeignKey("studies.id", ondelete="CASCADE"), nullable=False)


def _trial(*, primary_key: bool = False) -> Column[int]:
    foreign = ForeignKey("trials.id", ondelete="CASCADE")
    return Column("trial_id", Id, foreign, primary_key=primary_key, nullable=False, autoincrement=False)


def _count(name: str, default: int = 0) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text(str(default)))


versions = Table(VERSION_TABLE, metadata, Column("version_num", String(32), primary_key=True))

studies = Table(
    "studies",
    metadata,
    Column("id", Id, primary_key=True),
    Column("uuid", Text, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("spec_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    _count("next_number"),
    # bumped by every transaction that changes a trial's state; the rows it changed carry the new value
    _count("revision"),
    _count("controller_epoch"),
    # time used by ended attempts; kept here so that asking for it costs no scan of them
    _count("worker_us"),
    # the breaker looks at trials that ended after this revision
    _count("breaker_from"),
    Column("created", BigInteger, nullable=False),
    # ids are never used again: a worker of a deleted study must not write into another one
    sqlite_autoincrement=True,
)

trials = Table(
    "trials",
    metadata,
    Column("id", Id, primary_key=True),
    _study(),
    Column("number", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    _count("attempt"),
    _count("lost"),
    _count("lost_limit"),
    _count("errors"),
    _count("error_limit"),
    _count("priority"),
    Column("budget", Double),
    Column("promoted_from", BigInteger),
    _count("repeat"),
    Column("lineage", Text, nullable=False),
    _count("proposed_revision"),
    _count("not_before"),
    Column("proposal_key", Text),
    Column("architecture", Text, nullable=False),
    Column("canonical_key", Text, nullable=False),
    Column("metrics", Text),
    Column("result_hash", Text),
    Column("error_kind", Text),
    Column("error_text", Text),
    Column("checkpoint", Text),
    _count("checkpoint_step"),
    Column("worker", Text),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    _count("revision"),
    UniqueConstraint("study_id", "number"),
    UniqueConstraint("study_id", "proposal_key"),
    UniqueConstraint("study_id", "promoted_from", "budget"),
    Index("ix_trials_study_id_revision", "study_id", "revision"),
    Index("ix_trials_study_id_canonical_key", "study_id", "canonical_key"),
    sqlite_autoincrement=True,
)

# As DDL, and not as options of the tables: naming PostgreSQL there loads its dialect for users of SQLite too, which
# costs as much as the rest of this package.
event.listen(
    trials,
    "after_create",
    DDL("CREATE INDEX ix_trials_waiting ON trials (study_id, priority DESC, number) WHERE state = 'waiting'"),  # type: ignore[no-untyped-call]
)

leases = Table(
    "leases",
    metadata,
    _trial(primary_key=True),
    _study(),
    Column("attempt", BigInteger, nullable=False),
    Column("worker", Text, nullable=False),
    Column("claim_key", Text, nullable=False),
    Column("started", BigInteger, nullable=False),
    # how far each beat moves the expiry
    Column("lease_us", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    _count("beat"),
    Column("stop_flag", Text),
    Index("ix_leases_claim_key", "claim_key"),
    Index("ix_leases_study_id", "study_id"),
)

_FILL = DDL("ALTER TABLE leases SET (fillfactor = 50)")  # type: ignore[no-untyped-call]
# room on the page for the new version of a row: a beat then touches no index
event.listen(leases, "after_create", _FILL.execute_if(dialect="postgresql"))

attempts = Table(
    "attempts",
    metadata,
    _trial(primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("worker", Text, nullable=False),
    Column("host", Text),
    Column("pid", BigInteger),
    Column("device", Text),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger),
    # completed, stopped, failed, retried, lost, released; NULL while it runs
    Column("outcome", Text),
    Column("first_step", BigInteger),
    Column("last_step", BigInteger),
    # at least as many as are stored: repeated ones are counted again
    _count("measurements"),
    sqlite_with_rowid=False,
)

measurements = Table(
    "measurements",
    metadata,
    _trial(primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("metric", Text, primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double),
    # finite, nan, inf, -inf; the value is NULL unless finite
    Column("kind", Text, nullable=False),
    sqlite_with_rowid=False,
)

attributes = Table(
    "attributes",
    metadata,
    _trial(primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

workers = Table(
    "workers",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    # of the process, in seconds since 1970: pids are used again
    Column("started", Double, nullable=False),
    Column("device", Text, nullable=False),
    Column("registered", BigInteger, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _trial(primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    _study(),
    Column("revision", BigInteger, nullable=False),
    # the trial's number; NULL for events of the study itself
    Column("number", BigInteger),
    Column("attempt", BigInteger),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("actor", Text),
    Column("note", Text),
    Column("at", BigInteger, nullable=False),
    Index("ix_events_study_id_revision", "study_id", "revision"),
)
