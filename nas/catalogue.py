"""Short names of what can be plugged in, and how a name with settings becomes an object. Imports nothing until asked.

A name is a shorthand for a ``module:object`` path; code of one's own is named by such a path. What stands there is a
class whose keyword arguments are the settings, or an object (or function) that is ready to use and takes none.
"""

import ast
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nas.settings import Part

CATALOGUE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "strategy": {
            "auto": "nas.strategies.presets:Auto",
            "random_search": "nas.strategies.random_search:RandomSearch",
            "grid": "nas.strategies.grid:Grid",
            "regularized_evolution": "nas.strategies.regularized_evolution:RegularizedEvolution",
            "local_search": "nas.strategies.local_search:LocalSearch",
            "nsga2": "nas.strategies.nsga2:Nsga2",
            "optuna": "nas.strategies.optuna_sampler:OptunaSampler",
            "bayesian": "nas.strategies.bayesian:Bayesian",
            "bananas": "nas.strategies.presets:Bananas",
            "nas_bowl": "nas.strategies.presets:NasBowl",
            "boshnas": "nas.strategies.presets:BoshNas",
            "weak_nas": "nas.strategies.presets:WeakNas",
            "kde": "nas.strategies.kde:Kde",
            "asha": "nas.strategies.asha:Asha",
            "successive_halving": "nas.strategies.successive_halving:SuccessiveHalving",
            "hyperband": "nas.strategies.hyperband:Hyperband",
            "bohb": "nas.strategies.bohb:Bohb",
            "stage_zero": "nas.strategies.stage_zero:StageZero",
        },
        "stopper": {
            "median": "nas.stoppers.median:Median",
            "asha": "nas.stoppers.asha:Asha",
        },
        "predictor": {
            "gaussian_process": "predictors.gaussian_process:GaussianProcess",
            "hmc": "predictors.hmc:Hmc",
            "sghmc": "predictors.sghmc:Sghmc",
            "deep_ensemble": "predictors.deep_ensemble:DeepEnsemble",
            "laplace": "predictors.laplace:Laplace",
            "deep_kernel": "predictors.deep_kernel:DeepKernel",
            "infinite_width": "predictors.infinite_width:InfiniteWidth",
            "path_ensemble": "predictors.path_ensemble:PathEnsemble",
            "random_forest": "predictors.random_forest:RandomForest",
            "gradient_boosting": "predictors.gradient_boosting:GradientBoosting",
            "graph_network": "predictors.graph_network:GraphNetwork",
            "stacked": "predictors.stacked:Stacked",
        },
        "acquisition": {
            "log_expected_improvement": "nas.acquisitions.expected_improvement:LogExpectedImprovement",
            "noisy_expected_improvement": "nas.acquisitions.noisy_expected_improvement:NoisyExpectedImprovement",
            "upper_confidence_bound": "nas.acquisitions.confidence_bound:ConfidenceBound",
            "thompson": "nas.acquisitions.thompson:Thompson",
            "independent_thompson": "nas.acquisitions.thompson:IndependentThompson",
            "probability_of_improvement": "nas.acquisitions.probability_of_improvement:ProbabilityOfImprovement",
            "qlognehvi": "nas.acquisitions.hypervolume_improvement:HypervolumeImprovement",
            "qlognparego": "nas.acquisitions.parego:ParEgo",
        },
        "candidates": {
            "mutation_pool": "nas.candidates.mutation_pool:MutationPool",
            "gradient": "nas.candidates.gradient:Gradient",
            "climb": "nas.candidates.climb:Climb",
            "evolved": "nas.candidates.evolved:Evolved",
            "enumeration": "nas.candidates.enumeration:Enumeration",
            "shortlist": "nas.candidates.shortlist:Shortlist",
        },
        "evaluator": {
            "training": "workers.evaluators.training:TrainingEvaluator",
            "table": "workers.evaluators.table:TableEvaluator",
        },
    }
)
"""kind -> short name -> path."""

METHOD = {
    "strategy": "propose",
    "stopper": "should_stop",
    "predictor": "fit",
    "acquisition": "score",
    "candidates": "best",
    "evaluator": "evaluate",
}
"""What an object of each kind must have."""

_PLURAL = {
    "strategy": "strategies",
    "stopper": "stoppers",
    "predictor": "predictors",
    "acquisition": "acquisitions",
    "candidates": "candidates",
    "evaluator": "evaluators",
}


