"""The oracle: what processes said they did, held against what the database says."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import func, select

from nas.history import History
from nas.store.schema import leases
from nas.study import Study
from tests.chaos import journal, tormented
from tests.nas.recomputed import proposed_again

TAKEN_BACK = ("lost", "released")
"""How attempts end whose worker died or was told to leave."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Each must be 0, but for the last three, which say how much was going on."""

    #: acknowledged, but not completed in the database by that attempt
    lost: int
    #: trials that did not complete at all
    unfinished: int
    #: acknowledged for two attempts, or one attempt handed to two workers
    doubled: int
    #: completed by an attempt that nobody was handed
    unexpected: int
    #: metrics that are not those of the architecture, in the database or in an acknowledgement
    wrong: int
    #: leases that are left
    leases: int
    #: trials whose events do not lead to their state, or whose revisions fall
    unexplained: int
    #: trials whose attempts are not those that were handed out, or end in another way than they did
    misattempted: int
    #: trials proposed twice at one budget
    repeated: int
    #: proposals that are not those the strategy makes from the rows up to the revision they recorded
    unreproducible: int = 0
    #: trials that are not those of the same search left alone
    diverged: int = 0
    #: attempts in the database that ended otherwise than completed
    recovered: int = 0
    #: results that came too late and were refused
    refused: int = 0
    #: completed in the database though the worker did not live to hear it
    unheard: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """What is not as it must be."""
        harmless = ("recovered", "refused", "unheard")
        return {name: value for name, value in asdict(self).items() if value and name not in harmless}


def judge(
    study: Study, folder: Path, *, wanted: int, reproduce: bool = False, again: tuple[str, ...] = TAKEN_BACK
) -> Findings:
    """Compare the journals with the database once all processes have ended.

    `again`: how attempts may end that are followed by others.
    """
    lines = list(journal.read(folder))
    trials = {trial.number: trial for trial in study.trials}
    claimed = Counter((line.number, line.attempt) for line in lines if line.what == "claimed")
    heard = {(line.number, line.attempt) for line in lines if line.what == "acknowledged"}
    attempts = {number: study.store.attempts(trial.id) for number, trial in trials.items()}
    completed = {(number, trial.attempt) for number, trial in trials.items() if trial.state == "completed"}
    said = {(line.number, line.value) for line in lines if line.what == "acknowledged"}
    wrong = sum(
        dict(t.metrics or {}) != tormented.values(t.architecture) for t in trials.values() if t.state == "completed"
    )
    wrong += sum(
        number not in trials or value != tormented.values(trials[number].architecture)["error"]
        for number, value in said
    )
    return Findings(
        lost=len(heard - completed),
        unfinished=wanted - len(completed),
        doubled=_repeated(claimed.elements()) + _repeated(number for number, _ in heard),
        unexpected=len(completed - set(claimed)),
        wrong=wrong,
        leases=_leases(study),
        unexplained=_unexplained(study),
        misattempted=sum(_misattempted(study, number, attempts[number], claimed, again) for number in trials),
        repeated=len(trials) - len({(trial.architecture, trial.budget) for trial in trials.values()}),
        unreproducible=sum(1 for _ in unreproducible(study)) if reproduce else 0,
        recovered=sum(a.outcome != "completed" for rows in attempts.values() for a in rows),
        refused=sum(line.what == "refused" for line in lines),
        unheard=len(completed - heard),
    )  # fmt: skip


def _repeated(things: Iterable[object]) -> int:
    return sum(count > 1 for count in Counter(things).values())


def unreproducible(study: Study) -> Iterable[int]:
    """Trials that are not what the strategy proposes from the rows up to the revision they recorded."""
    rows = study.store.changes(study.id, 0)
    for row in rows:
        again = proposed_again(study.strategy, study.space, study.metrics, study.seed, rows, row.number)
        stored = study.trial(row.number)
        if (again.architecture, again.lineage, again.budget) != (stored.architecture, stored.lineage, stored.budget):
            yield row.number


def _leases(study: Study) -> int:
    count = select(func.count()).select_from(leases)
    return int(study.store._database.read(lambda connection: connection.execute(count).scalar_one()))


def _unexplained(study: Study) -> int:
    """Replay the events: each must begin where the one before ended, at a later revision, and lead to the row."""
    rows = study.store.changes(study.id, 0)
    states, revisions = {row.number: "waiting" for row in rows}, dict.fromkeys((row.number for row in rows), 0)
    odd: set[int] = set()
    for event in study.store.events(study.id):
        if event.number is None:
            continue
        if event.from_state != states.get(event.number) or event.revision <= revisions[event.number]:
            odd.add(event.number)
        states[event.number], revisions[event.number] = event.to_state, event.revision
    odd |= {row.number for row in rows if (row.state, row.revision) != (states[row.number], revisions[row.number])}
    history = History(study.space, study.metrics, seed=study.seed)
    history.update(rows)  # raises where a trial ended before it was proposed
    if rows and max(row.revision for row in rows) > study.store.revision(study.id):
        odd.add(rows[-1].number)
    return len(odd)


def _misattempted(study: Study, number: int, rows: list, claimed: Counter, again: tuple[str, ...]) -> bool:  # type: ignore[type-arg]
    """Attempts are 1, 2, …; all but the last one were taken back; none is known to a worker only."""
    trial = study.trial(number)
    handed = {attempt for known, attempt in claimed if known == number}
    return (
        not rows
        or [row.attempt for row in rows] != list(range(1, trial.attempt + 1))
        or not handed <= {row.attempt for row in rows}
        or any(row.ended is None or row.outcome is None for row in rows)
        or any(row.outcome not in again for row in rows[:-1])
        or rows[-1].outcome != trial.state
    )  # fmt: skip
