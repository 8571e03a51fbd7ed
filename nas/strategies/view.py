"""View: what a strategy that knows nothing of budgets is shown of a study whose trials have several."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from nas.history import History
from nas.strategies.rungs import Rungs
from nas.trial import Proposal, TrialState
from nas.trial_rows import TrialAsRow

DEAD = (TrialState.FAILED, TrialState.STOPPED)


class View:
    """A history in which every training is one trial, and has the result that it had at one level of the budget.

    That is the highest level at which `enough` trainings have completed, the lowest one until there is such a level.
    So losses are compared that belong to each other, and early results count until later ones can replace them. What
    has not come so far is known, so that it is not proposed again, and pending while a trial of it is; between two
    trials it rests (`History.rest`). A training that failed or was stopped on its way there has failed or was stopped.

    The trainings are numbered from 0 in the order of their first trials.

    Source: Falkner, Klein, Hutter 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", section 4.1:
    the model is of the largest budget for which enough observations are available.
    """

    def __init__(self, level: int, outer: History) -> None:
        self.level = level
        self.history = History(outer.space, outer.metrics, seed=outer.seed, data=outer.data)
        self._shown = 0
        self._folded = 0

    @classmethod
    def of(cls, outer: History, enough: int) -> View:
        """The view of a history, up to now."""
        rungs = Rungs.of(outer)
        full = [level for level, rung in enumerate(rungs.rungs) if len(rung.positions) >= enough]
        level, slot = max(full, default=0), ("view", enough)
        if slot not in outer.cache or outer.cache[slot].level != level:
            outer.cache[slot] = cls(level, outer)  # seldom: levels only rise
        view: View = outer.cache[slot]
        view._advance(outer, rungs)
        return view

    def outside(self, outer: History, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Proposals made from the view, with the numbers that the trials have outside."""
        first = Rungs.of(outer).first
        return [
            replace(proposal, lineage=tuple(first[place] for place in proposal.lineage))
            if proposal.lineage
            else proposal
            for proposal in proposals
        ]

    def _advance(self, outer: History, rungs: Rungs) -> None:
        begun = range(self._shown, len(rungs.first))
        self.history.update([self._begun(outer, rungs, place) for place in begun])
        changed = set(begun)
        ended: dict[int, TrialAsRow] = {}
        finished = outer.finished
        for position in range(self._folded, len(finished)):
            place = rungs.training_of[int(finished.numbers[position])]
            changed.add(place)
            if place not in ended and (row := self._ended(outer, rungs, place, position)) is not None:
                ended[place] = row
        self.history.update(ended.values())
        changed |= {rungs.training_of[number] for number in outer.pending.numbers.tolist()}
        for place in changed:
            self.history.rest(place, is_resting=finished.position_of(rungs.newest[place]) is not None)
        self._shown, self._folded = len(rungs.first), len(finished)

    def _begun(self, outer: History, rungs: Rungs, place: int) -> TrialAsRow:
        trial = outer.trial(rungs.first[place])
        return TrialAsRow(
            number=place,
            state="waiting",
            architecture=trial.architecture_json,
            canonical_key=trial.canonical_key,
            budget=None,
            promoted_from=None,
            repeat=trial.repeat,
            lineage=json.dumps([rungs.training_of[number] for number in trial.lineage if number in rungs.training_of]),
            metrics=None,
            worker=None,
            started=None,
            ended=None,
            revision=trial.revision + 1,
            proposed_revision=trial.revision,
        )

    def _ended(self, outer: History, rungs: Rungs, place: int, position: int) -> TrialAsRow | None:
        """The training's row after one of its trials has finished; None if it is not at its end in this view."""
        finished = outer.finished
        state, level = TrialState(str(finished.states[position])), rungs.level_of(float(finished.budgets[position]))
        if state not in DEAD and level != self.level:
            return None
        losses, seconds = finished.losses[position].tolist(), float(finished.seconds[position])
        named = zip(outer.metrics, losses, strict=True)
        metrics = {metric.name: metric.sign * loss for metric, loss in named if not math.isnan(loss)}
        return replace(
            self._begun(outer, rungs, place),
            state=str(state),
            metrics=json.dumps(metrics) if metrics else None,
            started=None if math.isnan(seconds) else 0,
            ended=None if math.isnan(seconds) else round(seconds * 1e6),
            revision=int(finished.revisions[position]),
        )
