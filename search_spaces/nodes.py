"""The language of search spaces: frozen values that say what may vary, and nothing else.

A *node* is one of

* a decision: `Choice`, `Integer`, `Float`, `Boolean`;
* a structure: `Op` (a network piece), `Cell` (a small directed graph of pieces), `Repeat`, `Shared`;
* a plain mapping (named parts), a plain list or tuple (parts in order; of network pieces: a chain);
* a JSON scalar (a constant).

Decisions nest without limit. A decision is addressed by its path: the mapping keys, setting names, list indexes and
option labels on the way to it, joined by "/", for instance ``network/stages/0/block/mobile/expansion``. An option's
label is part of a path only below that option. `Shared` starts a path of its own: its name.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Node: TypeAlias = Any  # one of the classes below, a mapping or sequence of nodes, or a Scalar

TRAITS = frozenset({"identity", "zero", "weightless", "zero_preserving"})
"""What an `Op` may promise about its module; the canonical key rests on these promises.

* identity: its output is its input.
* zero: its output is zero whatever the input.
* weightless: no parameters, no random numbers, no state: equal inputs give equal outputs.
* zero_preserving: a zero input gives a zero output (an operation with a bias does not promise this).
"""


MAXIMUM_COPIES = 10_000
"""A `Repeat` may not repeat more often: each copy has decisions of its own in the space's table."""


class SpaceError(ValueError):
    """A search space, or an architecture held against one, is not valid; the message names the path."""


def check_name(name: object, what: str) -> str:
    """Return `name` if it can be one component of a path, else raise `SpaceError`."""
    if not isinstance(name, str) or not name or "/" in name or not name.isprintable():
        raise SpaceError(f"{what} must be non-empty printable text without '/', got {name!r}")
    return name


@dataclass(frozen=True)
class Choice:
    """One of several options.

    Args:
        options: a mapping label -> node, or a sequence. In a sequence a scalar is its own value, an `Op` is labelled
            by its label; any other node needs the mapping form.
    """

    options: Mapping[Scalar, Node]

    def __init__(self, options: Mapping[str, Node] | Sequence[Node]) -> None:
        labelled: dict[Scalar, Node] = {}
        if isinstance(options, Mapping):
            for label, option in options.items():
                labelled[check_name(label, "an option's label")] = option
        elif isinstance(options, Sequence) and not isinstance(options, str):
            for option in options:
                label = option.label if isinstance(option, Op) else option
                if label is not None and not isinstance(label, str | int | float | bool):
                    raise SpaceError(
                        f"option {option!r} needs a label: write Choice({{'label': …}}); only scalars and Op may stand "
                        "in a plain list"
                    )
                if any(label == other for other in labelled):
                    raise SpaceError(f"two options are both {label!r}; give each a label of its own")
                labelled[label] = option
        else:
            raise SpaceError(f"options must be a mapping or a list, got {options!r}")
        if not labelled:
            raise SpaceError("a Choice needs at least one option, got none")
        for option in labelled.values():
            if isinstance(option, float) and not math.isfinite(option):
                raise SpaceError(f"an option must be finite, got {option!r}")
        object.__setattr__(self, "options", MappingProxyType(labelled))

    @property
    def labels(self) -> tuple[Scalar, ...]:
        """The values this decision can take, in order."""
        return tuple(self.options)

    def __hash__(self) -> int:
        return hash(self.labels)


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included; `log` samples and moves on a logarithmic scale."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if isinstance(bound, bool) or not isinstance(bound, int) or abs(bound) >= 2**53:
                raise SpaceError(f"Integer bounds must be whole numbers below 2^53, got {bound!r}")
        if self.low > self.high:
            raise SpaceError(f"Integer needs low <= high, got {self.low} > {self.high}")
        if self.log and self.low < 1:
            raise SpaceError(f"a logarithmic Integer needs low >= 1, got {self.low}")


