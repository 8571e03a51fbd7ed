"""Which training settings an architecture decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.architecture import Architecture
from search_spaces.nodes import Boolean, Choice, Float, Integer, Node, Shared
from search_spaces.space import SearchSpace
from workers.training.settings import TrainingSettings, setting_names


def training_decisions(space: SearchSpace, architecture: Architecture) -> dict[str, Any]:
    """The decided values beside a space's "network": the content of "training", and whatever else stands there.

    Below "training", a choice between named groups, such as ``{"optimizer": Choice({"sgd": {"momentum": Float(…)},
    "adamw": {}})}``, gives the label as the value of its own key and the group's content as further settings. A group
    whose key is no setting only holds its content together.

    Returns:
        Setting name -> value; empty for a space that decides nothing but the network. Names are not checked here.
    """
    decided = space.decided(architecture) if space.has_network else None
    if not isinstance(decided, Mapping):
        return {}
    outside = {name: value for name, value in decided.items() if name not in ("network", "training")}
    found: dict[str, Any] = {}
    for prefix, group in (("", outside), ("training/", decided.get("training", {}))):
        if not isinstance(group, Mapping):
            raise ValueError(f"the space's 'training' must be a mapping of settings, got {group!r}")
        for path, name, value in _settings(group, prefix):
            if name in found:
                raise ValueError(f"{path}: the setting {name!r} is decided twice")
            found[name] = value
    return found


def _settings(group: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, Any]]:
    """(path, setting, value) for all that stands in a decided group."""
    for name, value in group.items():
        path = prefix + name
        if name == "option":  # which group a decided choice is of, see `walk`; its parent has used it
            continue
        if not isinstance(value, Mapping):
            yield path, name, value
            continue
        if name in setting_names():
            if "option" not in value:
                raise ValueError(
                    f"{path}: {name} is one setting, no group; make it a Choice, Integer, Float or Boolean"
                )
            yield path, name, value["option"]
        yield from _settings(value, f"{path}/")


def check_decisions(space: SearchSpace) -> None:
    """Raise `ValueError` if a space can decide something that is no training setting, or a value that none may have.

    Every option and both ends of every range are held against `TrainingSettings`.
    """
    root = space.root.node if isinstance(space.root, Shared) else space.root
    if space.has_network and isinstance(root, Mapping):
        for name, node in root.items():
            if name != "network":
                _check(node, name, name)


def _check(node: Node, path: str, name: str) -> None:
    """Check what stands at `path`; `name` is the last part of it that is no option's label."""
    if isinstance(node, Shared):
        _check(node.node, path, name)
    elif isinstance(node, Choice):
        for label, option in node.options.items():
            if not isinstance(option, Mapping):
                _check(option, path, name)
                continue
            if name in setting_names():
                _check(label, path, name)
            for key, below in option.items():
                _check(below, f"{path}/{label}/{key}", key)
    elif isinstance(node, Mapping):
        if name in setting_names():
            raise ValueError(f"{path}: {name} is one setting, no group; make it a Choice, Integer, Float or Boolean")
        for key, below in node.items():
            _check(below, f"{path}/{key}", key)
    else:
        values = (node.low, node.high) if isinstance(node, Integer | Float) else (node,)
        for value in (False, True) if isinstance(node, Boolean) else values:
            try:
                TrainingSettings().with_decisions({name: value})
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
