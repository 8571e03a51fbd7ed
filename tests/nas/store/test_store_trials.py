"""Writing trials down and reading them back."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.errors import Outrun, UnknownStudy, UnknownTrial
from nas.store import FinishedTrial, Store, StudyRow, trial_from_row
from nas.trial import TrialState
from tests.nas.store.filling import GOOD, SPEC, new
from workers.protocol import FailureKind

pytest_plugins = ["tests.nas.store.filling"]


def test_proposing_numbers_trials_from_zero(store: Store, study: StudyRow) -> None:
    assert store.propose(study.id, [new(0), new(1)], first_number=0, proposed_revision=0) == [0, 1]
    assert store.propose(study.id, [new(2)], first_number=2, proposed_revision=1) == [2]
    trial = store.trial(study.id, 2)
    assert (trial.state, trial.proposed_revision, trial.attempt) == (TrialState.WAITING, 1, 0)
    assert store.study("demo").next_number == 3


def test_of_two_controllers_the_second_is_outrun(store: Store, study: StudyRow) -> None:
    store.propose(study.id, [new(0)], first_number=0)
    with pytest.raises(Outrun, match="would be 1, not 0"):
        store.propose(study.id, [new(1)], first_number=0)
    assert store.counts(study.id) == {"waiting": 1}
    assert store.study("demo").next_number == 1


def test_proposing_a_key_again_gives_the_number_it_has(store: Store, study: StudyRow) -> None:
    first = [new(0, proposal_key="a"), new(1, proposal_key="b")]
    assert store.propose(study.id, first, first_number=0) == [0, 1]
    assert store.propose(study.id, first, first_number=0) == [0, 1]
    assert store.propose(study.id, [new(2, proposal_key="c"), first[0], new(2, proposal_key="c")]) == [2, 0, 2]
    assert store.counts(study.id) == {"waiting": 3}
    assert store.propose(study.id, [new(3)]) == [3]


def test_a_trial_is_promoted_to_a_budget_once(store: Store, study: StudyRow) -> None:
    store.propose(study.id, [new(0, budget=1.0)])
    assert store.propose(study.id, [new(0, budget=3.0, promoted_from=0)]) == [1]
    assert store.propose(study.id, [new(0, budget=3.0, promoted_from=0)]) == [1]
    assert store.propose(study.id, [new(0, budget=9.0, promoted_from=0)]) == [2]


def test_a_promoted_trial_starts_from_the_last_checkpoint_up_its_line(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    store.propose(study.id, [new(0, budget=1.0)])
    [first] = claim()
    store.queue.checkpoint(first.trial_id, 1, step=1, key="first", digest="d", size_bytes=1)
    store.queue.finish(first.trial_id, 1, GOOD)
    # one that was promoted from it and has left none
    store.add_finished(study.id, [FinishedTrial(new=new(0, budget=3.0, promoted_from=0), metrics=GOOD)])
    store.propose(study.id, [new(0, budget=9.0, promoted_from=1)])
    [last] = claim()
    assert (last.number, last.checkpoint, last.checkpoint_digest, last.start_step) == (2, "first", "d", 1)
    assert last.seed == first.seed


@pytest.mark.parametrize(
    "proposal", [{"budget": float("nan")}, {"budget": -1.0}, {"repeat": -1}, {"promoted_from": 0}, {"lineage": (5,)}]
)
def test_a_proposal_that_makes_no_sense_is_refused(store: Store, study: StudyRow, proposal: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        store.propose(study.id, [new(0, **proposal)])
    assert store.propose(study.id, [new(0)]) == [0]


def test_a_trial_comes_back_as_it_was_proposed(store: Store, study: StudyRow) -> None:
    store.propose(study.id, [new("x")])
    proposed = new("rtl \u202e, NUL \x00, ' \" %", budget=1e-320, repeat=2, lineage=(0,), attributes={"why": [1, None]})
    [number] = store.propose(study.id, [proposed])
    trial = store.trial(study.id, number)
    assert trial.architecture == proposed.proposal.architecture
    assert (trial.budget, trial.repeat, trial.lineage) == (1e-320, 2, (0,))
    assert store.attributes(trial.id) == {"why": [1, None]}


def test_an_asked_trial_is_held_by_who_asked(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    asked = store.ask(study.id, new(0), first_number=0)
    assert asked is not None
    assert (asked.number, asked.attempt, store.trial(study.id, 0).state) == (0, 1, TrialState.RUNNING)
    assert store.ask(study.id, new(1), first_number=0) is None
    assert claim() == []
    assert store.queue.finish(asked.trial_id, asked.attempt, GOOD)
    store.propose(study.id, [new(1)])
    waiting = store.ask_waiting(study.id)
    assert waiting is not None
    assert waiting.number == 1
    assert store.ask_waiting(study.id) is None


def test_finished_trials_are_imported_in_bulk(store: Store, study: StudyRow) -> None:
    finished = [FinishedTrial(new=new(index), metrics=GOOD, seconds=2.0) for index in range(2000)]
    finished.append(FinishedTrial(new=new("bad"), state=TrialState.FAILED, error_kind="nan", error_text="diverged"))
    assert store.add_finished(study.id, finished) == list(range(2001))
    assert store.counts(study.id) == {"completed": 2000, "failed": 1}
    trial = store.trial(study.id, 7)
    assert (trial.metrics, trial.seconds) == (GOOD, pytest.approx(2.0))
    assert store.trial(study.id, 2000).error_text == "diverged"
    with pytest.raises(ValueError, match="macs"):
        store.add_finished(study.id, [FinishedTrial(new=new(0), metrics={"error": 0.5})])


def test_pages_by_number_hold_every_trial_once(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    store.propose(study.id, [new(index) for index in range(25)])
    claim(5)
    pages, after = [], -1
    while page := store.trials(study.id, states=["waiting"], after_number=after, limit=7):
        pages.append([trial.number for trial in page])
        after = page[-1].number
    assert [number for page in pages for number in page] == list(range(5, 25))
    assert max(map(len, pages)) == 7
    assert [trial.number for trial in store.all_trials(study.id)] == list(range(25))


def test_measurements_are_read_by_their_own_cursor(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    from workers.protocol import Measurement

    store.propose(study.id, [new(0), new(1)])
    revision = None
    for trial in claim(2):
        points = [Measurement(metric=name, step=step, value=1.0) for name in ("error", "macs") for step in range(3)]
        revision = store.revision(study.id)
        store.queue.report(trial.trial_id, trial.attempt, points)
    assert store.revision(study.id) == revision
    whole = store.measurements(study.id)
    read, after = [], None
    while page := store.measurements(study.id, after=after, limit=5):
        read += page
        after = (page[-1].trial_id, page[-1].attempt, page[-1].metric, page[-1].step)
    assert read == whole
    assert len(whole) == 12


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), limit=st.sampled_from([None, 1, 3]))
def test_a_mirror_fed_by_changes_equals_the_table(store: Store, seed: int, limit: int | None) -> None:
    rng = random.Random(seed)
    spec = SPEC | {"limits": {"breaker": False, "backoff_seconds": 0}}
    study = store.create_study("mirrored", spec, seed=0)
    mirror: dict[int, Any] = {}
    held: list[Any] = []
    revision = -1
    queue = store.queue
    for step in range(30):
        action = rng.choice(["propose", "claim", "finish", "fail", "release", "stop", "lose"])
        if action == "propose":
            store.propose(study.id, [new(rng.randrange(5)) for _ in range(rng.randrange(1, 4))])
        elif action == "claim":
            held += (store.ask_waiting(study.id) and []) or queue.claim("w", 2, claim_key=f"{study.id}-{step}")
        elif action == "stop" and store.study(study.name).next_number:
            store.stop_trial(study.id, rng.randrange(store.study(study.name).next_number), "enough")
        elif held and action in ("finish", "fail", "release", "lose"):
            trial = held.pop(rng.randrange(len(held)))
            if action == "finish":
                queue.finish(trial.trial_id, trial.attempt, GOOD)
            elif action == "release":
                queue.release(trial.trial_id, trial.attempt)
            else:
                kind = FailureKind.LOST if action == "lose" else FailureKind.EXCEPTION
                queue.fail(trial.trial_id, trial.attempt, kind, "boom", transient=rng.random() < 0.5)
        while rows := store.changes(study.id, revision, limit=limit):
            assert rows == sorted(rows, key=lambda row: (row.revision, row.number))
            mirror |= {row.number: trial_from_row(row) for row in rows}
            revision = rows[-1].revision
        assert [mirror[number] for number in sorted(mirror)] == list(store.all_trials(study.id))
    store.delete_study("mirrored")


def test_waiting_for_news_ends_when_there_are_some(store: Store, store_url: str, study: StudyRow) -> None:
    import threading

    from nas.store import open_store

    revision = store.revision(study.id)
    assert store.wait(study.id, revision, 0.01) is False

    def propose() -> None:
        with open_store(store_url) as other:
            other.propose(study.id, [new(0)])

    thread = threading.Thread(target=propose)
    thread.start()
    assert store.wait(study.id, revision, 30) is True
    thread.join()
    assert store.wait(study.id, revision, 0) is True


def test_stopping_all_ends_what_waits_and_flags_what_runs(
    store: Store, study: StudyRow, claim: Callable[..., Any]
) -> None:
    store.propose(study.id, [new(index) for index in range(5)])
    trials = claim(2)
    assert store.stop_all(study.id, "the study was stopped") == 5
    assert store.counts(study.id) == {"running": 2, "stopped": 3}
    held = [(trial.trial_id, 1) for trial in trials]
    assert set(store.queue.beat(held).values()) == {"the study was stopped"}
    assert store.stop_all(study.id, "again") == 0
    assert store.stop_trial(study.id, 4, "again") is False


def test_every_change_of_state_is_an_event(store: Store, study: StudyRow, claim: Callable[..., Any]) -> None:
    store.propose(study.id, [new(0)])
    [trial] = claim()
    store.queue.release(trial.trial_id, 1)
    [trial] = claim()
    store.queue.finish(trial.trial_id, 2, GOOD)
    changes = [
        (event.from_state, event.to_state, event.attempt) for event in store.events(study.id) if event.number == 0
    ]
    assert changes == [
        ("waiting", "running", 1),
        ("running", "waiting", 1),
        ("waiting", "running", 2),
        ("running", "completed", 2),
    ]
    revisions = [event.revision for event in store.events(study.id)]
    assert revisions == sorted(revisions)


def test_unknown_trials_and_studies_say_what_there_is(store: Store, study: StudyRow) -> None:
    with pytest.raises(UnknownTrial, match="there are none"):
        store.trial(study.id, 0)
    store.propose(study.id, [new(0), new(1)])
    with pytest.raises(UnknownTrial, match="there are 0 to 1"):
        store.stop_trial(study.id, 2, "why")
    with pytest.raises(UnknownStudy, match="id 99"):
        store.propose(99, [new(0)])
