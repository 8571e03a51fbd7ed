"""Batches of a Bayesian search: the best few of one look at the candidates."""

import numpy as np
import pytest

from nas import catalogue
from nas.metric import Metric
from nas.strategies.bayesian import Bayesian
from predictors.gaussian_process import GaussianPosterior
from tests.nas.strategies.simulated import FLAT, Simulated


def searched(trials: int = 30) -> Simulated:
    """A study with finished trials."""
    study = Simulated(FLAT, seed=1, budget=None)
    strategy = Bayesian(initial=trials, design="random")
    for number in study.add(strategy.propose(study.history(), trials, study.rng())):
        study.finish(number)
    return study


@pytest.mark.parametrize("candidates", ["mutation_pool", "enumeration"])
def test_a_batch_begins_with_what_is_proposed_alone_and_goes_on_by_score(candidates):
    history = searched().history()
    alone, batches = (Bayesian(initial=5, batch=batch, candidates=candidates) for batch in (1, 4))
    first = alone.propose(history, 1, np.random.default_rng(7))
    six, nine = (batches.propose(history, count, np.random.default_rng(7)) for count in (6, 9))
    assert [p.architecture for p in six] == [p.architecture for p in nine[:6]]
    assert six[0].architecture == first[0].architecture
    assert len({p.architecture for p in nine}) == 9
    # the four of the first batch are in the order of their scores, all judged before any of them was pending
    judge = catalogue.load("acquisition", "log_expected_improvement", {})
    beliefs = batches._search(history, None)._expectations[0]
    outlook, _ = beliefs.outlook(history)
    scores = judge.score(outlook, [p.architecture for p in nine], np.random.default_rng(0))
    assert (np.diff(scores[:4]) <= 1e-9).all()


def test_a_batch_looks_once(monkeypatch):
    history = searched().history()
    taken = []
    condition = GaussianPosterior.condition

    def counted(self, architectures, losses):
        taken.append(len(architectures))
        return condition(self, architectures, losses)

    monkeypatch.setattr(GaussianPosterior, "condition", counted)
    Bayesian(initial=5, batch=5).propose(history, 12, np.random.default_rng(0))
    assert taken == [5, 5]


def test_candidates_that_find_one_at_a_time_are_refused_for_batches():
    with pytest.raises(ValueError, match=r"'evolved' find one candidate at a time, the strategy's batch is 3; use"):
        Bayesian(batch=3, candidates="evolved").check(FLAT, [Metric("error")])
    with pytest.raises(ValueError, match="batch must be"):
        Bayesian(batch=0)
