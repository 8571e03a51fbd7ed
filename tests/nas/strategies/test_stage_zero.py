"""The first trials are those that proxies rank best, whoever asks and whenever."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nas import catalogue
from nas.history import History
from nas.metric import Metric
from nas.scoring import make_scorer, sample_networks, score_architectures
from nas.settings import Part
from nas.strategies.bayesian import Bayesian
from nas.strategies.random_search import RandomSearch
from nas.strategies.stage_zero import StageZero
from nas.strategies.untrained import Untrained
from nas.trial import Proposal
from predictors.zero_cost.scorer import Scorer
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.moves import sample
from tests.nas.recomputed import proposed_again
from tests.nas.strategies.simulated import CONDITIONAL, FLAT, Simulated, loss, mixed_outcome, search
from workers.datasets import load_dataset

SPACE = nas_bench_201(channels=1, cells=1, stages=1)
PERFECT = "tests.nas.strategies.look_ups:PERFECT"
GIVEN: dict[str, Any] = {
    "data": "digits",
    "initial": 4,
    "candidates": 12,
    "examples": 4,
    "proxies": ["synflow", "macs"],
}


def test_the_first_trials_are_the_best_of_the_candidates_and_then_the_other_strategy_takes_over() -> None:
    study = Simulated(SPACE, seed=3)
    found = search(study, StageZero(**GIVEN, strategy="random_search"), 9, mixed_outcome)
    scorer = make_scorer(SPACE, load_dataset("digits"), proxies=("synflow", "macs"), examples=4, seed=3)
    drawn = list(sample_networks(SPACE, 12, 3))
    table = score_architectures(scorer, drawn)
    assert found[:4] == [drawn[at] for at in table.order[:4]]
    assert len(set(found)) == 9
    history = study.history()
    after = StageZero(**GIVEN, strategy="random_search").propose(history, 3, np.random.default_rng(5))
    assert after == RandomSearch().propose(history, 3, np.random.default_rng(5))


@pytest.mark.parametrize("name", ["asha", "hyperband", "bohb"])
def test_a_strategy_over_budgets_is_not_led(name: str) -> None:
    with pytest.raises(ValueError, match=f"take '{name}' as the study's strategy.*strategy.strategy=stage_zero"):
        StageZero(**GIVEN, strategy=name).check(SPACE, [Metric("error")])


def test_proposals_are_made_again_from_the_rows_alone() -> None:
    strategy = StageZero(**GIVEN, strategy={"name": "regularized_evolution", "population": 3, "tournament": 2})
    study = Simulated(SPACE, seed=1)
    search(study, strategy, 10, mixed_outcome)
    rows = list(study.rows.values())
    for number in (0, 2, 4, 9):
        again = proposed_again(strategy, SPACE, study.metrics, 1, rows, number)
        assert again.architecture.to_json() == rows[number].architecture


def test_fewer_proposals_are_the_first_of_more_and_none_comes_twice() -> None:
    strategy = StageZero(**GIVEN, strategy="random_search")
    history = Simulated(SPACE, seed=2).history()
    many = strategy.propose(history, 9, np.random.default_rng(0))
    assert len({one.architecture for one in many}) == 9
    for count in (1, 3, 4, 6):
        assert list(strategy.propose(history, count, np.random.default_rng(0))) == list(many[:count])
    history.cache.clear()
    assert list(strategy.propose(history, 9, np.random.default_rng(0))) == list(many)


def test_it_is_stored_and_loaded_by_its_name() -> None:
    strategy = StageZero(**GIVEN)
    stated = catalogue.describe("strategy", strategy)
    assert stated.name == "stage_zero"
    others = {"strategy", "best_of", "gaussian", "device"}  # no permissions among them
    assert set(stated.settings) == set(GIVEN) | others
    assert catalogue.load("strategy", stated.name, stated.settings) == strategy


def looking_up(**settings: Any) -> StageZero:
    """By what a perfect proxy says, of any space."""
    return StageZero(**{"proxies": [PERFECT], "initial": 0, "strategy": "random_search", **settings}).allowing(
        ("tests",)
    )


def test_a_trial_has_its_scores_as_attributes() -> None:
    history = Simulated(SPACE, seed=3).history()
    first, *_, last = StageZero(**GIVEN, strategy="random_search", best_of=2).propose(
        history, 5, np.random.default_rng(0)
    )
    scorer = make_scorer(SPACE, load_dataset("digits"), proxies=("synflow", "macs"), examples=4, seed=3)
    for proposal in (first, last):
        assert proposal.attributes == {"proxies": dict(scorer.scores(proposal.architecture).values)}


def test_the_study_s_own_data_are_scored_on_unless_others_are_named() -> None:
    given = {name: value for name, value in GIVEN.items() if name != "data"}
    histories = [
        History(SPACE, [Metric("error")], seed=3, data=Part(name=name)) if name else History(SPACE, [Metric("error")])
        for name in ("digits", "")
    ]
    stated = StageZero(**GIVEN).propose(Simulated(SPACE, seed=3).history(), 2, np.random.default_rng(0))
    assert StageZero(**given).propose(histories[0], 2, np.random.default_rng(0)) == stated
    with pytest.raises(ValueError, match="the study trains on none; say it: data="):
        StageZero(**given).propose(histories[1], 2, np.random.default_rng(0))


def test_each_proposal_is_the_best_of_those_that_would_have_been_made() -> None:
    history = Simulated(FLAT, seed=2).history()
    chosen = looking_up(best_of=4).propose(history, 3, np.random.default_rng(0))
    would = RandomSearch().propose(history, 12, np.random.default_rng(0))
    for place, proposal in enumerate(chosen):
        group = [one.architecture for one in would[4 * place : 4 * place + 4]]
        assert proposal.architecture == min(group, key=loss)
        assert proposal.attributes == {"proxies": {"perfect": -loss(proposal.architecture)}}


def test_a_search_that_is_filtered_by_a_good_proxy_is_a_better_one() -> None:
    def mean_loss(best_of: int) -> float:
        study = Simulated(FLAT, seed=1)
        return float(np.mean([loss(one) for one in search(study, looking_up(best_of=best_of), 20)]))

    assert mean_loss(4) < mean_loss(1) - 0.2


def test_a_filtered_search_still_comes_to_the_end_of_a_space() -> None:
    study = Simulated(CONDITIONAL, seed=4)
    assert len(set(search(study, looking_up(best_of=5), 100, mixed_outcome))) == 36
    at_once = looking_up(best_of=5).propose(Simulated(CONDITIONAL).history(), 50, np.random.default_rng(0))
    assert len({proposal.architecture for proposal in at_once}) == 36


def test_promotions_and_repeats_are_not_passed_over() -> None:
    strategy = looking_up(best_of=2)
    history = Simulated(FLAT).history()
    a, b, c, d = (Proposal(architecture=sample(FLAT, np.random.default_rng(place))) for place in range(4))
    promoted, repeated = replace(a, promoted_from=0), replace(b, repeat=1)
    found = list(strategy._chosen(history, [c, promoted, d, repeated, a]))
    assert found[0] == promoted
    assert found[1].architecture == min(c.architecture, d.architecture, key=loss)
    assert found[2] == repeated
    assert found[3].architecture == min(a.architecture, max(c.architecture, d.architecture, key=loss), key=loss)
    assert len(found) == 5


def test_before_a_bayesian_search_it_is_the_initial_design() -> None:
    settings = {"name": "bayesian", "predictor": "tests.nas.strategies.small_process:SmallProcess", "initial": 5}
    strategy = looking_up(initial=5, candidates=40, strategy=settings)
    study = Simulated(FLAT, seed=1)
    found = search(study, strategy, 8)
    history = study.history()
    drawn = list(sample_networks(FLAT, 40, 1))
    assert found[:5] == sorted(drawn, key=loss)[:5]
    assert all(history.trial(number).lineage or number < 5 for number in range(7))
    theirs = Bayesian(**without_name(settings)).allowing(("tests",))
    for ours, other in ((strategy, theirs), (looking_up(), Bayesian())):
        found, wanted = ours.believed(history), other.believed(history)
        assert found is not None
        assert wanted is not None
        np.testing.assert_array_equal(found.means, wanted.means)


def without_name(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "name"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"initial": 13}, "at most candidates"),
        ({"candidates": 0}, "candidates"),
        ({"proxies": []}, "name at least one proxy"),
        ({"proxies": ["snp"]}, "did you mean 'snip'"),
        ({"strategy": "locl_search"}, "did you mean 'local_search'"),
        ({"data": 3}, "data must be a name"),
        ({"best_of": 0}, "best_of must be a whole number of at least 1, got 0"),
        ({"strategy": {"name": "local_search", "initia": 2}}, "did you mean 'initial'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StageZero(**{**GIVEN, **changed})  # type: ignore[arg-type]


def test_a_space_without_networks_is_refused() -> None:
    with pytest.raises(ValueError, match="describes no network"):
        StageZero(**GIVEN).propose(Simulated(FLAT).history(), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="describes no network"):
        StageZero(**GIVEN).check(FLAT, [Metric("error")])


def test_proxies_without_any_score_end_a_search_before_its_first_trial() -> None:
    rows_for_cells = StageZero(**{**GIVEN, "data": "iris"})
    with pytest.raises(ValueError, match=r"'nas_bench_201' that was tried has a score by (macs|synflow)"):
        rows_for_cells.propose(Simulated(SPACE).history(), 1, np.random.default_rng(0))


def test_networks_are_scored_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noting(*given: Any, device: str, **settings: Any) -> Scorer:
        asked.append(device)
        return make_scorer(*given, **settings)

    monkeypatch.setattr("nas.scoring.make_scorer", noting)
    monkeypatch.setattr("workers.measure.checked_device", torch.device)
    for settings, device in (({}, "cpu"), ({"device": "cuda:1"}, "cuda:1")):
        StageZero(**GIVEN, **settings).propose(Simulated(SPACE).history(), 1, np.random.default_rng(0))
        assert asked.pop() == device


def test_a_device_that_is_not_there_is_refused_before_a_search_begins() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda'"):
        StageZero(**GIVEN, device="abacus").check(SPACE, [Metric("error")])
    with pytest.raises(ValueError, match="device 'cuda:99' is not there"):
        Bayesian(features={"names": ["macs"], "device": "cuda:99"}).check(SPACE, [Metric("error")])


@pytest.mark.cuda
def test_scores_on_the_device_rank_as_those_of_the_cpu() -> None:
    asked = list(sample_networks(SPACE, 6, 0))
    history = Simulated(SPACE).history()
    here, there = (
        Untrained(names=("synflow", "expressivity"), data="digits", device=device).values(history, asked)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there, here, rtol=0.02)


def test_what_does_not_fit_the_other_strategy_is_said_before_a_search_begins() -> None:
    follower = {"name": "bayesian", "acquisition": "qlognehvi"}
    with pytest.raises(ValueError, match="judges several metrics, the study has 1"):
        looking_up(strategy=follower).check(FLAT, [Metric("error")])
    with pytest.raises(ValueError, match="--allow tests"):
        StageZero(proxies=[PERFECT]).check(FLAT, [Metric("error")])
