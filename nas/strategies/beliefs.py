"""Beliefs: the posteriors of a study's metrics after its finished trials, and with its pending ones taken in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nas.acquisitions.acquisition import FloatArray, Outlook
from nas.acquisitions.feasibility import FAILED, RAN
from nas.candidates.ground import Candidate
from nas.history import History
from nas.pareto import standings
from nas.strategies.lessons import Lessons, Warp, architectures, lessons
from predictors.predictor import Posterior, Predictor
from search_spaces.architecture import Architecture

KNOWN, KNOWN_FRONT = 40, 100
"""So many of the best finished architectures are what candidates must improve on: of one metric, of several."""

Pending = Literal["believe", "draw", "ignore"]
"""What a pending trial is taken to give: the mean of what is believed, a draw of it, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Beliefs:
    """What is believed after n finished trials. Depends on them alone.

    Args:
        predictor: fitted once for each metric.
        learnt: what it was fitted to.
        posteriors: one for each metric.
        failures: the posterior of failing; None while nothing failed.
        seconds: the posterior of the logarithm of a trial's seconds; None where it is not wanted.
    """

    predictor: Predictor
    learnt: Lessons
    architectures: Sequence[Architecture]
    posteriors: tuple[Posterior, ...]
    failures: Posterior | None
    seconds: Posterior | None

    @classmethod
    def after(
        cls, history: History, predictor: Predictor, *, most: int, warp: Warp, per_second: bool
    ) -> Beliefs | None:
        """Fit to all finished trials; None while fewer than two have completed."""
        learnt = lessons(history, most, warp)
        if len(learnt) < 2:
            return None
        ran, failed = architectures(history, learnt.positions), architectures(history, learnt.failed)
        failures = seconds = None
        if failed:
            outcomes = np.array([RAN] * len(ran) + [FAILED] * len(failed))
            failures = predictor.fit([*ran, *failed], outcomes)
        if per_second:
            taken = history.finished.seconds[learnt.positions]
            timed = np.flatnonzero(taken > 0.0).tolist()  # NaN where a result was taken over from another trial
            if len(timed) >= 2:
                seconds = predictor.fit([ran[place] for place in timed], np.log(taken[timed]))
        posteriors = tuple(predictor.fit(ran, column) for column in np.ascontiguousarray(learnt.losses.T))
        return cls(
            predictor=predictor,
            learnt=learnt,
            architectures=ran,
            posteriors=posteriors,
            failures=failures,
            seconds=seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Beliefs together with what is expected of pending trials.

    Args:
        beliefs: after the finished trials.
        posteriors: the same with the pending trials taken in.
        pending: their architectures.
        expected: (p, m) the losses they are taken to have.
    """

    beliefs: Beliefs
    posteriors: tuple[Posterior, ...]
    pending: tuple[Architecture, ...]
    expected: FloatArray

    @classmethod
    def of(cls, beliefs: Beliefs) -> Expectation:
        """Nothing is pending."""
        posteriors = beliefs.posteriors
        return cls(beliefs=beliefs, posteriors=posteriors, pending=(), expected=np.empty((0, len(posteriors))))

    def taking_in(self, more: Sequence[Architecture], how: Pending, rng: np.random.Generator) -> Expectation:
        """With more pending trials; `how` "ignore" leaves the posteriors as they are.

        A posterior that can be conditioned is; otherwise its predictor is fitted again, to what is expected as well.

        Source: Ginsbourger, Le Riche, Carraro 2010, "Kriging is well-suited to parallelize optimization" (believer).
        """
        if not more:
            return self
        if how == "draw":
            expected = np.stack([posterior.sample(more, 1, rng)[0] for posterior in self.posteriors], axis=1)
        else:
            expected = np.stack([posterior.predict(more).mean for posterior in self.posteriors], axis=1)
        pending, losses = (*self.pending, *more), np.concatenate([self.expected, expected])
        posteriors = self.posteriors
        if how != "ignore":
            posteriors = tuple(
                self._with(metric, more, expected[:, metric], pending, losses[:, metric])
                for metric in range(len(self.posteriors))
            )
        return replace(self, posteriors=posteriors, pending=pending, expected=losses)

    def _with(
        self,
        metric: int,
        more: Sequence[Architecture],
        expected: FloatArray,
        pending: Sequence[Architecture],
        losses: FloatArray,
    ) -> Posterior:
        condition = getattr(self.posteriors[metric], "condition", None)
        if condition is not None:
            conditioned: Posterior = condition(more, expected)
            return conditioned
        beliefs = self.beliefs
        known = beliefs.learnt.losses[:, metric]
        return beliefs.predictor.fit([*beliefs.architectures, *pending], np.concatenate([known, losses]))

    def outlook(self, history: History) -> tuple[Outlook, Sequence[Candidate]]:
        """What acquisitions see; the best finished architectures by their posterior means, the best first."""
        beliefs = self.beliefs
        places: dict[str, int] = {}
        for place in beliefs.learnt.order.tolist():
            if len(places) >= (KNOWN if len(history.metrics) == 1 else KNOWN_FRONT):
                break
            places.setdefault(beliefs.architectures[place].to_json(), place)
        best = list(places.values())
        positions = beliefs.learnt.positions[best]
        limits = history.limits
        outlook = Outlook(
            posteriors=self.posteriors,
            known=(*(beliefs.architectures[place] for place in best), *self.pending),
            is_feasible=np.concatenate(
                [history.finished.is_feasible[positions], (self.expected <= limits).all(axis=1)]
            ),
            limits=limits,
            scales=beliefs.learnt.scales,
            worst=beliefs.learnt.losses.max(axis=0),
        )
        means = outlook.means[: len(best)]
        missed = np.where(np.isfinite(limits), np.maximum(means - limits, 0.0), 0.0)
        ranks = means[:, 0] if means.shape[1] == 1 and np.isinf(limits).all() else standings(means, missed)
        numbers = history.finished.numbers[positions]
        parents = [Candidate(outlook.known[at], (int(numbers[at]),)) for at in np.argsort(ranks, kind="stable")]
        return outlook, parents
