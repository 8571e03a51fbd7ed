"""What a study's row says: everything needed to go on from the database alone, as plain JSON.

Objects handed over by a caller become paths and settings where another process can import them; what lives in this
process alone is kept by name, so that resuming can say what is missing.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas import catalogue
from nas.budget import NO_BUDGET, Budget
from nas.metric import Metric, as_metrics
from nas.settings import (
    DEFAULT_STRATEGY,
    Limits,
    Part,
    StopRules,
    check_target,
    checked_checkpoints,
    checked_confirm,
    part,
)
from nas.strategies.confirming import check_trials
from search_spaces import SearchSpace, load_space

DEFAULT_STORAGE = "sqlite:///nas.db"


def default_storage() -> str:
    """The storage that is meant when none is named: `NAS_STORAGE`, else a file in the current folder."""
    return os.environ.get("NAS_STORAGE") or DEFAULT_STORAGE


def allowed(allow: Sequence[str]) -> tuple[str, ...]:
    """Packages that may be imported: those given, and those of `NAS_ALLOW` (separated by commas)."""
    return (*allow, *(name.strip() for name in os.environ.get("NAS_ALLOW", "").split(",") if name.strip()))


def make_spec(
    *,
    space: SearchSpace,
    source: Part | None,
    metrics: Iterable[str | Metric | Mapping[str, Any]] | str | Metric,
    strategy: object,
    evaluator: Any,
    data: str | Mapping[str, Any] | None,
    stop: StopRules,
    limits: Limits,
    reuse: bool,
    allow: Sequence[str],
    budget: Budget | None = None,
    confirm: int = 0,
    stopper: object = None,
    checkpoints: str = "last",
) -> dict[str, Any]:
    """The spec of a new study; `source` is where its space comes from, None for an object. Checks the strategy."""
    checked = as_metrics(metrics)
    check_target(stop, checked)
    searching, searcher = strategy_part(strategy, space, checked, allow, has_budget=budget is not None)
    if checked_confirm(confirm) and stop.trials is not None:
        check_trials(confirm, stop.trials)
    task = None if data is None else lasting(part(data, "data"))
    stopping = stopper_part(stopper, searcher, allow, has_budget=budget is not None)
    return {
        "format": 1,
        "space": space_document(space),
        "space_source": source.to_document() if source else None,
        "metrics": [metric.to_document() for metric in checked],
        "strategy": searching.to_document(),
        "stopper": None if stopping is None else stopping.to_document(),
        "confirm": confirm,
        "checkpoints": checked_checkpoints(checkpoints),
        "evaluator": evaluator_document(evaluator, has_data=task is not None),
        "task": {"data": task.name, "settings": dict(task.settings)} if task else {},
        "stop": stop.to_document(),
        "limits": limits.to_document(),
        "reuse": reuse,
        "budget": None if budget is None else budget.to_document(),
    }


def lasting(data: Part) -> Part:
    """Data as it is found from any folder: the path of a file or folder made absolute, a name left alone."""
    from workers.datasets.load import NAMED, usable_path

    path = usable_path(data.name)
    return data if data.name in NAMED or not path.exists() else replace(data, name=str(path.absolute()))


def resolve_space(given: Any, allow: Sequence[str]) -> tuple[Part | None, SearchSpace]:
    """Where a space comes from (None for an object), and the space."""
    if isinstance(given, SearchSpace):
        return None, given
    source = part(given, "space")
    return source, load_space(source.name, allow=allow, **source.settings)


def space_document(space: SearchSpace) -> dict[str, Any]:
    """The space's document; with root None and the reason where its operations cannot be imported elsewhere."""
    try:
        return space.to_document()
    except ValueError as error:
        return {"name": space.name, "root": None, "reason": str(error)}


def factories(document: Any) -> set[str]:
    """The paths of all operations in a space's document."""
    if isinstance(document, Mapping):
        own = {document["factory"]} if document.get("node") == "op" else set()
        return own.union(*(factories(value) for value in document.values()))
    return set().union(*(factories(value) for value in document)) if isinstance(document, list) else set()


def modules_of(document: Any) -> set[str]:
    """The modules a space's operations come from. Who hands over the space itself has imported them already."""
    return {path.partition(":")[0] for path in factories(document)}


def strategy_part(
    given: object, space: SearchSpace, metrics: Sequence[Metric], allow: Sequence[str], *, has_budget: bool
) -> tuple[Part, object]:
    """The name and settings of a strategy, and the strategy: checked by making it and asking whether it fits."""
    if isinstance(given, str | Mapping):
        found = part(given, "strategy", default=DEFAULT_STRATEGY)
        made = catalogue.load("strategy", found.name, found.settings, allow=allow)
    else:
        found = catalogue.describe("strategy", given)
        made = given.allowing(tuple(allow)) if hasattr(given, "allowing") else given
    if hasattr(made, "check"):
        made.check(space, metrics)
    check_budget(made, f"strategy {found.name!r}", has_budget=has_budget)
    return found, made


def stopper_part(given: object, strategy: object, allow: Sequence[str], *, has_budget: bool) -> Part | None:
    """The name and settings of a stopper, checked by making it; None where there is none."""
    if given is None:
        return None
    if isinstance(given, str | Mapping):
        found = part(given, "stopper")
        made = catalogue.load("stopper", found.name, found.settings, allow=allow)
    else:
        found, made = catalogue.describe("stopper", given), given
    check_budget(made, f"stopper {found.name!r}", has_budget=has_budget)
    if getattr(made, "needs_budget", False) and getattr(strategy, "needs_budget", False):
        raise ValueError(
            f"stopper {found.name!r} would end trials at the levels of the budget from which the strategy promotes "
            "them: take a strategy that knows no budgets with it, or stopper 'median', or no stopper"
        )
    return found


def check_budget(made: object, name: str, *, has_budget: bool) -> None:
    """Refuse a strategy or stopper over budgets where the study has none."""
    if getattr(made, "needs_budget", False) and not has_budget:
        raise ValueError(f"{name} {NO_BUDGET}")


def evaluator_document(evaluator: Any, *, has_data: bool) -> dict[str, Any] | None:
    """Path and settings of an evaluator, or ``{"function": name}`` if it lives in this process alone.

    A function or object that other processes can import has a path; a dataclass with plain JSON fields has a path and
    settings. None stands for training where there is data to train on, else for "not said yet".
    """
    if evaluator is None and not has_data:
        return None
    if evaluator is None or isinstance(evaluator, str | Mapping):
        found = part({} if evaluator is None else evaluator, "evaluator", default="training" if has_data else None)
        return {"path": catalogue.path_of("evaluator", found.name), "settings": dict(found.settings)}
    if is_importable(evaluator):
        return {"path": f"{evaluator.__module__}:{evaluator.__qualname__}", "settings": {}}
    if not hasattr(evaluator, "__qualname__"):
        try:
            found = catalogue.describe("evaluator", evaluator)
        except ValueError:
            pass
        else:
            return {"path": catalogue.path_of("evaluator", found.name), "settings": dict(found.settings)}
    name = getattr(evaluator, "__qualname__", type(evaluator).__qualname__)
    home = getattr(evaluator, "__module__", type(evaluator).__module__)
    return {"function": f"{home}:{name}"}


def is_importable(function: Any) -> bool:
    """Whether another process can import this very object as ``module:object``."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for step in name.split("."):
        found = getattr(found, step, None)
    return found is function
