"""What makes each strategy the algorithm it is called after."""

from itertools import product

import numpy as np
import pytest

from nas.metric import Metric
from nas.pareto import hypervolume
from nas.strategies.grid import Grid
from nas.strategies.local_search import LocalSearch
from nas.strategies.nsga2 import Nsga2
from nas.strategies.random_search import RandomSearch
from nas.strategies.regularized_evolution import RegularizedEvolution, youngest
from nas.strategies.untried import shuffled
from search_spaces.moves import enumerate_all, neighbours, size
from search_spaces.nodes import Boolean, Choice, Float, Integer, SpaceError
from search_spaces.space import SearchSpace
from tests.nas.strategies.simulated import CONDITIONAL, FLAT, FLOATS, Simulated, loss, search


def differing(first, second):
    return [path for path in {*first, *second} if first.get(path, "-") != second.get(path, "-")]


def test_grid_goes_through_the_space_in_order():
    study = Simulated(CONDITIONAL)
    assert search(study, Grid(), 100) == list(enumerate_all(CONDITIONAL))


def test_grid_takes_points_of_a_float_and_refuses_a_float_without():
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Boolean()})
    study = Simulated(space)
    found = [tuple(architecture.values()) for architecture in search(study, Grid(points=3), 100)]
    assert found == list(product([0.0, 0.5, 1.0], [False, True]))
    with pytest.raises(SpaceError, match="how many points"):
        Grid().propose(Simulated(space).history(), 1, np.random.default_rng(0))


def test_random_search_is_uniform_and_may_repeat_what_did_not_fail():
    space = SearchSpace({"x": Choice([1, 2, 3])})
    study = Simulated(space)
    study.enqueue(space.validate({"x": 2}))
    study.finish(0, "failed")
    search(study, RandomSearch(distinct=False), 400)
    drawn = [study.architecture(number)["x"] for number in range(1, 400)]
    assert set(drawn) == {1, 3}
    assert abs(drawn.count(1) - 200) < 50


@pytest.mark.parametrize("space", [FLAT, CONDITIONAL])
def test_a_shuffled_walk_meets_every_architecture_once(space):
    found = list(shuffled(space, np.random.default_rng(0)))
    assert len(found) == len(set(found)) == size(space)
    assert set(found) == set(enumerate_all(space))
    assert found != list(shuffled(space, np.random.default_rng(1)))


def test_the_last_architectures_of_a_lopsided_space_are_found():
    """Almost all draws fall on one option; a search by drawing alone would not end."""
    node: object = {"end": Choice(list(range(50)))}
    for _ in range(8):
        node = {"go": Choice({"stop": {}, "on": node})}
    space = SearchSpace(node)
    study = Simulated(space)
    architectures = search(study, RandomSearch(), 1000)
    assert len(set(architectures)) == size(space) == 58
    huge = SearchSpace({"n": Integer(0, 2**52)})
    assert len(list(RandomSearch().propose(Simulated(huge).history(), 3, np.random.default_rng(0)))) == 3


def test_children_differ_from_their_parent_in_one_decision_and_parents_are_young():
    study = Simulated(SearchSpace({str(index): Float(0.0, 1.0) for index in range(6)}))
    search(study, RegularizedEvolution(population=10, tournament=4, initial=5), 60)
    history = study.history()
    assert all(not history.trial(number).lineage for number in range(5))
    for number in range(5, 60):
        (parent,) = history.trial(number).lineage
        assert number - 10 <= parent < number
        assert len(differing(study.architecture(parent), study.architecture(number))) == 1


def test_a_tournament_of_the_whole_population_breeds_the_best():
    study = Simulated(SearchSpace({str(index): Float(0.0, 1.0) for index in range(6)}))
    search(study, RegularizedEvolution(population=8, tournament=200, initial=4), 40)
    history = study.history()
    for number in range(4, 40):
        young = range(max(0, number - 8), number)
        assert history.trial(number).lineage == (min(young, key=lambda n: loss(study.architecture(n))),)


def test_children_proposed_before_join_the_population_again_and_the_rows_hold_it():
    """A population in memory, as the paper has it, beside the one read from the rows."""
    strategy = RegularizedEvolution(population=5, tournament=3, initial=4)
    study = Simulated(FLAT, seed=2)
    history, memory = study.history(), []
    joined = 0
    while len(study.rows) < 60:
        (proposal,) = strategy.propose(study.refresh(history), 1, study.rng())
        number = study.add([proposal], history.revision)[0]
        study.finish(number)
        memory += [*proposal.lineage[1:], number]
        joined += len(proposal.lineage[1:])
        study.refresh(history)
        assert [int(history.finished.numbers[p]) for p in youngest(history, 5)] == memory[::-1][:5]
    assert joined > 10


