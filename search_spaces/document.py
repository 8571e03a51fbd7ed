"""Nodes as plain JSON and back, so that a study's row holds its whole space."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.nodes import Boolean, Cell, Choice, Float, Integer, Node, Op, Repeat, Shared, SpaceError

DEEPEST = 400
"""So many lists and objects stand within one another in a document at most; deeper ones no JSON encoder takes."""


def check_depth(document: Any) -> Any:
    """The document, or `SpaceError` if it is nested too deeply."""
    level = [document]
    for _ in range(DEEPEST):
        pieces = [piece for piece in level if isinstance(piece, list | Mapping)]
        if not pieces:
            return document
        level = [part for piece in pieces for part in (piece if isinstance(piece, list) else piece.values())]
    raise SpaceError(f"the search space is nested too deeply: its document has more than {DEEPEST} levels")


def to_document(node: Node) -> Any:
    """JSON of a node. Scalars and lists stand for themselves; everything else is an object with a "node" key."""
    if node is None or isinstance(node, str | int | float):
        return node
    if isinstance(node, Choice):
        return {"node": "choice", "options": [[label, to_document(option)] for label, option in node.options.items()]}
    if isinstance(node, Integer | Float):
        kind = "integer" if isinstance(node, Integer) else "float"
        return {"node": kind, "low": node.low, "high": node.high, "log": node.log}
    if isinstance(node, Boolean):
        return {"node": "boolean"}
    if isinstance(node, Repeat):
        return {"node": "repeat", "body": to_document(node.body), "count": to_document(node.count)}
    if isinstance(node, Shared):
        return {"node": "shared", "name": node.name, "of": to_document(node.node)}
    if isinstance(node, Op):
        return {
            "node": "op",
            "factory": factory_path(node.factory),
            "label": node.label,
            "traits": sorted(node.traits),
            "settings": [[name, to_document(value)] for name, value in node.settings.items()],
        }
    if isinstance(node, Cell):
        edges = [[name, to_document(piece)] for name, piece in node.edges.items()]
        return {"node": "cell", "edges": edges, "combine": node.combine}
    if isinstance(node, Mapping):
        return {"node": "parts", "parts": [[name, to_document(part)] for name, part in node.items()]}
    if isinstance(node, list | tuple):
        return [to_document(part) for part in node]
    raise SpaceError(f"{type(node).__name__} is no node and cannot be stored, got {node!r}")


def from_document(document: Any) -> Node:
    """The node that `to_document` wrote; factories stay paths."""
    if document is None or isinstance(document, str | int | float):
        return document
    if isinstance(document, list):
        return [from_document(part) for part in document]
    kind = document.get("node") if isinstance(document, Mapping) else None
    if not isinstance(kind, str) or kind not in _READERS:
        raise SpaceError(f"not a search space document: unknown node {kind!r}; known are {', '.join(_READERS)}")
    try:
        return _READERS[kind](document)
    except SpaceError:
        raise
    except RecursionError:
        raise SpaceError("not a search space document: it is nested too deeply") from None
    except (KeyError, TypeError, ValueError) as error:
        raise SpaceError(f"not a search space document: {kind} with {type(error).__name__}: {error}") from None


def _choice(document: Mapping[str, Any]) -> Choice:
    """A list gives back the same labels where every option names itself: a scalar, or an Op under its own label."""
    options = [(label, from_document(option)) for label, option in document["options"]]
    if all(option.label == label if isinstance(option, Op) else option == label for label, option in options):
        return Choice([option for _, option in options])
    return Choice(dict(options))


_READERS: dict[str, Callable[[Mapping[str, Any]], Node]] = {
    "choice": _choice,
    "integer": lambda d: Integer(d["low"], d["high"], d["log"]),
    "float": lambda d: Float(d["low"], d["high"], d["log"]),
    "boolean": lambda d: Boolean(),
    "repeat": lambda d: Repeat(from_document(d["body"]), from_document(d["count"])),
    "shared": lambda d: Shared(d["name"], from_document(d["of"])),
    "op": lambda d: Op(
        d["factory"],
        label=d["label"],
        traits=d["traits"],
        **{name: from_document(value) for name, value in d["settings"]},
    ),
    "cell": lambda d: Cell({name: from_document(piece) for name, piece in d["edges"]}, d["combine"]),
    "parts": lambda d: {name: from_document(part) for name, part in d["parts"]},
}


def factory_path(factory: Callable[..., Any] | str) -> str:
    """The ``module:object`` path that leads to `factory`, or `SpaceError` if there is none."""
    if isinstance(factory, str):
        return factory
    module = getattr(factory, "__module__", None)
    name = getattr(factory, "__qualname__", "")
    if not module or module == "__main__" or not name or "<" in name:
        raise SpaceError(
            f"{factory!r} cannot be stored: it has no importable name. Define it at the top level of a module "
            "(not in the script that is run) and name it 'module:object'"
        )
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not factory:
        raise SpaceError(f"{factory!r} cannot be stored: {module}:{name} leads to something else")
    return f"{module}:{name}"
