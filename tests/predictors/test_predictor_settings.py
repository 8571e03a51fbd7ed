"""Settings of the wrong type are refused when a predictor is made, before any trial is paid for."""

from importlib import import_module

import pytest

from predictors.features import Decisions, Paths
from predictors.structures import Structures
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

SPACE = SearchSpace({"x": Float(0.0, 1.0)}, name="line")
CELLS = nas_bench_201()
BNN = ("hmc", "sghmc", "laplace", "deep_ensemble", "deep_kernel", "infinite_width")
VECTORS = (*BNN, "path_ensemble", "random_forest", "gradient_boosting", "graph_network")
NETWORKS = (*BNN[:5], "path_ensemble", "graph_network")

WRONG = [
    *((name, "features", wrong) for name in VECTORS for wrong in ("ways", 3)),
    *((name, "seed", wrong) for name in (*VECTORS, "stacked") for wrong in ("x", 1.5, -1, True)),
    *((name, "hidden", wrong) for name in NETWORKS for wrong in ("64", 64, ["64"], [2.5])),
    *((name, "warp", ["ranks"]) for name in ("gaussian_process", *VECTORS[-4:])),
    *((name, "noise", "little") for name in BNN),
    *((name, "activation", ["tanh"]) for name in BNN[:5]),
    *((name, "weight_scale", "1") for name in BNN[:5]),
    ("gaussian_process", "beside", ["macs"]),
    ("gaussian_process", "most", 2.5),
    ("gaussian_process", "learned_from", "all"),
    ("gaussian_process", "depth", "two"),
    ("gradient_boosting", "depth", "two"),
    ("gradient_boosting", "share", "half"),
    ("random_forest", "trees", 2.5),
    ("random_forest", "columns", True),
    ("path_ensemble", "steps", 2.5),
    ("path_ensemble", "decay", "much"),
    ("graph_network", "batch", 2.5),
    ("laplace", "prior_precision", "high"),
    ("hmc", "target_acceptance", "high"),
    ("hmc", "draws", "many"),
    ("sghmc", "friction", None),
    ("deep_ensemble", "adversarial", None),
    ("stacked", "folds", 2.5),
    ("stacked", "members", 3),
    ("stacked", "prior", -1),
    ("stacked", "prior", "x"),
]


@pytest.mark.parametrize(("name", "setting", "value"), WRONG)
def test_a_setting_of_the_wrong_type_is_refused_by_its_name(name, setting, value):
    found = getattr(import_module(f"predictors.{name}"), "".join(word.capitalize() for word in name.split("_")))
    with pytest.raises(ValueError, match=setting):
        found(SPACE, **{setting: value})


@pytest.mark.parametrize("name", VECTORS)
def test_features_are_taken_by_their_names(name):
    found = getattr(import_module(f"predictors.{name}"), "".join(word.capitalize() for word in name.split("_")))
    for stated, features in (("decisions", Decisions()), ("paths", Paths()), ("structures", Structures())):
        assert found(CELLS, features=stated) == found(CELLS, features=features)
    with pytest.raises(ValueError, match="features: paths are those through cells, and space 'line' has none"):
        found(SPACE, features="paths")
