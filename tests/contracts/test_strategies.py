"""What every strategy of the catalogue promises; a new one is tested by being listed there."""

import json
import sys
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from nas import catalogue
from nas.metric import Metric
from nas.strategies.bayesian import Bayesian
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.moves import size
from search_spaces.nodes import Integer
from search_spaces.space import SearchSpace
from tests.nas.recomputed import proposed_again
from tests.nas.strategies.simulated import CONDITIONAL, FLAT, FLOATS, Simulated, mixed_outcome, search

PRESETS = ("auto", "bananas", "nas_bowl", "boshnas", "weak_nas")
"""`Bayesian` with other defaults and nothing more, as a test makes sure: what they do is tested with `bayesian`."""
FITTED = {"optuna", "kde", "asha", "bohb", "bayesian"}
"""Their models are fitted to all trials, or all trials of a level are sorted for each promotion."""

QUICK = "tests.nas.strategies.small_process:SmallProcess"
FEW = {"name": "mutation_pool", "count": 20}
SMALL: dict[str, dict[str, Any]] = {
    "grid": {"points": 3},
    "regularized_evolution": {"population": 8, "tournament": 3},
    "local_search": {"initial": 3},
    "nsga2": {"population": 5},
    "kde": {"good": 0.3, "candidates": 16},
    **{
        name: {"strategy": {"name": "regularized_evolution", "population": 8, "tournament": 3}, "enough": 4}
        for name in ("asha", "successive_halving", "hyperband")
    },
    "bohb": {"strategy": {"name": "kde", "random": 0.2, "candidates": 8}, "enough": 7},
    "optuna": {"settings": {"n_startup_trials": 5, "n_ei_candidates": 8}},
    **{name: {"predictor": QUICK, "initial": 6, "candidates": FEW} for name in ("bayesian", *PRESETS)},
    "weak_nas": {"predictor": QUICK, "initial": 6, "candidates": {"count": 20, "share": 0.2}},
    "stage_zero": {
        "proxies": ["tests.nas.strategies.look_ups:PERFECT"],
        **{"initial": 5, "candidates": 20, "best_of": 2},
        "strategy": {"name": "regularized_evolution", "population": 8, "tournament": 3},
    },
}
"""Settings under which a strategy shows all it does within a few trials; the others run with their defaults."""

NAMES = catalogue.names("strategy")
OWN = [name for name in NAMES if name not in PRESETS]
SPACES = {"flat": FLAT, "conditional": CONDITIONAL, "floats": FLOATS, "nas_bench_201": nas_bench_201()}
METRICS = {
    "one": (Metric("error"),),
    "two": (Metric("error"), Metric("size", "maximize")),
    "limited": (Metric("error"), Metric("size", limit=8.5)),
}


def make(name: str) -> Any:
    return catalogue.load("strategy", name, SMALL.get(name, {}), allow=["tests"])


def told(proposals: Any) -> list[tuple[str, Any]]:
    return [(proposal.architecture.to_json(), proposal) for proposal in proposals]


@pytest.mark.parametrize("metrics", METRICS)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", OWN)
def test_proposals_are_valid_and_distinct_whatever_becomes_of_them(name, space, metrics):
    study = Simulated(SPACES[space], METRICS[metrics], seed=4)
    strategy = make(name)
    architectures = search(study, strategy, 26, mixed_outcome)
    assert len(architectures) == min(26, size(SPACES[space])) or name == "grid"
    assert len(set(study.begun())) == len(study.begun())
    for number, architecture in enumerate(architectures):
        assert SPACES[space].validate(architecture) == architecture
        assert all(0 <= parent < number for parent in study.history().trial(number).lineage)


