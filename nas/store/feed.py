"""Reading: what changed since a revision, single trials, and what belongs to them. Pages by key, never by offset."""

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text, tuple_

from nas.curves import Measured
from nas.curves import measured as columns_of
from nas.errors import UnknownTrial
from nas.store import statements
from nas.store.clock import now_us
from nas.store.journal import gone
from nas.store.rows import (
    KINDS,
    AttemptRow,
    EventRow,
    MeasurementRow,
    PresentWorker,
    TrialRow,
    WorkerRow,
)
from nas.store.schema import attempts, attributes, checkpoints, events, leases, measurements, studies, trials, workers

NUMBERS_AT_ONCE = 500
NUMBER = TrialRow._fields.index("number")

_rows = select(*(trials.c[name] for name in TrialRow._fields))

_changes = (
    _rows.where(trials.c.study_id == bindparam("study"), trials.c.revision > bindparam("after"))
    .order_by(trials.c.revision, trials.c.number)
)  # fmt: skip
_first_changes = _changes.limit(bindparam("most"))
# + 0 keeps SQLite from the index of numbers, through which it would read all later trials of the study
_rest_of_revision = _rows.where(
    trials.c.study_id == bindparam("study"),
    trials.c.revision == bindparam("revision_cut"),
    trials.c.number + 0 > bindparam("last"),
)

_one = _rows.where(trials.c.study_id == bindparam("study"), trials.c.number == bindparam("wanted"))

_standing = select(studies.c.state, studies.c.revision).where(studies.c.id == bindparam("study"))


def changes(connection: Connection, study_id: int, after: int, limit: int | None = None) -> list[TrialRow]:
    """Rows whose revision is larger than `after`, by (revision, number).

    With a limit about so many: a revision is never cut in two, so that the last row's is the next `after`.
    """
    parameters = {"study": study_id, "after": after}
    if limit is None:
        return list(map(TrialRow._make, statements.tuples(connection, _changes, parameters)))
    found = list(map(TrialRow._make, statements.tuples(connection, _first_changes, {**parameters, "most": limit})))
    if len(found) == limit and found:
        last = {"study": study_id, "revision_cut": found[-1].revision, "last": found[-1].number}
        # they stand by number in the table already, which SQLite cannot know: Python sees it and has nothing to sort
        rest = sorted(statements.tuples(connection, _rest_of_revision, last), key=itemgetter(NUMBER))
        found += map(TrialRow._make, rest)
    return found


def state_and_revision(connection: Connection, study_id: int) -> tuple[str, int]:
    """A study's state and its newest revision."""
    row = statements.first(connection, _standing, {"study": study_id})
    if row is None:
        raise gone(study_id)
    return row.state, row.revision


def trial(connection: Connection, study_id: int, number: int) -> TrialRow:
    """One trial by number."""
    row = connection.execute(_one, {"study": study_id, "wanted": number}).first()
    if row is None:
        count = connection.execute(select(studies.c.next_number).where(studies.c.id == study_id)).scalar()
        if count is None:
            raise gone(study_id)
        raise UnknownTrial(
            f"there is no trial {number}; " + (f"there are 0 to {count - 1}" if count else "there are none")
        )
    return TrialRow._make(row)


def page(
    connection: Connection, study_id: int, states: Sequence[str] | None, after_number: int, limit: int
) -> list[TrialRow]:
    """The next trials by number, of the states given."""
    query = _rows.where(trials.c.study_id == study_id, trials.c.number > after_number)
    if states is not None:
        query = query.where(trials.c.state.in_(list(states)))
    return [TrialRow._make(row) for row in connection.execute(query.order_by(trials.c.number).limit(limit))]


def some(connection: Connection, study_id: int, numbers: Sequence[int]) -> list[TrialRow]:
    """The trials of these numbers, in their order."""
    found: dict[int, TrialRow] = {}
    for start in range(0, len(numbers), NUMBERS_AT_ONCE):
        wanted = trials.c.number.in_(list(numbers[start : start + NUMBERS_AT_ONCE]))
        rows = connection.execute(_rows.where(trials.c.study_id == study_id, wanted))
        found |= {row.number: TrialRow._make(row) for row in rows}
    return [found[number] for number in numbers]


_measured = (
    measurements.c.trial_id,
    measurements.c.attempt,
    measurements.c.metric,
    measurements.c.step,
)


_columns = (
    select(
        trials.c.number,
        measurements.c.attempt,
        measurements.c.metric,
        measurements.c.step,
        measurements.c.value,
        measurements.c.kind,
    )
    .join(trials, trials.c.id == measurements.c.trial_id)
    .where(trials.c.study_id == bindparam("study"))
)


def measured_columns(connection: Connection, study_id: int) -> Measured:
    """All measurements of a study, as columns."""
    return columns_of(statements.columns(connection, _columns, {"study": study_id}), KINDS)


def measured(
    connection: Connection,
    study_id: int,
    number: int | None,
    after: tuple[int, int, str, int] | None,
    limit: int | None,
) -> list[MeasurementRow]:
    """Measurements by (trial id, attempt, metric, step), of a study or one of its trials; after such a key."""
    query = (
        select(trials.c.number, *_measured, measurements.c.value, measurements.c.kind)
        .join(trials, trials.c.id == measurements.c.trial_id)
        .where(trials.c.study_id == study_id)
        .order_by(*_measured)
    )
    if number is not None:
        query = query.where(trials.c.number == number)
    if after is not None:
        query = query.where(tuple_(*_measured) > tuple_(*after))
    if limit is not None:
        query = query.limit(limit)
    return [
        MeasurementRow(number, trial_id, attempt, metric, step, KINDS[kind] if value is None else value)
        for number, trial_id, attempt, metric, step, value, kind in connection.execute(query)
    ]