@dataclass(frozen=True)
class Float:
    """A real number from `low` to `high`, both included; `log` samples and moves on a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) <= sys.float_info.max:
                raise SpaceError(f"Float bounds must be finite numbers, got {bound!r:.100}")
            object.__setattr__(self, name, float(bound) + 0.0)  # + 0.0 turns -0.0 into 0.0
        if self.low >= self.high:
            raise SpaceError(f"Float needs low < high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise SpaceError(f"a logarithmic Float needs low > 0, got {self.low}")


@dataclass(frozen=True)
class Boolean:
    """True or False."""


Decidable: TypeAlias = Choice | Integer | Float | Boolean


@dataclass(frozen=True)
class Repeat:
    """`body`, `count` times, each time with decisions of its own (below "0", "1", …); wrap it in `Shared` to tie them.

    Args:
        body: what is repeated.
        count: a whole number, or an `Integer` (then the decision stands at "count").
    """

    body: Node
    count: int | Integer

    def __post_init__(self) -> None:
        low, high = (self.count.low, self.count.high) if isinstance(self.count, Integer) else (self.count, self.count)
        if isinstance(low, bool) or not isinstance(low, int) or low < 0 or high > MAXIMUM_COPIES:
            raise SpaceError(
                f"Repeat needs a count from 0 to {MAXIMUM_COPIES}, or an Integer there, got {self.count!r}"
            )


@dataclass(frozen=True)
class Shared:
    """The same decisions wherever this node stands: they are made once, below the path `name`.

    What is shared are the decisions, not the weights: each place builds modules of its own.
    """

    name: str
    node: Node

    def __post_init__(self) -> None:
        check_name(self.name, "the name of a Shared node")


@dataclass(frozen=True)
class Op:
    """A piece of a network: a factory of a module, and its settings, any of which may be a node.

    Args:
        factory: a `torch.nn.Module` class (or any callable that returns a module), or its ``"module:object"`` path.
            It is called with the settings as keywords. If it has a parameter `input_shape` (shape without the batch),
            `in_channels` (its first size), `in_features` (its last size) or `outputs` (the task's number of outputs)
            that the settings do not give, `build` fills it in.
        label: how a `Choice` and the graph name it; the factory's own name unless given.
        traits: what the module promises; see `TRAITS`.
        settings: keyword arguments. An Op, Cell or list of Ops as a setting is handed over as a built module.
    """

    factory: Callable[..., Any] | str
    label: str
    traits: frozenset[str]
    settings: Mapping[str, Node] = field(default_factory=dict)

    def __init__(
        self,
        factory: Callable[..., Any] | str,
        /,
        *,
        label: str | None = None,
        traits: Sequence[str] | frozenset[str] = (),
        **settings: Node,
    ) -> None:
        if isinstance(factory, str):
            if factory.count(":") != 1 or not all(factory.split(":")):
                raise SpaceError(f"an Op's factory path must read 'module:object', got {factory!r}")
        elif not callable(factory):
            raise SpaceError(f"an Op's factory must be callable or a 'module:object' path, got {factory!r}")
        own_name = factory.rpartition(":")[2] if isinstance(factory, str) else getattr(factory, "__name__", "op")
        unknown = set(traits) - TRAITS
        if unknown:
            raise SpaceError(f"unknown trait {min(unknown)!r} of {own_name}; allowed: {', '.join(sorted(TRAITS))}")
        object.__setattr__(self, "factory", factory)
        object.__setattr__(self, "label", check_name(own_name if label is None else label, "an Op's label"))
        object.__setattr__(self, "traits", frozenset(traits))
        for name in settings:
            check_name(name, "a setting")
        object.__setattr__(self, "settings", MappingProxyType(settings))

    @cached_property
    def factory_name(self) -> str:
        """The factory's ``module:object`` path; with its address where that path leads elsewhere (a lambda, say)."""
        if isinstance(self.factory, str):
            return self.factory
        module = getattr(self.factory, "__module__", None) or "?"
        name = getattr(self.factory, "__qualname__", None) or type(self.factory).__qualname__
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return f"{module}:{name}" if found is self.factory else f"{module}:{name}@{id(self.factory):x}"

    def __hash__(self) -> int:
        return hash((self.label, self.traits, tuple(self.settings)))


@dataclass(frozen=True)
class Cell:
    """A directed acyclic graph of pieces: each edge applies a piece, each node combines what arrives.

    Args:
        edges: ``"i->j"`` with i < j -> node. Node 0 is the input; the largest node is the output.
        combine: "sum" (equal shapes) or "concat" (along the channels), for every node.
    """

    edges: Mapping[str, Node]
    combine: str = "sum"

    def __init__(self, edges: Mapping[str, Node], combine: str = "sum") -> None:
        if not edges:
            raise SpaceError("a Cell needs at least one edge, got none")
        for name in edges:
            source, target = edge_ends(name)
            if source >= target:
                raise SpaceError(f"edge {name!r} must lead from a smaller to a larger node")
        if combine not in ("sum", "concat"):
            raise SpaceError(f"combine must be 'sum' or 'concat', got {combine!r}")
        targets = {edge_ends(name)[1] for name in edges}
        orphans = {source for source, _ in map(edge_ends, edges)} - targets - {0}
        if orphans:
            raise SpaceError(f"node {min(orphans)} of a Cell has edges out but none in")
        object.__setattr__(self, "edges", MappingProxyType(dict(edges)))
        object.__setattr__(self, "combine", combine)

    @cached_property
    def arriving(self) -> Mapping[int, tuple[tuple[int, str], ...]]:
        """For each node but the input, in rising order: the nodes its edges come from and their names, as listed."""
        ends = [(*edge_ends(name), name) for name in self.edges]
        targets = sorted({target for _, target, _ in ends})
        return {target: tuple((start, name) for start, end, name in ends if end == target) for target in targets}

    def __hash__(self) -> int:
        return hash((tuple(self.edges), self.combine))


def edge_ends(name: str) -> tuple[int, int]:
    """The two nodes of an edge named ``"i->j"``."""
    source, arrow, target = name.partition("->") if isinstance(name, str) else ("", "", "")
    if not (arrow and source.isdecimal() and target.isdecimal()):
        raise SpaceError(f"an edge must be named 'i->j', got {name!r}")
    return int(source), int(target)


def parts(node: Node) -> Iterator[tuple[str, Node]]:
    """The named parts of a structure that exist whatever is decided (none for decisions, scalars, Repeat, Shared)."""
    if isinstance(node, Op):
        yield from node.settings.items()
    elif isinstance(node, Cell):
        yield from node.edges.items()
    elif isinstance(node, Mapping):
        for name, part in node.items():
            yield check_name(name, "a key of a mapping"), part
    elif isinstance(node, list | tuple):
        yield from ((str(index), part) for index, part in enumerate(node))
