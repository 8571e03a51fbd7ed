"""Gradient steps over continuous decisions, against functions whose maxima are known."""

import math

import numpy as np
import pytest

from nas import catalogue
from nas.candidates.gradient import APART, Gradient
from nas.candidates.mutation_pool import MutationPool
from nas.strategies.untried import Untried
from search_spaces.architecture import Architecture
from search_spaces.nodes import Choice, Float, Integer
from search_spaces.space import SearchSpace
from tests.nas.candidates.test_candidates import WIDE, ground, sums

BRANIN = SearchSpace({"x": Float(-5.0, 10.0), "y": Float(0.0, 15.0)}, name="branin")
MINIMA = [(-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475)]  # each 5 / (4 pi)
JOINT = SearchSpace(
    {
        "rate": Float(1e-5, 1.0, log=True),
        "share": Float(0.0, 1.0),
        "width": Integer(1, 9),
        "kind": Choice({"plain": {}, "deep": {"drop": Float(0.0, 0.5)}}),
    },
    name="joint",
)


def branin(architectures):
    x, y = np.array([[a["x"], a["y"]] for a in architectures]).T
    curve = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return -(curve**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


def joint(architectures):
    """Largest at rate 1e-3 and drop 0.2; rising with the share to its bound, and with the width."""
    return np.array(
        [
            -((math.log10(a["rate"]) + 3.0) ** 2)
            + a["share"]
            + 0.1 * a["width"]
            - 40.0 * (a.get("kind/deep/drop", 0.3) - 0.2) ** 2
            for a in architectures
        ]
    )


def test_it_ends_at_a_minimum_of_branin():
    for seed in range(3):
        found = Gradient(count=30).best(ground(BRANIN, 6, seed), branin, np.random.default_rng(seed)).architecture
        assert branin([found])[0] == pytest.approx(-5 / (4 * math.pi), abs=1e-5)
        x, y = found["x"], found["y"]
        assert min(math.hypot(x - a, y - b) for a, b in MINIMA) < 5 * 15 * APART


def test_other_decisions_are_held_and_bounds_are_kept():
    here = ground(JOINT, 8)
    pool = MutationPool(count=40).pool(here, np.random.default_rng(1)).candidates
    scores = joint([candidate.architecture for candidate in pool])
    starts = [pool[place] for place in np.argsort(-scores, kind="stable")[:3].tolist()]
    found = Gradient(count=40).best(here, joint, np.random.default_rng(1))
    values = found.architecture
    assert found.lineage in {start.lineage for start in starts}
    assert (values["width"], values["kind"]) in {(s.architecture["width"], s.architecture["kind"]) for s in starts}
    assert math.log10(values["rate"]) == pytest.approx(-3.0, abs=1e-3)
    assert values["share"] == 1.0
    if values["kind"] == "deep":
        assert values["kind/deep/drop"] == pytest.approx(0.2, abs=1e-3)
    assert joint([values])[0] > scores.max()
    assert JOINT.validate(values) == values


def test_all_directions_are_scored_in_one_call():
    sizes = []

    def score(architectures):
        sizes.append(len(architectures))
        return branin(architectures)

    Gradient(count=20, starts=1, steps=5).best(ground(BRANIN, 5), score, np.random.default_rng(0))
    first, *steps = sizes
    assert first == 20
    assert set(steps) == {5}  # where it stands, and a neighbour on each side in two directions
    assert 2 <= len(steps) <= 30


def test_without_floats_it_is_the_mutation_pool():
    here = ground(WIDE, 5)
    found = Gradient(count=50).best(here, sums, np.random.default_rng(4))
    assert found == MutationPool(count=50).best(here, sums, np.random.default_rng(4))


def test_on_a_score_of_steps_nothing_is_lost():
    def score(architectures):
        return np.floor(branin(architectures))

    here = ground(BRANIN, 5)
    found = Gradient(count=50).best(here, score, np.random.default_rng(4))
    assert score([found.architecture]) == score([MutationPool(count=50).best(here, score, np.random.default_rng(4))[0]])


def test_a_maximum_that_was_tried_is_not_proposed_again():
    corner = Architecture({"x": 10.0, "y": 15.0})
    here = ground(BRANIN, 4)
    taken = Untried(here.untried.history)
    taken.take(corner)
    here = type(here)(space=BRANIN, untried=taken, parents=here.parents)
    found = Gradient(count=20).best(here, sums, np.random.default_rng(0))
    assert found.architecture != corner
    assert found.architecture in taken


def test_it_has_a_short_name_and_checks_its_settings():
    assert catalogue.load("candidates", "gradient", {"starts": 2}) == Gradient(starts=2)
    for name in ("count", "starts", "steps"):
        with pytest.raises(ValueError, match=name):
            Gradient(**{name: 0})
