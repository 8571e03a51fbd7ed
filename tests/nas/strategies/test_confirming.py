"""Confirming: the last trials measure the finalists again; a function of the rows like any other strategy."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nas import catalogue
from nas.history import History
from nas.metric import Metric
from nas.recommended import recommended
from nas.repeats import averages
from nas.settings import StopRules
from nas.strategies.asha import Asha
from nas.strategies.bayesian import Bayesian
from nas.strategies.confirming import REPEATS, Confirming, confirming
from nas.strategies.hyperband import Hyperband
from predictors.predictor import PredictorError
from search_spaces.architecture import Architecture
from tests.nas.recomputed import proposed_again
from tests.nas.strategies.simulated import (
    CONDITIONAL,
    FLAT,
    FLOATS,
    NINE_EPOCHS,
    Simulated,
    loss,
    mixed_outcome,
    search,
)

QUICK = {"predictor": "tests.nas.strategies.small_process:SmallProcess", "initial": 4}
INNER: dict[str, dict[str, Any]] = {
    "random_search": {},
    "regularized_evolution": {"population": 5, "tournament": 2},
    "local_search": {"initial": 3},
    "optuna": {"settings": {"n_startup_trials": 4, "n_ei_candidates": 8}},
    "bayesian": {**QUICK, "candidates": {"name": "mutation_pool", "count": 10}},
}


def inner(name: str) -> Any:
    return catalogue.load("strategy", name, INNER[name], allow=["tests"])


@dataclass(frozen=True)
class Means:
    """A strategy that believes in the means of what was measured, or in nothing, or cannot be fitted."""

    name: str = "random_search"
    believes: bool = True
    fits: bool = True

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Any:
        return inner(self.name).propose(history, count, rng)

    def believed(self, history: History) -> Any:
        if not self.fits:
            raise PredictorError("these trials teach nothing")
        measured = averages(history)
        if not self.believes or len(measured.positions) < 2:
            return None
        return SimpleNamespace(positions=measured.positions, means=measured.losses, sds=np.zeros_like(measured.losses))


def searching(name: str) -> Any:
    """A strategy with a model of its own, or with one that is quick."""
    return inner(name) if name == "bayesian" else Means(name)


def told(study: Simulated) -> list[tuple[str, int, str]]:
    return [(row.architecture, row.repeat, row.lineage) for row in study.rows.values()]


def grown(study: Simulated, strategy: Any, trials: int, value: Any = None) -> None:
    """A serial search; `value` (architecture, repeat) -> error, or None for the usual one."""
    history = study.history()
    while len(study.rows) < trials:
        proposals = strategy.propose(study.refresh(history), 1, study.rng())
        for number in study.add(proposals, history.revision):
            row = study.rows[number]
            metrics = None if value is None else {"error": value(Architecture.from_json(row.architecture), row.repeat)}
            study.finish(number, metrics=metrics)


@pytest.mark.parametrize("name", INNER)
def test_the_search_before_is_that_of_the_strategy_alone(name):
    alone, study = Simulated(FLAT, seed=2), Simulated(FLAT, seed=2)
    grown(alone, inner(name), 14)
    grown(study, Confirming(strategy=searching(name), count=3, trials=20), 20)
    assert told(study)[:14] == told(alone)
    assert all(row.repeat == 0 for row in list(study.rows.values())[:14])
    for row in list(study.rows.values())[14:]:
        (first,) = json.loads(row.lineage)
        assert row.repeat in (1, 2)
        assert first < 14
        assert study.rows[first].architecture == row.architecture


def test_the_best_of_what_is_believed_are_measured_in_turn():
    study = Simulated(FLAT, seed=1)
    grown(study, Confirming(strategy=Means(), count=3, trials=30), 30)  # the same is measured again and again
    losses = [loss(study.architecture(number)) for number in range(24)]
    best = np.argsort(losses, kind="stable")[:3].tolist()
    repeated = [json.loads(row.lineage)[0] for row in list(study.rows.values())[24:]]
    assert repeated == [*best, *best]
    assert [row.repeat for row in list(study.rows.values())[24:]] == [1, 1, 1, 2, 2, 2]


def test_a_finalist_whose_repeat_disappoints_makes_room_for_the_next_one():
    study = Simulated(FLAT, seed=1)
    first = Simulated(FLAT, seed=1)
    grown(first, Means(), 12)
    ranked = sorted(range(12), key=lambda number: loss(first.architecture(number)))
    lucky = first.architecture(ranked[0])

    def noisy(architecture: Architecture, repeat: int) -> float:
        return loss(architecture) + 100.0 * (architecture == lucky and repeat > 0)

    grown(study, Confirming(strategy=Means(), count=2, trials=16), 16, noisy)
    repeated = [json.loads(row.lineage)[0] for row in list(study.rows.values())[12:]]
    assert repeated == [ranked[0], ranked[1], ranked[2], ranked[1]]


@pytest.mark.parametrize("strategy", [Means(believes=False), Means(fits=False)])
def test_without_a_model_what_was_measured_counts(strategy, caplog):
    study = Simulated(FLAT, seed=3)
    grown(study, Confirming(strategy=strategy, count=1, trials=10), 10)
    best = min(range(8), key=lambda number: loss(study.architecture(number)))
    assert [json.loads(row.lineage) for row in list(study.rows.values())[8:]] == [[best], [best]]
    assert ("teach nothing" in caplog.text) is not strategy.fits


@pytest.mark.parametrize("name", INNER)
def test_each_proposal_can_be_made_again_from_the_rows_up_to_its_revision(name):
    """Batches, pending and failed trials, and a search that goes on to a larger total and confirms once more."""
    chance = np.random.default_rng(4)
    metrics = (Metric("error"), Metric("size", "maximize", limit=5.0))
    study = Simulated(FLAT, metrics, seed=5)
    history = study.history()
    for strategy in (
        Confirming(strategy=searching(name), count=2, trials=14),
        Confirming(strategy=searching(name), count=2, trials=24),
    ):
        rows_before = len(study.rows)
        while len(study.rows) < strategy.trials:
            count = min(int(chance.integers(1, 5)), strategy.trials - len(study.rows))
            proposals = strategy.propose(study.refresh(history), count, study.rng())
            batch = strategy.propose(study.history(), 1, study.rng())
            assert list(proposals[:1]) == list(batch)
            study.add(proposals, history.revision)
            pending = [number for number, row in study.rows.items() if row.state in ("waiting", "running")]
            for number in chance.permutation(pending)[: max(1, len(pending) - 3)]:
                study.finish(int(number), mixed_outcome(int(number)))
        rows = study.changes(0)
        for row in [row for row in rows if row.number >= rows_before][::2]:
            again = proposed_again(strategy, FLAT, metrics, study.seed, rows, row.number)
            assert (again.architecture.to_json(), again.repeat) == (row.architecture, row.repeat)
    repeats = [(row.architecture, row.repeat) for row in study.rows.values()]
    assert len(set(repeats)) == len(repeats)  # nothing is asked for twice
    assert sum(repeat > 0 for _, repeat in repeats) >= 2 * REPEATS


def test_a_strategy_without_a_predictor_is_confirmed_by_one():
    study = Simulated(FLAT, seed=2)
    grown(study, Confirming(strategy=inner("random_search"), count=1, trials=16), 16)
    wanted = recommended(Bayesian(), as_it_was(study, 14))
    assert wanted is not None
    assert json.loads(study.rows[14].lineage) == [wanted.number]


def as_it_was(study: Simulated, trials: int) -> History:
    before = replace(study, rows={number: row for number, row in study.rows.items() if number < trials})
    return before.history()


def test_a_failed_repeat_counts():
    study = Simulated(FLAT, seed=1)
    strategy = Confirming(strategy=Means(), count=1, trials=12)
    search(study, strategy, 10)
    for number in study.add(strategy.propose(study.history(), 1, study.rng())):
        study.finish(number, "failed")
    (last,) = strategy.propose(study.history(), 1, study.rng())
    assert last.repeat == 2
    study.finish(study.add([last])[0])
    (further,) = strategy.propose(study.history(), 1, study.rng())  # all is confirmed: the search goes on
    assert further.repeat == 0


def test_a_space_that_is_used_up_is_confirmed_and_then_over():
    study = Simulated(CONDITIONAL, seed=1)
    search(study, Confirming(strategy=Means(), count=2, trials=100), 100, mixed_outcome)
    repeats = [row.repeat for row in study.rows.values()]
    assert repeats[:36] == [0] * 36
    assert set(repeats[36:]) == {1, 2}
    assert 2 * REPEATS <= len(repeats[36:]) <= 3 * REPEATS


def test_a_strategy_that_waits_for_its_own_trials_is_not_taken_to_be_done():
    study = Simulated(CONDITIONAL, seed=1)
    strategy = Confirming(strategy=Means(), count=2, trials=100)
    study.add(strategy.propose(study.history(), 50, study.rng()))
    assert len(study.rows) == 36
    for number in range(35):
        study.finish(number)
        assert list(strategy.propose(study.history(), 3, study.rng())) == []
    study.finish(35)
    proposals = strategy.propose(study.history(), 3, study.rng())
    assert [proposal.repeat for proposal in proposals] == [1, 1, 2]
    study.add(proposals)
    assert [proposal.repeat for proposal in strategy.propose(study.history(), 3, study.rng())] == [2]


def test_finalists_are_waited_for_where_none_has_completed():
    study = Simulated(FLAT, seed=1)
    strategy = Confirming(strategy=Means(), count=2, trials=10)
    proposals = strategy.propose(study.history(), 10, study.rng())
    assert len(proposals) == 6
    study.add(proposals)
    assert list(strategy.propose(study.history(), 4, study.rng())) == []
    for number in range(6):
        study.finish(number, "failed")
    assert [proposal.repeat for proposal in strategy.propose(study.history(), 4, study.rng())] == [0] * 4


def test_finalists_of_several_metrics_are_on_the_front_and_within_the_limits():
    metrics = (Metric("error"), Metric("size", limit=9.0))
    study = Simulated(FLAT, metrics, seed=7)
    search(study, Confirming(strategy=Means(), count=3, trials=30), 30)
    values = [json.loads(row.metrics) for row in study.rows.values()][:24]
    allowed = [value for value in values if value["size"] <= 9.0]
    for row in list(study.rows.values())[24:]:
        error, size = json.loads(row.metrics)["error"], json.loads(row.metrics)["size"]
        assert size <= 9.0
        assert not any(
            other["error"] <= error and other["size"] <= size and other != {"error": error, "size": size}
            for other in allowed
        )


def test_one_computation_is_one_finalist():
    study = Simulated(FLAT, seed=1)
    search(study, Means(), 8)
    for row in study.rows.values():
        row.canonical_key = "all the same"
    proposals = Confirming(strategy=Means(), count=2, trials=12).propose(study.history(), 4, study.rng())
    assert [proposal.repeat for proposal in proposals] == [1, 2, 0, 0]


def test_the_number_of_trials_must_be_known_and_enough():
    strategy = inner("random_search")
    assert confirming(strategy, 0, StopRules()) is strategy
    with pytest.raises(ValueError, match="how many there are in all"):
        confirming(strategy, 3, StopRules(time_limit_seconds=1.0))
    with pytest.raises(ValueError, match="12 trials are needed, got 11"):
        confirming(strategy, 3, StopRules(trials=11))
    assert confirming(strategy, 3, StopRules(trials=12)) == Confirming(strategy=strategy, count=3, trials=12)
    with pytest.raises(ValueError, match="confirm"):
        replace(Confirming(strategy=strategy, count=3, trials=12), count=0)


@dataclass(frozen=True)
class Unbelieving:
    """A strategy over budgets that believes in what was measured alone."""

    strategy: Any

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Any:
        return self.strategy.propose(history, count, rng)

    def believed(self, history: History) -> None:
        return None


def over_budgets(strategy: Any, trials: int, count: int = 2) -> Simulated:
    """A serial search with results that are better further on, all of a level worse than the worst of the next one."""
    study = Simulated(FLOATS, budget=NINE_EPOCHS)
    history, searcher = study.history(), Confirming(strategy=strategy, count=count, trials=trials)
    while len(study.rows) < trials:
        (proposal,) = searcher.propose(study.refresh(history), 1, study.rng())
        (number,) = study.add([proposal], history.revision)
        study.finish(number, metrics={"error": loss(proposal.architecture) + 100.0 / proposal.budget})
    return study


@pytest.mark.parametrize("strategy", [Asha(), Hyperband()], ids=["asha", "hyperband"])
def test_finalists_of_a_search_over_budgets_are_measured_again_at_the_full_budget(strategy):
    study = over_budgets(Unbelieving(strategy), 50)
    full = [number for number, row in study.rows.items() if row.budget == 9 and not row.repeat]
    assert len(full) > 2
    repeats = [row for row in study.rows.values() if row.repeat]
    assert [row.number for row in repeats] == [46, 47, 48, 49]
    assert {(row.budget, row.promoted_from) for row in repeats} == {(9.0, None)}
    assert [row.repeat for row in repeats] == [1, 1, 2, 2]
    best = sorted(full, key=lambda number: loss(study.architecture(number)))[:2]
    assert [json.loads(row.lineage)[0] for row in repeats] == [*best, *best]


def test_the_model_that_believes_in_finalists_looks_at_the_full_budget():
    study = over_budgets(Asha(), 26, count=1)
    full = [number for number, row in study.rows.items() if row.budget == 9 and not row.repeat]
    assert len(full) == 2
    repeats = [row for row in study.rows.values() if row.repeat]
    assert [(row.budget, row.repeat) for row in repeats] == [(9.0, 1), (9.0, 2)]
    assert {json.loads(row.lineage)[0] for row in repeats} <= set(full)


def test_where_too_few_reached_the_full_budget_the_best_below_it_are_trained_to_it():
    study = over_budgets(Unbelieving(Asha(enough=10**6)), 12, count=3)
    searched = [row for row in study.rows.values() if not row.repeat]
    assert max(row.budget for row in searched) == 3
    ranked = sorted(searched, key=lambda row: (-row.budget, loss(study.architecture(row.number))))
    repeats = [row for row in study.rows.values() if row.repeat]
    assert {row.budget for row in repeats} == {9.0}
    assert json.loads(repeats[0].lineage) == [ranked[0].number]
    asked = {row.architecture for row in repeats}
    assert len(asked) == 3
    assert sorted(row.repeat for row in repeats) == [1, 1, 1, 2, 2, 2]
