"""What is believed about architectures nobody has trained yet.

Letters: n finished trials that were fitted, m architectures that are asked about, d features, g groups of decisions.

Each predictor stands in a module of its name, and as a class (CamelCase) here; it is imported when it is first used, so
that whoever needs one loads no library of the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictors.deep_ensemble import DeepEnsemble
    from predictors.deep_kernel import DeepKernel
    from predictors.gaussian_process import GaussianProcess
    from predictors.gradient_boosting import GradientBoosting
    from predictors.graph_network import GraphNetwork
    from predictors.hmc import Hmc
    from predictors.infinite_width import InfiniteWidth
    from predictors.laplace import Laplace
    from predictors.path_ensemble import PathEnsemble
    from predictors.random_forest import RandomForest
    from predictors.sghmc import Sghmc
    from predictors.stacked import Stacked

__all__ = [
    "DeepEnsemble",
    "DeepKernel",
    "GaussianProcess",
    "GradientBoosting",
    "GraphNetwork",
    "Hmc",
    "InfiniteWidth",
    "Laplace",
    "PathEnsemble",
    "RandomForest",
    "Sghmc",
    "Stacked",
]

_HOMES = {
    "DeepEnsemble": "deep_ensemble",
    "DeepKernel": "deep_kernel",
    "GaussianProcess": "gaussian_process",
    "GradientBoosting": "gradient_boosting",
    "GraphNetwork": "graph_network",
    "Hmc": "hmc",
    "InfiniteWidth": "infinite_width",
    "Laplace": "laplace",
    "PathEnsemble": "path_ensemble",
    "RandomForest": "random_forest",
    "Sghmc": "sghmc",
    "Stacked": "stacked",
}


def __getattr__(name: str) -> Any:
    """A predictor's class, from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