# CROSS JOIN keeps SQLite from another order: a few rows of an index for each trial that is asked about
_since = """
    SELECT trials.number, trials.id, measurements.attempt, measurements.metric, measurements.step, measurements.value,
        measurements.kind
    FROM {asked} AS asked CROSS JOIN trials CROSS JOIN {names} AS names CROSS JOIN measurements
    WHERE trials.study_id = :study AND trials.number = {number} AND measurements.trial_id = trials.id
        AND measurements.attempt = trials.attempt AND measurements.metric = {name} AND measurements.step >= {step}
"""
_since_sqlite = text(
    _since.format(
        asked="json_each(:numbers)",
        names="json_each(:metrics)",
        number="asked.value",
        name="names.value",
        step="json_extract(:steps, '$[' || asked.key || ']')",
    )
)
_since_postgresql = text(
    _since.format(
        asked="unnest(CAST(:numbers AS bigint[]), CAST(:steps AS bigint[]))",
        names="unnest(CAST(:metrics AS text[]))",
        number="asked.number",
        name="names.name",
        step="asked.step",
    )
    .replace("AS asked", "AS asked (number, step)")
    .replace("AS names", "AS names (name)")
)


def measured_since(
    connection: Connection, study_id: int, metrics: Sequence[str], steps: Mapping[int, int]
) -> list[MeasurementRow]:
    """Measurements of these metrics by the last attempt of some trials, of each from a step on: number -> step."""
    is_sqlite = connection.dialect.name == "sqlite"
    given: dict[str, list[Any]] = {"metrics": list(metrics), "numbers": list(steps), "steps": list(steps.values())}
    bound = {name: json.dumps(values) if is_sqlite else values for name, values in given.items()}
    statement = _since_sqlite if is_sqlite else _since_postgresql
    return [
        MeasurementRow(number, trial_id, attempt, metric, step, KINDS[kind] if value is None else value)
        for number, trial_id, attempt, metric, step, value, kind in statements.tuples(
            connection, statement, {"study": study_id, **bound}
        )
    ]


def last_checkpoint(connection: Connection, trial_id: int) -> tuple[str, str, int] | None:
    """(key, hash, step) of the last checkpoint that was recorded of a trial; None where there is none."""
    query = (
        select(checkpoints.c.key, checkpoints.c.hash, trials.c.checkpoint_step)
        .join(trials, (trials.c.id == checkpoints.c.trial_id) & (trials.c.checkpoint == checkpoints.c.key))
        .where(trials.c.id == trial_id)
    )
    row = connection.execute(query).first()
    return None if row is None else (row.key, row.hash, row.checkpoint_step)


def attributes_of(connection: Connection, trial_id: int) -> dict[str, Any]:
    """A trial's attributes."""
    query = select(attributes.c.key, attributes.c.value).where(attributes.c.trial_id == trial_id)
    return {key: json.loads(value) for key, value in connection.execute(query.order_by(attributes.c.key))}


def attempts_of(connection: Connection, trial_id: int) -> list[AttemptRow]:
    """A trial's attempts, in order."""
    columns = (attempts.c[name] for name in AttemptRow._fields)
    query = select(*columns).where(attempts.c.trial_id == trial_id).order_by(attempts.c.attempt)
    return [AttemptRow._make(row) for row in connection.execute(query)]


def events_of(connection: Connection, study_id: int, after: int, limit: int | None) -> list[EventRow]:
    """A study's events whose revision is larger than `after`, as they happened."""
    columns = (events.c[name] for name in EventRow._fields)
    query = select(*columns).where(events.c.study_id == study_id, events.c.revision > after)
    rows = connection.execute(query.order_by(events.c.revision, events.c.id).limit(limit))
    return [EventRow._make(row) for row in rows]


def present_workers(connection: Connection, within_us: int) -> list[PresentWorker]:
    """Workers that have registered within this time and not left."""
    columns = (workers.c[name] for name in PresentWorker._fields)
    query = select(*columns).where(workers.c.registered > now_us() - within_us)
    return [PresentWorker._make(row) for row in connection.execute(query)]


def breaker_note(connection: Connection, study_id: int) -> str | None:
    """The note of the last event of the study itself, if that is the breaker's."""
    last = (
        select(events.c.actor, events.c.note)
        .where(events.c.study_id == study_id, events.c.to_state.in_(("active", "paused", "stopped", "completed")))
        # only what changed its state: not that trials were imported, nor that its spec was changed
        .where(events.c.number.is_(None), events.c.from_state != events.c.to_state)
        .order_by(events.c.revision.desc())
        .limit(1)
    )
    row = connection.execute(last).first()
    return row.note if row is not None and row.actor == "breaker" else None


def workers_of(connection: Connection, study_id: int) -> list[WorkerRow]:
    """Who has worked on a study."""
    tried = (
        select(attempts.c.worker, func.count().label("attempts"))
        .join(trials, trials.c.id == attempts.c.trial_id)
        .where(trials.c.study_id == study_id)
        .group_by(attempts.c.worker)
        .subquery()
    )
    holds = (
        select(func.count()).where(leases.c.study_id == study_id, leases.c.worker == tried.c.worker).scalar_subquery()
    )
    query = (
        select(
            tried.c.worker,
            workers.c.host,
            workers.c.boot,
            workers.c.pid,
            workers.c.started,
            workers.c.device,
            tried.c.attempts,
            holds.label("holds"),
        )
        .outerjoin(workers, workers.c.worker == tried.c.worker)
        .order_by(tried.c.worker)
    )
    return [WorkerRow._make(row) for row in connection.execute(query)]
