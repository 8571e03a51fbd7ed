"""Factors: a simplified term cut wherever everything passes through one value.

A *cut* is a set of atoms, closed under what they read, such that every value read outside is a multiple of one value
(the cut's value) plus atoms from outside. Between neighbouring cuts stands a `Factor`: a function of one unknown that
has no cut inside. Cuts are totally ordered, and the cuts of a composition are those of its parts, so two terms are
isomorphic exactly if their factors are, one by one. This is what makes a chain of fifteen equal cells as cheap as one,
and a chain written as one large cell equal to the same chain written as two.

Two things need care to keep that order total.

* Scale: a cut's value is divided by the greatest common divisor of its counts; the divisor goes to the next factor.
* Constants (atoms that do not depend on the unknown) could be added before or after a cut. Each cut takes as many as it
  can. So a factor may begin by adding constants to its unknown; such a *shift* belongs to the factor before (`join`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import gcd

from search_spaces.labelling import label
from search_spaces.simplify import Atom, Value


@dataclass(frozen=True)
class Factor:
    """A function of one unknown: atom 0 is the unknown, atom k + 1 is ``atoms[k]``; no divisor in the output's counts.

    Args:
        atoms: in topological order.
        output: the cut's value.
        origins: for each atom, its number in the term that was split.
    """

    atoms: tuple[Atom, ...]
    output: Value
    origins: tuple[int, ...]

    @cached_property
    def digest(self) -> str:
        """Equal for isomorphic factors, and for no others."""
        return label(self.atoms, self.output)[0]

    @property
    def order(self) -> tuple[int, ...]:
        """The factor's atoms in canonical order."""
        return label(self.atoms, self.output)[1]


@dataclass(frozen=True)
class Split:
    """A term as a composition.

    Args:
        factors: in the order of computation; empty if the term is a multiple of the source.
        scale: what the last factor's output is multiplied by.
        shifted: the first factor only adds constants to the source.
        reads_source: False if the term is a constant or zero; then there are no factors.
    """

    factors: tuple[Factor, ...]
    scale: int
    shifted: bool
    reads_source: bool