@pytest.mark.slow
@pytest.mark.parametrize("metrics", METRICS)
@pytest.mark.parametrize("space", ["conditional", "floats"])
@pytest.mark.parametrize("name", OWN)
def test_killing_between_any_two_proposals_changes_nothing(name, space, metrics):
    unkilled = Simulated(SPACES[space], METRICS[metrics], seed=1)
    search(unkilled, make(name), 16, mixed_outcome)
    killed = Simulated(SPACES[space], METRICS[metrics], seed=1)
    while len(killed.rows) < len(unkilled.rows):
        history = killed.history()
        for number in killed.add(make(name).propose(history, 1, killed.rng()), history.revision):
            killed.finish(number, mixed_outcome(number))
    assert killed.rows == unkilled.rows


@pytest.mark.parametrize("name", OWN)
def test_batches_with_pending_trials_are_distinct_and_the_same_after_a_kill(name):
    study, strategy = Simulated(FLOATS, METRICS["two"], seed=8), make(name)
    history, chance = study.history(), np.random.default_rng(0)
    while len(study.rows) < 30:
        study.refresh(history)
        count = int(chance.integers(1, 4))
        proposals = strategy.propose(history, count, study.rng())
        assert told(proposals) == told(make(name).propose(study.history(), count, study.rng()))
        if not proposals:
            break
        study.add(proposals, history.revision)
        pending = [number for number, row in study.rows.items() if row.state in ("waiting", "running")]
        study.run(pending[0])
        for number in chance.permutation(pending)[: max(0, len(pending) - 3)]:
            study.finish(int(number), mixed_outcome(int(number)))
    assert len(set(study.begun())) == len(study.begun())


@pytest.mark.parametrize("name", OWN)
def test_each_proposal_can_be_made_again_from_the_rows_up_to_its_revision(name):
    """Batches of any size, asked for while others run; afterwards nobody knows how many were asked for."""
    study, chance = Simulated(FLOATS, METRICS["two"], seed=6), np.random.default_rng(1)
    history = study.history()
    while len(study.rows) < 24:
        proposals = make(name).propose(study.refresh(history), int(chance.integers(1, 7)), study.rng())
        study.add(proposals, history.revision)
        pending = [number for number, row in study.rows.items() if row.state in ("waiting", "running")]
        study.run(pending[0])
        for number in chance.permutation(pending)[: max(0, len(pending) - 5)]:
            study.finish(int(number), mixed_outcome(int(number)))
    rows = study.changes(0)
    for row in rows[::2]:
        again = proposed_again(make(name), FLOATS, METRICS["two"], study.seed, rows, row.number, budget=study.budget)
        assert (again.architecture.to_json(), json.dumps(list(again.lineage))) == (row.architecture, row.lineage)
        assert (again.budget, again.promoted_from) == (row.budget, row.promoted_from)


@pytest.mark.parametrize("name", OWN)
def test_the_first_proposals_of_a_batch_are_those_of_a_smaller_one(name):
    study = Simulated(CONDITIONAL, METRICS["two"], seed=12)
    search(study, make(name), 14, mixed_outcome)
    batch = told(make(name).propose(study.history(), 9, study.rng()))
    for count in (1, 4, 8):
        assert told(make(name).propose(study.history(), count, study.rng())) == batch[:count]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_question_has_the_same_answer_and_the_cache_may_be_emptied(name):
    study, strategy = Simulated(CONDITIONAL, seed=2), make(name)
    history = study.history()
    search(study, strategy, 12, mixed_outcome, history)
    answers = []
    for _ in range(2):
        answers.append(told(strategy.propose(history, 3, study.rng())))
    history.cache.clear()
    answers.append(told(strategy.propose(history, 3, study.rng())))
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 3


@pytest.mark.parametrize("name", OWN)
def test_proposals_that_were_thrown_away_leave_no_trace(name):
    """Another controller was first: what was proposed is never written, and the search goes on from other rows."""
    study, strategy = Simulated(FLOATS, seed=3), make(name)
    history = study.history()
    for _ in range(15):
        study.refresh(history)
        strategy.propose(history, 2, study.rng())
        number = study.add(make("random_search").propose(history, 1, np.random.default_rng(study.revision)))[0]
        study.finish(number)
        expected = told(make(name).propose(study.history(), 1, study.rng()))
        assert told(strategy.propose(study.refresh(history), 1, study.rng())) == expected