def names(kind: str) -> tuple[str, ...]:
    """The short names of a kind, one of `CATALOGUE`'s."""
    if kind not in CATALOGUE:
        raise ValueError(f"unknown kind {kind!r}; known are {', '.join(CATALOGUE)}")
    return tuple(CATALOGUE[kind])


def path_of(kind: str, name_or_path: str) -> str:
    """The ``module:object`` path of a short name; a path is returned as it is."""
    known = names(kind)
    if isinstance(name_or_path, str) and ":" in name_or_path:
        return name_or_path
    if name_or_path in known:
        return CATALOGUE[kind][name_or_path]
    close = _meant(str(name_or_path).lower(), known)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = f"known are {', '.join(known)}" if known else f"there are no {_PLURAL[kind]} of ours"
    raise ValueError(f"unknown {kind} {name_or_path!r}; {hint}{listed}; your own is named 'module:object'")


def _meant(name: str, known: Sequence[str]) -> Sequence[str]:
    """At most one of the known names: like this one, or of several words with these initials (ucb)."""
    initials = {"".join(word[0] for word in one.split("_")): one for one in known if "_" in one}
    return get_close_matches(name, known, 1) or [one for letters, one in initials.items() if letters == name]


def described(path: str) -> str:
    """The first line of a module's docstring. Read, not imported: together they load all our libraries."""
    found = find_spec(path.partition(":")[0])
    source = "" if found is None or found.origin is None else Path(found.origin).read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return first.partition(": ")[2] or first


def load(
    kind: str,
    name_or_path: str,
    settings: Mapping[str, Any],
    *,
    allow: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Any:
    """The object that a name or path and its settings stand for.

    An object with a method `allowing` names others in its settings; it is told from where they may be imported.

    Args:
        kind: one of `CATALOGUE`'s.
        name_or_path: a short name of ours or ``module:object``.
        settings: keyword arguments of the class that stands there.
        allow: packages beside ours that code may be imported from.
        given: arguments of the class that are no settings: a predictor's search space.

    Raises:
        ValueError: the name, a setting's name or a setting's value is not allowed; the message says what is.
    """
    from search_spaces.loading import PLUG_INS, load_object

    found = load_object(path_of(kind, name_or_path), allow, ours=PLUG_INS[kind])
    if not isinstance(found, type):
        if settings:
            raise ValueError(
                f"{kind} {name_or_path!r} is ready to use and takes no settings, got {', '.join(map(str, settings))}; "
                "settings belong to a class"
            )
        return _checked(kind, name_or_path, found)
    _check_names(kind, name_or_path, found, settings, given or {})
    try:
        made = found(**given or {}, **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind} {name_or_path!r}: {error}") from error
    _checked(kind, name_or_path, made)
    return made.allowing(tuple(allow)) if hasattr(made, "allowing") else made


def describe(kind: str, made: object) -> Part:
    """The name (or path) and settings that `load` turns into an equal object.

    Raises:
        ValueError: it is no frozen dataclass with plain JSON fields, or cannot be imported by its class's name.
    """
    cls = type(made)
    if not is_dataclass(made):
        raise ValueError(
            f"a {kind} must be a dataclass (or be named 'module:object') for a study to be resumed, got {made!r}"
        )
    path = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__" or "<" in cls.__qualname__:
        raise ValueError(
            f"{kind} {cls.__qualname__} cannot be found by another process; define it at the top level of a module, "
            "not in the script that is run"
        )
    name = next((name for name, known in CATALOGUE[kind].items() if known == path), path)
    settings = {field.name: getattr(made, field.name) for field in fields(made) if field.init}
    for setting, value in settings.items():
        try:
            again = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            again = None
        if again != value:
            raise ValueError(f"{kind} {name!r}: {setting}={value!r} cannot be stored; a setting must be plain JSON")
    return Part(name=name, settings=settings)


def _check_names(kind: str, name: str, cls: type, settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    parameters = [p for name, p in inspect.signature(cls).parameters.items() if name not in given]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for setting in settings:
        if setting not in known:
            close = get_close_matches(str(setting), known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"{kind} {name!r} has no setting {setting!r}; {hint}it has {', '.join(known) if known else 'none'}"
            )


def _checked(kind: str, name: str, made: Any) -> Any:
    if callable(getattr(made, METHOD[kind], None)) or (kind == "evaluator" and callable(made)):
        return made
    raise ValueError(f"{name!r} is no {kind}: {type(made).__name__} has no method {METHOD[kind]!r}")
