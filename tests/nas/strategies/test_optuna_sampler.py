"""Our proposals beside those of a live Optuna study, which is written out here by hand."""

import logging
import subprocess
import sys

import numpy as np
import optuna
import pytest

from nas.metric import Metric
from nas.strategies.optuna_sampler import REFUSED, SAMPLERS, OptunaSampler
from search_spaces.nodes import Boolean, Choice, Float, Integer
from search_spaces.space import SearchSpace
from tests.nas.strategies.simulated import Simulated, mixed_outcome, search

MIXED = SearchSpace(
    {
        "rate": Float(1e-5, 1e-1, log=True),
        "width": Integer(8, 512, log=True),
        "dropout": Float(0.0, 0.5),
        "layers": Integer(1, 6),
        "activation": Choice(["relu", "gelu", "silu"]),
        "norm": Boolean(),
        "optimiser": Choice(
            {"adam": {"beta": Float(0.8, 0.999)}, "sgd": {"momentum": Float(0.0, 0.99), "nesterov": Boolean()}}
        ),
    }
)
CATEGORICAL = SearchSpace({f"edge{index}": Choice(["none", "skip", "conv"]) for index in range(4)})


def suggest_mixed(trial):
    """`MIXED`, as an Optuna user would write it."""
    values = {
        "rate": trial.suggest_float("rate", 1e-5, 1e-1, log=True),
        "width": trial.suggest_int("width", 8, 512, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "layers": trial.suggest_int("layers", 1, 6),
        "activation": trial.suggest_categorical("activation", ["relu", "gelu", "silu"]),
        "norm": trial.suggest_categorical("norm", [False, True]),
        "optimiser": trial.suggest_categorical("optimiser", ["adam", "sgd"]),
    }
    if values["optimiser"] == "adam":
        values["optimiser/adam/beta"] = trial.suggest_float("optimiser/adam/beta", 0.8, 0.999)
    else:
        values["optimiser/sgd/momentum"] = trial.suggest_float("optimiser/sgd/momentum", 0.0, 0.99)
        values["optimiser/sgd/nesterov"] = trial.suggest_categorical("optimiser/sgd/nesterov", [False, True])
    return values


def suggest_categorical(trial):
    return {f"edge{index}": trial.suggest_categorical(f"edge{index}", ["none", "skip", "conv"]) for index in range(4)}


def error(values):
    wrong = 0.1 * (values["activation"] != "gelu") + 0.1 * values["norm"] + 0.05 * (values["optimiser"] == "sgd")
    return wrong + abs(np.log10(values["rate"]) + 3) + abs(values["layers"] - 4) / 10 + values["dropout"] ** 2


def macs(values):
    return float(values["width"] * values["layers"])


def edges_error(values):
    return float(sum((index + 1) * (value != "conv") for index, value in enumerate(values.values())))


LIVE = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=6),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=3, warn_independent_sampling=False),
}
SETTINGS = {
    "random": {},
    "tpe": {"n_startup_trials": 8},
    "nsga2": {"population_size": 6},
    "cmaes": {"n_startup_trials": 3},
}


def live_study(sampler, metrics=1):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler, directions=["minimize"] * metrics)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", LIVE)
def test_a_serial_search_proposes_what_a_live_study_proposes(sampler):
    live, study = live_study(LIVE[sampler](7)), Simulated(MIXED, seed=7)
    strategy, history = OptunaSampler(sampler=sampler, settings=SETTINGS[sampler], distinct=False), study.history()
    for number in range(40):
        trial = live.ask()
        expected = MIXED.validate(suggest_mixed(trial))
        (proposal,) = strategy.propose(study.refresh(history), 1, study.rng())
        assert proposal.architecture == expected, number
        if number % 9 == 0:  # a new process: nothing but the rows
            again = OptunaSampler(sampler=sampler, settings=SETTINGS[sampler], distinct=False)
            assert again.propose(study.history(), 1, study.rng())[0] == proposal
        study.add([proposal], history.revision)
        if number % 6 == 4:
            live.tell(trial, state=optuna.trial.TrialState.FAIL)
            study.finish(number, "failed")
        else:
            live.tell(trial, error(expected))
            study.finish(number, metrics={"error": error(expected)})


