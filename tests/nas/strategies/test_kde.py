"""Densities that are densities, and proposals that lie where good architectures do."""

import numpy as np
import pytest

from nas.history import History
from nas.strategies.kde import Density, Kde, architectures_at, settled, unit_points
from search_spaces import Architecture, Choice, Float, Integer, SearchSpace
from search_spaces.moves import sample
from tests.nas.strategies.simulated import CONDITIONAL, FLOATS, Simulated, search

MIXED = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(["a", "b", "c"])}, name="mixed")


def points_of(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return unit_points(space, [sample(space, rng) for _ in range(count)])


@pytest.mark.parametrize("count", [2, 7, 40])
def test_a_density_sums_to_one_over_the_space(count: int) -> None:
    density = Density.of(MIXED, points_of(MIXED, count))
    line = (np.arange(2000) + 0.5) / 2000
    total = 0.0
    for option in range(3):
        total += density.at(np.stack([line, np.full(2000, float(option))], axis=1)).mean()
    assert total == pytest.approx(1.0, abs=1e-3)


def test_decisions_that_are_not_reached_leave_a_density_over_architectures() -> None:
    density = Density.of(CONDITIONAL, points_of(CONDITIONAL, 25))
    from search_spaces.moves import enumerate_all

    values = density.at(unit_points(CONDITIONAL, list(enumerate_all(CONDITIONAL))))
    assert (values > 0).all()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("space", [FLOATS, CONDITIONAL, MIXED, SearchSpace({"n": Integer(4, 64, log=True)})])
def test_points_stand_for_architectures_and_draws_stay_near_what_they_are_drawn_from(space) -> None:
    rng = np.random.default_rng(1)
    architectures = [sample(space, rng) for _ in range(30)]
    found = architectures_at(space, np.nan_to_num(unit_points(space, architectures)))
    for again, architecture in zip(found, architectures, strict=True):
        assert again.keys() == architecture.keys()
        assert all(again[path] == pytest.approx(value) for path, value in architecture.items())
    narrow = Density(points=np.array([[0.7, 1.0]]), widths=np.array([0.01, 0.1]), options=np.array([0, 3]))
    drawn = narrow.draw(2000, 3.0, rng)
    assert drawn[:, 0].mean() == pytest.approx(0.7, abs=0.005)
    assert drawn[:, 0].std() == pytest.approx(0.03, rel=0.1)
    assert np.mean(drawn[:, 1] != 1.0) == pytest.approx(0.3 * 2 / 3, abs=0.04)


def test_it_finds_better_architectures_than_chance() -> None:
    space = SearchSpace({str(index): Float(0.0, 1.0) for index in range(8)})

    def best(strategy: Kde, seed: int) -> float:
        study = Simulated(space, seed=seed)
        history = study.history()
        while len(study.rows) < 80:
            (number,) = study.add(strategy.propose(study.refresh(history), 1, study.rng()), history.revision)
            study.finish(number, metrics={"error": sum((v - 0.3) ** 2 for v in study.architecture(number).values())})
        return float(study.refresh(history).finished.losses.min())

    for seed in range(2):
        assert best(Kde(), seed) < 0.7 * best(Kde(random=1.0), seed)


def test_while_there_is_little_to_learn_from_it_is_random_search() -> None:
    from nas.strategies.random_search import RandomSearch

    study = Simulated(FLOATS)
    search(study, Kde(), 9)  # four decisions: five good ones and five others are needed
    history = study.history()
    assert Kde().propose(history, 3, study.rng()) == RandomSearch().propose(history, 3, study.rng())


@pytest.mark.parametrize("space", [FLOATS, CONDITIONAL, MIXED, SearchSpace({"x": Float(0.1, 10.0, log=True)})])
def test_settled_points_are_those_of_the_nearest_architectures(space) -> None:
    rng = np.random.default_rng(2)
    drawn = Density.of(space, points_of(space, 20)).draw(50, 3.0, rng)
    nearest = unit_points(space, architectures_at(space, drawn))
    np.testing.assert_allclose(settled(space, drawn), nearest, atol=1e-9)


def test_failed_trials_are_among_the_others_and_stopped_ones_teach_nothing() -> None:
    from nas.strategies.random_search import RandomSearch

    line = SearchSpace({"x": Float(0.0, 1.0)}, name="line")

    def history(state: str) -> History:
        study = Simulated(line)
        for number, x in enumerate([0.2, 0.3, *np.linspace(0.5, 1.0, 10).tolist()]):
            study.enqueue(Architecture({"x": x}))
            study.finish(number, "completed" if x < 0.5 else state, {"error": x} if x < 0.5 else None)
        return study.history()

    rng = np.random.default_rng
    learnt = Kde(random=0.0).propose(history("failed"), 40, rng(0))
    assert np.mean([float(proposal.architecture["x"]) < 0.5 for proposal in learnt]) > 0.9
    assert Kde(random=0.0).propose(history("stopped"), 40, rng(0)) == RandomSearch().propose(
        history("stopped"), 40, rng(0)
    )


def test_what_it_knows_of_points_grows_with_the_history() -> None:
    study = Simulated(MIXED)
    search(study, Kde(), 14)
    history = study.history()
    Kde(random=0.0).propose(history, 1, study.rng())
    search(study, Kde(), 20, lambda number: "failed" if number % 3 else "completed")
    again = Kde(random=0.0).propose(study.refresh(history), 3, study.rng())
    assert again == Kde(random=0.0).propose(study.history(), 3, study.rng())
