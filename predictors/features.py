"""features: how an architecture becomes a vector, for every predictor that wants vectors.

What a predictor holds is a `Features`: how to look at a space. `learn` looks at the finished trials and gives the
`Vectors` of that fit, whose columns are then fixed: a column is known by its name, whatever is asked about later.

Letters: n architectures, d columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from predictors.kernels.decisions import wired
from predictors.warping import normal_ranks
from search_spaces.architecture import Architecture
from search_spaces.encodings import Encoding, paths
from search_spaces.graph import graph_of
from search_spaces.space import SearchSpace
from search_spaces.walk import Call, Wiring

if TYPE_CHECKING:
    from predictors.predictor import Predictor

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Vectors:
    """Architectures as vectors.

    Args:
        names: of the d columns, for people.
        of: n architectures -> shape (n, d), finite. A row depends on its architecture alone.
    """

    names: tuple[str, ...]
    of: Callable[[Sequence[Architecture]], FloatArray]


@runtime_checkable
class Features(Protocol):
    """A way to look at architectures. A frozen value."""

    def learn(self, space: SearchSpace, architectures: Sequence[Architecture]) -> Vectors:
        """The vectors for a fit to these finished trials."""
        ...


NAMED = {
    "decisions": "predictors.features:Decisions",
    "paths": "predictors.features:Paths",
    "structures": "predictors.structures:Structures",
}
"""What a study calls these features; those of `predictors.structures` count with what this module knows."""


def features_of(stated: object, space: SearchSpace, setting: str = "features") -> Features:
    """The features of a space that a setting stands for: a name in `NAMED`, or features as they are."""
    if isinstance(stated, str) and stated in NAMED:
        module, _, name = NAMED[stated].partition(":")
        stated = getattr(import_module(module), name)()
    if isinstance(stated, Paths) and not wired(space).any_cell:
        raise ValueError(
            f"{setting}: paths are those through cells, and space {space.name!r} has none; use decisions or structures"
        )
    if isinstance(stated, type) or not isinstance(stated, Features):
        raise ValueError(
            f"{setting}: allowed are {', '.join(NAMED)}, or an object with a method `learn` such as "
            f"predictors.features.Paths(), got {stated!r}"
        )
    return stated


@dataclass(frozen=True)
class Decisions:
    """What was decided: one column per option, a number's place in its range, whether a decision was reached."""

    def learn(self, space: SearchSpace, architectures: Sequence[Architecture]) -> Vectors:
        """The columns of `search_spaces.encodings.Encoding`; nothing is learnt from the trials."""
        encoding = Encoding(space)
        return Vectors(encoding.feature_names, encoding.encode)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """What the network computes: for each of its cells, how many ways from input to output read these operations.

    Cells that share their decisions count once; a way through an operation that gives zero is none. A space without
    cells has no columns. Ways that no finished trial has
    are left out: nothing is known about them.

    Source: White, Neiswanger, Savani, "BANANAS", AAAI 2021, section 3, with its truncation to the most frequent ways.

    Args:
        most: keep so many ways, those that most of the finished trials have, the shorter first among equals.
    """

    most: int = 256

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most: at least one way is to be kept, got {self.most}")

    def learn(self, space: SearchSpace, architectures: Sequence[Architecture]) -> Vectors:
        """One column for each way that the finished trials have."""
        known: Counter[tuple[str, ...]] = Counter()
        for architecture in architectures:
            known.update(_ways(space, architecture).keys())
        kept = sorted(known, key=lambda way: (-known[way], len(way), way))[: self.most]

        def encode(asked: Sequence[Architecture]) -> FloatArray:
            counted = (_ways(space, architecture) for architecture in asked)
            rows = np.array([[ways[way] for way in kept] for ways in counted], dtype=np.float64)
            return rows.reshape(len(asked), len(kept))

        return Vectors(tuple(f"{place}: {' > '.join(way) or 'nothing'}" for place, *way in kept), encode)


@dataclass(frozen=True)
class Quantities:
    """Numbers known before any training: exact costs (parameters, MACs), zero-cost scores.

    They come in all units, and some have a few values far away from all others. So a column is brought to the scale on
    which the finished trials are like draws of a standard normal distribution: the normal quantiles of their ranks,
    between which it is interpolated: in logarithms where all of the trials have a value above 0 and the largest is more
    than `WIDE` times the smallest. What lies beyond the trials counts as at most `BEYOND` further out than they do.

    An architecture without a value (NaN, an infinity) counts as one with the smallest that a trial has: proxies are
    larger where a network is better, and those that have no score rank last.

    Args:
        names: of the columns.
        measure: n architectures -> shape (n, len(names)); the same architecture always gets the same row.
    """

    names: tuple[str, ...]
    measure: Callable[[Sequence[Architecture]], FloatArray]

    def learn(self, space: SearchSpace, architectures: Sequence[Architecture]) -> Vectors:
        """A column for each quantity, on the scale of these trials."""
        scales = [_scale(column) for column in self._measured(architectures).T]

        def encode(asked: Sequence[Architecture]) -> FloatArray:
            rows = self._measured(asked)
            for column, scale in zip(rows.T, scales, strict=True):
                column[:] = scale(column)
            return rows

        return Vectors(self.names, encode)

    def _measured(self, architectures: Sequence[Architecture]) -> FloatArray:
        rows = np.array(self.measure(architectures), dtype=np.float64)
        if rows.shape != (len(architectures), len(self.names)):
            raise ValueError(
                f"the quantities {', '.join(self.names)} of {len(architectures)} architectures must be of shape "
                f"({len(architectures)}, {len(self.names)}), got {rows.shape}"
            )
        return rows


