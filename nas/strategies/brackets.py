"""Brackets: trainings that begin together, and of which at each level only the best share goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.history import History
from nas.strategies.budgets import OverBudgets, promotion
from nas.strategies.lessons import best_first
from nas.strategies.rungs import Rungs, share
from nas.trial import Proposal


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a bracket is to be: `sizes[i]` trainings reach the level `start + i`."""

    start: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class InBrackets(OverBudgets, ABC):
    """One bracket after the other: when all of a rung have ended, the best of it go on to the next level.

    Promotions come before new architectures, those of older brackets first. While a rung waits for its last trials,
    free workers begin the next bracket. Failed and stopped trials are not promoted; where fewer complete than were to
    go on, fewer do. Architectures that a person enqueued with the budget that a bracket begins with take a place in
    it. When the space has nothing left, a bracket ends with what it has.
    """

    @abstractmethod
    def plan(self, number: int, levels: int, factor: float) -> Plan:
        """The plan of bracket `number`, from 0, for so many levels."""

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        rungs = Rungs.of(history)
        brackets = history.cached(("brackets", repr(self)), _Brackets)
        brackets.advance(self, history, rungs)
        proposals: list[Proposal] = []
        for bracket in brackets.live:
            proposals += promotions(history, rungs, bracket)
        if len(proposals) < count:
            begun = self.new(history, brackets.upcoming(self, rungs), count - len(proposals), rng)
            # where nothing is left to begin, the bracket that has room gets no more
            proposals += begun or promotions(history, rungs, brackets.begun[-1], is_closed=True)
        return proposals[:count]


@dataclass(kw_only=True)
class Bracket:
    """Trainings that compete with each other."""

    plan: Plan
    #: numbers of their first trials
    members: list[int] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many more it takes."""
        return self.plan.sizes[0] - len(self.members)


@dataclass(kw_only=True)
class _Brackets:
    """The fold: which training belongs to which bracket, in the order in which they were proposed."""

    begun: list[Bracket] = field(default_factory=list)
    live: list[Bracket] = field(default_factory=list)
    _seen: int = 0

    def advance(self, strategy: InBrackets, history: History, rungs: Rungs) -> None:
        for number in rungs.first[self._seen :]:
            trial = history.trial(number)
            bracket = self._open(strategy, rungs)
            if rungs.level_of(trial.budget) == bracket.plan.start and not trial.repeat:
                bracket.members.append(number)
        self._seen = len(rungs.first)
        self._open(strategy, rungs)
        self.live = [bracket for bracket in self.live if bracket.room or _due(history, rungs, bracket) is not None]

    def upcoming(self, strategy: InBrackets, rungs: Rungs) -> Iterator[float]:
        """The budgets of the trainings that begin next."""
        number = len(self.begun) - 1
        yield from (rungs.levels[self.begun[number].plan.start] for _ in range(self.begun[number].room))
        while True:
            number += 1
            plan = strategy.plan(number, len(rungs.levels), rungs.factor)
            yield from (rungs.levels[plan.start] for _ in range(plan.sizes[0]))

    def _open(self, strategy: InBrackets, rungs: Rungs) -> Bracket:
        """The bracket that has room."""
        if not self.begun or not self.begun[-1].room:
            made = Bracket(plan=strategy.plan(len(self.begun), len(rungs.levels), rungs.factor))
            self.begun.append(made)
            self.live.append(made)
        return self.begun[-1]


def promotions(history: History, rungs: Rungs, bracket: Bracket, *, is_closed: bool = False) -> list[Proposal]:
    """The promotions of a bracket that are due, best first; `is_closed` if it gets no more members."""
    if bracket.room and not is_closed:
        return []
    return _due(history, rungs, bracket) or []


def _due(history: History, rungs: Rungs, bracket: Bracket) -> list[Proposal] | None:
    """What is to be promoted now, best first; None if nothing of it ever will be again."""
    finished, entrants = history.finished, bracket.members
    for step, size in enumerate(bracket.plan.sizes[1:], start=1):
        chosen = _chosen(history, entrants, share_of(len(bracket.members), bracket.plan, size))
        if chosen is None:
            return []
        numbers = [int(finished.numbers[position]) for position in chosen]
        due = [position for position, number in zip(chosen, numbers, strict=True) if number not in rungs.promoted]
        if due:
            return [promotion(history, rungs, position, bracket.plan.start + step) for position in due]
        entrants = [rungs.promoted[number] for number in numbers]
    return None


def share_of(members: int, plan: Plan, size: int) -> int:
    """How many of a bracket go on to a rung of this size; fewer where the bracket could not be filled."""
    return size if members == plan.sizes[0] else max(1, size * members // plan.sizes[0])


def halved(size: int, levels: int, factor: float) -> tuple[int, ...]:
    """How many of `size` reach each of so many levels; at least one."""
    return tuple(max(1, share(size, factor**level)) for level in range(levels))


def _chosen(history: History, entrants: Sequence[int], size: int) -> list[int] | None:
    """Positions of the best `size` of these trials, best first; None while one of them has not ended."""
    finished = history.finished
    positions = [finished.position_of(number) for number in entrants]
    completed = [place for place in positions if place is not None and finished.is_completed[place]]
    if None in positions:
        return None
    order = best_first(history, np.array(completed, dtype=np.int64))
    return [completed[place] for place in order[:size].tolist()]
