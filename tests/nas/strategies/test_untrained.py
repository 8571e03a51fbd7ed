"""What is known before any training: counted, scored or looked up, the same whoever asks and whenever."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nas import catalogue
from nas.history import History
from nas.metric import Metric
from nas.settings import Part
from nas.strategies.affordable import SCORES, is_affordable
from nas.strategies.untrained import NoScores, Untrained
from nas.trial_rows import TrialAsRow
from predictors.zero_cost.scorer import Scorer
from search_spaces.build import build
from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.cost import cost
from search_spaces.moves import sample
from tests.nas.recomputed import proposed_again
from tests.nas.strategies.look_ups import PERFECT, Times
from tests.nas.strategies.simulated import FLAT, Simulated, loss, search
from workers.datasets import load_dataset

HERE = "tests.nas.strategies.look_ups"
ALLOW = ("tests",)
CELLS = nas_bench_201(channels=1, cells=1, stages=1)
PROCESS = "tests.nas.strategies.small_process:SmallProcess"


TANH = mlp(activations=("tanh",), training=False)


def drawn(space, count):
    rng = np.random.default_rng(3)
    return [sample(space, rng) for _ in range(count)]


def history_of(space, data="iris", seed=0):
    return History(space, [Metric("error")], seed=seed, data=None if data is None else Part(name=data))


def test_costs_are_those_of_the_built_network_for_the_study_s_own_data():
    history, (one, *others) = history_of(mlp()), drawn(mlp(), 5)
    found = Untrained(names=["parameters", "macs"]).values(history, [one, *others])
    iris = load_dataset("iris")
    for row, architecture in zip(found, [one, *others], strict=True):
        counted = cost(build(mlp(), architecture, iris.input_shape, iris.outputs), iris.input_shape)
        assert row.tolist() == [counted.parameters, counted.macs]


def test_costs_scores_and_look_ups_stand_side_by_side():
    history, asked = history_of(CELLS, "digits"), drawn(CELLS, 3)
    names = [f"{HERE}:PERFECT", "l2_norm", {"name": f"{HERE}:Times", "factor": 2.0}, "macs", f"{HERE}:layers"]
    quantities = Untrained(names=names, examples=2)
    assert quantities.columns(history, ALLOW) == ("macs", "l2_norm", f"{HERE}:layers", "perfect", "times")
    found = quantities.values(history, asked, ALLOW)
    assert found.shape == (3, 5)
    np.testing.assert_allclose(found[:, 3], PERFECT.measure(asked)[:, 0])
    np.testing.assert_allclose(found[:, 4], 2 * found[:, 3])
    notes = quantities.notes(history, asked[0], ALLOW)
    assert list(notes["proxies"].values()) == found[0].tolist()


def test_a_network_is_scored_once_and_the_same_after_the_cache_is_gone(monkeypatch):
    scored = []
    of = Scorer.scores
    monkeypatch.setattr(Scorer, "scores", lambda self, a: scored.append(a) or of(self, a))
    history, asked = history_of(CELLS, "digits", seed=5), drawn(CELLS, 3)
    quantities = Untrained(names=["synflow"], examples=2)
    first = quantities.values(history, [*asked, *asked])
    assert len(scored) == 3
    history.cache.clear()
    assert (quantities.values(history, asked[::-1])[::-1] == first[:3]).all()
    assert (quantities.values(history_of(CELLS, "digits", seed=6), asked) != first[:3]).any()


def test_what_has_no_score_is_left_out_of_the_notes():
    quantities = Untrained(names=[f"{HERE}:PERFECT", {"name": f"{HERE}:Times", "factor": 0}])
    (one,) = drawn(FLAT, 1)
    assert quantities.notes(history_of(FLAT, None), one, ALLOW) == {"proxies": {"perfect": -loss(one)}}


@pytest.mark.parametrize("asked", [1, 6])
def test_a_proxy_without_any_score_is_refused_and_named_with_the_reason(asked):
    quantities = Untrained(names=["synflow", "naswot"], examples=2)
    with pytest.raises(NoScores, match="has a score by naswot: naswot: the network has no rectifier") as refused:
        quantities.values(history_of(TANH), drawn(TANH, asked))
    assert list(refused.value.reasons) == ["naswot"]
    with pytest.raises(NoScores, match="unknown: the score is nan;"):
        Untrained(names=[f"{HERE}:unknown"]).values(history_of(TANH), drawn(TANH, asked), ALLOW)
    with pytest.raises(NoScores, match="has a score by macs, parameters: "):
        Untrained(names=["macs", "parameters"]).values(history_of(CELLS), drawn(CELLS, asked))


def test_a_proxy_with_some_scores_is_believed_and_named_in_the_log_once(caplog):
    some = mlp(layers=1, activations=("tanh", "relu"), training=False)
    without = [one for one in drawn(some, 40) if one["network/layers/0/activation"] == "tanh"]
    quantities, history = Untrained(names=["naswot"], examples=2), history_of(some)
    for _ in range(2):
        assert np.isnan(quantities.values(history, without)).all()
    (said,) = caplog.records
    assert "naswot has no score for some networks" in said.getMessage()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Untrained(names="macs"), "a list of names of proxies is needed, got 'macs'"),
        (lambda: Untrained(names=[]), "name at least one proxy"),
        (lambda: Untrained(names=["parametres"]), "did you mean 'parameters'"),
        (lambda: Untrained(names=["macs", "macs"]), "named twice"),
        (lambda: Untrained(names=["macs"], examples=0), "examples must be a whole number"),
        (lambda: Untrained.of({"names": ["macs"], "dat": "iris"}, "features"), "did you mean 'data'"),
        (lambda: Untrained.of({"data": "iris"}, "features"), "features must say names"),
        (lambda: Untrained(names=["macs"]).check(FLAT), "macs: space 'flat' describes no network to score"),
        (lambda: Untrained(names=[f"{HERE}:PERFECT"]).check(FLAT), "--allow tests"),
        (lambda: Untrained(names=[f"{HERE}:NOTHING"]).check(FLAT, ALLOW), "or have `names` and `measure`; got int"),
        (
            lambda: Untrained(names=["macs"]).values(history_of(CELLS, None), drawn(CELLS, 1)),
            "the study trains on none; say it: data=",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_a_search_that_is_told_what_counts_finds_it_sooner():
    def trials_to_find(features, seed):
        strategy = catalogue.load(
            "strategy",
            "bayesian",
            {"predictor": "gaussian_process", "initial": 6, "candidates": {"count": 30}, "features": features},
            allow=ALLOW,
        )
        study = Simulated(CELLS, seed=seed)
        search(study, strategy, 16)
        return min(row_loss for row_loss in map(loss, map(study.architecture, study.rows)))

    told = [trials_to_find([f"{HERE}:PERFECT"], seed) for seed in range(2)]
    untold = [trials_to_find([], seed) for seed in range(2)]
    assert np.mean(told) < np.mean(untold)


def test_features_are_attributes_of_the_trials_and_proposals_are_made_again_from_the_rows():
    strategy = catalogue.load(
        "strategy",
        "bayesian",
        {
            "predictor": {"name": "random_forest", "trees": 5},
            "initial": 3,
            "candidates": {"count": 10},
            "features": [f"{HERE}:PERFECT"],
        },
        allow=ALLOW,
    )
    study = Simulated(FLAT, seed=2)
    history = study.history()
    for _ in range(6):
        (proposal,) = strategy.propose(study.refresh(history), 1, study.rng())
        assert proposal.attributes == {"proxies": {"perfect": -loss(proposal.architecture)}}
        study.finish(study.add([proposal], history.revision)[0])
    rows = list(study.rows.values())
    for number in (2, 5):
        again = proposed_again(strategy, FLAT, study.metrics, 2, rows, number)
        assert again.architecture.to_json() == rows[number].architecture


def test_a_predictor_that_takes_no_features_is_refused_before_a_search_begins():
    strategy = catalogue.load(
        "strategy", "bayesian", {"predictor": PROCESS, "features": [f"{HERE}:PERFECT"]}, allow=ALLOW
    )
    with pytest.raises(ValueError, match="SmallProcess takes no features"):
        strategy.check(FLAT, [Metric("error")])
    with pytest.raises(ValueError, match="describes no network"):
        catalogue.load("strategy", "bayesian", {"features": ["macs"]}).check(FLAT, [Metric("error")])
    assert Times().factor == 1.0


def finished_row(number, architecture, metrics, seconds):
    """A completed trial that took so long, its own revision."""
    return TrialAsRow(
        number=number,
        state="completed",
        architecture=architecture.to_json(),
        canonical_key=str(number),
        budget=None,
        promoted_from=None,
        repeat=0,
        lineage="[]",
        metrics=json.dumps(metrics),
        worker="one",
        started=0,
        ended=round(seconds * 1e6),
        revision=number + 1,
        proposed_revision=number,
    )


def auto_after(seconds, *, features=None, predictor=None, space=CELLS, data="digits", trials=10):
    """What `auto` proposes next when its trials took so many seconds."""
    settings = {} if features is None else {"features": features}
    if predictor is not None:
        settings["predictor"] = predictor
    strategy = catalogue.load("strategy", "auto", {"candidates": {"name": "mutation_pool", "count": 5}, **settings})
    history = history_of(space, data)
    rng = np.random.default_rng(1)
    history.update(
        finished_row(number, sample(space, rng), {"error": float(number % 7)}, seconds) for number in range(trials)
    )
    strategy.check(space, history.metrics)
    (proposal,) = strategy.propose(history, 1, np.random.default_rng(2))
    return proposal


def test_auto_is_told_zero_cost_scores_once_trials_take_long():
    assert "proxies" not in auto_after(2.0).attributes
    assert "proxies" not in auto_after(5000.0, trials=9).attributes
    told = auto_after(5000.0)
    assert set(told.attributes["proxies"]) <= {"expressivity", "progressivity", "trainability", "complexity"}
    assert "expressivity" in told.attributes["proxies"]
    assert auto_after(5000.0) == told


def test_auto_leaves_the_scores_out_where_somebody_has_decided_or_nothing_can_be_scored(caplog):
    assert not auto_after(5000.0, features=[]).attributes
    assert set(auto_after(5000.0, features=["macs"]).attributes["proxies"]) == {"macs"}
    assert not auto_after(5000.0, predictor="gaussian_process").attributes
    assert not auto_after(5000.0, data=None).attributes
    assert not caplog.text
    assert not auto_after(5000.0, data="no/such/folder").attributes
    assert "no/such/folder" in caplog.text
    assert len(caplog.records) == 1


def test_auto_goes_on_without_the_scores_that_no_network_has(monkeypatch, caplog):
    monkeypatch.setattr("nas.strategies.affordable.SCORES", replace(SCORES, names=("naswot", "synflow", "macs")))
    assert set(auto_after(5000.0, space=TANH, data="iris").attributes["proxies"]) == {"synflow", "macs"}
    assert "the predictor is told nothing of naswot" in caplog.text
    monkeypatch.setattr("nas.strategies.affordable.SCORES", replace(SCORES, names=("naswot",)))
    assert not auto_after(5000.0, space=TANH, data="iris").attributes
    assert not auto_after(5000.0, data="iris").attributes
    assert "no network can be counted here" in caplog.text


def test_the_networks_must_be_small_beside_the_trials_too():
    large = nas_bench_201(channels=64, cells=5)
    history = history_of(large, "digits")
    rng = np.random.default_rng(1)
    history.update(finished_row(number, sample(large, rng), {"error": 1.0}, 250.0) for number in range(10))
    assert not is_affordable(history)
    small = history_of(CELLS, "digits")
    small.update(finished_row(number, sample(CELLS, rng), {"error": 1.0}, 250.0) for number in range(10))
    assert is_affordable(small)
