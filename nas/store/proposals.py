"""Trials are written down: proposed by a strategy, or imported as finished."""

import json
import reprlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Select, TextClause, bindparam, insert, select, text, update

from nas.errors import Outrun
from nas.quantities import is_positive
from nas.store import statements
from nas.store.clock import POSTGRESQL_NOW_US, now_us
from nas.store.journal import gone, new_rows, record, record_all, telling
from nas.store.limits import Facts
from nas.store.results import judge
from nas.store.rows import FinishedTrial, NewTrial
from nas.store.schema import attributes, studies, trials
from nas.store.text import attribute_texts, canonical, check_name, clean
from nas.trial import TrialState

KEYS_AT_ONCE = 500
ROWS_AT_ONCE = 5000

MANY = 500
"""So many trials added at once, and no less than a tenth of the study, change what its planner has to know."""

# bumps the revision as well, so that the study's row is locked once
_take_numbers = (
    update(studies)
    .where(studies.c.id == bindparam("study"))
    .values(next_number=studies.c.next_number + bindparam("count"), revision=studies.c.revision + 1)
    .returning(studies.c.next_number, studies.c.revision)
)

_proposed = insert(trials).values(created=now_us())
_imported = _proposed.values(ended=now_us(), started=now_us() - bindparam("span"))


@cache
def _by_key(dialect: str) -> Select[Any]:
    return select(trials.c.proposal_key, trials.c.number).where(
        trials.c.study_id == bindparam("study"), statements.among(trials.c.proposal_key, "keys", dialect)
    )


@cache
def _insert_postgresql(given: tuple[str, ...]) -> TextClause:
    """INSERT of many trials that come as one JSON text: a message for each would cost more than the rows."""
    columns = [name for name in given if name != "span"]
    now = {"created": POSTGRESQL_NOW_US}
    if "span" in given:
        now |= {"ended": POSTGRESQL_NOW_US, "started": f"{POSTGRESQL_NOW_US} - span"}
    types = {name: "double precision" if name == "budget" else str(trials.c[name].type) for name in columns}
    typed = ", ".join(f"{name} {kind}" for name, kind in ({"span": "bigint"} | types).items())
    return text(
        f"INSERT INTO trials ({', '.join([*columns, *now])}) SELECT {', '.join([*columns, *now.values()])} "
        f"FROM json_to_recordset(CAST(:rows AS json)) AS given({typed})"
    )


def trial_values(new: NewTrial, facts: Facts) -> dict[str, Any]:
    """The columns a proposal decides, checked; ValueError says what is wrong with it."""
    proposal = new.proposal
    budget = proposal.budget
    if budget is not None and not is_positive(budget):
        raise ValueError(f"a budget must be a finite number above 0 or None, got {reprlib.repr(budget)}")
    if proposal.repeat < 0:
        raise ValueError(f"repeat must be 0 or more, got {proposal.repeat}")
    check_name(new.canonical_key, "a canonical key")
    if new.proposal_key is not None:
        check_name(new.proposal_key, "a proposal key")
    return {
        "priority": int(new.priority),
        "budget": None if budget is None else float(budget),
        "promoted_from": proposal.promoted_from,
        "repeat": int(proposal.repeat),
        "lineage": canonical([int(number) for number in proposal.lineage]) if proposal.lineage else "[]",
        "architecture": proposal.architecture.to_json(),
        "canonical_key": new.canonical_key,
        "proposal_key": new.proposal_key,
        "lost_limit": facts.limits.lost,
        "error_limit": facts.limits.transient,
    }


def propose(
    connection: Connection,
    study_id: int,
    rows: Sequence[dict[str, Any]],
    notes: Sequence[dict[str, str]],
    *,
    first_number: int | None,
    proposed_revision: int,
    actor: str | None = None,
) -> list[int]:
    """Insert waiting trials and return their numbers, in the order given.

    A proposal key, or a promotion of the same trial to the same budget, that exists already gives the number it has.

    Args:
        connection: of the running transaction.
        study_id: the study.
        rows: of `trial_values`, each with a proposal key.
        notes: attributes of each, as JSON texts.
        first_number: what the first new trial's number must be; `Outrun` if it is taken.
        proposed_revision: what the proposals were made from.
        actor: who, for the audit.
    """
    # supposing that all are new, which locks the study as well; mended below if they are not
    next_number, revision = take_numbers(connection, study_id, len(rows))
    common = {"study_id": study_id, "state": "waiting", "proposed_revision": proposed_revision, "revision": revision}
    known = _known_keys(connection, study_id, rows) | _known_promotions(connection, study_id, rows)
    fresh: list[dict[str, Any]] = []
    numbers: list[int] = []
    for row, texts in zip(rows, notes, strict=True):
        keys = _identities(row)
        number = next((known[key] for key in keys if key in known), None)
        if number is None:
            number = next_number + len(fresh)
            _check_references(row, number)
            for key in keys:
                known[key] = number
            fresh.append(row | common | {"number": number, "notes": texts})
        numbers.append(number)
    if len(fresh) < len(rows):
        connection.execute(update(studies).where(studies.c.id == study_id).values(next_number=next_number + len(fresh)))
    if not fresh:
        return numbers
    if first_number is not None and first_number != next_number:
        raise Outrun(
            f"the next trial would be {next_number}, not {first_number}: another controller proposed first; "
            "read the changes and propose anew"
        )
    insert_trials(connection, study_id, fresh)
    span = f"trials {fresh[0]['number']} to {fresh[-1]['number']}"
    record(connection, study_id, revision, to="waiting", actor=actor, note=f"proposed {span}")
    return numbers


