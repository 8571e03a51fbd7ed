"""Canonical labelling: one numbering of a factor's atoms that every isomorphic factor gets too.

Colour refinement (Weisfeiler-Lehman) over what each atom reads and what reads it; where colours stay equal, one atom at
a time is told apart and the smallest outcome is taken. Exact for every graph: refinement only guides the search.

Source: McKay, Piperno, "Practical graph isomorphism, II" (2014), section 2 (search tree, pruning by automorphisms).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from search_spaces.simplify import Atom, Value

Form: TypeAlias = tuple[tuple[Atom, ...], Value]


@lru_cache(maxsize=1 << 15)
def label(atoms: tuple[Atom, ...], output: Value) -> tuple[str, tuple[int, ...]]:
    """The canonical form's digest, and the atoms (numbers from 1; 0 is the unknown) in canonical order.

    Equal digests mean that sending the k-th atom of one order to the k-th of the other is an isomorphism. What an
    operation reads is a multiset; what a concatenation reads is in order.
    """
    search = _Search(atoms, output)
    if len(atoms) == 1:
        return _digest((atoms, output)), (1,)
    form, order = search.smallest(search.refine(search.first_colours()))
    return _digest(form), order


def _digest(form: Form) -> str:
    return hashlib.sha256(repr(form).encode()).hexdigest()


class _Search:
    def __init__(self, atoms: tuple[Atom, ...], output: Value) -> None:
        self.atoms = atoms
        self.output = output
        self.in_output = dict(output)
        #: for each atom, (the atom that reads it, in which place, how many times)
        self.readers: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for index, (_, reads) in enumerate(atoms, 1):
            for place, value in enumerate(reads):
                for atom, count in value:
                    self.readers[atom].append((index, place, count))

    def first_colours(self) -> list[int]:
        """Ranks of labels, then of what is near; and twins, which read and are read by the same, are numbered.

        Any order of twins will do: exchanging them changes nothing.
        """
        colours = _ranks(["", *(name for name, _ in self.atoms)])
        if max(colours) < len(self.atoms):
            colours = _ranks([self._signature(index, colours) for index in range(len(colours))])
        if max(colours) == len(self.atoms):
            return colours
        twins: Counter[Any] = Counter()
        keys = [(colours[0], 0)]
        for index, atom in enumerate(self.atoms, 1):
            twin = (atom, tuple(self.readers[index]), self.in_output.get(index, 0))
            keys.append((colours[index], twins[twin]))
            twins[twin] += 1
        return _ranks(keys)

    def refine(self, colours: list[int]) -> list[int]:
        """Split colours by the colours around until nothing changes."""
        different = len(set(colours))
        while different < len(colours):
            colours = _ranks([self._signature(index, colours) for index in range(len(colours))])
            now = len(set(colours))
            if now == different:
                break
            different = now
        return colours

    def _signature(self, index: int, colours: list[int]) -> tuple[Any, ...]:
        reads = self.atoms[index - 1][1] if index else ()
        return (
            colours[index],
            [sorted([(colours[atom], count) for atom, count in value]) for value in reads],
            sorted([(colours[reader], place, count) for reader, place, count in self.readers[index]]),
            self.in_output.get(index, 0),
        )

    def smallest(self, colours: list[int]) -> tuple[Form, tuple[int, ...]]:
        """The smallest form below these colours, and its order."""
        tied = _tied(colours)
        if not tied:
            return self._leaf(colours)
        branches = [self.refine(_apart(colours, atom)) for atom in tied]
        first_leaves: set[Form] = set()
        best: tuple[Form, tuple[int, ...]] | None = None
        for branch in branches:
            first, _ = self._first_leaf(branch)
            if first in first_leaves:  # an automorphism leads here from a branch that was searched
                continue
            first_leaves.add(first)
            found = self.smallest(branch)
            if best is None or found[0] < best[0]:
                best = found
        assert best is not None
        return best

    def _first_leaf(self, colours: list[int]) -> tuple[Form, tuple[int, ...]]:
        while tied := _tied(colours):
            colours = self.refine(_apart(colours, tied[0]))
        return self._leaf(colours)

    def _leaf(self, colours: list[int]) -> tuple[Form, tuple[int, ...]]:
        order = sorted(range(1, len(colours)), key=colours.__getitem__)
        number = {0: 0, **{atom: place for place, atom in enumerate(order, 1)}}

        def restate(value: Value) -> Value:
            return tuple(sorted((number[atom], count) for atom, count in value))

        atoms = tuple((self.atoms[a - 1][0], tuple(map(restate, self.atoms[a - 1][1]))) for a in order)
        return (atoms, restate(self.output)), tuple(order)


def _ranks(keys: Sequence[Any]) -> list[int]:
    """For each key how many different ones are smaller."""
    ranks = [0] * len(keys)
    rank, before = -1, object()
    for index in sorted(range(len(keys)), key=keys.__getitem__):
        if keys[index] != before:
            rank, before = rank + 1, keys[index]
        ranks[index] = rank
    return ranks


def _tied(colours: Sequence[int]) -> list[int]:
    """The atoms of the first colour that several have."""
    counts = Counter(colours)
    shared = min((colour for colour, count in counts.items() if count > 1), default=None)
    return [index for index, colour in enumerate(colours) if colour == shared]


def _apart(colours: Iterable[int], chosen: int) -> list[int]:
    """The same colours, with one atom before the others of its own."""
    return [2 * colour - (index == chosen) for index, colour in enumerate(colours)]
