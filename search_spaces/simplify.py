"""Simplified terms: what a network computes, with everything taken out that its operations' traits prove idle.

A *value* is a sum of *atoms* with whole multiplicities. An *atom* is what no rule takes apart: the source, an operation
applied to a value, a concatenation of values. Writing sums as multisets flattens nested sums, drops zeros, splices
identities and keeps the count of repeated terms, all at once; atoms that the output does not need are never looked at.

* Zero operations, and zero-preserving ones of zero, are zero.
* A weightless operation of an equal value is the same atom; an operation with weights is an atom of its own each time.
* An operation that does not preserve zero, applied to zero, is a *constant*: an atom that depends on nothing. Constants
  are kept apart even where they are weightless and equal.
* A zero that enters a concatenation stays there as the atom that made it, since its width counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from search_spaces.walk import Call

Value: TypeAlias = tuple[tuple[int, int], ...]
"""(atom, count) by rising atom; () is a zero whose origin does not matter."""

Atom: TypeAlias = tuple[str, tuple[Value, ...]]
"""(label, the values it reads): one for an operation, any number for a concatenation."""

CONCAT = "concat"


class Terms:
    """The algebra (see `search_spaces.graph.Algebra`) whose values are simplified terms; atom 0 is the source.

    Args:
        describe: label and traits of a call; equal labels promise equal functions, given equal weights.
        zero_source: the source is zero; then constants name it as what they read, so that every atom depends on it.
    """

    def __init__(self, describe: Callable[[Call], tuple[str, frozenset[str]]], *, zero_source: bool = False) -> None:
        self.atoms: list[Atom] = [("source", ())]
        self.places: list[str] = [""]
        self._describe = describe
        self._zeros = {0} if zero_source else set()
        self._constant_reads: Value = ((0, 1),) if zero_source else ()
        self._merged: dict[Atom, Value] = {}

    def is_zero(self, value: Value) -> bool:
        """Whether a value is zero."""
        return not value or value[0][0] in self._zeros

    def op(self, call: Call, value: Value, place: str) -> Value:
        """The operation applied to a value."""
        label, traits = self._describe(call)
        if not traits and value and value[0][0] not in self._zeros:  # the most common case
            return self._atom((label, (value,)), place, merge=False)
        if "identity" in traits:
            return value
        of_zero = not value or value[0][0] in self._zeros
        if "zero" in traits or (of_zero and "zero_preserving" in traits):
            zero = self._atom((label, (value,)), place, merge=True)
            self._zeros.add(zero[0][0])
            return zero
        if of_zero:
            return self._atom((label, (self._constant_reads,)), place, merge=False)
        return self._atom((label, (value,)), place, merge="weightless" in traits)

    def combine(self, kind: str, values: Sequence[Value], place: str) -> Value:
        """The sum or concatenation of one or more values."""
        if len(values) == 1:
            return values[0]
        if kind == "concat":
            if all(map(self.is_zero, values)):
                zero = self._atom((CONCAT, tuple(values)), place, merge=True)
                self._zeros.add(zero[0][0])
                return zero
            return self._atom((CONCAT, tuple(values)), place, merge=True)
        zeros = self._zeros
        terms = [value for value in values if value and value[0][0] not in zeros]
        if not terms:  # any of the zeros will do; all are kept, so that none is preferred
            return tuple(sorted({(atom, 1) for value in values for atom, _ in value}))
        if len(terms) == 1:
            return terms[0]
        counts: dict[int, int] = {}
        for value in terms:
            for atom, count in value:
                counts[atom] = counts.get(atom, 0) + count
        return tuple(sorted(counts.items()))

    def _atom(self, atom: Atom, place: str, *, merge: bool) -> Value:
        if merge and atom in self._merged:
            return self._merged[atom]
        value = ((len(self.atoms), 1),)
        self.atoms.append(atom)
        self.places.append(place)
        if merge:
            self._merged[atom] = value
        return value

    def needed(self, output: Value) -> tuple[list[int], tuple[Atom, ...], Value]:
        """The atoms that `output` needs, renumbered so that the source is 0 and the k-th of them is k + 1.

        Returns:
            Their old numbers, in rising order; the atoms; the output.
        """
        alive = [False] * len(self.atoms)
        for atom, _ in output:
            alive[atom] = True
        for index in range(len(self.atoms) - 1, 0, -1):
            if alive[index]:
                for value in self.atoms[index][1]:
                    for atom, _ in value:
                        alive[atom] = True
        if all(alive[1:]):
            return list(range(1, len(alive))), tuple(self.atoms[1:]), output
        kept = [index for index in range(1, len(alive)) if alive[index]]
        number = {0: 0, **{old: new for new, old in enumerate(kept, 1)}}

        def renumber(value: Value) -> Value:
            return tuple((number[atom], count) for atom, count in value)

        atoms = tuple((label, tuple(map(renumber, reads))) for label, reads in map(self.atoms.__getitem__, kept))
        return kept, atoms, renumber(output)