@pytest.mark.slow
@pytest.mark.parametrize("sampler", LIVE)
def test_a_parallel_search_proposes_what_a_live_study_proposes(sampler):
    """Trials end in any order while others run; the rows say what was known when each was proposed."""
    live, study = live_study(LIVE[sampler](11)), Simulated(MIXED, seed=11)
    strategy, history = OptunaSampler(sampler=sampler, settings=SETTINGS[sampler]), study.history()
    chance, running = np.random.default_rng(5), {}
    while len(study.rows) < 36:
        study.refresh(history)
        count = 4 - len(running)
        proposals = strategy.propose(history, count, study.rng())
        assert len(proposals) == count
        for number, proposal in zip(study.add(proposals, history.revision), proposals, strict=True):
            running[number] = live.ask()
            assert MIXED.validate(suggest_mixed(running[number])) == proposal.architecture
        for number in chance.permutation(list(running))[: int(chance.integers(1, 4))].tolist():
            value = error(study.architecture(number))
            study.finish(number, metrics={"error": value})
            live.tell(running.pop(number), value)
    again = OptunaSampler(sampler=sampler, settings=SETTINGS[sampler])
    study.refresh(history)
    assert again.propose(study.history(), 3, study.rng()) == strategy.propose(history, 3, study.rng())


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_several_metrics_and_a_limit_are_told_as_a_live_study_is_told(sampler):
    metrics = (Metric("error"), Metric("macs", limit=900.0))
    live, study = live_study(LIVE[sampler](3), metrics=2), Simulated(MIXED, metrics, seed=3)
    strategy, history = OptunaSampler(sampler=sampler, settings=SETTINGS[sampler]), study.history()
    for number in range(30):
        trial = live.ask()
        expected = MIXED.validate(suggest_mixed(trial))
        (proposal,) = strategy.propose(study.refresh(history), 1, study.rng())
        assert proposal.architecture == expected, number
        study.add([proposal], history.revision)
        study.finish(number, metrics={"error": error(expected), "macs": macs(expected)})
        trial.set_constraint("macs", macs(expected) - 900.0)
        live.tell(trial, [error(expected), macs(expected)])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_distinct_proposals_are_the_live_ones_without_repeats(sampler):
    live, study = live_study(LIVE[sampler](1)), Simulated(CATEGORICAL, seed=1)
    strategy, history = OptunaSampler(sampler=sampler, settings=SETTINGS[sampler]), study.history()
    asked = {}
    while len(asked) < 25:
        trial = live.ask()
        architecture = CATEGORICAL.validate(suggest_categorical(trial))
        live.tell(trial, edges_error(architecture))
        if architecture in asked:
            continue
        asked[architecture] = len(asked)
        (proposal,) = strategy.propose(study.refresh(history), 1, study.rng())
        assert proposal.architecture == architecture
        study.add([proposal], history.revision)
        study.finish(asked[architecture], metrics={"error": edges_error(architecture)})


def test_the_seed_is_the_study_s_unless_the_strategy_has_its_own():
    study = Simulated(MIXED, seed=5)
    expected = MIXED.validate(suggest_mixed(live_study(LIVE["random"](5)).ask()))
    assert OptunaSampler(sampler="random").propose(study.history(), 1, study.rng())[0].architecture == expected
    own = OptunaSampler(sampler="random", seed=6).propose(study.history(), 1, study.rng())[0].architecture
    assert own == MIXED.validate(suggest_mixed(live_study(LIVE["random"](6)).ask()))


@pytest.mark.parametrize("sampler", ["nsga3", "qmc"])
def test_experimental_samplers_run_without_warnings(sampler, caplog):
    with caplog.at_level(logging.INFO):
        study = Simulated(MIXED)
        search(study, OptunaSampler(sampler=sampler), 20, mixed_outcome)
    assert len(study.rows) == 20
    assert caplog.records == []


@pytest.mark.slow
def test_the_gp_sampler_resumes_as_the_others_do():
    space, study = SearchSpace({"x": Float(0, 1), "n": Integer(1, 9)}), None
    strategy = OptunaSampler(sampler="gp", settings={"n_startup_trials": 3})
    study = Simulated(space)
    history = study.history()
    search(study, strategy, 6, history=history)
    assert strategy.propose(history, 1, study.rng()) == strategy.propose(study.history(), 1, study.rng())


def test_what_optuna_logs_is_left_as_it_was():
    before = optuna.logging.get_verbosity()
    OptunaSampler(sampler="random").propose(Simulated(MIXED).history(), 1, np.random.default_rng(0))
    assert optuna.logging.get_verbosity() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sampler": "tpee"}, "did you mean 'tpe'"),
        ({"sampler": "grid"}, "cannot be rebuilt from rows.*use strategy 'grid'"),
        ({"sampler": optuna.samplers.RandomSampler()}, "keeps its state in this process"),
        ({"sampler": "tpe", "settings": {"n_startup": 3}}, "did you mean 'n_startup_trials'"),
        ({"sampler": "tpe", "settings": {"seed": 3}}, "the strategy's own `seed`"),
        ({"sampler": "tpe", "settings": {"constraints_func": print}}, "give the metric a `limit`"),
        ({"sampler": "cmaes", "settings": {"source_trials": [object()]}}, "plain JSON only"),
        ({"sampler": "nsga2", "settings": {"population_size": 1}}, "population_size"),
        ({"sampler": "random", "seed": -1}, "seed must be"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused_with_the_reason(given, said):
    with pytest.raises(ValueError, match=said):
        OptunaSampler(**given)
    assert not set(REFUSED) & set(SAMPLERS)


def test_cmaes_is_refused_where_it_would_only_draw_at_random():
    with pytest.raises(ValueError, match="needs an Integer or Float"):
        OptunaSampler(sampler="cmaes").propose(Simulated(CATEGORICAL).history(), 1, np.random.default_rng(0))
    two = Simulated(MIXED, (Metric("error"), Metric("size")))
    with pytest.raises(ValueError, match="handles one metric"):
        OptunaSampler(sampler="cmaes").propose(two.history(), 1, np.random.default_rng(0))


def test_a_limit_that_a_sampler_pays_no_attention_to_is_said(caplog):
    limited = Simulated(MIXED, (Metric("error", limit=1.0),))
    OptunaSampler(sampler="cmaes").propose(limited.history(), 1, np.random.default_rng(0))
    assert "pays no attention to limits (error)" in caplog.text


def test_optuna_is_imported_only_by_its_strategy():
    code = (
        "import sys, nas.catalogue, nas.history, nas.strategies.nsga2, nas.strategies.optuna_sampler;"
        "print([name for name in ('optuna', 'torch', 'ray') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
