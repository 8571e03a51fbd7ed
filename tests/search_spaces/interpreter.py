"""What a graph computes, in exact arithmetic modulo a prime; shares no code with the canonical key.

Operations are random functions: one for each label if they have no weights, one for each (label, index) if they do. Two
graphs that agree here at random points are equal functions of their operations, up to a chance of about 1e-18.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from itertools import permutations, product

from search_spaces.graph import Graph
from search_spaces.walk import Call

PRIME = 2**61 - 1


@cache
def number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") % PRIME


def apply(call: Call, index: int, value: int, *, linear: bool = False) -> int:
    """A polynomial that keeps the promises of the call's traits, and no other."""
    traits = call.op.traits
    if "identity" in traits:
        return value
    if "zero" in traits:
        return 0
    weightless = "weightless" in traits
    bias, slope, square = coefficients(
        call.op.factory, tuple(sorted(call.settings.items())), 0 if weightless else index
    )
    if linear and weightless:
        return slope * value % PRIME
    return ((0 if "zero_preserving" in traits else bias) + (slope + square * value) * value) % PRIME


@cache
def coefficients(*name: object) -> tuple[int, int, int]:
    return number(name, 0), number(name, 1), number(name, 2)


def run(graph: Graph, source: int, weights: Mapping[int, int], *, linear: bool = False) -> int:
    """The output for one input; `weights` gives each operation node the index of its weights."""
    values = [source]
    for index, node in enumerate(graph.nodes[1:], 1):
        inputs = [values[read] for read in node.inputs]
        if node.kind == "op":
            assert node.call is not None
            values.append(apply(node.call, weights.get(index, 0), inputs[0], linear=linear))
        elif node.kind == "sum" or len(inputs) == 1:
            values.append(sum(inputs) % PRIME)
        elif not any(inputs):
            values.append(0)
        else:
            values.append(
                sum(number("concat", len(inputs), at) * (v + v**3 + 1) for at, v in enumerate(inputs)) % PRIME
            )
    return values[graph.output]


def outputs(graph: Graph, weights: Mapping[int, int], *, linear: bool = False) -> tuple[int, int]:
    return run(graph, 3, weights, linear=linear), run(graph, 1_000_003, weights, linear=linear)


def fingerprint(graph: Graph, *, linear: bool = False) -> tuple[int, int]:
    """The same for exactly those graphs that are equal functions for some assignment of weights to operations.

    Operations whose weights change nothing are found by trying; of those left, all assignments are.
    """
    weighted = [
        i for i, node in enumerate(graph.nodes) if node.call is not None and "weightless" not in node.call.op.traits
    ]
    base = {index: 100 + place for place, index in enumerate(weighted)}
    there = outputs(graph, base, linear=linear)
    alive = [index for index in weighted if outputs(graph, {**base, index: 99}, linear=linear) != there]
    kinds: dict[str, list[int]] = {}
    for index in alive:
        call = graph.nodes[index].call
        assert call is not None
        kinds.setdefault(repr((call.op.factory, sorted(call.settings.items()))), []).append(index)
    found = []
    for orders in product(*(permutations(range(len(indexes))) for indexes in kinds.values())):
        assignment = {
            index: weight
            for indexes, order in zip(kinds.values(), orders, strict=True)
            for index, weight in zip(indexes, order, strict=True)
        }
        found.append(outputs(graph, assignment, linear=linear))
    return min(found)
