"""Decisions, architectures, and the networks they stand for.

What stands here is the public language; everything is imported when it is first used, so that a space can be described
without loading torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture
    from search_spaces.build import build
    from search_spaces.canonical import canonical_key
    from search_spaces.catalogue import load_space
    from search_spaces.encodings import encode
    from search_spaces.graph import graph
    from search_spaces.moves import crossover, enumerate_all, mutate, neighbours, sample, size
    from search_spaces.nodes import Boolean, Cell, Choice, Float, Integer, Op, Repeat, Shared, SpaceError
    from search_spaces.space import SearchSpace

__all__ = [
    "Architecture",
    "Boolean",
    "Cell",
    "Choice",
    "Float",
    "Integer",
    "Op",
    "Repeat",
    "SearchSpace",
    "Shared",
    "SpaceError",
    "build",
    "canonical_key",
    "crossover",
    "encode",
    "enumerate_all",
    "graph",
    "load_space",
    "mutate",
    "neighbours",
    "sample",
    "size",
]

_HOMES = {
    "architecture": ("Architecture",),
    "build": ("build",),
    "canonical": ("canonical_key",),
    "catalogue": ("load_space",),
    "encodings": ("encode",),
    "graph": ("graph",),
    "moves": ("crossover", "enumerate_all", "mutate", "neighbours", "sample", "size"),
    "nodes": ("Boolean", "Cell", "Choice", "Float", "Integer", "Op", "Repeat", "Shared", "SpaceError"),
    "space": ("SearchSpace",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    """A package in which `build` and `graph` are the functions, not the modules of the same name that hold them.

    Importing a module sets it as an attribute of its package, which would hide the function.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
