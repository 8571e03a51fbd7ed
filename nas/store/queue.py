"""The queue as workers see it: `workers.protocol.TrialQueue` on a database."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from nas.store import claims, endings, leases, reports, studies
from nas.store.clock import now_us
from nas.store.database import Database
from nas.store.journal import gone, new_rows
from nas.store.limits import Facts, facts_from_spec
from nas.store.results import Ending, judge, measurement_rows
from nas.store.schema import studies as study_table
from nas.store.schema import trials, workers
from nas.store.text import attribute_texts, check_name, clean
from nas.trial import TrialState
from workers.protocol import ClaimedTrial, FailureKind, LeaseLost, Measurement, StudySpec


class Queue:
    """Hands out trials of one study, of several, or of all; results go back through it. Thread-safe."""

    def __init__(self, database: Database, studies: int | Sequence[int] | None = None) -> None:
        self._database = database
        self._studies: tuple[int, ...] | None = None
        if studies is not None:
            self._studies = (studies,) if isinstance(studies, int) else tuple(studies)
        self._facts: dict[int, tuple[str, Facts]] = {}
        self._expects_work = True
        # which study a claimed trial belongs to; only to save asking
        self._study_of: dict[int, int] = {}

    def serve(self, studies: Sequence[int]) -> None:
        """Hand out trials of these studies from now on."""
        self._studies = tuple(studies)
        self._expects_work = True

    def spec(self, study_id: int) -> StudySpec:
        """What is constant for all trials of a study."""
        row = self._database.read(lambda connection: studies.get(connection, study_id))
        _, facts = self.facts(study_id)
        limits = facts.limits
        return StudySpec(
            study_id=study_id,
            uuid=row.uuid,
            name=row.name,
            space=row.spec.get("space") or {},
            metrics=facts.metrics,
            evaluator=row.spec.get("evaluator") or {},
            task=row.spec.get("task") or {},
            time_limit_seconds=limits.time_limit_seconds,
            memory_limit_bytes=limits.memory_limit_bytes,
            lease_seconds=limits.lease_seconds,
            beat_seconds=limits.beat_seconds,
            report_seconds=limits.report_seconds,
            full_budget=(facts.spec.get("budget") or {}).get("most"),
            checkpoints=facts.spec.get("checkpoints") or "last",
        )

    def facts(self, study_id: int) -> tuple[str, Facts]:
        """A study's name and what is constant about it, read once."""
        if study_id not in self._facts:
            self._database.read(lambda connection: self._facts_within(connection, study_id))
        return self._facts[study_id]

    def _facts_within(self, connection: Connection, study_id: int) -> tuple[str, Facts]:
        if study_id not in self._facts:
            query = select(study_table.c.name, study_table.c.spec, study_table.c.seed)
            row = connection.execute(query.where(study_table.c.id == study_id)).first()
            if row is None:
                raise gone(study_id)
            self._facts[study_id] = row.name, facts_from_spec(row.spec, row.seed)
        return self._facts[study_id]

    def _facts_of_trial(self, trial_id: int) -> Facts:
        study_id = self._study_of.get(trial_id)
        if study_id is None:
            query = select(trials.c.study_id).where(trials.c.id == trial_id)
            study_id = self._database.read(lambda connection: connection.execute(query).scalar())
            if study_id is None:
                raise LeaseLost(f"the trial with id {trial_id} is gone: its study was deleted")
        return self.facts(study_id)[1]

    def register(self, worker: str, *, host: str, boot: str, pid: int, started: float, device: str) -> None:
        """Make the worker and its process known, as of now."""
        values = {"host": host, "boot": boot, "pid": pid, "started": started, "device": device}
        values["worker"] = check_name(worker, "a worker's name")

        def transaction(connection: Connection) -> None:
            statement = new_rows(connection, workers, replace=(*values, "registered"))
            connection.execute(statement.values(**values, registered=now_us()))

        self._database.write(transaction)

    def leave(self, worker: str) -> None:
        """Forget that the worker is there; what it did stays on record."""
        statement = update(workers).where(workers.c.worker == worker).values(registered=0)
        self._database.write(lambda connection: connection.execute(statement))

    def claim(self, worker: str, count: int, *, claim_key: str) -> Sequence[ClaimedTrial]:
        """Up to `count` waiting trials of one study, now leased to `worker`; asking costs no write if none waits."""
        if count < 1:
            raise ValueError(f"a claim must ask for at least 1 trial, got {count}")

        rows: Sequence[Any] = ()
        # where the last claim found nothing, a look that takes no write lock comes first
        if self._expects_work or self._database.read(lambda connection: self._has_work(connection, worker, claim_key)):
            rows = self._database.write(lambda connection: self._claim(connection, worker, count, claim_key, None))
        self._expects_work = bool(rows)
        self._study_of.update((row.id, row.study_id) for row in rows)
        return self._handed_out(rows)

    def _handed_out(self, rows: Sequence[Any]) -> list[ClaimedTrial]:
        """What the worker is told. After the commit: what is looked up here must not keep others from claiming."""
        if not rows:
            return []
        name, facts = self.facts(rows[0].study_id)
        return self._database.look(lambda connection: claims.handed_out(connection, name, facts, rows))

    def _has_work(self, connection: Connection, worker: str, claim_key: str) -> bool:
        return bool(
            claims.studies_with_work(connection, self._studies) or claims.held_by_key(connection, worker, claim_key)
        )

    def _claim(
        self, connection: Connection, worker: str, count: int, claim_key: str, lease_seconds: float | None
    ) -> Sequence[Any]:
        claims.lock_key(connection, claim_key)
        rows = claims.held_by_key(connection, worker, claim_key)
        if not rows:
            # a study may be emptied by others between the look and the claim: then the next one is asked
            served = self._studies
            one = served is not None and len(served) == 1
            for study_id in served if served and one else claims.studies_with_work(connection, served):
                seconds = self._facts_within(connection, study_id)[1].limits.lease_seconds
                rows = claims.claim(
                    connection,
                    study_id,
                    worker,
                    count,
                    claim_key=claim_key,
                    lease_seconds=seconds if lease_seconds is None else lease_seconds,
                )
                if rows:
                    break
        return rows

    def claim_for(self, worker: str, *, lease_seconds: float) -> ClaimedTrial | None:
        """Claim one trial for longer than the study's lease time: for a person."""
        key = new_claim_key()
        rows = self._database.write(lambda connection: self._claim(connection, worker, 1, key, lease_seconds))
        return self._handed_out(rows)[0] if rows else None

    def beat(self, held: Sequence[tuple[int, int]]) -> Mapping[int, str | None]:
        """Renew leases; a trial missing from the answer is no longer held, a text is the reason to stop it."""
        if not held:
            return {}
        return self._database.write(lambda connection: leases.renew_many(connection, held))

    def report(self, trial_id: int, attempt: int, measurements: Sequence[Measurement]) -> str | None:
        """Store measurements and renew the lease; returns the reason to stop, or None."""
        rows = measurement_rows(trial_id, attempt, measurements)

        def transaction(connection: Connection) -> str | None:
            stop = leases.renew(connection, trial_id, attempt)
            reports.add_measurements(connection, trial_id, attempt, rows)
            return stop

        if self._database.is_sqlite or not rows:
            return self._database.write(transaction)
        answer = self._database.write_at_once(
            lambda connection: reports.report_at_once(connection, trial_id, attempt, rows)
        )
        if answer is None or not answer.stored:
            # lost, or perhaps too many: the longer way tells which
            return self._database.write(transaction)
        stop_flag: str | None = answer.stop_flag
        return stop_flag

    def checkpoint(self, trial_id: int, attempt: int, *, step: int, key: str, digest: str, size_bytes: int) -> None:
        """Record that a checkpoint was written under `key`."""
        check_name(key, "a checkpoint's key")

        def transaction(connection: Connection) -> None:
            leases.renew(connection, trial_id, attempt)
            reports.add_checkpoint(
                connection, trial_id, attempt, step=step, key=key, digest=digest, size_bytes=size_bytes
            )

        self._database.write(transaction)

    def finish(
        self,
        trial_id: int,
        attempt: int,
        metrics: Mapping[str, float],
        *,
        measurements: Sequence[Measurement] = (),
        attributes: Mapping[str, Any] | None = None,
        stopped: str | None = None,
    ) -> bool:
        """Complete the trial, or end it as stopped; True if it was new, False if "already".

        Metrics that are no result of the study (not exactly its metrics, or not finite numbers) make it failed, with
        the kind "nan" or "bad_result".
        """
        facts = self._facts_of_trial(trial_id)
        ending = judge(metrics, facts.metrics, stopped=stopped)
        try:
            rows, texts = measurement_rows(trial_id, attempt, measurements), attribute_texts(attributes)
        except ValueError as error:
            rows, texts = [], {}
            ending = Ending(state=TrialState.FAILED, kind=FailureKind.BAD_RESULT, text=clean(str(error)))

        def transaction(connection: Connection) -> bool:
            if not endings.finish(connection, trial_id, attempt, ending, facts):
                return False
            reports.add_measurements(connection, trial_id, attempt, rows)
            reports.add_attributes(connection, trial_id, texts)
            return True

        new = self._database.write(transaction)
        self._study_of.pop(trial_id, None)
        return new

    def fail(
        self,
        trial_id: int,
        attempt: int,
        kind: FailureKind,
        text: str,
        *,
        measurements: Sequence[Measurement] = (),
        attributes: Mapping[str, Any] | None = None,
        transient: bool = False,
    ) -> bool:
        """Record a failure; True if the trial waits again by the retry rules."""
        facts = self._facts_of_trial(trial_id)
        kind = FailureKind(kind)
        try:
            rows, texts = measurement_rows(trial_id, attempt, measurements), attribute_texts(attributes)
        except ValueError as error:
            rows, texts = [], {}
            text = f"{text}\n(what was reported with this failure is dropped: {error})"

        def transaction(connection: Connection) -> bool:
            new, waits = endings.fail(
                connection,
                trial_id,
                attempt,
                kind,
                clean(text),
                facts=facts,
                transient=transient,
                jitter=self._database.jitter(),
            )
            if new:
                reports.add_measurements(connection, trial_id, attempt, rows)
                reports.add_attributes(connection, trial_id, texts)
            return waits

        waits = self._database.write(transaction)
        self._study_of.pop(trial_id, None)
        return waits

    def release(self, trial_id: int, attempt: int) -> bool:
        """Give the trial back unharmed: waiting at once, not counted as a loss; False if it was stopped meanwhile."""
        waits = self._database.write(lambda connection: endings.release(connection, trial_id, attempt))
        self._study_of.pop(trial_id, None)
        return waits

    def close(self) -> None:
        """Release connections."""
        self._database.close()


def new_claim_key() -> str:
    """A key no other claim has."""
    return uuid.uuid4().hex
