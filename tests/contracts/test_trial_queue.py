"""What every worker may rely on, whichever database is behind the queue."""

import math
import multiprocessing
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from sqlalchemy import select, text, update

from nas.store import Store, StudyRow, open_queue, open_store
from nas.store.schema import attempts, leases, trials
from nas.trial import TrialState
from tests.nas.store.filling import GOOD, SPEC, new
from workers.protocol import ClaimedTrial, Conflict, FailureKind, LeaseLost, Measurement

pytest_plugins = ["tests.nas.store.filling"]


def snapshot(store: Store) -> list[Any]:
    """All rows that a worker could change."""
    tables = ("trials", "leases", "attempts", "measurements", "attributes", "checkpoints", "events")

    def read(connection: Any) -> list[Any]:
        return [sorted(map(repr, connection.execute(text(f"SELECT * FROM {table}")))) for table in tables]

    return store._database.read(read)


def all_of(store: Store, statement: Any) -> list[Any]:
    return store._database.read(lambda connection: connection.execute(statement).all())


def work(url: str, name: str, answers: Any) -> None:
    queue = open_queue(url)
    taken = []
    for round_ in count():
        claimed = queue.claim(name, 3, claim_key=f"{name}-{round_}")
        if not claimed:
            break
        for trial in claimed:
            queue.finish(trial.trial_id, trial.attempt, GOOD)
            taken.append(trial.number)
    queue.close()
    answers.put((name, taken))


@pytest.mark.slow
def test_each_waiting_trial_is_handed_to_one_of_several_processes(store: Store, study: StudyRow) -> None:
    store.propose(study.id, [new(index) for index in range(200)])
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=work, args=(store.url, f"w{index}", answers)) for index in range(3)]
    for process in processes:
        process.start()
    taken = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert Counter(number for _, numbers in taken for number in numbers) == Counter(range(200))
    assert store.counts(study.id) == {"completed": 200}
    assert all_of(store, select(leases)) == []