@pytest.mark.parametrize("name", OWN)
def test_architectures_a_person_enqueues_are_taken_in(name):
    study, strategy = Simulated(FLAT, seed=5), make(name)
    history = study.history()
    for architecture in ({"a": "y", "n": 3, "b": True, "c": 2}, {"a": "z", "n": 8, "b": False, "c": 4}):
        study.finish(study.enqueue(FLAT.validate(architecture)))
    search(study, strategy, 14, mixed_outcome, history)
    study.finish(study.enqueue(FLAT.validate({"a": "x", "n": 1, "b": True, "c": 1})), "failed")
    search(study, strategy, 28, mixed_outcome, history)
    architectures = [study.architecture(number).to_json() for number in study.rows]
    begun = [number for number, row in study.rows.items() if row.promoted_from is None]
    assert all(architectures.index(architectures[number]) == number for number in begun if number > 2 and number != 14)
    assert told(strategy.propose(history, 1, study.rng())) == told(make(name).propose(study.history(), 1, study.rng()))


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_finite_space_is_exhausted_exactly_once(name):
    study = Simulated(CONDITIONAL, seed=6)
    search(study, make(name), 1000, mixed_outcome)
    assert len(study.begun()) == len(set(study.begun())) == size(CONDITIONAL) == 36
    assert list(make(name).propose(study.history(), 5, study.rng())) == []


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_proposed_while_the_last_ones_are_pending(name):
    study = Simulated(CONDITIONAL, seed=7)
    proposals = make(name).propose(study.history(), 50, study.rng())
    assert len({proposal.architecture for proposal in proposals}) == 36
    study.add(proposals)
    assert list(make(name).propose(study.history(), 1, study.rng())) == []


@pytest.mark.parametrize("name", OWN)
def test_a_search_goes_on_when_every_trial_fails(name):
    study = Simulated(FLAT, seed=9)
    architectures = search(study, make(name), 30, lambda number: "failed")
    assert len(set(architectures)) == 30


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_bayesian_with_other_defaults_and_auto_decides_what_is_told(name):
    cls = type(catalogue.load("strategy", name, {}))
    assert cls.__bases__ == (Bayesian,)
    added = {key for key in vars(cls) if not (key.startswith("__") and key.endswith("__"))}
    assert added <= {*Bayesian.__dataclass_fields__, "usual", *(["told"] if name == "auto" else [])}


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_is_frozen_and_survives_the_trip_through_its_description(name):
    strategy = make(name)
    for field in fields(strategy):
        with pytest.raises(FrozenInstanceError):
            setattr(strategy, field.name, None)
    part = catalogue.describe("strategy", strategy)
    assert part.name == name
    assert catalogue.load("strategy", part.name, part.settings, allow=["tests"]) == strategy


@pytest.mark.parametrize("name", sorted(set(OWN) - FITTED))
def test_the_cost_of_a_proposal_does_not_grow_with_the_study(name):
    wide = SearchSpace({str(index): Integer(1, 100) for index in range(8)})  # so wide that nothing is drawn twice
    study, strategy = Simulated(wide, METRICS["two"], seed=3), make(name)
    history = study.history()
    calls = {}
    for trials in (100, 600):
        search(study, strategy, trials, mixed_outcome, history)
        calls[trials] = 0
        for _ in range(10):
            counted = [0]
            sys.setprofile(lambda frame, event, argument, counted=counted: counted.__setitem__(0, counted[0] + 1))
            try:
                proposals = strategy.propose(history, 1, study.rng())
            finally:
                sys.setprofile(None)
            calls[trials] += counted[0]
            study.finish(study.add(proposals, history.revision)[0])
            study.refresh(history)
    assert calls[600] < 3 * calls[100]
