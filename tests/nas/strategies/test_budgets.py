"""Strategies over budgets, held against plain simulators of the published rules."""

import json
import math
from collections import defaultdict

import numpy as np
import pytest

from nas.budget import Budget
from nas.history import History
from nas.metric import Metric
from nas.pareto import standings
from nas.strategies.asha import Asha
from nas.strategies.bohb import Bohb
from nas.strategies.hyperband import Hyperband
from nas.strategies.rungs import Rungs
from nas.strategies.successive_halving import SuccessiveHalving
from nas.strategies.view import View
from tests.nas.strategies.simulated import FLOATS, Simulated, loss, size

BUDGET = Budget(name="epochs", least=1, most=27)
ONE = (Metric("error"),)
TWO = (Metric("error"), Metric("size", "maximize"))


def result(study: Simulated, number: int) -> dict[str, float]:
    """Depends on the architecture and the budget, and changes places between budgets."""
    architecture, budget = study.architecture(number), study.rows[number].budget or 27.0
    noise = (sum(map(ord, architecture.to_json())) * int(budget) % 97) / 97
    found = {"error": loss(architecture) + noise / budget, "size": size(architecture) + noise}
    return {metric.name: found[metric.name] for metric in study.metrics}


def outcome(number: int) -> str:
    return "failed" if number % 11 == 7 else "stopped" if number % 13 == 9 else "completed"


def end(study: Simulated, number: int, state: str | None = None) -> None:
    state = outcome(number) if state is None else state
    study.finish(number, state, None if state == "failed" else result(study, number))


def searched(strategy, trials, *, metrics=ONE, workers=4, seed=0, state=None):
    """A search with so many workers whose trials end in random order; yields before each proposal."""
    study, chance = Simulated(FLOATS, metrics, seed=seed, budget=BUDGET), np.random.default_rng(seed)
    history, running = study.history(), []
    while len(study.rows) < trials:
        while len(running) < workers:
            study.refresh(history)
            proposals = strategy.propose(history, 1, study.rng())
            yield study, history, proposals[0]
            running += study.add(proposals, history.revision)
        ended = running.pop(int(chance.integers(len(running))))
        end(study, ended, state)


