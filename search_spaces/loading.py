"""The one place where code that is named by a text is imported, and where permission for it is asked."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType, ModuleType
from typing import Any

ALWAYS_ALLOWED = ("nas", "search_spaces", "predictors", "workers", "torch.nn")
"""Our own packages, and the modules that networks are made of."""

PLUG_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "space": ("search_spaces.catalogue",),
        "operation": ("search_spaces.operations", "torch.nn"),
        "strategy": ("nas.strategies",),
        "stopper": ("nas.stoppers",),
        "predictor": ("predictors",),
        "acquisition": ("nas.acquisitions",),
        "candidates": ("nas.candidates",),
        "evaluator": ("workers.evaluators",),
        "data": (),
    }
)
"""Where the plug-ins of each kind lie among these.

What a study names is called with settings that the study gives: were all our functions plug-ins, a stored data set
could be "nas.studies:delete_study" with the name of somebody else's study.
"""

_NAME = r"(?!__)[^\W\d]\w*"  # nothing behind two underscores is anybody's to name: __globals__, __subclasses__
_PATH = re.compile(rf"{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*")


class LoadError(ValueError):
    """A ``module:object`` path leads to nothing usable; the message says why."""


class ImportRefused(LoadError):
    """The path leads outside the packages that may be imported from."""


def load_object(path: str, allow: Sequence[str] = (), *, ours: Sequence[str] = ALWAYS_ALLOWED) -> Any:
    """Import what ``module:object`` names; `LoadError` says which step failed.

    A study in a database may have been written by anybody, so what it names is imported only from `ours` and from what
    the person who starts the process allows. That is asked before anything is imported, and again of the
    object found: a path may not lead through an allowed module to what that module has imported itself.

    Args:
        path: for example "my_lab.cells:space".
        allow: packages or modules beside ours, each with all that is below it: "my_lab", "my_lab.cells".
        ours: which of our own may be imported from; one of `PLUG_INS` where a study gives the settings as well.
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise LoadError(f"a path to code must read 'module:object', for example 'my_lab.cells:space', got {path!r}")
    module_name, _, names = path.partition(":")
    check_allowed(module_name, allow, path, ours)
    found: Any = _import(module_name, path)
    where = module_name
    for name in names.split("."):
        if not hasattr(found, name):
            close = get_close_matches(name, [known for known in dir(found) if not known.startswith("__")], 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise LoadError(f"{path}: {where} has no {name!r}{hint}")
        found = getattr(found, name)
        where = f"{where}.{name}"
        if isinstance(found, ModuleType):
            raise ImportRefused(f"{path}: {where} is a module, not an object; write '{found.__name__}:object'")
    home = getattr(found, "__module__", None)
    if isinstance(home, str) and home != "builtins" and isinstance(getattr(found, "__qualname__", None), str):
        check_allowed(home, allow, path, ours)
    elif home == "builtins" or isinstance(found, type(len)):
        raise ImportRefused(f"{path}: {where} is not defined in {module_name}; name an object of the module's own")
    return found


def check_allowed(module_name: str, allow: Sequence[str], path: str, ours: Sequence[str] = ALWAYS_ALLOWED) -> None:
    """Raise `ImportRefused` unless `module_name` is or lies below one of the allowed packages."""
    if _lies_below(module_name, (*ours, *allow)):
        return
    if _lies_below(module_name, ALWAYS_ALLOWED):
        where = f"; ours are in {', '.join(ours)}" if ours else ""
        raise ImportRefused(f"{path}: {module_name!r} is ours, but holds nothing that may be named here{where}")
    package = module_name.partition(".")[0]
    raise ImportRefused(
        f"{path}: code of {module_name!r} may not be imported here; if you trust it, allow its package: "
        f"--allow {package}, NAS_ALLOW={package}, or allow=[{package!r}]"
    )


def _lies_below(module_name: str, packages: Sequence[str]) -> bool:
    return any(module_name == package or module_name.startswith(f"{package}.") for package in packages)


def _import(module_name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise LoadError(
                f"{path}: there is no module {missing!r}; install its package, or start from the folder it is in"
            ) from None
        raise LoadError(
            f"{path}: importing {module_name} failed: it needs {missing!r}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything; its own error is what they must see
        raise LoadError(
            f"{path}: importing {module_name} failed{_place(error)}: {type(error).__name__}: {error}"
        ) from error


def _place(error: BaseException) -> str:
    """Where in the user's code it was raised: the last frame, and for syntax errors the line itself."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
        and frame.filename not in (__file__, sys.modules["importlib"].__file__)
    ]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
