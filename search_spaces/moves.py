"""Moves over architectures: sample, mutate, crossover, neighbours, enumerate_all, size. None builds a module."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from search_spaces.architecture import Architecture
from search_spaces.nodes import Float, Integer, Scalar, SpaceError
from search_spaces.space import Decision, SearchSpace

STEP = 0.15
"""Standard deviation of a mutation of a number, as a fraction of its range (of its logarithm's where it is log)."""


def sample(space: SearchSpace, rng: np.random.Generator) -> Architecture:
    """An architecture drawn top-down: every reached decision uniformly (numbers on their own scale)."""
    return Architecture(_complete(space, {}, rng))


def mutate(space: SearchSpace, architecture: Mapping[str, Scalar], rng: np.random.Generator) -> Architecture:
    """The architecture with one reached decision changed; never the same one again.

    The decision is drawn uniformly among those with more than one value; a Choice takes another option uniformly, a
    number a normal step (`STEP`) reflected at its bounds. Decisions newly reached are sampled, those no longer reached
    are dropped.
    """
    open_decisions = [decision for decision in space.reached(architecture) if decision.count > 1]
    if not open_decisions:
        raise SpaceError(f"space {space.name!r} has a single architecture here; there is nothing to mutate")
    decision = open_decisions[int(rng.random() * len(open_decisions))]
    value = _other_value(decision, architecture[decision.path], rng)
    if space.is_flat:
        return Architecture({**architecture, decision.path: value})
    return Architecture(_complete(space, {**architecture, decision.path: value}, rng))


def crossover(
    space: SearchSpace,
    first: Mapping[str, Scalar],
    second: Mapping[str, Scalar],
    rng: np.random.Generator,
) -> Architecture:
    """Uniform crossover: each reached decision takes the value of either parent that has it, else is sampled."""
    child: dict[str, Scalar] = {}
    for decision in space.reached(child):
        path = decision.path
        donors = [parent for parent in (first, second) if path in parent]
        if donors:
            child[path] = donors[int(rng.random() * len(donors))][path]
        else:
            child[path] = value_at(decision, rng.random())
    return Architecture(child)


def neighbours(
    space: SearchSpace, architecture: Mapping[str, Scalar], rng: np.random.Generator | None = None
) -> Iterator[Architecture]:
    """Every architecture that differs in one reached decision.

    A Choice or Boolean takes each other value, an Integer the next ones (a logarithmic one: half and double), a Float
    one `STEP` down and up. Decisions newly reached take their middle (or first) value, or are sampled if `rng` is
    given.
    """
    for decision in space.reached(architecture):
        for value in _near_values(decision, architecture[decision.path]):
            yield Architecture(_complete(space, {**architecture, decision.path: value}, rng))


def enumerate_all(space: SearchSpace, points: int | None = None) -> Iterator[Architecture]:
    """Every architecture of a finite space, in the order of its decisions, one at a time.

    Args:
        space: what to enumerate.
        points: take so many evenly spaced values (in its own scale, bounds included) for each Float; without it a Float
            is refused, since it has no end.
    """
    values: dict[str, Scalar] = {}

    def below(index: int) -> Iterator[Architecture]:
        if index == len(space.decisions):
            yield Architecture(dict(values))
            return
        decision = space.decisions[index]
        if not decision.is_reached(values):
            yield from below(index + 1)
            return
        for value in grid_values(decision, points):
            values[decision.path] = value
            yield from below(index + 1)
            del values[decision.path]

    return below(0)


def grid_values(decision: Decision, points: int | None) -> Sequence[Scalar]:
    """All values of a finite decision; `points` evenly spaced ones of a Float."""
    if decision.values is not None:
        return decision.values
    if points is None:
        raise SpaceError(f"{decision.path}: a Float has no last value; say how many points of it to take")
    if points < 2:
        return [value_at(decision, 0.5)]
    domain = decision.domain
    ends = {0: domain.low, points - 1: domain.high} if isinstance(domain, Float) else {}
    return [ends[i] if i in ends else value_at(decision, i / (points - 1)) for i in range(points)]


def size(space: SearchSpace) -> int | float:
    """The number of architectures: exact for finite spaces, infinity if a Float can be reached.

    Values of a decision that open the same decisions are counted together, and decisions that do not depend on each
    other are multiplied, so this takes no enumeration.
    """
    if any(isinstance(decision.domain, Float) for decision in space.decisions):
        return math.inf
    return _count(space.decisions)


def to_unit(decision: Decision, value: Scalar) -> float:
    """A number's place in [0, 1] on its own scale; an option's index divided by their number minus one."""
    domain = decision.domain
    if isinstance(domain, Integer | Float):
        low, high, at = float(domain.low), float(domain.high), float(value)  # type: ignore[arg-type]  # checked numbers
        if domain.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        # halves, since the length of the longest range is no finite number
        return 0.5 if high == low else (at / 2 - low / 2) / (high / 2 - low / 2)
    labels = decision.values or ()
    return labels.index(value) / max(1, len(labels) - 1)


def value_at(decision: Decision, place: float) -> Scalar:
    """The value at a place in [0, 1): uniform places give uniform values (on a log scale where it is log)."""
    domain = decision.domain
    if isinstance(domain, Float):
        if domain.log:
            value = math.exp(math.log(domain.low) + place * (math.log(domain.high) - math.log(domain.low)))
        else:
            value = domain.low * (1.0 - place) + domain.high * place
        return min(max(value, domain.low), domain.high) + 0.0
    if isinstance(domain, Integer):
        if domain.log:  # each whole number owns the interval [n - 1/2, n + 1/2) of the logarithmic scale
            low, high = math.log(domain.low - 0.5), math.log(domain.high + 0.5)
            return min(max(round(math.exp(low + place * (high - low))), domain.low), domain.high)
        return min(domain.low + int(place * (domain.high - domain.low + 1)), domain.high)
    labels = decision.values or ()
    return labels[min(int(place * len(labels)), len(labels) - 1)]


def _complete(space: SearchSpace, known: Mapping[str, Scalar], rng: np.random.Generator | None) -> dict[str, Scalar]:
    """Values for exactly the reached decisions: the known ones kept, the others sampled (middle ones without `rng`)."""
    places = rng.random(len(space.decisions)).tolist() if rng is not None and len(known) < len(space.decisions) else ()
    values: dict[str, Scalar] = {}
    for index, decision in enumerate(space.decisions):
        if not (space.is_flat or decision.is_reached(values)):
            continue
        path = decision.path
        if path in known:
            values[path] = known[path]
        else:
            values[path] = value_at(decision, places[index]) if places else _middle(decision)
    return values


def _middle(decision: Decision) -> Scalar:
    return value_at(decision, 0.5) if isinstance(decision.domain, Integer | Float) else (decision.values or (None,))[0]


def _other_value(decision: Decision, current: Scalar, rng: np.random.Generator) -> Scalar:
    domain = decision.domain
    if not isinstance(domain, Integer | Float):
        others = [value for value in decision.values or () if value != current]
        return others[int(rng.random() * len(others))]
    here = to_unit(decision, current)
    for _ in range(16):
        place = abs(here + rng.normal(0.0, STEP))
        place = 2.0 - place if place > 1.0 else place
        if isinstance(domain, Float):
            value = value_at(decision, min(max(place, 0.0), 1.0))
        else:
            value = _nearest_integer(domain, place)
        if value != current:
            return value
    near = _near_values(decision, current)  # a narrow range: take the next value
    return near[int(rng.random() * len(near))]


def _nearest_integer(domain: Integer, place: float) -> int:
    low, high = float(domain.low), float(domain.high)
    number = low * (high / low) ** place if domain.log else low + place * (high - low)
    return min(max(round(number), domain.low), domain.high)


def _near_values(decision: Decision, current: Scalar) -> list[Scalar]:
    domain = decision.domain
    if isinstance(domain, Integer):
        at = int(current)  # type: ignore[arg-type]  # a checked whole number
        down, up = (min(at - 1, at // 2), max(at + 1, at * 2)) if domain.log else (at - 1, at + 1)
        return [value for value in dict.fromkeys((max(down, domain.low), min(up, domain.high))) if value != at]
    if isinstance(domain, Float):
        here = to_unit(decision, current)
        places = (max(here - STEP, 0.0), min(here + STEP, 1.0))
        near = [value for value in dict.fromkeys(value_at(decision, place) for place in places) if value != current]
        return near or [bound for bound in (domain.low, domain.high) if bound != current]
    return [value for value in decision.values or () if value != current]


def _count(decisions: Sequence[Decision]) -> int:
    """The number of ways to decide `decisions`, whose conditions name only each other."""
    total = 1
    for group in _independent(decisions):
        first, rest = group[0], group[1:]  # the first one of a group in order has no condition left
        if not rest:
            total *= int(first.count)
            continue
        opened = [allowed for d in rest for option in d.when for path, allowed in option if path == first.path]
        ways: dict[tuple[bool, ...], list[Scalar]] = {}
        for value in first.values or ():
            ways.setdefault(tuple(value in allowed for allowed in opened), []).append(value)
        total *= sum(len(values) * _count(_given(rest, first.path, values[0])) for values in ways.values())
    return total


def _given(decisions: Sequence[Decision], path: str, value: Scalar) -> list[Decision]:
    """The decisions that stay possible once `path` has `value`, with that condition taken out."""
    left = []
    for decision in decisions:
        alternatives = [
            tuple(condition for condition in alternative if condition[0] != path)
            for alternative in decision.when
            if all(value in allowed for at, allowed in alternative if at == path)
        ]
        if () in alternatives:
            alternatives = [()]
        if alternatives:
            left.append(Decision(decision.path, decision.domain, tuple(alternatives)))
    return left


def _independent(decisions: Sequence[Decision]) -> list[list[Decision]]:
    """Split into groups that no condition joins, each in the given order."""
    leader = {decision.path: decision.path for decision in decisions}

    def find(path: str) -> str:
        while leader[path] != path:
            leader[path] = leader[leader[path]]
            path = leader[path]
        return path

    for decision in decisions:
        for alternative in decision.when:
            for path, _ in alternative:
                leader[find(decision.path)] = find(path)
    ordered = sorted(range(len(decisions)), key=lambda index: (find(decisions[index].path), index))
    groups = groupby(ordered, key=lambda index: find(decisions[index].path))
    return [[decisions[index] for index in indexes] for _, indexes in groups]
