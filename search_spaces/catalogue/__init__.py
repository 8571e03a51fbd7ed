"""Ready spaces by name, and spaces of one's own by path. Imports none of them until asked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from search_spaces.loading import PLUG_INS, load_object
from search_spaces.nodes import SpaceError
from search_spaces.space import SearchSpace

CATALOGUE: Mapping[str, str] = MappingProxyType(
    {
        "nas_bench_201": "search_spaces.catalogue.nas_bench_201:nas_bench_201",
        "residual_cnn": "search_spaces.catalogue.residual_cnn:residual_cnn",
        "mobile_cnn": "search_spaces.catalogue.mobile_cnn:mobile_cnn",
        "mlp": "search_spaces.catalogue.mlp:mlp",
    }
)
"""name -> ``module:object``."""


def load_space(name_or_path: str, *, allow: Sequence[str] | None = None, **settings: Any) -> SearchSpace:
    """The space of a name in `CATALOGUE`, or of a ``module:object`` path.

    Args:
        name_or_path: what stands there is a `SearchSpace`, or a function that returns one.
        allow: packages beside ours that may be imported from. None allows the one that `name_or_path` names: right
            where the caller wrote it, wrong where it was read from a study.
        settings: keyword arguments of that function.
    """
    if not isinstance(name_or_path, str):
        raise SpaceError(f"a space is named by text, got {name_or_path!r}; a SearchSpace needs no loading")
    path = name_or_path if ":" in name_or_path else _known(name_or_path)
    trusted = (path.partition(":")[0].partition(".")[0],) if allow is None else allow
    found = load_object(path, trusted, ours=PLUG_INS["space"])
    if isinstance(found, SearchSpace):
        if settings:
            raise SpaceError(f"{name_or_path} is a ready space and takes no settings, got {', '.join(settings)}")
        return found
    if not callable(found):
        raise SpaceError(f"{name_or_path} must be a SearchSpace or return one, got {type(found).__name__}")
    _check_settings(name_or_path, found, settings)
    try:
        space = found(**settings)
    except SpaceError:
        raise
    except Exception as error:  # a user's function may raise anything; its own error is what they must see
        raise SpaceError(f"space {name_or_path}: {type(error).__name__}: {error}") from error
    if not isinstance(space, SearchSpace):
        raise SpaceError(f"{name_or_path} must return a SearchSpace, got {type(space).__name__}")
    return space


def _known(name: str) -> str:
    if name not in CATALOGUE:
        close = get_close_matches(name, CATALOGUE, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SpaceError(
            f"unknown space {name!r}; {hint}known are {', '.join(CATALOGUE)}, or a path 'module:object' to your own"
        )
    return CATALOGUE[name]


def _check_settings(name: str, function: Any, settings: Mapping[str, Any]) -> None:
    """Say which setting is unknown or missing; what a value may be is the function's own business."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C do not tell
        return
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for setting in settings:
        if setting not in signature.parameters and not takes_all:
            close = get_close_matches(setting, signature.parameters, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            known = ", ".join(signature.parameters) or "none"
            raise SpaceError(f"space {name}: unknown setting {setting!r}; {hint}known are {known}")
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise SpaceError(f"space {name}: {error}") from None
