import sys
from dataclasses import dataclass

import pytest

from nas import catalogue
from nas.strategies.local_search import LocalSearch
from nas.strategies.regularized_evolution import RegularizedEvolution

MODULE = """
from dataclasses import dataclass, field

@dataclass(frozen=True, kw_only=True)
class Mine:
    pace: int = 3

    def __post_init__(self):
        if self.pace > 9:
            raise ValueError(f"pace must be at most 9, got {self.pace}")

    def propose(self, history, count, rng):
        return []

def evaluate(assignment, report):
    return {}

ready = Mine(pace=5)
number = 7
"""


@dataclass(frozen=True)
class Local:
    made: object = None

    def propose(self, history, count, rng):
        return []


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    (tmp_path / "my_lab_plugins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_lab_plugins"
    sys.modules.pop("my_lab_plugins", None)


def test_a_short_name_and_its_settings_become_an_object():
    made = catalogue.load("strategy", "regularized_evolution", {"population": 20})
    assert made == RegularizedEvolution(population=20)
    path = "nas.strategies.regularized_evolution:RegularizedEvolution"
    assert catalogue.load("strategy", path, {"population": 20}) == made
    assert {"random_search", "grid", "regularized_evolution", "local_search", "nsga2", "optuna", "bayesian"} <= set(
        catalogue.names("strategy")
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in catalogue.CATALOGUE for name in catalogue.names(kind)]
)
def test_every_name_leads_to_a_class_of_its_kind(kind, name):
    from search_spaces.loading import PLUG_INS, load_object

    found = load_object(catalogue.path_of(kind, name), ours=PLUG_INS[kind])
    assert isinstance(found, type)
    assert callable(getattr(found, catalogue.METHOD[kind]))


@pytest.mark.parametrize(
    ("kind", "name", "settings", "said"),
    [
        (
            "strategy",
            "regularised_evolution",
            {},
            "unknown strategy .*did you mean 'regularized_evolution'",
        ),
        ("strategy", "qqq", {}, "known are auto, random_search, grid, .*; your own is named 'module:object'"),
        (
            "loss",
            "x",
            {},
            "unknown kind 'loss'; known are strategy, stopper, predictor, acquisition, candidates, evaluator",
        ),
        ("acquisition", "qLogNEHVI", {}, "unknown acquisition 'qLogNEHVI'; did you mean 'qlognehvi'"),
        ("acquisition", "UCB", {}, "did you mean 'upper_confidence_bound'"),
        ("predictor", "rf", {}, "did you mean 'random_forest'"),
        ("strategy", "nsga2", {"poplation": 3}, "has no setting 'poplation'; did you mean 'population'"),
        ("strategy", "random_search", {"qqq": 3}, "has no setting 'qqq'; it has distinct"),
        (
            "strategy",
            "nsga2",
            {"population": 1},
            "strategy 'nsga2': population must be .* at least 2, got 1",
        ),
        ("strategy", "nsga2", {"population": "many"}, "population must be a whole number"),
        ("strategy", "optuna", {"sampler": "tpee"}, "did you mean 'tpe'"),
        ("strategy", "nas.metric:Metric", {"name": "x"}, "holds nothing that may be named here"),
        ("strategy", "nas.strategies.untried:TRIES", {}, "is no strategy: int has no method 'propose'"),
        ("strategy", "os:system", {}, "allow"),
        ("strategy", "nas.strategies.grid:Gird", {}, "did you mean 'Grid'"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(kind, name, settings, said):
    with pytest.raises(ValueError, match=said):
        catalogue.load(kind, name, settings)


def test_code_of_one_s_own_is_named_by_its_path_and_needs_permission(my_lab):
    with pytest.raises(ValueError, match="--allow my_lab_plugins"):
        catalogue.load("strategy", "my_lab_plugins:Mine", {})
    assert catalogue.load("strategy", "my_lab_plugins:Mine", {"pace": 4}, allow=[my_lab]).pace == 4
    assert catalogue.load("strategy", "my_lab_plugins:ready", {}, allow=[my_lab]).pace == 5
    assert catalogue.load("evaluator", "my_lab_plugins:evaluate", {}, allow=[my_lab])(None, None) == {}
    with pytest.raises(ValueError, match="pace must be at most 9, got 10"):
        catalogue.load("strategy", "my_lab_plugins:Mine", {"pace": 10}, allow=[my_lab])
    with pytest.raises(ValueError, match="takes no settings, got pace"):
        catalogue.load("strategy", "my_lab_plugins:ready", {"pace": 1}, allow=[my_lab])
    with pytest.raises(ValueError, match="is no strategy: int has no method 'propose'"):
        catalogue.load("strategy", "my_lab_plugins:number", {}, allow=[my_lab])


def test_an_object_is_described_by_name_and_settings(my_lab):
    part = catalogue.describe("strategy", LocalSearch(initial=4))
    assert (part.name, part.settings) == ("local_search", {"initial": 4})
    mine = catalogue.load("strategy", "my_lab_plugins:Mine", {"pace": 4}, allow=[my_lab])
    part = catalogue.describe("strategy", mine)
    assert (part.name, part.settings) == ("my_lab_plugins:Mine", {"pace": 4})


def test_an_object_that_could_not_be_found_again_is_refused():
    @dataclass(frozen=True)
    class Hidden:
        def propose(self, history, count, rng):
            return []

    with pytest.raises(ValueError, match="cannot be found by another process"):
        catalogue.describe("strategy", Hidden())
    with pytest.raises(ValueError, match=r"made=.* cannot be stored"):
        catalogue.describe("strategy", Local(made=object()))
    with pytest.raises(ValueError, match="must be a dataclass"):
        catalogue.describe("strategy", object())
