"""Handing out trials: one waiting trial to one worker."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, func, insert, select, text, update

from nas.store import statements
from nas.store.clock import POSTGRESQL_NOW_US, now_us
from nas.store.hints import CHANNEL
from nas.store.journal import bump
from nas.store.limits import Facts
from nas.store.schema import AnyRow, attempts, checkpoints, events, leases, studies, trials, workers
from workers.protocol import ClaimedTrial

COLUMNS = (
    trials.c.id,
    trials.c.study_id,
    trials.c.number,
    trials.c.attempt,
    trials.c.architecture,
    trials.c.canonical_key,
    trials.c.budget,
    trials.c.promoted_from,
    trials.c.repeat,
    trials.c.checkpoint,
    trials.c.checkpoint_step,
    trials.c.priority,
)

_claimable = (trials.c.state == "waiting") & (trials.c.not_before <= now_us())

# fewest running trials first: several studies share the workers evenly
_studies_with_work = (
    select(studies.c.id)
    .where(studies.c.state == "active", exists().where(trials.c.study_id == studies.c.id, _claimable))
    .order_by(
        select(func.count()).where(leases.c.study_id == studies.c.id).scalar_subquery(),
        studies.c.id,
    )
)

_held_by_key = (
    select(*COLUMNS)
    .join(leases, leases.c.trial_id == trials.c.id)
    .where(leases.c.claim_key == bindparam("claim_key"), leases.c.worker == bindparam("worker"))
    .order_by(trials.c.priority.desc(), trials.c.number)
)

# one statement finds, marks and returns; a sub-query instead of the materialized CTE may exceed the limit. The bump
# asks for the study's state again: it may have waited for the commit of a pause.
_claim_postgresql = text(
    f"""
    WITH claimable AS MATERIALIZED (
        SELECT id FROM trials
        WHERE study_id = :study AND state = 'waiting' AND not_before <= {POSTGRESQL_NOW_US}
          AND EXISTS (SELECT 1 FROM studies WHERE id = :study AND state = 'active')
        ORDER BY priority DESC, number LIMIT :count
        FOR UPDATE SKIP LOCKED
    ), bumped AS (
        UPDATE studies SET revision = revision + 1
        WHERE id = :study AND state = 'active' AND EXISTS (SELECT 1 FROM claimable)
        RETURNING revision, pg_notify('{CHANNEL}', CAST(id AS text))
    ), claimed AS (
        UPDATE trials SET state = 'running', attempt = attempt + 1, worker = :worker,
            started = {POSTGRESQL_NOW_US}, revision = bumped.revision
        FROM claimable, bumped WHERE trials.id = claimable.id
        RETURNING trials.*
    ), leased AS (
        INSERT INTO leases (trial_id, study_id, attempt, worker, claim_key, started, lease_us, expires_at)
        SELECT id, study_id, attempt, :worker, :claim_key, started, :lease_us, started + :lease_us FROM claimed
    ), attempted AS (
        INSERT INTO attempts (trial_id, attempt, worker, host, pid, device, started)
        SELECT claimed.id, claimed.attempt, :worker, workers.host, workers.pid, workers.device, claimed.started
        FROM claimed LEFT JOIN workers ON workers.worker = :worker
    ), recorded AS (
        INSERT INTO events (study_id, revision, number, attempt, from_state, to_state, actor, at)
        SELECT study_id, revision, number, attempt, 'waiting', 'running', :worker, started FROM claimed
    )
    SELECT {", ".join(column.name for column in COLUMNS)} FROM claimed ORDER BY priority DESC, number
    """
)

_claim_sqlite = (
    update(trials)
    .where(
        trials.c.id.in_(
            select(trials.c.id)
            .where(trials.c.study_id == bindparam("study"), _claimable)
            .where(exists().where(studies.c.id == bindparam("study"), studies.c.state == "active"))
            .order_by(trials.c.priority.desc(), trials.c.number)
            .limit(bindparam("count"))
        )
    )
    .values(
        state="running",
        attempt=trials.c.attempt + 1,
        worker=bindparam("by"),
        started=now_us(),
        # nobody else writes meanwhile, so this is what the bump will give
        revision=select(studies.c.revision + 1).where(studies.c.id == bindparam("study")).scalar_subquery(),
    )
    .returning(*COLUMNS, trials.c.started, trials.c.revision)
)

_lock_key = text("SELECT CAST(pg_advisory_xact_lock(hashtextextended(:key, 0)) AS text)")

_origin = select(*COLUMNS).where(trials.c.study_id == bindparam("study"), trials.c.number == bindparam("wanted"))

_digest = select(checkpoints.c.hash).where(
    checkpoints.c.trial_id == bindparam("trial"), checkpoints.c.key == bindparam("wanted")
)

_lease = insert(leases)
_event = insert(events)
_attempt = insert(attempts).values(
    {
        name: select(workers.c[name]).where(workers.c.worker == bindparam("by")).scalar_subquery()
        for name in ("host", "pid", "device")
    }
)


@cache
def _known_results(dialect: str) -> Select[Any]:
    """The oldest completed trial of each key and budget."""
    first_results = (
        select(func.min(trials.c.number).label("number"))
        .where(
            trials.c.study_id == bindparam("study"),
            statements.among(trials.c.canonical_key, "keys", dialect),
            trials.c.state == "completed",
            trials.c.repeat == 0,
        )
        .group_by(trials.c.canonical_key, trials.c.budget)
        .subquery()
    )
    return (
        select(trials.c.canonical_key, trials.c.budget, trials.c.number, trials.c.metrics)
        .join(first_results, trials.c.number == first_results.c.number)
        .where(trials.c.study_id == bindparam("study"))
    )


def held_by_key(connection: Connection, worker: str, claim_key: str) -> Sequence[AnyRow]:
    """Trials that an earlier claim with the same key has given to the worker."""
    return statements.rows(connection, _held_by_key, {"claim_key": claim_key, "worker": worker})


def studies_with_work(connection: Connection, served: Sequence[int] | None) -> list[int]:
    """Active studies (all of them, or of those served) that have a claimable trial, in the order to serve them."""
    query = _studies_with_work if served is None else _studies_with_work.where(studies.c.id.in_(served))
    return list(connection.execute(query).scalars())


def lock_key(connection: Connection, claim_key: str) -> None:
    """Wait until a claim with the same key, whose connection broke, has ended on the server."""
    if connection.dialect.name == "postgresql":
        statements.rows(connection, _lock_key, {"key": claim_key})


def claim(
    connection: Connection, study_id: int, worker: str, count: int, *, claim_key: str, lease_seconds: float
) -> Sequence[AnyRow]:
    """Take up to `count` waiting trials of an active study: state, lease, attempt and event."""
    lease_us = round(lease_seconds * 1e6)
    if connection.dialect.name == "postgresql":
        parameters = {"study": study_id, "count": count, "worker": worker, "claim_key": claim_key, "lease_us": lease_us}
        return statements.rows(connection, _claim_postgresql, parameters)
    rows = statements.rows(connection, _claim_sqlite, {"study": study_id, "count": count, "by": worker})
    if not rows:
        return rows
    take(connection, rows, worker, claim_key=claim_key, lease_us=lease_us, before="waiting")
    bump(connection, study_id)
    return sorted(rows, key=lambda row: (-row.priority, row.number))


def take(
    connection: Connection,
    rows: Sequence[AnyRow],
    worker: str,
    *,
    claim_key: str,
    lease_us: int,
    before: str | None,
) -> None:
    """Write lease, attempt and event of trials that have just been made running."""
    held: list[dict[str, Any]] = []
    tried: list[dict[str, Any]] = []
    happened: list[dict[str, Any]] = []
    for row in rows:
        started = {"worker": worker, "attempt": row.attempt, "started": row.started}
        end = row.started + lease_us
        lease = {"study_id": row.study_id, "claim_key": claim_key, "lease_us": lease_us, "expires_at": end}
        held.append({"trial_id": row.id, **started, **lease})
        tried.append({"trial_id": row.id, **started, "by": worker})
        change = {"from_state": before, "to_state": "running", "actor": worker, "at": row.started}
        position = {"number": row.number, "attempt": row.attempt, "revision": row.revision}
        happened.append({"study_id": row.study_id, **position, **change})
    statements.run(connection, _lease, held)
    statements.run(connection, _attempt, tried)
    statements.run(connection, _event, happened)


def handed_out(connection: Connection, study: str, facts: Facts, rows: Sequence[AnyRow]) -> list[ClaimedTrial]:
    """What the worker is told: with results that are known already, and where to start from."""
    known = _results_by_key(connection, facts, rows)
    claimed = []
    for row in rows:
        number, metrics = known.get((row.canonical_key, row.budget), (None, None)) if row.repeat == 0 else (None, None)
        line = [row, *_continued(connection, row)]
        checkpoint, digest, step = _starting_point(connection, line)
        claimed.append(
            ClaimedTrial(
                trial_id=row.id,
                study_id=row.study_id,
                study=study,
                number=row.number,
                attempt=row.attempt,
                architecture=row.architecture,
                budget=row.budget,
                repeat=row.repeat,
                # a promoted trial is the training that it continues, further on
                seed=trial_seed(facts.seed, line[-1].number, line[-1].repeat),
                checkpoint=checkpoint,
                checkpoint_digest=digest,
                start_step=step,
                promoted_from=row.promoted_from,
                known_metrics=metrics,
                known_from=number,
            )
        )
    return claimed


def trial_seed(study_seed: int, number: int, repeat: int) -> int:
    """Below 2^31, and the same wherever and however often the trial runs."""
    mixed = hashlib.sha256(f"{study_seed}:{number}:{repeat}".encode()).digest()
    return int.from_bytes(mixed[:4], "big") >> 1


def _results_by_key(
    connection: Connection, facts: Facts, rows: Sequence[AnyRow]
) -> dict[tuple[str, float | None], tuple[int, Mapping[str, float]]]:
    keys = sorted({row.canonical_key for row in rows if row.repeat == 0}) if facts.reuse else []
    if not keys:
        return {}
    bound = {"study": rows[0].study_id, "keys": json.dumps(keys)}
    found = statements.rows(connection, _known_results(connection.dialect.name), bound)
    return {(key, budget): (number, json.loads(metrics)) for key, budget, number, metrics in found}


def _continued(connection: Connection, row: AnyRow) -> list[AnyRow]:
    """The trials that this one continues, the last before it first; the first one of all stands at the end."""
    line: list[AnyRow] = []
    number = row.promoted_from
    while number is not None:
        line.append(statements.one(connection, _origin, {"study": row.study_id, "wanted": number}))
        number = line[-1].promoted_from
    return line


def _starting_point(connection: Connection, line: Sequence[AnyRow]) -> tuple[str | None, str | None, int]:
    """(key, hash, step) of the last checkpoint of the first of these trials that has one."""
    row = next((row for row in line if row.checkpoint is not None), None)
    if row is None:
        return None, None, 0
    digest = connection.execute(_digest, {"trial": row.id, "wanted": row.checkpoint}).scalar()
    return (None, None, 0) if digest is None else (row.checkpoint, digest, row.checkpoint_step)
