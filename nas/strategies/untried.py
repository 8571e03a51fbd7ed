"""Untried: which architectures may still be proposed, and how to draw one of them even when few are left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nas.history import History
from search_spaces.architecture import Architecture
from search_spaces.moves import sample, value_at
from search_spaces.nodes import Float, Integer, Scalar
from search_spaces.space import Decision, SearchSpace

TRIES = 64
"""Draws before a systematic search for an untried architecture begins."""

FLOAT_VALUES = 16
"""Values of a Float that the systematic search tries at each visit."""


@dataclass
class Untried:
    """What one call of `propose` may still propose.

    Args:
        history: what was proposed before.
        distinct: refuse everything proposed before, in this call too. Otherwise only what has failed.
    """

    history: History
    distinct: bool = True
    _taken: set[str] = field(default_factory=set)

    def __contains__(self, architecture: Architecture) -> bool:
        if not self.distinct:
            return not self.history.has_failed(architecture)
        return not self.history.knows(architecture) and architecture.to_json() not in self._taken

    def take(self, architecture: Architecture) -> Architecture:
        """Note that it is proposed now."""
        self._taken.add(architecture.to_json())
        return architecture

    @property
    def is_exhausted(self) -> bool:
        """Whether every architecture of the space was proposed. Takes no enumeration."""
        if not self.distinct:
            return False
        return self.history.distinct_count + len(self._taken) >= self.history.space_size

    def random(self, rng: np.random.Generator) -> Architecture | None:
        """A random one, sampled as `search_spaces.moves.sample` does; None when none is left.

        When `TRIES` draws were all tried before, the first untried one of a walk through the space in random order.
        """
        if self.is_exhausted:
            return None
        for _ in range(TRIES):
            architecture = sample(self.history.space, rng)
            if architecture in self:
                return architecture
        return next((architecture for architecture in shuffled(self.history.space, rng) if architecture in self), None)


def shuffled(space: SearchSpace, rng: np.random.Generator) -> Iterator[Architecture]:
    """Every architecture of a finite space once, depth first with every decision's values in random order.

    Of a Float, `FLOAT_VALUES` random values at each visit.
    """
    decisions = space.decisions
    values: dict[str, Scalar] = {}
    levels: list[tuple[int, Iterator[Scalar]]] = []
    index = 0
    while True:
        while index < len(decisions):
            if decisions[index].is_reached(values):
                order = _shuffled_values(decisions[index], rng)
                values[decisions[index].path] = next(order)
                levels.append((index, order))
            index += 1
        yield Architecture(dict(values))
        while levels:
            index, order = levels[-1]
            path = decisions[index].path
            try:
                values[path] = next(order)
            except StopIteration:
                del values[path]
                levels.pop()
            else:
                index += 1
                break
        else:
            return


def _shuffled_values(decision: Decision, rng: np.random.Generator) -> Iterator[Scalar]:
    domain = decision.domain
    if isinstance(domain, Float):
        yield from (value_at(decision, place) for place in rng.random(FLOAT_VALUES).tolist())
        return
    count = int(decision.count)
    start, step = int(rng.integers(count)), int(rng.integers(1, count)) if count > 1 else 1
    while math.gcd(step, count) > 1:  # coprime to the count: the steps meet every value, without a list of them
        step -= 1
    for turn in range(count):
        at = (start + turn * step) % count
        yield domain.low + at if isinstance(domain, Integer) else (decision.values or ())[at]
