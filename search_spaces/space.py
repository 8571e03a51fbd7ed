"""SearchSpace: a root node, compiled once into a flat table of decisions that everything else loops over."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Any

from search_spaces.architecture import Architecture
from search_spaces.nodes import Boolean, Choice, Decidable, Float, Integer, Node, Scalar, Shared, SpaceError
from search_spaces.walk import Condition, Fixed, all_values, fixed_parts, is_network, walk


@dataclass(frozen=True)
class Decision:
    """One row of a space's table.

    Args:
        path: its address.
        domain: the `Choice`, `Integer`, `Float` or `Boolean`.
        when: alternatives, each a conjunction of conditions; the decision is reached if all conditions of one
            alternative hold. ``((),)`` is always.
    """

    path: str
    domain: Decidable
    when: tuple[tuple[Condition, ...], ...]

    def is_reached(self, values: Mapping[str, Scalar]) -> bool:
        """Whether `values`, which hold the decisions before this one, lead here."""
        for alternative in self.when:
            for path, allowed in alternative:
                if path not in values or values[path] not in allowed:
                    break
            else:
                return True
        return False

    @cached_property
    def values(self) -> Sequence[Scalar] | None:
        """All values in order; None for a Float."""
        if isinstance(self.domain, Choice):
            return self.domain.labels
        if isinstance(self.domain, Boolean):
            return (False, True)
        if isinstance(self.domain, Integer):
            return range(self.domain.low, self.domain.high + 1)
        return None

    @property
    def count(self) -> float:
        """How many values; infinity for a Float."""
        if isinstance(self.domain, Integer):
            return self.domain.high - self.domain.low + 1
        return math.inf if isinstance(self.domain, Float) else len(self.values or ())

    def check(self, value: object) -> Scalar:
        """Return the value in its stored form, or raise `SpaceError` saying what is allowed here."""
        domain = self.domain
        if isinstance(domain, Float):
            if isinstance(value, int | float) and not isinstance(value, bool) and domain.low <= value <= domain.high:
                return float(value) + 0.0
        elif isinstance(domain, Integer):
            if isinstance(value, int) and not isinstance(value, bool) and domain.low <= value <= domain.high:
                return value
        elif isinstance(domain, Boolean):
            if isinstance(value, bool):
                return value
        else:
            for label in domain.labels:
                if type(label) is type(value) and label == value:
                    return label
        raise SpaceError(f"{self.path}: {reprlib.repr(value)} is not allowed; {self.allowed}")

    @property
    def allowed(self) -> str:
        """What may stand here, in words."""
        domain = self.domain
        if isinstance(domain, Boolean):
            return "allowed are true and false"
        if isinstance(domain, Choice):
            return "allowed are " + ", ".join(repr(label) for label in domain.labels)
        kind = "whole numbers" if isinstance(domain, Integer) else "numbers"
        return f"allowed are {kind} from {domain.low} to {domain.high}"


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A tree of decisions.

    Args:
        root: any node. If it is a mapping with the key "network", that part is the network and the rest are training
            decisions. Another mapping describes no network (it is for functions of one's own); anything else does if it
            is made of Op and Cell (a list or a choice of them, say).
        name: for people.
    """

    root: Node
    name: str = "space"

    def __post_init__(self) -> None:
        if self.root is None or isinstance(self.root, str | int | float):
            raise SpaceError(f"a search space needs at least one decision or part, got {self.root!r}")
        if isinstance(self.root, Mapping | list | tuple) and not len(self.root):
            raise SpaceError("the search space is empty; give it at least one decision")
        if not self.decisions and not self.has_network:
            raise SpaceError(
                f"the search space has nothing to decide, got {self.root!r}; give it at least one decision"
            )

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Every decision, each after all those its being reached depends on."""
        domains: dict[str, Decidable] = {}
        reached: dict[str, list[tuple[Condition, ...]]] = {}

        def collect(path: str, domain: Decidable, when: tuple[Condition, ...]) -> Sequence[Scalar]:
            if domains.setdefault(path, domain) != domain:
                raise SpaceError(f"two different decisions share the path {path!r}; give the Shared nodes other names")
            alternatives = reached.setdefault(path, [])
            if when not in alternatives:
                alternatives.append(when)
            return all_values(path, domain, when)

        walk(self.root, collect, once=False)
        table = {path: Decision(path, domains[path], _absorb(reached[path])) for path in domains}
        return tuple(_parents_first(table))

    @cached_property
    def by_path(self) -> Mapping[str, Decision]:
        """Decisions by their path."""
        return MappingProxyType({decision.path: decision for decision in self.decisions})

    @cached_property
    def is_flat(self) -> bool:
        """True if every decision is always reached."""
        return all(decision.when == ((),) for decision in self.decisions)

    def reached(self, values: Mapping[str, Scalar]) -> Iterator[Decision]:
        """The decisions that `values` lead to, in order. `values` may grow while this is consumed."""
        if self.is_flat:
            yield from self.decisions
            return
        for decision in self.decisions:
            if decision.is_reached(values):
                yield decision

    def validate(self, values: Mapping[str, Any]) -> Architecture:
        """The architecture with these values; `SpaceError` names the path that is unknown, missing or out of range."""
        if not isinstance(values, Mapping):
            raise SpaceError(f"an architecture must be a mapping from paths to values, got {type(values).__name__}")
        checked: dict[str, Scalar] = {}
        for decision in self.reached(checked):
            if decision.path not in values:
                raise SpaceError(f"{decision.path}: a value is missing; {decision.allowed}")
            checked[decision.path] = decision.check(values[decision.path])
        for path in values:
            if path not in checked:
                if path in self.by_path:
                    raise SpaceError(f"{path}: not reached with the other values; leave it out")
                close = get_close_matches(str(path), list(self.by_path), 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise SpaceError(f"{path!r}: no such decision in space {self.name!r}{hint}")
        return Architecture(checked)

    def decided(self, architecture: Mapping[str, Scalar]) -> Any:
        """The tree with every decision replaced by the architecture's value (see `walk`).

        Parts without a decision are the same objects every time: read them, do not change them.
        """
        try:
            return walk(self.root, lambda path, domain, when: (architecture[path],), fixed=self._fixed_parts)
        except KeyError:
            self.validate(architecture)  # says what is missing or not allowed
            raise

    @cached_property
    def _fixed_parts(self) -> Fixed:
        return fixed_parts(self.root)

    @cached_property
    def has_network(self) -> bool:
        """Whether (part of) the space describes a network that `build` can make."""
        root = self.root.node if isinstance(self.root, Shared) else self.root
        return "network" in root if isinstance(root, Mapping) else is_network(root)

    def to_document(self) -> dict[str, Any]:
        """The space as plain JSON: enough to make it again, given its operations' code."""
        from search_spaces.document import check_depth, to_document

        return {"name": self.name, "root": check_depth(to_document(self.root))}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SearchSpace:
        """Make a space from its document. Imports nothing: factories stay paths until a network is built."""
        from search_spaces.document import check_depth, from_document

        if not isinstance(document, Mapping) or not {"name", "root"} <= document.keys():
            raise SpaceError(f"a search space document must be an object with 'name' and 'root', got {document!r:.200}")
        return cls(from_document(check_depth(document["root"])), document["name"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the document, in hex: equal for equal spaces, across processes."""
        text = json.dumps(self.to_document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, SearchSpace) and self.to_document() == other.to_document())

    def __hash__(self) -> int:
        return hash((self.name, len(self.decisions)))


def _absorb(alternatives: list[tuple[Condition, ...]]) -> tuple[tuple[Condition, ...], ...]:
    """Drop alternatives that another one already covers."""
    kept: list[tuple[Condition, ...]] = []
    for alternative in alternatives:
        if not any(_covers(other, alternative) for other in kept):
            kept = [other for other in kept if not _covers(alternative, other)]
            kept.append(alternative)
    return tuple(kept)


def _covers(weaker: tuple[Condition, ...], stronger: tuple[Condition, ...]) -> bool:
    """Whether `weaker` holds wherever `stronger` does."""
    return all(any(path == at and allowed <= wider for at, allowed in stronger) for path, wider in weaker)


def _parents_first(table: Mapping[str, Decision]) -> Iterator[Decision]:
    """A stable topological order: a decision comes after the ones its conditions name."""
    placed: set[str] = set()
    waiting = list(table.values())
    while waiting:
        later = []
        for decision in waiting:
            if all(path in placed for alternative in decision.when for path, _ in alternative):
                placed.add(decision.path)
                yield decision
            else:
                later.append(decision)
        if len(later) == len(waiting):  # impossible for a finite tree of frozen values
            raise SpaceError(f"the conditions of {later[0].path!r} form a circle")
        waiting = later