@lru_cache(maxsize=1 << 15)
def split(atoms: tuple[Atom, ...], output: Value) -> Split:
    """Cut a term, given as the atoms it needs (atom k + 1 is ``atoms[k]``, all of them needed) and its output."""
    depends = [True]
    for _, reads in atoms:
        depends.append(any(depends[atom] for value in reads for atom, _ in value))
    if not any(depends[atom] for atom, _ in output):
        return Split((), 1, shifted=False, reads_source=False)
    divisor = gcd(*(count for _, count in output))
    if all(depends):
        inner = [_plain_cut(atoms, output, length) for length in range(2, len(depends))]
        if not any(inner):  # no need to state anything anew
            primitive = tuple((atom, count // divisor) for atom, count in output)
            whole = (Factor(atoms, primitive, tuple(range(1, len(depends)))),) if atoms else ()
            return Split(whole, divisor, shifted=False, reads_source=True)
        found = [_plain_cut(atoms, output, 1), *inner, _plain_cut(atoms, output, len(depends))]
    else:
        varying = [index for index, does in enumerate(depends) if does]
        counts = [[], *([dict(value) for value in values] for _, values in atoms), [dict(output)]]
        found = [_cut(varying, length, depends, counts) for length in range(1, len(varying) + 1)]
    cuts = [cut for cut in found if cut is not None]
    factors = tuple(_factor(atoms, before, after) for before, after in zip([({0}, {0: 1}), *cuts], cuts, strict=False))
    shifted = bool(factors[0].atoms)
    return Split(factors[0 if shifted else 1 :], divisor, shifted, reads_source=True)


def _plain_cut(atoms: tuple[Atom, ...], output: Value, length: int) -> tuple[set[int], dict[int, int]] | None:
    """What `_cut` finds where there are no constants: the cut of the first `length` atoms, the source included."""
    reference: Value = ()
    for _, values in (*atoms[length - 1 :], ("", (output,))):
        for value in values:
            if not value or value[0][0] >= length:
                continue
            inside = value if value[-1][0] < length else tuple([pair for pair in value if pair[0] < length])
            if not reference:
                reference = inside
            elif inside != reference and (
                len(inside) != len(reference)
                or any(
                    atom != other or count * reference[0][1] != times * inside[0][1]
                    for (atom, count), (other, times) in zip(inside, reference, strict=True)
                )
            ):
                return None
    divisor = gcd(*(count for _, count in reference))
    return set(range(length)), {atom: count // divisor for atom, count in reference}


def _cut(
    varying: list[int], length: int, depends: list[bool], reads: list[list[dict[int, int]]]
) -> tuple[set[int], dict[int, int]] | None:
    """The cut whose atoms that depend on the source are the first `length` of `varying`: its atoms and value, or None.

    No other set of them can be one: the first atom left out reads (a multiple of) the cut's value, so all atoms inside
    come before it.
    """
    inside = set(varying[:length])
    outside = [*varying[length:], len(depends)]
    reference = next(value for value in reads[outside[0]] if any(atom in inside for atom in value))
    anchor, unit = next((atom, count) for atom, count in reference.items() if atom in inside)

    def agrees(value: dict[int, int], atom: int) -> bool:
        return value.get(atom, 0) * unit == reference.get(atom, 0) * value.get(anchor, 0)

    values = [value for index in outside for value in reads[index]]
    if not all(agrees(value, atom) for value in values for atom in inside):
        return None
    constants = {index for index, does in enumerate(depends) if not does}
    taken = {atom for atom in constants if all(agrees(value, atom) for value in values)}
    while taken:  # a constant goes with those it reads and those that read it
        torn = {
            end
            for index in constants
            for value in reads[index]
            for atom in value
            if (atom in taken) != (index in taken)
            for end in (atom, index)
        }
        if not taken & torn:
            break
        taken -= torn
    if any(atom in constants and atom not in taken for index in inside for value in reads[index] for atom in value):
        return None
    inside |= taken
    value = {atom: count for atom, count in reference.items() if atom in inside}
    divisor = gcd(*value.values())
    return inside, {atom: count // divisor for atom, count in value.items()}


def _factor(
    atoms: tuple[Atom, ...], before: tuple[set[int], dict[int, int]], after: tuple[set[int], dict[int, int]]
) -> Factor:
    """What turns the value of one cut into that of the next."""
    known, unknown = before
    anchor, unit = next(iter(unknown.items()))
    origins = sorted(after[0] - known)
    number = {origin: index for index, origin in enumerate(origins, 1)}

    def restate(value: dict[int, int]) -> Value:
        multiple = value.get(anchor, 0) // unit
        rest = sorted((number[atom], count) for atom, count in value.items() if atom not in known)
        return ((0, multiple), *rest) if multiple else tuple(rest)

    def restate_atom(atom: Atom) -> Atom:
        return atom[0], tuple(restate(dict(value)) for value in atom[1])

    return Factor(tuple(restate_atom(atoms[origin - 1]) for origin in origins), restate(after[1]), tuple(origins))


def join(factor: Factor, shift: Factor) -> Factor:
    """The factor followed by a shift of its output: one factor again."""
    base = len(factor.atoms)

    def renumber(value: Value) -> Value:
        return tuple((atom + base, count) for atom, count in value)

    constants = tuple((label, tuple(map(renumber, reads))) for label, reads in shift.atoms)
    multiple = dict(shift.output).get(0, 0)
    moved = tuple((atom + base, count) for atom, count in shift.output if atom)
    output = (*((atom, multiple * count) for atom, count in factor.output), *moved)
    return Factor(factor.atoms + constants, output, factor.origins + shift.origins)