def test_evolution_with_limits_prefers_parents_that_keep_them():
    metrics = (Metric("error"), Metric("size", limit=5.8))
    study = Simulated(FLOATS, metrics)
    search(study, RegularizedEvolution(population=20, tournament=8, initial=20), 100)
    feasible = study.history().finished.is_feasible
    assert feasible[:20].mean() < 0.5 < feasible[60:].mean()


def climbs(study):
    """The serial recipe, checked row by row; returns the numbers of the architectures stood on."""
    history, here, stood, starts = study.history(), None, [], []
    for number in range(len(study.rows)):
        lineage = history.trial(number).lineage
        architecture = study.architecture(number)
        if lineage:
            assert lineage == (here,)
            assert architecture in set(neighbours(study.space, study.architecture(here)))
            if loss(architecture) < loss(study.architecture(here)):
                here = number
                stood.append(here)
            continue
        if here is not None:  # a restart: every neighbour of the top was asked
            asked = {study.architecture(n) for n in range(number)}
            if not starts:
                assert set(neighbours(study.space, study.architecture(here))) <= asked
        starts.append(number)
        if len(starts) == 4:
            here = min(starts, key=lambda n: loss(study.architecture(n)))
            stood.append(here)
            starts = []
    return stood


@pytest.mark.parametrize("space", [FLAT, CONDITIONAL, FLOATS])
def test_local_search_climbs_at_the_first_improvement_and_restarts_at_the_top(space):
    study = Simulated(space, seed=3)
    search(study, LocalSearch(initial=4), 70)
    assert len(climbs(study)) > 3


def test_local_search_keeps_workers_busy_while_neighbours_are_pending():
    space = SearchSpace({"x": Choice([1, 2, 3]), "y": Choice(list(range(50))), "z": Integer(1, 1000)})
    study, strategy = Simulated(space), LocalSearch(initial=1)
    history = study.history()
    study.finish(study.add(strategy.propose(history, 1, study.rng()))[0])
    proposals = strategy.propose(study.refresh(history), 60, study.rng())
    lineages = [proposal.lineage for proposal in proposals]
    assert len(proposals) == 60
    around = len(list(neighbours(space, study.architecture(0))))
    assert lineages == [(0,)] * around + [()] * (60 - around)


def test_nsga2_breeds_from_the_best_of_complete_generations():
    metrics = (Metric("error"), Metric("size"))
    study = Simulated(FLOATS, metrics, seed=1)
    search(study, Nsga2(population=10), 120)
    history = study.history()
    assert all(not history.trial(number).lineage for number in range(10))
    for number in range(10, 120):
        lineage = history.trial(number).lineage
        assert lineage
        assert max(lineage) < number // 10 * 10


def test_nsga2_covers_more_than_random_search():
    metrics = (Metric("error"), Metric("size"))
    volumes = {}
    for strategy in (Nsga2(population=15), RandomSearch()):
        found = []
        for seed in range(4):
            study = Simulated(FLOATS, metrics, seed=seed)
            search(study, strategy, 150)
            found.append(hypervolume(study.history().finished.losses, [3.0, 12.0]))
        volumes[type(strategy)] = np.mean(found)
    assert volumes[Nsga2] > volumes[RandomSearch]


def test_nsga2_finds_the_feasible_part():
    metrics = (Metric("error"), Metric("size", limit=5.8))
    study = Simulated(FLOATS, metrics)
    search(study, Nsga2(population=10), 100)
    feasible = study.history().finished.is_feasible
    assert feasible[50:].sum() > feasible[:50].sum()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RegularizedEvolution(population=0), "population must be a whole number of at least 1, got 0"),
        (lambda: RegularizedEvolution(tournament=2.5), "tournament must be"),
        (lambda: RegularizedEvolution(initial=0), "initial must be"),
        (lambda: LocalSearch(initial=True), "initial must be"),
        (lambda: Nsga2(population=1), "population must be a whole number of at least 2"),
        (lambda: Nsga2(crossover_probability=1.5), "crossover_probability must be a number from 0 to 1, got 1.5"),
        (lambda: Nsga2(mutations=-1), "mutations must be"),
        (lambda: Grid(points=0), "points must be"),
    ],
)
def test_settings_are_checked_when_a_strategy_is_made(make, said):
    with pytest.raises(ValueError, match=said):
        make()
