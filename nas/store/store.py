"""Store: one object to hold for all that a study keeps in its database."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, update

from nas.curves import Measured
from nas.errors import NasError, Outrun
from nas.store import claims, feed, proposals, stops, studies
from nas.store.clock import now_us
from nas.store.creation import open_database
from nas.store.database import Database
from nas.store.journal import bump
from nas.store.queue import Queue, new_claim_key
from nas.store.reaper import Reaper
from nas.store.rows import (
    AttemptRow,
    EventRow,
    FinishedTrial,
    MeasurementRow,
    News,
    NewTrial,
    PresentWorker,
    Reaped,
    StudyRow,
    TrialRow,
    WorkerRow,
    trial_from_row,
)
from nas.store.schema import trials as trial_table
from nas.store.text import attribute_texts, canonical, check_name, clean
from nas.trial import Trial
from workers.protocol import ClaimedTrial

LARGEST_SEED = 2**63 - 1
ASKED = "asked"
"""The worker's name of trials that a person evaluates."""

SHORTEST_PAUSE_SECONDS = 0.001


class Store:
    """An open database. Thread-safe; a context manager."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.masked_url!r})"

    @property
    def masked_url(self) -> str:
        """The URL without passwords."""
        return str(self._database.address)

    @property
    def url(self) -> str:
        """The URL for other processes: absolute, and with its password. Never print it."""
        return self._database.address.text

    @property
    def path(self) -> Path | None:
        """The database file; None on a server."""
        return self._database.address.path

    @cached_property
    def queue(self) -> Queue:
        """The queue of all studies, on the same connections."""
        return Queue(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # studies

    def create_study(self, name: str, spec: Mapping[str, Any], seed: int) -> StudyRow:
        """Create a study; `StudyExists` if the name is taken."""
        check_name(name, "a study's name")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"a seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
        text, mark = canonical(spec), studies.new_mark()
        return self._database.write(lambda connection: studies.create(connection, name, text, seed, mark))

    def study(self, name: str) -> StudyRow:
        """A study by name; `UnknownStudy` names the nearest one."""
        return self._database.read(lambda connection: studies.find(connection, name))

    def studies(self) -> list[StudyRow]:
        """All studies, oldest first, with their number of trials per state."""
        return self._database.read(studies.all_with_counts)

    def open_studies(self) -> list[StudyRow]:
        """Studies whose trials are or may be handed out (active and paused ones), oldest first."""
        return self._database.read(studies.open_ones)

    def delete_study(self, name: str) -> None:
        """Delete a study with all that belongs to it."""
        self._database.write(lambda connection: studies.remove(connection, name))

    def state(self, study_id: int) -> str:
        """The study's state."""
        return self._database.look(lambda connection: feed.state_and_revision(connection, study_id))[0]

    def set_study_state(self, study_id: int, state: str) -> None:
        """Make a study active, paused, stopped or completed."""
        if state not in studies.STATES:
            raise ValueError(f"a study's state must be one of {', '.join(studies.STATES)}, got {state!r}")
        self._database.write(lambda connection: studies.set_state(connection, study_id, state))

    def update_spec(self, study_id: int, spec: Mapping[str, Any]) -> StudyRow:
        """Replace the spec, whose metrics, limits and reuse must stay: running workers have read them."""
        canonical(spec)
        return self._database.write(lambda connection: studies.set_spec(connection, study_id, spec))

    def counts(self, study_id: int) -> dict[str, int]:
        """Number of trials per state that occurs."""
        return self._database.read(lambda connection: studies.counts(connection, study_id))

    def worker_seconds(self, study_id: int) -> float:
        """Time that workers have spent, by the database's clock."""
        return self._database.read(lambda connection: studies.worker_seconds(connection, study_id))

    # writing trials down

    def propose(
        self,
        study_id: int,
        new: Sequence[NewTrial],
        *,
        first_number: int | None = None,
        proposed_revision: int = 0,
    ) -> list[int]:
        """Write waiting trials down in one transaction and return their numbers.

        Proposing a proposal key again gives the number it has. `Outrun` if `first_number` is given and taken.
        """
        rows, notes = self._proposed(study_id, new)
        return self._database.write(
            lambda connection: proposals.propose(
                connection, study_id, rows, notes, first_number=first_number, proposed_revision=proposed_revision
            )
        )

    def _proposed(self, study_id: int, new: Sequence[NewTrial]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        _, facts = self.queue.facts(study_id)
        rows = [proposals.trial_values(trial, facts) for trial in new]
        _give_keys(rows)
        return rows, [attribute_texts(trial.proposal.attributes) for trial in new]

    def add_finished(self, study_id: int, finished: Sequence[FinishedTrial]) -> list[int]:
        """Import trials that ended elsewhere, in one transaction, and return their numbers."""
        _, facts = self.queue.facts(study_id)
        rows = [proposals.finished_values(trial, facts) for trial in finished]
        _give_keys(rows)
        return self._database.write(lambda connection: proposals.add_finished(connection, study_id, rows))

    def ask(
        self,
        study_id: int,
        new: NewTrial,
        *,
        first_number: int | None = None,
        proposed_revision: int = 0,
        worker: str = ASKED,
        lease_seconds: float = 86_400.0,
    ) -> ClaimedTrial | None:
        """Propose a trial and claim it in one transaction; None if `first_number` is given and taken."""
        name, facts = self.queue.facts(study_id)
        rows, notes = self._proposed(study_id, [new])
        claim_key = new_claim_key()

        def transaction(connection: Any) -> ClaimedTrial:
            claims.lock_key(connection, claim_key)
            held = claims.held_by_key(connection, worker, claim_key)
            if not held:
                [number] = proposals.propose(
                    connection,
                    study_id,
                    rows,
                    notes,
                    first_number=first_number,
                    proposed_revision=proposed_revision,
                    actor=worker,
                )
                revision = bump(connection, study_id)
                take = (
                    update(trial_table)
                    .where(
                        trial_table.c.study_id == study_id,
                        trial_table.c.number == number,
                        trial_table.c.state == "waiting",
                    )
                    .values(
                        state="running",
                        attempt=trial_table.c.attempt + 1,
                        worker=worker,
                        started=now_us(),
                        revision=revision,
                    )
                    .returning(*claims.COLUMNS, trial_table.c.started, trial_table.c.revision)
                )
                held = connection.execute(take).all()
                if not held:
                    raise NasError(f"trial {number} was proposed before and does not wait any more")
                lease_us = round(lease_seconds * 1e6)
                claims.take(connection, held, worker, claim_key=claim_key, lease_us=lease_us, before="waiting")
            return claims.handed_out(connection, name, facts, held)[0]

        try:
            return self._database.write(transaction)
        except Outrun:
            return None

    def ask_waiting(
        self, study_id: int, *, worker: str = ASKED, lease_seconds: float = 86_400.0
    ) -> ClaimedTrial | None:
        """Claim the next waiting trial of an active study, None if there is none."""
        return Queue(self._database, study_id).claim_for(worker, lease_seconds=lease_seconds)

    def stop_trial(self, study_id: int, number: int, reason: str, *, actor: str | None = None) -> bool:
        """Stop a waiting trial, or ask a running one to stop; False if it has ended or was asked before."""
        text = clean(reason, 1000)
        return self._database.write(lambda connection: stops.stop_trial(connection, study_id, number, text, actor))

    def stop_all(self, study_id: int, reason: str, *, actor: str | None = None) -> int:
        """Stop all waiting trials and ask all running ones to stop; returns how many."""
        text = clean(reason, 1000)
        return self._database.write(lambda connection: stops.stop_all(connection, study_id, text, actor))

    # workers that are gone

    def reaper(self, study_id: int | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> Reaper:
        """A reaper of one study, or of all, to be kept and asked about once a second."""
        return Reaper(self._database, self.queue.facts, study_id, monotonic=monotonic)

    def release_dead(self, host: str, boot: str, alive: Callable[[int, float], bool]) -> list[Reaped]:
        """Take back the trials of workers of this host and boot whose process (pid, start time) is not alive."""
        return self.reaper().release_dead(host, boot, alive)

    # reading

    def changes(self, study_id: int, after: int, *, limit: int | None = None) -> list[TrialRow]:
        """Rows that changed after a revision, by (revision, number); the last one's is the next `after`.

        With a limit about so many rows: a revision is never cut in two.
        """
        return self._database.read(lambda connection: feed.changes(connection, study_id, after, limit))

    def news(self, study_id: int, after: int) -> News:
        """The study's state and revision, and the rows that changed after a revision."""

        def transaction(connection: Connection) -> News:
            state, revision = feed.state_and_revision(connection, study_id)
            rows = feed.changes(connection, study_id, after) if revision > after else []
            return News(state=state, revision=revision, rows=rows)

        return self._database.read(transaction)

    def revision(self, study_id: int) -> int:
        """The study's newest revision."""
        return self._database.look(lambda connection: feed.state_and_revision(connection, study_id))[1]

    def wait(self, study_id: int, after: int, seconds: float) -> bool:
        """Sleep until the study's revision is larger than `after`, at most `seconds`; whether it is."""
        deadline, pause = time.monotonic() + seconds, SHORTEST_PAUSE_SECONDS
        with self._database.change_hint(study_id) as hint:
            while True:
                if hint.may_have_changed() and self.revision(study_id) > after:
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                hint.sleep(min(pause, left))
                pause = min(1.5 * pause, hint.longest_seconds)

    def trial(self, study_id: int, number: int) -> Trial:
        """One trial; `UnknownTrial` says which there are."""
        return trial_from_row(self._database.read(lambda connection: feed.trial(connection, study_id, number)))

    def trials(
        self, study_id: int, *, states: Sequence[str] | None = None, after_number: int = -1, limit: int = 1000
    ) -> list[Trial]:
        """The next trials by number, of the states given."""
        rows = self._database.read(lambda connection: feed.page(connection, study_id, states, after_number, limit))
        return [trial_from_row(row) for row in rows]

    def some_trials(self, study_id: int, numbers: Sequence[int]) -> list[Trial]:
        """The trials of these numbers, in their order."""
        rows = self._database.read(lambda connection: feed.some(connection, study_id, numbers))
        return [trial_from_row(row) for row in rows]

    def all_trials(self, study_id: int, *, states: Sequence[str] | None = None) -> Iterator[Trial]:
        """All trials by number, read page by page."""
        after, limit = -1, 1000
        while page := self.trials(study_id, states=states, after_number=after, limit=limit):
            yield from page
            if len(page) < limit:
                return
            after = page[-1].number

    def measurements(
        self,
        study_id: int,
        *,
        number: int | None = None,
        after: tuple[int, int, str, int] | None = None,
        limit: int | None = None,
    ) -> list[MeasurementRow]:
        """Measurements by (trial id, attempt, metric, step) of a study or of one trial; `after` is such a key."""
        return self._database.read(lambda connection: feed.measured(connection, study_id, number, after, limit))

    def measurements_since(
        self, study_id: int, metrics: Sequence[str], steps: Mapping[int, int]
    ) -> list[MeasurementRow]:
        """Measurements of these metrics by the last attempt of some trials, of each from a step on: number -> step.

        One query, however many trials.
        """
        return self._database.read(lambda connection: feed.measured_since(connection, study_id, metrics, steps))

    def measured(self, study_id: int) -> Measured:
        """All measurements of a study, as columns."""
        return self._database.read(lambda connection: feed.measured_columns(connection, study_id))

    def last_checkpoint(self, trial_id: int) -> tuple[str, str, int] | None:
        """(key, hash, step) of the last checkpoint that was recorded of a trial, whether it is still kept or not."""
        return self._database.read(lambda connection: feed.last_checkpoint(connection, trial_id))

    def attributes(self, trial_id: int) -> dict[str, Any]:
        """A trial's attributes."""
        return self._database.read(lambda connection: feed.attributes_of(connection, trial_id))

    def attempts(self, trial_id: int) -> list[AttemptRow]:
        """A trial's attempts, in order."""
        return self._database.read(lambda connection: feed.attempts_of(connection, trial_id))

    def events(self, study_id: int, *, after: int = -1, limit: int | None = None) -> list[EventRow]:
        """What happened in a study after a revision."""
        return self._database.read(lambda connection: feed.events_of(connection, study_id, after, limit))

    def present_workers(self, within_seconds: float) -> list[PresentWorker]:
        """Workers of all studies that were heard of within this time, by the database's clock, and have not left."""
        within_us = round(within_seconds * 1e6)
        return self._database.read(lambda connection: feed.present_workers(connection, within_us))

    def breaker_note(self, study_id: int) -> str | None:
        """Why the breaker paused the study; None if it is not the breaker who did the last thing to it."""
        return self._database.read(lambda connection: feed.breaker_note(connection, study_id))

    def workers(self, study_id: int) -> list[WorkerRow]:
        """Who has worked on a study."""
        return self._database.read(lambda connection: feed.workers_of(connection, study_id))


def open_store(url: str, *, create: bool = True) -> Store:
    """Open the database of a URL; a new one is made if `create` is set. `StorageError` says why not, and what to do."""
    return Store(open_database(url, create=create))


def open_queue(url: str, served: str | Sequence[int] | None = None) -> Queue:
    """The queue of a database: of one study by name, of several by their ids, or of all that are active."""
    database = open_database(url, create=False)
    if isinstance(served, str):
        return Queue(database, database.read(lambda connection: studies.find(connection, served)).id)
    return Queue(database, served)


def _give_keys(rows: Sequence[dict[str, Any]]) -> None:
    """Name the proposals that have no key: proposing can then be repeated when the answer to its commit is lost."""
    mark = studies.new_mark()
    for index, row in enumerate(rows):
        if row["proposal_key"] is None:
            row["proposal_key"] = f"{mark}:{index}"