WIDE = 10.0
"""Positive quantities that vary by more than this factor are compared by their logarithms."""

BEYOND = 0.5
"""How much further than the finished trials, in their standard deviations, a quantity may lie."""


def _scale(seen: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """From a quantity to its place among those of n trials; see `Quantities`."""
    known = seen[np.isfinite(seen)]
    if not len(known):
        return np.zeros_like
    smallest, largest = float(known.min()), float(known.max())
    wide = smallest > 0.0 and largest > WIDE * smallest

    def prepared(values: FloatArray) -> FloatArray:
        there = np.where(np.isfinite(values), values, smallest)
        return np.log(np.maximum(there, smallest * np.finfo(np.float64).eps)) if wide else there

    warp = normal_ranks(prepared(seen))
    placed = warp.forward(prepared(seen))
    edges = placed.min() - BEYOND, placed.max() + BEYOND

    def scale(values: FloatArray) -> FloatArray:
        within: FloatArray = np.clip(warp.forward(prepared(values)), *edges)
        return within

    return scale


@dataclass(frozen=True)
class Beside:
    """The columns of several features, side by side."""

    parts: tuple[Features, ...]

    def learn(self, space: SearchSpace, architectures: Sequence[Architecture]) -> Vectors:
        """All columns, in the order of the parts."""
        learnt = [part.learn(space, architectures) for part in self.parts]

        def encode(asked: Sequence[Architecture]) -> FloatArray:
            return np.concatenate([np.zeros((len(asked), 0)), *(vectors.of(asked) for vectors in learnt)], axis=1)

        return Vectors(tuple(name for vectors in learnt for name in vectors.names), encode)


def knowing(predictor: Predictor, more: Features) -> Predictor:
    """The same predictor, told more about architectures beside what it looks at; the members of a stack, each of them.

    Raises:
        ValueError: it is no dataclass with a field `beside`, `features` or `members`, so there is no way to tell it.
    """
    told: Any = predictor
    known = {field.name for field in fields(told)} if is_dataclass(told) else set()
    if "beside" in known:
        told = replace(told, beside=more if told.beside is None else Beside((told.beside, more)))
    elif "features" in known:
        told = replace(told, features=Beside((told.features, more)))
    elif "members" in known:
        told = replace(told, members=tuple(knowing(member, more) for member in told.members))
    if told is not predictor:
        knows: Predictor = told
        return knows
    raise ValueError(
        f"predictor {type(predictor).__name__} takes no features: it has no field 'features', 'beside' or 'members'; "
        "use another one, gaussian_process for example, or leave features out"
    )


DECISIONS_AND_PATHS = Beside((Decisions(), Paths()))
"""The default: it works on every space, and is `Decisions` alone where the space has no cells."""


def _ways(space: SearchSpace, architecture: Architecture) -> Counter[tuple[str, ...]]:
    """(place of a cell, operation, operation, …) -> how many ways through the cell read that."""
    found: Counter[tuple[str, ...]] = Counter()
    if not space.has_network:
        return found
    for place, wiring in _cells(space.decided(architecture)):
        graph = graph_of(wiring)
        calls = [node.call for node in graph.nodes if node.call is not None]
        nothing = {call.op.label for call in calls if "zero" in call.op.traits}
        for way, count in paths(graph).items():
            if nothing.isdisjoint(way):
                found[(place, *way)] = count
    return found


def _cells(decided: Any) -> Iterator[tuple[str, Wiring]]:
    """The outermost cells of a decided tree with where they stand; one whose decisions are shared only once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", decided)]
    while waiting:
        place, piece = waiting.pop()
        if isinstance(piece, Wiring):
            if id(piece) not in seen:
                seen.add(id(piece))
                yield place, piece
        elif isinstance(piece, Call | Mapping):
            named = piece.settings if isinstance(piece, Call) else piece
            waiting.extend((f"{place}/{name}", part) for name, part in reversed(list(named.items())))
        elif isinstance(piece, list | tuple):
            waiting.extend((f"{place}/{index}", part) for index, part in reversed(list(enumerate(piece))))
