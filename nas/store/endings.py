"""An attempt ends: with a result, with a failure, or by giving the trial back. One transaction each."""

from sqlalchemy import BindParameter, Connection, bindparam, case, select, update

from nas.store import statements
from nas.store.clock import now_us
from nas.store.journal import bump, record
from nas.store.leases import answered, close_attempt, give_up
from nas.store.leases import lost as lost_lease
from nas.store.limits import BREAKER_WINDOW, Facts, Retry, is_broken, retry_after
from nas.store.results import Ending
from nas.store.schema import studies, trials
from nas.trial import TrialState
from workers.protocol import FailureKind

TERMINAL = tuple(str(state) for state in TrialState if state.is_terminal)

_end = (
    update(trials)
    .where(trials.c.id == bindparam("trial"), trials.c.state == "running", trials.c.attempt == bindparam("held"))
    .values(
        state=bindparam("to"),
        metrics=bindparam("result"),
        result_hash=bindparam("digest"),
        error_kind=bindparam("kind"),
        error_text=bindparam("explanation"),
        ended=now_us(),
        revision=bindparam("new_revision"),
    )
    .returning(trials.c.number, trials.c.worker)
)

_delay: BindParameter[int] = bindparam("delay")

_wait_again = (
    update(trials)
    .where(trials.c.id == bindparam("trial"), trials.c.state == "running", trials.c.attempt == bindparam("held"))
    .values(
        state="waiting",
        lost=trials.c.lost + bindparam("more_lost"),
        errors=trials.c.errors + bindparam("more_errors"),
        # without a delay no clock is asked, lest one that is set back makes the trial wait
        not_before=case((_delay > 0, now_us() + _delay), else_=0),
        started=None,
        revision=bindparam("new_revision"),
    )
    .returning(trials.c.number, trials.c.worker)
)

_tries = select(
    trials.c.number, trials.c.lost, trials.c.lost_limit, trials.c.errors, trials.c.error_limit, trials.c.worker
).where(trials.c.id == bindparam("trial"))

_last_states = (
    select(trials.c.state)
    .where(
        trials.c.study_id == bindparam("study"),
        trials.c.revision > bindparam("since"),
        trials.c.state.in_(TERMINAL),
        # imported trials say nothing about how things go here
        trials.c.attempt > 0,
    )
    .order_by(trials.c.revision.desc())
    .limit(BREAKER_WINDOW)
)


def end(
    connection: Connection,
    study_id: int,
    trial_id: int,
    attempt: int,
    ending: Ending,
    *,
    outcome: str | None = None,
    said: Ending | None = None,
) -> None:
    """Make a trial terminal whose lease this transaction has just given up.

    Args:
        connection: of the running transaction.
        study_id: the study.
        trial_id: the trial.
        attempt: the one that held it.
        ending: how the trial ends.
        outcome: of the attempt, where that is not the trial's new state.
        said: what the worker said, where that is not how the trial ends; a repeated message is known by it.
    """
    used = close_attempt(connection, trial_id, attempt, outcome or ending.state)
    revision = bump(connection, study_id, used_us=used)
    row = statements.one(
        connection,
        _end,
        {
            "trial": trial_id,
            "held": attempt,
            "to": str(ending.state),
            "result": ending.metrics,
            "digest": (said or ending).hash,
            "kind": ending.kind,
            "explanation": ending.text,
            "new_revision": revision,
        },
    )
    record(
        connection,
        study_id,
        revision,
        before="running",
        to=str(ending.state),
        number=row.number,
        attempt=attempt,
        actor=row.worker,
        note=ending.kind,
    )


def wait_again(
    connection: Connection,
    study_id: int,
    trial_id: int,
    attempt: int,
    *,
    outcome: str,
    retry: Retry,
    lost: int = 0,
    errors: int = 0,
    note: str | None = None,
) -> None:
    """Put a trial back into the queue whose lease this transaction has just given up."""
    used = close_attempt(connection, trial_id, attempt, outcome)
    revision = bump(connection, study_id, used_us=used)
    row = statements.one(
        connection,
        _wait_again,
        {
            "trial": trial_id,
            "held": attempt,
            "more_lost": lost,
            "more_errors": errors,
            "delay": round(retry.delay_seconds * 1e6),
            "new_revision": revision,
        },
    )
    if not retry.from_checkpoint:
        from_start = update(trials).where(trials.c.id == trial_id).values(checkpoint=None, checkpoint_step=0)
        connection.execute(from_start)
    record(
        connection,
        study_id,
        revision,
        before="running",
        to="waiting",
        number=row.number,
        attempt=attempt,
        actor=row.worker,
        note=note,
    )