def test_claiming_follows_priority_and_then_number(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    store.propose(study.id, [new(0), new(1, priority=1), new(2), new(3, priority=1)])
    assert [trial.number for trial in claim(3)] == [1, 3, 0]
    assert [trial.number for trial in claim(3)] == [2]
    assert claim() == []


def test_the_same_claim_key_returns_the_same_trials(store: Store, study: StudyRow) -> None:
    store.propose(study.id, [new(index) for index in range(5)])
    first = store.queue.claim("w", 2, claim_key="once")
    assert store.queue.claim("w", 2, claim_key="once") == first
    assert store.counts(study.id) == {"running": 2, "waiting": 3}


def test_a_claimed_trial_says_all_about_itself(running: ClaimedTrial, study: StudyRow) -> None:
    assert (running.study_id, running.study, running.number, running.attempt) == (study.id, "demo", 0, 1)
    assert running.architecture == '{"op":0}'
    assert 0 <= running.seed < 2**31


def test_the_seed_depends_on_study_seed_number_and_repeat_only(store: Store, claim: Callable[..., Any]) -> None:
    seeds = []
    for name in ("a", "b"):
        made = store.create_study(name, SPEC, seed=7)
        store.propose(made.id, [new(0), new(0), new(0, repeat=1)])
        seeds.append([trial.seed for trial in claim(3)])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_the_spec_tells_a_worker_what_is_constant(store: Store, study: StudyRow) -> None:
    spec = store.queue.spec(study.id)
    assert (spec.name, spec.metrics, spec.evaluator["path"]) == ("demo", ("error", "macs"), "toy:evaluate")
    assert (spec.lease_seconds, spec.beat_seconds, spec.time_limit_seconds) == (60, 10, None)


def test_a_finished_trial_has_its_metrics_and_leaves_no_lease(
    store: Store, study: StudyRow, running: ClaimedTrial
) -> None:
    measured = [
        Measurement(metric="error", step=step, value=value) for step, value in enumerate([0.5, math.nan, math.inf])
    ]
    assert store.queue.finish(running.trial_id, 1, GOOD, measurements=measured, attributes={"device": "cpu"})
    trial = store.trial(study.id, 0)
    assert (trial.state, trial.metrics, trial.worker) == (TrialState.COMPLETED, GOOD, "w")
    assert trial.seconds is not None
    assert [repr(row.value) for row in store.measurements(study.id, number=0)] == ["0.5", "nan", "inf"]
    assert store.attributes(trial.id) == {"device": "cpu"}
    assert all_of(store, select(leases)) == []
    [attempt] = store.attempts(trial.id)
    assert (attempt.outcome, attempt.first_step, attempt.last_step) == ("completed", 0, 2)


def test_finishing_twice_with_the_same_metrics_is_already_done(store: Store, running: ClaimedTrial) -> None:
    assert store.queue.finish(running.trial_id, 1, GOOD) is True
    before = snapshot(store)
    assert store.queue.finish(running.trial_id, 1, dict(reversed(GOOD.items()))) is False
    assert snapshot(store) == before


def test_finishing_twice_with_other_metrics_is_a_conflict(store: Store, running: ClaimedTrial) -> None:
    store.queue.finish(running.trial_id, 1, GOOD)
    before = snapshot(store)
    with pytest.raises(Conflict, match="trial 0, attempt 1"):
        store.queue.finish(running.trial_id, 1, GOOD | {"error": 0.5})
    with pytest.raises(Conflict):
        store.queue.fail(running.trial_id, 1, FailureKind.EXCEPTION, "boom")
    assert snapshot(store) == before


def lose(store: Store, trial: ClaimedTrial) -> None:
    """Make the reaper take a trial away."""
    now = [0.0]
    reaper = store.reaper(monotonic=lambda: now[0])
    expire(store, trial)
    for _ in range(8):
        reaper.reap()
        now[0] += 20
    assert (
        store._database.read(lambda c: c.execute(select(leases).where(leases.c.trial_id == trial.trial_id)).all()) == []
    )


def expire(store: Store, trial: ClaimedTrial) -> None:
    statement = update(leases).where(leases.c.trial_id == trial.trial_id).values(expires_at=1)
    store._database.write(lambda connection: connection.execute(statement))


def make_claimable(store: Store) -> None:
    store._database.write(lambda connection: connection.execute(update(trials).values(not_before=0)))


@pytest.mark.parametrize("claimed_again", [False, True])
def test_an_attempt_that_lost_its_lease_writes_nothing(
    store: Store, running: ClaimedTrial, claim: Callable[..., Any], claimed_again: bool
) -> None:
    lose(store, running)
    if claimed_again:
        make_claimable(store)
        assert [trial.attempt for trial in claim(worker="other")] == [2]
    before = snapshot(store)
    queue, trial_id = store.queue, running.trial_id
    point = [Measurement(metric="error", step=1, value=0.5)]
    writes: list[Callable[[], Any]] = [
        lambda: queue.report(trial_id, 1, point),
        lambda: queue.finish(trial_id, 1, GOOD, measurements=point),
        lambda: queue.finish(trial_id, 1, GOOD, stopped="enough"),
        lambda: queue.fail(trial_id, 1, FailureKind.EXCEPTION, "boom"),
        lambda: queue.checkpoint(trial_id, 1, step=3, key="k", digest="d", size_bytes=1),
        lambda: queue.release(trial_id, 1),
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match="trial 0"):
            write()
    assert queue.beat([(trial_id, 1)]) == {}
    assert snapshot(store) == before


def test_a_worker_of_a_deleted_study_is_told_so(store: Store, running: ClaimedTrial) -> None:
    store.delete_study("demo")
    assert store.queue.beat([(running.trial_id, 1)]) == {}
    with pytest.raises(LeaseLost, match="deleted"):
        store.queue.finish(running.trial_id, 1, GOOD)
    again = store.create_study("demo", SPEC, seed=1)
    assert store.propose(again.id, [new()]) == [0]
    assert store.trial(again.id, 0).id != running.trial_id


def test_a_beat_renews_and_brings_back_the_reason_to_stop(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    store.propose(study.id, [new(0), new(1)])
    held = [(trial.trial_id, trial.attempt) for trial in claim(2)]
    for trial_id, _ in held:
        store._database.write(
            lambda c, t=trial_id: c.execute(update(leases).where(leases.c.trial_id == t).values(expires_at=1))
        )
    assert store.stop_trial(study.id, 1, "hopeless") is True
    assert store.queue.beat([*held, (10**6, 1)]) == {held[0][0]: None, held[1][0]: "hopeless"}
    assert all(row.expires_at > 10**15 for row in all_of(store, select(leases)))
    assert store.queue.report(held[1][0], 1, []) == "hopeless"


def test_a_repeated_measurement_is_ignored(store: Store, study: StudyRow, running: ClaimedTrial) -> None:
    for value in (0.5, 0.7):
        assert store.queue.report(running.trial_id, 1, [Measurement(metric="error", step=3, value=value)]) is None
    assert [(row.step, row.value) for row in store.measurements(study.id)] == [(3, 0.5)]


@pytest.mark.parametrize("step", [-1, 2**63, 1.5, True, "3"])
def test_an_impossible_step_is_refused(store: Store, running: ClaimedTrial, step: Any) -> None:
    with pytest.raises(ValueError, match="step must be a whole number"):
        store.queue.report(running.trial_id, 1, [Measurement(metric="error", step=step, value=0.5)])


class Tensor:
    """Something that is no number, like a tensor."""


@pytest.mark.parametrize(
    ("metrics", "kind"),
    [
        ({"error": math.nan, "macs": 1}, "nan"),
        ({"error": math.inf, "macs": 1}, "nan"),
        ({"error": 0.5}, "bad_result"),
        ({"error": 0.5, "macs": 1, "loss": 2}, "bad_result"),
        ({"error": True, "macs": 1}, "bad_result"),
        ({"error": "0.5", "macs": 1}, "bad_result"),
        ({"error": 1j, "macs": 1}, "bad_result"),
        ({"error": 10**400, "macs": 1}, "bad_result"),
        ({"error": Tensor(), "macs": 1}, "bad_result"),
        (0.5, "bad_result"),
        (None, "bad_result"),
    ],
)
def test_metrics_that_are_no_result_fail_the_trial_with_the_reason(
    store: Store, study: StudyRow, running: ClaimedTrial, metrics: Any, kind: str
) -> None:
    assert store.queue.finish(running.trial_id, 1, metrics) is True
    trial = store.trial(study.id, 0)
    assert (trial.state, trial.error_kind, trial.metrics) == (TrialState.FAILED, kind, {})
    assert trial.error_text
    assert store.queue.finish(running.trial_id, 1, metrics) is False


def test_a_stopped_trial_keeps_the_metrics_so_far(store: Store, study: StudyRow, running: ClaimedTrial) -> None:
    assert store.queue.finish(running.trial_id, 1, {"error": 0.5}, stopped="hopeless") is True
    trial = store.trial(study.id, 0)
    assert (trial.state, trial.metrics, trial.error_kind) == (TrialState.STOPPED, {"error": 0.5}, "hopeless")


@pytest.mark.parametrize(
    ("kind", "transient", "limits", "waits"),
    [
        (FailureKind.EXCEPTION, False, {}, [False]),
        (FailureKind.EXCEPTION, True, {}, [True, False]),
        (FailureKind.EXCEPTION, True, {"transient": 2}, [True, True, False]),
        (FailureKind.OUT_OF_MEMORY, False, {}, [False]),
        (FailureKind.OUT_OF_MEMORY, False, {"out_of_memory": 1}, [True, False]),
        (FailureKind.TIME_OUT, True, {}, [False]),
        (FailureKind.NAN, True, {}, [False]),
        (FailureKind.LOST, False, {}, [True, True, False]),
        (FailureKind.LOST, False, {"lost": 1}, [False]),
    ],
)
def test_failures_are_tried_again_as_the_rules_say(
    store: Store,
    make_study: Callable[..., StudyRow],
    claim: Callable[..., Any],
    kind: FailureKind,
    transient: bool,
    limits: dict[str, int],
    waits: list[bool],
) -> None:
    study = make_study(limits=limits)
    store.propose(study.id, [new()])
    for attempt, expected in enumerate(waits, start=1):
        make_claimable(store)
        [trial] = claim()
        store.queue.checkpoint(trial.trial_id, attempt, step=attempt, key=f"c{attempt}", digest="d", size_bytes=1)
        assert trial.attempt == attempt
        if attempt > 1:
            from_checkpoint = kind is FailureKind.LOST
            assert trial.checkpoint == (f"c{attempt - 1}" if from_checkpoint else None)
            assert trial.start_step == (attempt - 1 if from_checkpoint else 0)
        for _ in range(2):  # the second one is a repeated message
            assert store.queue.fail(trial.trial_id, attempt, kind, "boom", transient=transient) is expected
    final = store.trial(study.id, 0)
    assert (final.state, final.error_kind, final.error_text) == (TrialState.FAILED, kind, "boom")
    assert [row.outcome for row in store.attempts(final.id)] == ["retried"] * (len(waits) - 1) + ["failed"]


def test_a_lost_trial_waits_for_its_back_off(store: Store, running: ClaimedTrial, claim: Callable[..., Any]) -> None:
    assert store.queue.fail(running.trial_id, 1, FailureKind.LOST, "killed")
    far = update(trials).values(not_before=2**60)
    store._database.write(lambda connection: connection.execute(far))
    assert claim() == []
    make_claimable(store)
    assert [trial.attempt for trial in claim()] == [2]


def test_a_released_trial_waits_at_once_and_counts_no_loss(
    store: Store, running: ClaimedTrial, claim: Callable[..., Any]
) -> None:
    store.queue.release(running.trial_id, 1)
    store.queue.release(running.trial_id, 1)
    assert [row.lost for row in all_of(store, select(trials))] == [0]
    [again] = claim()
    assert (again.number, again.attempt) == (0, 2)
    with pytest.raises(LeaseLost):
        store.queue.release(running.trial_id, 1)


def test_a_trial_asked_to_stop_does_not_come_back(store: Store, study: StudyRow, running: ClaimedTrial) -> None:
    store.stop_trial(study.id, 0, "enough")
    store.queue.release(running.trial_id, 1)
    assert (store.trial(study.id, 0).state, store.trial(study.id, 0).error_kind) == (TrialState.STOPPED, "enough")


def test_known_results_come_with_the_claim_unless_it_is_a_repeat(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    store.propose(study.id, [new("a"), new("a", budget=3.0)])
    first, at_budget = claim(2)
    store.queue.finish(first.trial_id, 1, GOOD)
    store.queue.finish(at_budget.trial_id, 1, GOOD | {"error": 0.5})
    store.propose(study.id, [new("a"), new("a", budget=3.0), new("a", budget=9.0), new("a", repeat=1), new("b")])
    known = [(trial.known_from, trial.known_metrics) for trial in claim(5)]
    assert known == [(0, GOOD), (1, GOOD | {"error": 0.5}), (None, None), (None, None), (None, None)]


def test_a_study_without_reuse_knows_no_results(
    store: Store, make_study: Callable[..., StudyRow], claim: Callable[..., Any]
) -> None:
    study = make_study(reuse=False)
    store.propose(study.id, [new("a"), new("a")])
    [first] = claim()
    store.queue.finish(first.trial_id, 1, GOOD)
    assert [trial.known_from for trial in claim()] == [None]


def test_paused_studies_and_other_studies_hand_out_nothing(
    store: Store, store_url: str, claim: Callable[..., Any]
) -> None:
    first, second = (store.create_study(name, SPEC, seed=0) for name in ("first", "second"))
    for study in (first, second):
        store.propose(study.id, [new(0), new(1)])
    store.set_study_state(first.id, "paused")
    assert {trial.study for trial in claim(2)} == {"second"}
    queue = open_queue(store_url, "first")
    assert list(queue.claim("x", 1, claim_key="x")) == []
    store.set_study_state(first.id, "active")
    assert [trial.study for trial in queue.claim("x", 1, claim_key="y")] == ["first"]
    queue.close()


def test_several_studies_share_the_workers(store: Store, claim: Callable[..., Any]) -> None:
    for name in ("first", "second"):
        store.propose(store.create_study(name, SPEC, seed=0).id, [new(index) for index in range(4)])
    assert Counter(claim()[0].study for _ in range(4)) == {"first": 2, "second": 2}


def test_the_breaker_pauses_a_study_whose_trials_fail(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    store.propose(study.id, [new(index) for index in range(20)])
    for index in range(10):
        [trial] = claim()
        assert store.state(study.id) == "active"
        if index in (1, 4):
            store.queue.finish(trial.trial_id, 1, GOOD)
        else:
            store.queue.fail(trial.trial_id, 1, FailureKind.EXCEPTION, "boom")
    assert store.state(study.id) == "paused"
    assert claim() == []
    assert [event.note for event in store.events(study.id) if event.actor == "breaker"] == [
        "8 of the last 10 trials failed; see why, then resume the study"
    ]
    store.set_study_state(study.id, "active")
    [trial] = claim()
    store.queue.fail(trial.trial_id, 1, FailureKind.EXCEPTION, "boom")
    assert store.state(study.id) == "active"


def test_the_breaker_can_be_switched_off(
    store: Store, make_study: Callable[..., StudyRow], claim: Callable[..., Any]
) -> None:
    study = make_study(limits={"breaker": False})
    store.propose(study.id, [new(index) for index in range(12)])
    for trial in claim(12):
        store.queue.fail(trial.trial_id, 1, FailureKind.EXCEPTION, "boom")
    assert store.state(study.id) == "active"


def test_long_and_broken_error_texts_are_stored_by_their_end(
    store: Store, study: StudyRow, running: ClaimedTrial
) -> None:
    store.queue.fail(running.trial_id, 1, FailureKind.EXCEPTION, "ä" * 9000 + "\x00 \ud800 the end")
    text = store.trial(study.id, 0).error_text or ""
    assert text.endswith("the end")
    assert len(text.encode()) <= 8192


def test_measurements_beyond_the_bound_are_dropped_and_noted(
    store: Store, study: StudyRow, running: ClaimedTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.store.reports.MEASUREMENTS_PER_METRIC", 5)
    points = [Measurement(metric="error", step=step, value=0.5) for step in range(8)]
    store.queue.report(running.trial_id, 1, points)
    store.queue.report(running.trial_id, 1, [Measurement(metric="macs", step=0, value=1.0)])
    assert [(row.metric, row.step) for row in store.measurements(study.id)] == [
        *(("error", step) for step in range(5)),
        ("macs", 0),
    ]
    assert store.attributes(running.trial_id) == {"measurements_dropped": {"kept": 5, "metrics": ["error"]}}


def test_registering_a_worker_is_idempotent_and_names_its_attempts(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    for device in ("cpu", "cuda:0"):
        store.queue.register("w", host="h", boot="b", pid=4, started=1.5, device=device)
    store.propose(study.id, [new()])
    [trial] = claim()
    [attempt] = store.attempts(trial.trial_id)
    assert (attempt.host, attempt.pid, attempt.device) == ("h", 4, "cuda:0")
    [worker] = store.workers(study.id)
    assert (worker.worker, worker.boot, worker.started, worker.holds) == ("w", "b", 1.5, 1)


def test_a_worker_is_present_from_registering_to_leaving(store: Store, study: StudyRow) -> None:
    identity = {"host": "h", "boot": "b", "pid": 4, "started": 1.5, "device": "cpu"}
    for name in ("a", "b"):
        store.queue.register(name, **identity)
    store.queue.leave("a")
    assert [present.worker for present in store.present_workers(60)] == ["b"]
    assert store.present_workers(-60) == []  # heard of, but not lately enough
    store.queue.register("a", **identity)
    assert {present.worker for present in store.present_workers(60)} == {"a", "b"}


def test_a_promoted_trial_starts_from_the_checkpoint_it_continues(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    store.propose(study.id, [new(budget=1.0)])
    [first] = claim()
    store.queue.checkpoint(first.trial_id, 1, step=10, key="folder/10", digest="d", size_bytes=5)
    store.queue.finish(first.trial_id, 1, GOOD)
    store.propose(study.id, [new(budget=3.0, promoted_from=0)])
    [promoted] = claim()
    assert (promoted.checkpoint, promoted.start_step, promoted.budget) == ("folder/10", 10, 3.0)


def test_attempts_add_up_to_the_worker_seconds(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    store.propose(study.id, [new(index) for index in range(4)])
    taken = claim(4)
    store.queue.finish(taken[0].trial_id, 1, GOOD)
    store.queue.fail(taken[1].trial_id, 1, FailureKind.EXCEPTION, "boom")
    store.queue.release(taken[2].trial_id, 1)
    store.queue.fail(taken[3].trial_id, 1, FailureKind.LOST, "gone")
    spent = sum(row.ended - row.started for row in all_of(store, select(attempts.c.started, attempts.c.ended)))
    assert store.worker_seconds(study.id) == pytest.approx(spent / 1e6)
    assert spent > 0


def test_another_open_store_sees_everything(
    store: Store, store_url: str, study: StudyRow, running: ClaimedTrial
) -> None:
    with open_store(store_url, create=False) as other:
        other.queue.finish(running.trial_id, running.attempt, GOOD)
    assert store.trial(study.id, 0).metrics == GOOD
