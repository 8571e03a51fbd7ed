"""Where candidates are looked for: every maker gives an untried one, and a better one than chance."""

import numpy as np
import pytest

from nas import catalogue
from nas.candidates.ground import TIE, Candidate, Ground, Pool, first_largest
from nas.history import History
from nas.metric import Metric
from nas.strategies.untried import Untried
from search_spaces.architecture import Architecture
from search_spaces.moves import enumerate_all, neighbours, sample
from search_spaces.nodes import Choice, Integer
from search_spaces.space import SearchSpace
from tests.nas.strategies.simulated import CONDITIONAL, FLAT, FLOATS, Simulated

NAMES = catalogue.names("candidates")
WIDE = SearchSpace({str(index): Integer(1, 9) for index in range(6)}, name="wide")


def ground(space: SearchSpace, tried: int, seed: int = 0) -> Ground:
    chance = np.random.default_rng(seed)
    study = Simulated(space)
    parents = []
    while len(parents) < tried:
        architecture = sample(space, chance)
        if not study.history().knows(architecture):
            parents.append(Candidate(architecture, (study.enqueue(architecture),)))
    return Ground(space=space, untried=Untried(study.history()), parents=parents)


def sums(architectures):
    return np.array([sum(float(value) for value in a.values()) for a in architectures])


@pytest.mark.parametrize("space", [FLAT, CONDITIONAL, FLOATS], ids=lambda space: space.name)
@pytest.mark.parametrize("name", NAMES)
def test_the_candidate_is_untried_valid_and_derived_from_a_parent(name, space):
    if name == "enumeration" and space is FLOATS:
        pytest.skip("has no end")
    here = ground(space, 6)
    scores = {}

    def score(architectures):
        for architecture in architectures:
            assert architecture in here.untried
            scores.setdefault(architecture.to_json(), float(len(scores) % 7))
        return np.array([scores[architecture.to_json()] for architecture in architectures])

    found = catalogue.load("candidates", name, {}).best(here, score, np.random.default_rng(3))
    assert space.validate(found.architecture) == found.architecture
    assert found.architecture in here.untried
    assert scores[found.architecture.to_json()] == max(scores.values())
    assert set(found.lineage) <= {number for parent in here.parents for number in parent.lineage}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"enumeration"}))
def test_a_candidate_scores_better_than_the_best_of_as_many_random_ones(name):
    here, counted = ground(WIDE, 100), [0]

    def score(architectures):
        counted[0] += len(architectures)
        return sums(architectures)

    parents = sorted(here.parents, key=lambda parent: -float(sums([parent.architecture])[0]))
    here = Ground(space=WIDE, untried=here.untried, parents=parents)
    found = catalogue.load("candidates", name, {}).best(here, score, np.random.default_rng(0))
    chance = np.random.default_rng(1)
    drawn = [sums([sample(WIDE, chance) for _ in range(counted[0])]).max() for _ in range(20)]
    assert sums([found.architecture])[0] > np.mean(drawn)


def test_enumeration_finds_the_best_of_all_and_refuses_a_large_space():
    here = ground(CONDITIONAL, 5)
    order = {a.to_json(): place for place, a in enumerate(enumerate_all(CONDITIONAL))}
    found = catalogue.load("candidates", "enumeration", {}).best(
        here, lambda some: np.array([float(order[a.to_json()]) for a in some]), np.random.default_rng(0)
    )
    untried = [place for text, place in order.items() if Architecture.from_json(text) in here.untried]
    assert order[found.architecture.to_json()] == max(untried)
    made = catalogue.load("candidates", "enumeration", {"limit": 35})
    with pytest.raises(ValueError, match=r"has 36 architectures, enumeration scores at most 35; use .*mutation_pool"):
        made.best(here, sums, np.random.default_rng(0))


def test_a_climb_ends_where_no_neighbour_is_better():
    here = ground(WIDE, 5)
    found = catalogue.load("candidates", "climb", {"steps": 100}).best(here, sums, np.random.default_rng(0))
    top = sums([found.architecture])[0]
    assert all(sums([n])[0] <= top for n in neighbours(WIDE, found.architecture) if n in here.untried)


def test_a_mutation_pool_keeps_its_shares():
    here = ground(WIDE, 12)
    pools = []

    def score(architectures):
        pools.append(list(architectures))
        return sums(architectures)

    made = catalogue.load("candidates", "mutation_pool", {"count": 100, "parents": 4, "two": 0.0, "random": 0.25})
    made.best(here, score, np.random.default_rng(0))
    parents = [parent.architecture for parent in here.parents[:4]]
    distances = [min(sum(p[k] != c[k] for k in p) for p in parents) for c in pools[0]]
    assert len(pools[0]) == 100
    assert distances[:75] == [1] * 75
    assert np.mean(distances[75:]) > 2


def test_nothing_is_found_where_nothing_is_left():
    single = SearchSpace({"a": Choice(["x"]), "b": Choice(["y"])}, name="single")
    study = Simulated(single)
    number = study.enqueue(Architecture({"a": "x", "b": "y"}))
    parents = [Candidate(study.architecture(number), (number,))]
    here = Ground(space=single, untried=Untried(study.history()), parents=parents)
    for name in NAMES:
        assert catalogue.load("candidates", name, {}).best(here, sums, np.random.default_rng(0)) is None


def test_scores_that_differ_by_rounding_alone_tie_and_the_first_is_taken():
    assert first_largest(np.array([0.0, 5.0, 5.0 * (1 + TIE / 10), 4.9])) == 1
    assert first_largest(np.array([0.0, 5.0, 5.1])) == 2
    assert first_largest(np.array([-np.inf, -np.inf])) == 0


def test_a_pool_keeps_the_first_way_to_derive_an_architecture():
    untried = Untried(History(WIDE, [Metric("error")]))
    architecture = sample(WIDE, np.random.default_rng(0))
    pool = Pool(untried)
    pool.extend([Candidate(architecture, (3,)), Candidate(architecture, (4,))])
    assert pool.candidates == [Candidate(architecture, (3,))]
