"""What goes into the store and comes out of it, as plain values; no row object of SQLAlchemy leaves this package."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nas.trial import Proposal, Trial, TrialState
from search_spaces.architecture import Architecture


class NewTrial(NamedTuple):
    """A trial to be written down as waiting."""

    proposal: Proposal
    canonical_key: str
    #: proposing a key again returns the number it has; None for a key of its own
    proposal_key: str | None = None
    #: larger ones are claimed first
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class FinishedTrial:
    """A trial that ended elsewhere, to be imported: completed with metrics, or failed or stopped with a reason."""

    new: NewTrial
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: TrialState = TrialState.COMPLETED
    error_kind: str | None = None
    error_text: str | None = None
    #: how long it took, if known; its end is taken to be now
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A study as its row says; a snapshot."""

    id: int
    uuid: str
    name: str
    spec: Mapping[str, Any]
    spec_hash: str
    #: active, paused, stopped (by a person) or completed
    state: str
    seed: int
    next_number: int
    revision: int
    created_us: int
    #: trials per state; only `Store.studies` counts them
    counts: Mapping[str, int] = field(default_factory=dict)


class TrialRow(NamedTuple):
    """A row of the change feed. JSON columns are raw text, so that a reader parses what it needs."""

    id: int
    number: int
    state: str
    attempt: int
    architecture: str
    canonical_key: str
    budget: float | None
    promoted_from: int | None
    repeat: int
    lineage: str
    metrics: str | None
    error_kind: str | None
    error_text: str | None
    worker: str | None
    revision: int
    proposed_revision: int
    created: int
    started: int | None
    ended: int | None


class News(NamedTuple):
    """What a controller reads each round."""

    #: of the study
    state: str
    #: of the study; what waits for news waits for a larger one (some changes touch no trial)
    revision: int
    rows: list[TrialRow]


class MeasurementRow(NamedTuple):
    """A measurement; the value is NaN or infinite where that was reported."""

    number: int
    trial_id: int
    attempt: int
    metric: str
    step: int
    value: float


class AttemptRow(NamedTuple):
    """One claim of a trial and what became of it."""

    attempt: int
    worker: str
    host: str | None
    pid: int | None
    device: str | None
    started: int
    ended: int | None
    #: completed, stopped, failed, retried, lost, released; None while it runs
    outcome: str | None
    first_step: int | None
    last_step: int | None


class EventRow(NamedTuple):
    """One line of the audit; the number is None for events of the study itself."""

    revision: int
    number: int | None
    attempt: int | None
    from_state: str | None
    to_state: str
    actor: str | None
    note: str | None
    at: int


class WorkerRow(NamedTuple):
    """A worker that has claimed trials of a study, its process, and how many it holds."""

    worker: str
    host: str | None
    boot: str | None
    pid: int | None
    started: float | None
    device: str | None
    attempts: int
    holds: int


class PresentWorker(NamedTuple):
    """A worker that was heard of lately, and its process."""

    worker: str
    host: str
    boot: str
    pid: int
    started: float


class Reaped(NamedTuple):
    """A trial taken from a worker that is gone, and the state it has now."""

    study_id: int
    number: int
    attempt: int
    worker: str
    state: str


def trial_from_row(row: TrialRow) -> Trial:
    """Parse a row into a `Trial`."""
    return Trial(
        id=row.id,
        number=row.number,
        state=TrialState(row.state),
        attempt=row.attempt,
        architecture=Architecture.from_json(row.architecture),
        canonical_key=row.canonical_key,
        budget=row.budget,
        promoted_from=row.promoted_from,
        repeat=row.repeat,
        lineage=tuple(json.loads(row.lineage)),
        metrics={} if row.metrics is None else json.loads(row.metrics),
        error_kind=row.error_kind,
        error_text=row.error_text,
        worker=row.worker,
        revision=row.revision,
        proposed_revision=row.proposed_revision,
        created_us=row.created,
        started_us=row.started,
        ended_us=row.ended,
    )


KINDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""What stands in `measurements.kind` for a value that SQL cannot hold alike everywhere."""