class ReferenceAsha:
    """Algorithm 2 of Li et al. 2020, word for word: rungs as lists of (standing, trial)."""

    def __init__(self, study: Simulated) -> None:
        self.study = study

    def next_job(self) -> tuple[float, int | None]:
        rows, promoted = self.study.rows.values(), {row.promoted_from for row in self.study.rows.values()}
        for k in (2, 1, 0):
            rung = [row for row in rows if row.state == "completed" and row.budget == 3**k]
            rung.sort(key=lambda row: row.revision)
            values = [json.loads(row.metrics) for row in rung]
            losses = np.array([[m.sign * value[m.name] for m in self.study.metrics] for value in values])
            if not len(rung):
                continue
            places = standings(losses, np.zeros_like(losses)) if losses.shape[1] > 1 else losses[:, 0]
            top = [rung[at] for at in np.argsort(places, kind="stable")[: len(rung) // 3]]
            for row in top:
                if row.number not in promoted:
                    return float(3 ** (k + 1)), row.number
        return 1.0, None


@pytest.mark.parametrize("metrics", [ONE, TWO], ids=["one", "two"])
def test_asha_promotes_what_the_published_algorithm_promotes(metrics) -> None:
    levels = set()
    for study, _, proposal in searched(Asha(), 150, metrics=metrics):
        assert (proposal.budget, proposal.promoted_from) == ReferenceAsha(study).next_job()
        levels.add(proposal.budget)
        if proposal.promoted_from is not None:
            row = study.rows[proposal.promoted_from]
            assert (proposal.architecture.to_json(), row.state) == (row.architecture, "completed")
    assert levels == {1, 3, 9, 27}


def reference_bracket(study: Simulated, members: list[int], sizes: tuple[int, ...], start: int) -> dict[int, set[int]]:
    """Which trainings (by their first trial) reach each level, from results alone, whatever order they came in."""
    entrants, reached = list(members), {start: set(members)}
    child = {row.promoted_from: number for number, row in study.rows.items() if row.promoted_from is not None}
    first = {number: number for number in members}
    for step, wanted in enumerate(sizes[1:], start=1):
        done = [number for number in entrants if study.rows[number].state == "completed"]
        done.sort(key=lambda number: json.loads(study.rows[number].metrics)["error"])
        chosen = done[:wanted]
        reached[start + step] = {first[number] for number in chosen}
        entrants = [child[number] for number in chosen]
        first |= {child[number]: first[number] for number in chosen}
    return reached


@pytest.mark.parametrize(
    ("strategy", "plans"),
    [
        (SuccessiveHalving(), [(0, (27, 9, 3, 1))] * 3),
        (SuccessiveHalving(size=10), [(0, (10, 3, 1, 1))] * 6),
        (Hyperband(), [(0, (27, 9, 3, 1)), (1, (9, 3, 1)), (2, (6, 2)), (3, (4,)), (0, (27, 9, 3, 1))]),
    ],
    ids=["halving", "halving of ten", "hyperband"],
)
def test_brackets_let_the_best_of_each_rung_go_on(strategy, plans) -> None:
    *_, (study, _, _) = searched(strategy, 130, workers=5)
    for number, row in study.rows.items():
        if row.state in ("waiting", "running"):
            end(study, number)
    begun = [number for number, row in study.rows.items() if row.promoted_from is None]
    depth = {}
    for number, row in study.rows.items():
        origin = number
        while study.rows[origin].promoted_from is not None:
            origin = study.rows[origin].promoted_from
        depth[origin] = max(depth.get(origin, 0), round(math.log(row.budget, 3)))
    checked = 0
    for start, sizes in plans[:-1]:
        members, begun = begun[: sizes[0]], begun[sizes[0] :]
        if len(members) < sizes[0] or not begun:
            break
        assert {study.rows[number].budget for number in members} == {3.0**start}
        try:
            reached = reference_bracket(study, members, sizes, start)
        except KeyError:
            continue  # its last promotions were still to come
        assert {number: depth[number] for number in members} == {
            number: max(level for level, some in reached.items() if number in some) for number in members
        }
        checked += 1
    assert checked >= 2


def test_hyperband_has_the_brackets_of_the_paper() -> None:
    """Table 1 of Li et al. 2018: R = 81, eta = 3."""
    plans = [Hyperband().plan(number, 5, 3.0) for number in range(6)]
    assert [(plan.start, plan.sizes) for plan in plans[:5]] == [
        (0, (81, 27, 9, 3, 1)),
        (1, (27, 9, 3, 1)),
        (2, (9, 3, 1)),
        (3, (6, 2)),
        (4, (5,)),
    ]
    assert plans[5] == plans[0]


def test_a_rung_waits_for_its_last_trial_and_free_workers_begin_the_next_bracket() -> None:
    study = Simulated(FLOATS, budget=BUDGET)
    strategy = SuccessiveHalving(size=9)
    study.add(strategy.propose(study.history(), 9, study.rng()))
    for number in range(8):
        end(study, number, "completed")
    (early,) = strategy.propose(study.history(), 1, study.rng())
    assert early.promoted_from is None
    study.add([early])
    end(study, 8, "failed")
    due = strategy.propose(study.history(), 4, study.rng())
    best = sorted(range(8), key=lambda number: result(study, number)["error"])[:3]
    assert [proposal.promoted_from for proposal in due] == [*best, None]


@pytest.mark.parametrize("inner", ["regularized_evolution", "kde", "local_search", "nsga2"])
@pytest.mark.parametrize("strategy", [Asha, Hyperband])
def test_any_strategy_may_propose_what_begins(strategy, inner) -> None:
    made = strategy(strategy=inner, enough=5)
    for study, _, proposal in searched(made, 90, workers=3):
        assert proposal.budget in BUDGET.levels
        assert all(0 <= number < len(study.rows) for number in proposal.lineage)
    assert len(set(study.begun())) == len(study.begun())


def test_a_model_proposes_what_begins_and_learns_from_one_level() -> None:
    quick = {"name": "bayesian", "predictor": "tests.nas.strategies.small_process:SmallProcess", "initial": 4}
    quick["candidates"] = {"name": "mutation_pool", "count": 10}
    strategy = Asha(strategy=quick, enough=6).allowing(("tests",))
    steps = list(searched(strategy, 40, workers=3))
    assert all(proposal.budget in BUDGET.levels for _, _, proposal in steps)
    study, history, _ = steps[-1]
    assert len({row.budget for row in study.rows.values()}) >= 3
    view = View.of(history, 6)
    learnt = strategy.proposer.believed(view.history)
    assert view.level > 0
    assert learnt is not None
    assert len(learnt.positions) == len(Rungs.of(history).rungs[view.level].positions)


def test_the_view_is_one_row_for_each_training_with_its_result_at_the_highest_level_that_has_enough() -> None:
    enough, seen = 6, set()
    for study, history, _ in searched(Asha(strategy="regularized_evolution", enough=enough), 120):
        view = View.of(history, enough)
        fresh = View.of(study.history(), enough)
        counts = [sum(r.state == "completed" and r.budget == 3**k for r in study.rows.values()) for k in range(4)]
        level = max((k for k in range(4) if counts[k] >= enough), default=0)
        assert view.level == fresh.level == level
        seen.add(level)
        trainings = defaultdict(list)
        for number, row in study.rows.items():
            trainings[number if row.promoted_from is None else _origin(study, number)].append(row)
        shown = view.history
        assert len(shown) == len(trainings) == shown.next_number
        assert shown.pending.numbers.tolist() == fresh.history.pending.numbers.tolist()
        for place, (number, rows) in enumerate(sorted(trainings.items())):
            assert shown.trial(place).architecture_json == study.rows[number].architecture
            there = [r for r in rows if r.budget == 3**level and r.state == "completed"]
            dead = [r for r in rows if r.state in ("failed", "stopped") and r.budget <= 3**level]
            at = shown.finished.position_of(place)
            assert (at is not None) == bool(there or dead)
            if there:
                assert shown.finished.losses[at, 0] == json.loads(there[0].metrics)["error"]
            waits = any(r.state in ("waiting", "running") for r in rows)
            assert (place in shown.pending.numbers) == (waits and at is None)
        assert shown.finished.numbers.tolist() == fresh.history.finished.numbers.tolist()
    assert seen == {0, 1, 2}


def _origin(study: Simulated, number: int) -> int:
    while study.rows[number].promoted_from is not None:
        number = study.rows[number].promoted_from
    return number


def test_two_controllers_that_read_the_same_rows_promote_the_same() -> None:
    for study, _, proposal in searched(Bohb(halving="asha", enough=5), 80):
        (again,) = Bohb(halving="asha", enough=5).propose(study.history(), 1, study.rng())
        assert again == proposal


def test_without_a_budget_it_is_said_what_to_do() -> None:
    with pytest.raises(ValueError, match="--budget epochs:1:27"):
        Asha().propose(History(FLOATS, [Metric("error")]), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="promotes trials itself"):
        Asha(strategy="hyperband").check(FLOATS, [Metric("error")])


def test_trials_between_the_levels_and_repeats_take_part_in_no_rung() -> None:
    study = Simulated(FLOATS, budget=BUDGET)
    study.add(Asha().propose(study.history(), 6, study.rng()))
    study.rows[4].budget, study.rows[5].repeat = 2.0, 1
    for number in range(6):
        end(study, number, "completed")
    history = study.history()
    assert [len(rung.positions) for rung in Rungs.of(history).rungs] == [4, 0, 0, 0]