def finish(connection: Connection, trial_id: int, attempt: int, ending: Ending, facts: Facts) -> bool:
    """End a trial as its worker says; True if it was new, False if it had been said before."""
    lease = give_up(connection, trial_id, attempt)
    if lease is None:
        if answered(connection, trial_id, attempt, ending.hash) in ("retried", "released"):
            # this attempt has given the trial back; a result that comes afterwards is too late
            raise lost_lease(connection, trial_id, attempt)
        return False
    end(connection, lease.study_id, trial_id, attempt, ending)
    if ending.state is TrialState.FAILED and facts.limits.breaker:
        pause_if_broken(connection, lease.study_id)
    return True


def fail(
    connection: Connection,
    trial_id: int,
    attempt: int,
    kind: FailureKind,
    text: str,
    *,
    facts: Facts,
    transient: bool,
    jitter: float,
) -> tuple[bool, bool]:
    """Record a failure by the retry rules; (new, waiting again)."""
    ending = Ending(state=TrialState.FAILED, kind=str(kind), text=text)
    lease = give_up(connection, trial_id, attempt)
    if lease is None:
        outcome = answered(connection, trial_id, attempt, ending.hash)
        if outcome == "released":
            raise lost_lease(connection, trial_id, attempt)
        return False, outcome == "retried"
    waits = settle(
        connection,
        lease.study_id,
        trial_id,
        attempt,
        ending,
        stop_flag=lease.stop_flag,
        facts=facts,
        transient=transient,
        jitter=jitter,
    )
    return True, waits is TrialState.WAITING


def settle(
    connection: Connection,
    study_id: int,
    trial_id: int,
    attempt: int,
    ending: Ending,
    *,
    stop_flag: str | None,
    facts: Facts,
    transient: bool,
    jitter: float,
    outcome: str | None = None,
) -> TrialState:
    """Try a failed attempt's trial again or end it, by the retry rules; returns its new state.

    The attempt's outcome, unless given, is "retried" or the trial's new state.
    """
    kind = FailureKind(ending.kind or "")
    row = statements.one(connection, _tries, {"trial": trial_id})
    retry = retry_after(
        kind,
        lost=row.lost,
        lost_limit=row.lost_limit,
        errors=row.errors,
        error_limit=row.error_limit,
        limits=facts.limits,
        transient=transient,
        jitter=jitter,
    )
    if retry is not None and stop_flag is not None:
        # it was asked to stop anyway: it does not come back
        stopped = Ending(state=TrialState.STOPPED, kind=stop_flag, text=ending.text)
        end(connection, study_id, trial_id, attempt, stopped, outcome=outcome, said=ending)
        return TrialState.STOPPED
    if retry is None:
        end(connection, study_id, trial_id, attempt, ending, outcome=outcome)
        if facts.limits.breaker:
            pause_if_broken(connection, study_id)
        return TrialState.FAILED
    is_loss = kind is FailureKind.LOST
    wait_again(
        connection,
        study_id,
        trial_id,
        attempt,
        outcome=outcome or "retried",
        retry=retry,
        lost=int(is_loss),
        errors=int(not is_loss),
        note=ending.kind,
    )
    return TrialState.WAITING


def release(connection: Connection, trial_id: int, attempt: int) -> bool:
    """Give a trial back unharmed: claimable at once, from its last checkpoint, and no loss is counted.

    True if it waits again; False if it was to be stopped, which it is now.
    """
    lease = give_up(connection, trial_id, attempt)
    if lease is None:
        if answered(connection, trial_id, attempt, None) != "released":
            raise lost_lease(connection, trial_id, attempt)
        state = connection.execute(select(trials.c.state).where(trials.c.id == trial_id)).scalar_one()
        return bool(state != TrialState.STOPPED)
    if lease.stop_flag is not None:
        stopped = Ending(state=TrialState.STOPPED, kind=lease.stop_flag)
        end(connection, lease.study_id, trial_id, attempt, stopped, outcome="released")
        return False
    unharmed = Retry(delay_seconds=0.0, from_checkpoint=True)
    wait_again(connection, lease.study_id, trial_id, attempt, outcome="released", retry=unharmed, note="released")
    return True


def pause_if_broken(connection: Connection, study_id: int) -> None:
    """Pause the study when nearly all of its last trials failed: something is wrong with all of them."""
    since = connection.execute(select(studies.c.breaker_from, studies.c.revision).where(studies.c.id == study_id)).one()
    states = list(connection.execute(_last_states, {"study": study_id, "since": since.breaker_from}).scalars())
    if not is_broken(states):
        return
    pause = update(studies).where(studies.c.id == study_id, studies.c.state == "active").values(state="paused")
    if connection.execute(pause).rowcount == 1:
        failed = states.count("failed")
        record(
            connection,
            study_id,
            since.revision,
            before="active",
            to="paused",
            actor="breaker",
            note=f"{failed} of the last {len(states)} trials failed; see why, then resume the study",
        )
