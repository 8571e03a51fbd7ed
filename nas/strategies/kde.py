"""KDE: propose where the density of good architectures is high against that of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.strategies.checks import at_least, within
from nas.strategies.lessons import best_first
from nas.strategies.untried import Untried
from nas.trial import Proposal, TrialState
from search_spaces.architecture import Architecture
from search_spaces.encodings import Encoding
from search_spaces.moves import to_unit
from search_spaces.nodes import Float, Integer
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]

LEAST_WIDTH = 1e-3
"""Of a kernel, on the unit scale of a decision."""

FLOOR = 1e-32
"""Below this a density counts as this."""


@dataclass(frozen=True, kw_only=True)
class Kde:
    """Two kernel densities over the decisions, one of the best share of the trials and one of the others.

    Candidates are drawn from the first one, its kernels widened; the one with the largest ratio of the densities is
    proposed. While there are not more than a few trials to learn from, and for a share of all proposals, the
    architecture is random. A kernel is the product over the decisions: a normal one for numbers, one of Aitchison and
    Aitken for options; a decision that only one of two architectures reaches says nothing about the other. With several
    metrics the best are those of the first non-dominated fronts. Pending trials are not taken in.

    Args:
        good: the best share.
        candidates: how many are drawn for a proposal.
        random: share of proposals that are random.
        widening: of the kernels' widths when candidates are drawn.
        most: of more than so many trials, the youngest are learnt from.

    Source: Falkner, Klein, Hutter 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", section 4
    and appendix; the rule for the two sets is that of its implementation.
    """

    good: float = 0.15
    candidates: int = 64
    random: float = 1 / 3
    widening: float = 3.0
    most: int = 1000

    def __post_init__(self) -> None:
        within("good", self.good, 0.0, 1.0)
        at_least("candidates", self.candidates, 1)
        within("random", self.random, 0.0, 1.0)
        within("widening", self.widening, 1e-3, 1e3)
        at_least("most", self.most, 2)

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        untried = Untried(history)
        densities = self._densities(history)
        proposals: list[Proposal] = []
        while len(proposals) < count:
            chosen: Architecture | None = None
            if densities is not None and rng.random() >= self.random:
                chosen = self._likely(history.space, densities, untried, rng)
            chosen = untried.random(rng) if chosen is None else chosen
            if chosen is None:
                break
            proposals.append(Proposal(architecture=untried.take(chosen)))
        return proposals

    def _densities(self, history: History) -> tuple[Density, Density] | None:
        """Of the good trials and of the others; None while there are too few."""
        finished = history.finished
        positions = _learnt_from(history)[-self.most :]
        completed = positions[finished.is_completed[positions]]
        least = len(history.space.decisions) + 1
        good = max(least, int(self.good * len(positions)))
        if len(completed) < good or len(positions) < good + least:
            return None
        key, newest = ("kde", repr(self)), int(positions[-1])
        if key not in history.cache or history.cache[key][0] != newest:
            order = completed[best_first(history, completed)]
            others = np.concatenate([order[good:], positions[~finished.is_completed[positions]]])
            made = tuple(Density.of(history.space, _points(history, part)) for part in (order[:good], others))
            history.cache[key] = (newest, made)
        found: tuple[Density, Density] = history.cache[key][1]
        return found

    def _likely(
        self, space: SearchSpace, densities: tuple[Density, Density], untried: Untried, rng: np.random.Generator
    ) -> Architecture | None:
        """The untried candidate with the largest ratio; None if none of them is untried."""
        good, others = densities
        points = settled(space, good.draw(self.candidates, self.widening, rng))
        ratio = np.log(np.maximum(good.at(points), FLOOR)) - np.log(np.maximum(others.at(points), FLOOR))
        best_first = points[np.argsort(-ratio, kind="stable")]
        ordered = (architectures_at(space, point[np.newaxis])[0] for point in best_first)
        return next((architecture for architecture in ordered if architecture in untried), None)


@dataclass(frozen=True, kw_only=True)
class Density:
    """A kernel density. Letters: n points, d decisions, c candidates.

    Args:
        points: (n, d) of `unit_points`.
        widths: (d,) of the kernels: standard deviations for numbers, for options the probability of another one.
        options: (d,) how many options a decision has, 0 for numbers.
    """

    points: FloatArray
    widths: FloatArray
    options: NDArray[np.int64]

    @classmethod
    def of(cls, space: SearchSpace, points: FloatArray) -> Density:
        """With widths by the normal reference rule, 1.06 sigma n^(-1 / (4 + d)).

        The spread of options is the root of the probability that two of them differ.
        """
        options = np.array(
            [0 if isinstance(decision.domain, Integer | Float) else decision.count for decision in space.decisions],
            dtype=np.int64,
        )
        widths = np.ones(len(options))
        shrink = 1.06 * len(points) ** (-1.0 / (4 + len(options)))
        for column, count in enumerate(options.tolist()):
            seen = points[~np.isnan(points[:, column]), column]
            if count:
                shares = np.bincount(seen.astype(np.int64), minlength=count) / max(1, len(seen))
                spread = math.sqrt(max(0.0, 1.0 - float(shares @ shares)))
                widths[column] = min(max(shrink * spread, LEAST_WIDTH), (count - 1) / count)
            else:
                spread = float(seen.std()) if len(seen) > 1 else 0.29  # of a uniform distribution
                widths[column] = max(shrink * spread, LEAST_WIDTH)
        return cls(points=points, widths=widths, options=options)

    def at(self, candidates: FloatArray) -> FloatArray:
        """(c,) the density at candidates (c, d)."""
        from scipy.special import ndtr

        logs = np.zeros((len(candidates), len(self.points)))
        for column, count in enumerate(self.options.tolist()):
            here, there, width = candidates[:, column, None], self.points[None, :, column], self.widths[column]
            if count:
                same, other = max(1.0 - width, FLOOR), max(width / max(1, count - 1), FLOOR)
                kernel = np.where(here == there, math.log(same), math.log(other))
            else:
                inside = ndtr((1.0 - there) / width) - ndtr(-there / width)
                kernel = (here - there) / width
                kernel *= -0.5 * kernel
                kernel -= np.log(math.sqrt(2 * math.pi) * width * inside)
            if np.isnan(candidates[:, column]).any() or np.isnan(self.points[:, column]).any():
                uniform = np.where(np.isnan(here), 0.0, -math.log(count) if count else 0.0)
                kernel = np.where(np.isnan(here) | np.isnan(there), uniform, kernel)
            logs += kernel
        density: FloatArray = np.exp(logs).mean(axis=1)
        return density

    def draw(self, count: int, widening: float, rng: np.random.Generator) -> FloatArray:
        """(count, d) points: each near one of ours in every decision, uniform where ours does not reach one."""
        rows = np.array(self.points[rng.integers(len(self.points), size=count)])
        for column, options in enumerate(self.options.tolist()):
            there, width = rows[:, column], self.widths[column] * widening
            chance, noise = rng.random(count), rng.standard_normal(count)
            anywhere = rng.integers(options, size=count) if options else chance
            near = np.where(chance < width, anywhere, there) if options else _folded(there + width * noise)
            rows[:, column] = np.where(np.isnan(there), anywhere, near)
        return rows


def _learnt_from(history: History) -> NDArray[np.int64]:
    """Positions of the completed and the failed trials, in the order in which they ended."""
    finished = history.finished
    return np.flatnonzero(finished.is_completed | (finished.states == TrialState.FAILED))


def _points(history: History, positions: NDArray[np.int64]) -> FloatArray:
    """`unit_points` of finished trials; only those of new ones are worked out."""
    known: dict[int, FloatArray] = history.cached(("kde", "points"), dict)
    new = [position for position in positions.tolist() if position not in known]
    points = unit_points(history.space, [history.finished.architecture(position) for position in new])
    known.update(zip(new, points, strict=True))
    return np.array([known[position] for position in positions.tolist()])


def _folded(places: FloatArray) -> FloatArray:
    """Places reflected at 0 and 1 until they lie between."""
    turned = np.mod(places, 2.0)
    return np.where(turned > 1.0, 2.0 - turned, turned)


def unit_points(space: SearchSpace, architectures: Sequence[Architecture]) -> FloatArray:
    """(n, d) a number's place in [0, 1], an option's index; NaN for what is not reached."""
    points = np.full((len(architectures), len(space.decisions)), np.nan)
    for row, architecture in zip(points, architectures, strict=True):
        for column, decision in enumerate(space.decisions):
            if decision.path in architecture:
                value = architecture[decision.path]
                is_number = isinstance(decision.domain, Integer | Float)
                row[column] = to_unit(decision, value) if is_number else (decision.values or ()).index(value)
    return points


def settled(space: SearchSpace, points: FloatArray) -> FloatArray:
    """(n, d) `unit_points` of the architectures nearest to points (n, d)."""
    if space.is_flat and not any(isinstance(decision.domain, Integer) for decision in space.decisions):
        return points  # options are whole as they are drawn, and all is reached: nothing moves
    return unit_points(space, architectures_at(space, points))


def architectures_at(space: SearchSpace, points: FloatArray) -> list[Architecture]:
    """The architectures nearest to points (n, d); what one does not reach is left out of it."""
    encoding = Encoding(space)
    rows = np.zeros((len(points), encoding.width))
    for row, point in zip(rows, points.tolist(), strict=True):
        for place, (_, start, stop, conditional) in zip(point, encoding.columns, strict=True):
            first = start + conditional
            if stop - first > 1:
                row[first + int(place)] = 1.0
            else:
                row[first] = place
    return [encoding.decode(row) for row in rows]
