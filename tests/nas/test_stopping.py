"""When a search is over: each rule against a slow, obvious version of itself."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import stopping
from nas.history import History
from nas.metric import Metric
from nas.settings import StopRules
from nas.stopping import Improvement, reason_to_end
from nas.trial import Trial, TrialState
from search_spaces import Architecture, Integer, SearchSpace

SPACE = SearchSpace({"n": Integer(0, 10**6)}, name="line")


def history_of(
    rows: list[tuple[float, ...] | None], metrics: list[Metric], budgets: Sequence[float | None] | None = None
) -> History:
    """Trials with these values in order; None is a failed one."""
    trials = [
        Trial(
            id=number,
            number=number,
            state=TrialState.FAILED if values is None else TrialState.COMPLETED,
            attempt=1,
            architecture=Architecture({"n": number}),
            canonical_key=str(number),
            budget=None if budgets is None else budgets[number],
            metrics={} if values is None else {m.name: v for m, v in zip(metrics, values, strict=True)},
        )
        for number, values in enumerate(rows)
    ]
    return History.of(SPACE, metrics, trials)


def idle_by_hand(rows: list[tuple[float, ...] | None], budgets: Sequence[float], limit: float) -> int:
    """Trials since the last one that no earlier feasible one equals or beats, trained no less far than any before."""
    idle, kept, furthest = 0, [], 0.0
    for row, budget in zip(rows, budgets, strict=True):
        improves = row is not None and row[0] <= limit
        if improves and budget > furthest:
            furthest, kept = budget, []
        if budget < furthest:
            continue
        idle += 1
        if not improves:
            continue
        if not any(all(a <= b for a, b in zip(old, row, strict=True)) for old in kept):
            idle = 0
            kept.append(row)
    return idle


@pytest.fixture(scope="module", autouse=True)
def few_at_once() -> Iterator[None]:
    """Lists of this file are taken in in pieces too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "AT_ONCE", 4)
        yield


@settings(deadline=None)
@given(st.lists(st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25), st.data())
def test_idleness_is_counted_once_and_incrementally(rows: list[tuple[int, int] | None], data: st.DataObject) -> None:
    metrics = [Metric("a", limit=4), Metric("b")]
    floats = [None if row is None else (float(row[0]), float(row[1])) for row in rows]
    budgets = data.draw(st.lists(st.sampled_from([1.0, 3.0, 9.0]), min_size=len(rows), max_size=len(rows)))
    at_once, followed = Improvement(), Improvement()
    at_once.follow(history_of(floats, metrics, budgets))
    assert at_once.idle == idle_by_hand(floats, budgets, 4.0)
    feasible = [row for row in floats if row is not None and row[0] <= 4]
    assert (at_once.best is None) == (not feasible)
    if feasible:
        assert tuple(at_once.best) == tuple(np.min(feasible, axis=0))
    cut = data.draw(st.integers(0, len(rows)))
    followed.follow(history_of(floats[:cut], metrics, budgets))
    followed.follow(history_of(floats, metrics, budgets))
    assert followed.idle == at_once.idle


def reason(stop: StopRules, rows: list[tuple[float, ...] | None], **facts: float) -> str | None:
    metrics = [Metric("error"), Metric("accuracy", limit=0.5)]
    known = {"elapsed_seconds": 0.0, "worker_seconds": 0.0, **facts}
    improvement, history = Improvement(), history_of(rows, metrics)
    improvement.follow(history)
    return reason_to_end(stop, history, improvement=improvement, **known)


def test_patience_is_with_the_trials_that_are_trained_furthest() -> None:
    metrics = [Metric("error")]
    improvement = Improvement()
    rows = [(0.1,), (0.9,), (0.05,), (0.95,), (0.01,)]
    improvement.follow(history_of(rows, metrics, [1.0, 3.0, 1.0, 3.0, 1.0]))
    assert improvement.idle == 1
    assert improvement.best == [0.01]  # a target that is reached early is reached


@pytest.mark.parametrize(
    ("stop", "rows", "facts", "ends"),
    [
        (StopRules(trials=2), [(1.0, 0.9)], {}, False),
        (StopRules(trials=2), [(1.0, 0.9), None], {}, True),
        (StopRules(time_limit_seconds=5), [], {"elapsed_seconds": 4.9}, False),
        (StopRules(time_limit_seconds=5), [], {"elapsed_seconds": 5.0}, True),
        (StopRules(worker_hours=1), [], {"worker_seconds": 3599.0}, False),
        (StopRules(worker_hours=1), [], {"worker_seconds": 3600.0}, True),
        (StopRules(target={"error": 0.5}), [(0.6, 0.9), None], {}, False),
        (StopRules(target={"error": 0.5}), [(0.5, 0.9)], {}, True),
        (StopRules(target={"error": 0.5}), [(0.1, 0.4)], {}, False),  # infeasible
        (StopRules(target={"accuracy": 0.9}), [(1.0, 0.89)], {}, False),
        (StopRules(target={"accuracy": 0.9}), [(1.0, 0.91)], {}, True),
        (StopRules(patience=2), [(1.0, 0.9), (2.0, 0.8)], {}, False),
        (StopRules(patience=2), [(1.0, 0.9), (2.0, 0.8), None], {}, True),
        (StopRules(), [(0.0, 1.0)] * 3, {"elapsed_seconds": np.inf}, False),
    ],
)
def test_a_rule_ends_a_search_when_it_holds_and_not_before(
    stop: StopRules, rows: list[tuple[float, ...] | None], facts: dict[str, float], ends: bool
) -> None:
    assert (reason(stop, rows, **facts) is not None) == ends