def take_numbers(connection: Connection, study_id: int, count: int) -> tuple[int, int]:
    """Take the study's next `count` numbers; returns the first of them and the study's new revision."""
    taking = telling(_take_numbers, connection.dialect.name)
    row = statements.first(connection, taking, {"study": study_id, "count": count})
    if row is None:
        raise gone(study_id)
    return row.next_number - count, row.revision


def insert_trials(
    connection: Connection, study_id: int, rows: list[dict[str, Any]], *, statement: Insert = _proposed
) -> None:
    """Insert trials and their attributes (texts under the key "notes")."""
    notes = {row["number"]: row.pop("notes") for row in rows}
    if connection.dialect.name == "postgresql" and len(rows) > 1:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            statements.rows(connection, _insert_postgresql(tuple(some[0])), {"rows": canonical(some)})
    else:
        statements.run(connection, statement, rows)
    _tell_planner(connection, added=len(rows), total=1 + max(notes))
    if not any(notes.values()):
        return
    first = min(notes)
    ids = connection.execute(
        select(trials.c.number, trials.c.id).where(trials.c.study_id == study_id, trials.c.number >= first)
    )
    values = [
        {"trial_id": trial_id, "key": key, "value": text}
        for number, trial_id in ids
        for key, text in notes.get(number, {}).items()
    ]
    connection.execute(new_rows(connection, attributes), values)


def _tell_planner(connection: Connection, *, added: int, total: int) -> None:
    """Let PostgreSQL count its rows after many were added: it does so by itself only about once a minute.

    Until then it takes the study for a handful of rows, and reads all of it for each trial that is proposed or claimed.
    """
    if connection.dialect.name == "postgresql" and added >= MANY and added >= total // 10:
        connection.execute(text("ANALYZE trials"))


def finished_values(finished: FinishedTrial, facts: Facts) -> dict[str, Any]:
    """The columns of a trial that ended elsewhere, checked like a worker's result."""
    values = trial_values(finished.new, facts)
    ending = judge(finished.metrics, facts.metrics, stopped="" if finished.state is TrialState.STOPPED else None)
    if not finished.state.is_terminal:
        raise ValueError(f"only finished trials can be imported, got one that is {finished.state}")
    if finished.state is not TrialState.FAILED and ending.state is TrialState.FAILED:
        raise ValueError(f"an imported trial has no result: {ending.text}")
    values |= {
        "state": str(finished.state),
        "metrics": None if finished.state is TrialState.FAILED else ending.metrics,
        "error_kind": None if finished.error_kind is None else clean(finished.error_kind, 1000),
        "error_text": None if finished.error_text is None else clean(finished.error_text),
        "result_hash": ending.hash,
        "span": None if finished.seconds is None else max(0, round(finished.seconds * 1e6)),
        "notes": attribute_texts(finished.new.proposal.attributes),
    }
    return values


def add_finished(connection: Connection, study_id: int, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Insert finished trials (of `finished_values`, each with a proposal key) and return their numbers."""
    next_number, revision = take_numbers(connection, study_id, len(rows))
    known = _known_keys(connection, study_id, rows) | _known_promotions(connection, study_id, rows)
    fresh: list[dict[str, Any]] = []
    numbers: list[int] = []
    for row in rows:
        keys = _identities(row)
        number = next((known[key] for key in keys if key in known), None)
        if number is None:
            number = next_number + len(fresh)
            _check_references(row, number)
            for key in keys:
                known[key] = number
            own = {"study_id": study_id, "number": number, "revision": revision, "proposed_revision": revision - 1}
            fresh.append({**row, **own})
        numbers.append(number)
    if len(fresh) < len(rows):
        connection.execute(update(studies).where(studies.c.id == study_id).values(next_number=next_number + len(fresh)))
    if fresh:
        insert_trials(connection, study_id, fresh, statement=_imported)
        position = {"study_id": study_id, "revision": revision, "attempt": 0, "from_state": None, "actor": None}
        told = [{**position, "number": r["number"], "to_state": r["state"], "note": "imported"} for r in fresh]
        record_all(connection, told)
    return numbers


def _identities(row: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    key = ("key", row["proposal_key"])
    if row["promoted_from"] is None or row["budget"] is None:
        return (key,)
    return key, ("promotion", row["promoted_from"], row["budget"])


def _known_keys(connection: Connection, study_id: int, rows: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], int]:
    bound = {"study": study_id, "keys": json.dumps([row["proposal_key"] for row in rows])}
    found = statements.rows(connection, _by_key(connection.dialect.name), bound)
    return {("key", key): number for key, number in found}


def _known_promotions(
    connection: Connection, study_id: int, rows: Sequence[dict[str, Any]]
) -> dict[tuple[Any, ...], int]:
    known: dict[tuple[Any, ...], int] = {}
    origins = sorted({row["promoted_from"] for row in rows} - {None})
    for start in range(0, len(origins), KEYS_AT_ONCE):
        query = select(trials.c.promoted_from, trials.c.budget, trials.c.number).where(
            trials.c.study_id == study_id, trials.c.promoted_from.in_(origins[start : start + KEYS_AT_ONCE])
        )
        known |= {("promotion", origin, budget): number for origin, budget, number in connection.execute(query)}
    return known


def _check_references(row: dict[str, Any], number: int) -> None:
    """A trial can only come from earlier ones."""
    if row["promoted_from"] is None and row["lineage"] == "[]":
        return
    for what, origin in [
        ("promoted_from", row["promoted_from"]),
        *(("lineage", n) for n in json.loads(row["lineage"])),
    ]:
        if origin is not None and not 0 <= origin < number:
            raise ValueError(f"{what} must name an earlier trial (0 to {number - 1}), got {origin}")
