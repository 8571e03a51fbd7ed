"""Confirming: any strategy, whose last trials measure the finalists again with other seeds."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nas.history import History
from nas.recommended import beliefs, finalists
from nas.settings import StopRules
from nas.strategies.checks import at_least
from nas.strategies.strategy import Strategy
from nas.trial import Proposal
from predictors.predictor import PredictorError

if TYPE_CHECKING:
    from nas.strategies.next_candidate import Believed

logger = logging.getLogger(__name__)

REPEATS = 2
"""How often a finalist is measured again: three measurements in all, whose mean has 1/√3 of the noise of one."""


@dataclass(frozen=True, kw_only=True)
class Confirming:
    """The last `REPEATS` x `count` of so many trials repeat the `count` architectures that are believed to be best.

    Who is a finalist is asked anew for each of these trials (`nas.recommended.finalists`), and the one that was
    measured least is repeated; so a finalist whose repeats disappoint makes room for the next one. Where all have been
    measured `REPEATS` + 1 times, the search goes on. A strategy that has nothing more to propose is followed by repeats
    as soon as all it proposed has finished.

    In a study with a budget the repeats are trained to the full budget, whatever the finalists were: those trained
    furthest are the first to be finalists, and where they are too few, the best of those trained less far are.

    A repeat that failed counts: it is not tried again. While fewer than `count` feasible trials have completed and
    others are pending, those are waited for: fewer proposals come than were asked for.

    A model that cannot be fitted is no reason to confirm nothing: what was measured then says who is a finalist.

    Args:
        strategy: what searches before.
        count: of finalists.
        trials: how many there will be in all.
        allow: packages beside ours that code may be imported from.
    """

    strategy: Strategy
    count: int
    trials: int
    allow: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        at_least("confirm", self.count, 1)
        check_trials(self.count, self.trials)

    @property
    def reserved(self) -> int:
        """How many of the last trials are repeats."""
        return REPEATS * self.count

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        before = min(count, max(0, self.trials - self.reserved - history.next_number))
        repeats = self._repeats(history, count - before, awaited=before)
        after = 0 if repeats is None else count - before - len(repeats)
        searched = list(self.strategy.propose(history, before + after, rng)) if before + after else []
        if len(searched) < before:
            # it has nothing more to propose, unless it waits for trials of its own
            waits = bool(searched) or any(not trial.repeat for trial in history.pending.trials)
            return searched if waits else self._repeats(history, count, awaited=0) or []
        return [*searched[:before], *(repeats or ()), *searched[before:]]

    def _repeats(self, history: History, wanted: int, *, awaited: int) -> list[Proposal] | None:
        """At most so many repeats of finalists, all that are due; None while it is too early to say whose.

        `awaited` trials are proposed before them, in addition to those that are pending.
        """
        if not wanted:
            return []
        numbers = finalists(history, self._beliefs(history), self.count)
        if len(numbers) < self.count and len(history.pending) + awaited:
            return None
        made = _repeats_made(history)
        repeats: list[Proposal] = []
        while numbers and len(repeats) < wanted:
            number = min(numbers, key=lambda number: len(made[_repeated_as(history, number)]))
            architecture, budget = history.trial(number).architecture, _repeated_as(history, number)[1]
            done = made[_repeated_as(history, number)]
            if len(done) > REPEATS:
                break
            repeat = 1 + max(done, default=0)
            done.add(repeat)
            repeats.append(Proposal(architecture=architecture, budget=budget, repeat=repeat, lineage=(number,)))
        return repeats

    def _beliefs(self, history: History) -> Believed | None:
        try:
            return beliefs(self.strategy, history, allow=self.allow)
        except PredictorError as error:
            logger.warning("finalists are chosen by what was measured, since no model can be fitted: %s", error)
            return None


def check_trials(count: int, trials: int) -> None:
    """Refuse more finalists than so many trials are enough for."""
    if trials < 2 * REPEATS * count:
        raise ValueError(
            f"confirm={count} takes the last {REPEATS * count} of a study's trials, which may be at most half of them: "
            f"{2 * REPEATS * count} trials are needed, got {trials}; take more of them, or fewer finalists"
        )


def confirming(strategy: Strategy, count: int, stop: StopRules, *, allow: Sequence[str] = ()) -> Strategy:
    """The strategy with `count` finalists confirmed at the end; the strategy itself where that is 0.

    Raises:
        ValueError: nothing says how many trials there will be, or they are too few.
    """
    if not count:
        return strategy
    if stop.trials is None:
        raise ValueError(
            f"confirm={count} takes the last trials of a study: say how many there are in all, with trials=... of run, "
            "StopRules(trials=...), or --trials"
        )
    return Confirming(strategy=strategy, count=count, trials=stop.trials, allow=tuple(allow))


def _repeats_made(history: History) -> dict[tuple[str, float | None], set[int]]:
    """Which repetitions of each architecture and budget there are, whatever became of them."""
    made: dict[tuple[str, float | None], set[int]] = defaultdict(set)
    for number in range(history.next_number):
        if number in history:
            trial = history.trial(number)
            made[trial.architecture_json, trial.budget].add(trial.repeat)
    return made


def _repeated_as(history: History, number: int) -> tuple[str, float | None]:
    """The architecture and the budget with which a trial is repeated: its own, the full one where it has less."""
    trial, full = history.trial(number), history.budget
    is_less = full is not None and trial.budget is not None and trial.budget < full.most
    return trial.architecture_json, full.most if full is not None and is_less else trial.budget
