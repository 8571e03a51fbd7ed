"""The next candidate of a Bayesian search: the one place where predictor, acquisition and candidates meet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from nas import catalogue
from nas.acquisitions.acquisition import Acquisition, FloatArray, Outlook, averaged
from nas.acquisitions.feasibility import combined, log_probability_feasible
from nas.candidates.ground import Candidate, Candidates, Ground, ManyCandidates
from nas.history import History
from nas.settings import Part
from nas.strategies.beliefs import Beliefs, Expectation, Pending
from nas.strategies.lessons import Warp
from nas.strategies.untried import Untried
from predictors.predictor import Predictor, PredictorError
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

TOGETHER = 1000
"""Candidates are scored by so many at once: where an acquisition draws them jointly, memory grows with their square."""


@dataclass(frozen=True)
class Parts:
    """What a search is put together from."""

    predictor: Predictor
    acquisition: Acquisition
    candidates: Candidates
    per_second: bool

    @classmethod
    def of(
        cls,
        named: Mapping[str, Part],
        *,
        space: SearchSpace,
        metrics: int,
        allow: Sequence[str],
        per_second: bool,
        batch: int,
    ) -> Self:
        """Made by their names; `ValueError` says which do not go together."""
        predictor, acquisition, candidates = (named[kind] for kind in ("predictor", "acquisition", "candidates"))
        judge = catalogue.load("acquisition", acquisition.name, acquisition.settings, allow=allow)
        maker = catalogue.load("candidates", candidates.name, candidates.settings, allow=allow)
        for thing, kind, name, wanted in (
            (judge, "acquisition", acquisition.name, ("several", "scale", "keeps_limits")),
            (maker, "candidates", candidates.name, ("rescores",)),
        ):
            for attribute in wanted:
                if not hasattr(thing, attribute):
                    raise ValueError(f"{kind} {name!r} needs a class attribute {attribute!r}; see nas.{kind}")
        if judge.several != (metrics > 1):
            fitting = "qlognehvi or qlognparego" if metrics > 1 else "log_expected_improvement, or another one"
            judged = "several metrics" if judge.several else "a single metric"
            raise ValueError(
                f"acquisition {acquisition.name!r} judges {judged}, the study has {metrics}; use {fitting}"
            )
        if judge.scale == "drawn" and maker.rescores:
            raise ValueError(
                f"acquisition {acquisition.name!r} draws anew at each call, candidates {candidates.name!r} compare the "
                "scores of several; use mutation_pool or enumeration"
            )
        if per_second and judge.scale != "log":
            raise ValueError(
                f"per_second divides an improvement by seconds, acquisition {acquisition.name!r} gives none; "
                "use log_expected_improvement, or another one"
            )
        if batch > 1 and not hasattr(maker, "several"):
            raise ValueError(
                f"candidates {candidates.name!r} find one candidate at a time, the strategy's batch is {batch}; "
                "use mutation_pool or enumeration, or batch 1"
            )
        learner = catalogue.load("predictor", predictor.name, predictor.settings, allow=allow, given={"space": space})
        return cls(learner, judge, maker, per_second)


@dataclass(frozen=True, kw_only=True)
class Believed:
    """What is believed of the n trials that were learnt from, their own measurements included. m metrics.

    Args:
        positions: (n,) of finished trials, in completion order.
        means: (n, m) of the losses, without the noise of an evaluation.
        sds: (n, m) standard deviations of those beliefs.
    """

    positions: NDArray[np.int64]
    means: FloatArray
    sds: FloatArray


class Search:
    """The search for one candidate after the other, within one call of `propose`."""

    def __init__(
        self, parts: Parts, history: History, beliefs: Beliefs, pending: Pending = "believe", fantasies: int = 1
    ) -> None:
        self._parts = parts
        self._history = history
        self._pending = pending
        self._expectations = (Expectation.of(beliefs),) * (fantasies if pending == "draw" else 1)

    @classmethod
    def begin(
        cls,
        parts: Parts,
        history: History,
        *,
        key: Hashable,
        most: int,
        warp: Warp,
        pending: Pending,
        fantasies: int = 1,
    ) -> Self | None:
        """After all finished trials; None while there is too little to learn from.

        What was fitted is kept for as long as nothing more finishes.

        Args:
            parts: of the search.
            history: all that is known.
            key: of what is kept in `history.cache`.
            most: so many trials are learnt from.
            warp: see `lessons`.
            pending: how pending trials are taken in.
            fantasies: where they are drawn, the score is the mean over so many draws of them all.
        """
        slot, finished = (key, "beliefs"), len(history.finished)
        kept = history.cache.get(slot)
        if kept is None or kept[0] != finished:
            made = Beliefs.after(history, parts.predictor, most=most, warp=warp, per_second=parts.per_second)
            kept = history.cache[slot] = (finished, made)
        beliefs: Beliefs | None = kept[1]
        how: Pending = "ignore" if parts.acquisition.scale == "drawn" else pending
        return None if beliefs is None else cls(parts, history, beliefs, how, fantasies)

    def next(
        self, untried: Untried, chosen: Sequence[Architecture], rng: np.random.Generator, batch: int = 1
    ) -> Sequence[Candidate]:
        """The best candidates that were found, the best first; none, if there was none.

        Args:
            untried: what may be proposed.
            chosen: what was proposed in this call so far; it counts as pending, in addition to what the history says.
            rng: for all that is drawn.
            batch: so many at most.
        """
        pending = [*(trial.architecture for trial in self._history.pending.trials), *chosen]
        new = pending[len(self._expectations[0].pending) :]
        self._expectations = tuple(expectation.taking_in(new, self._pending, rng) for expectation in self._expectations)
        outlooks, parents = zip(*(each.outlook(self._history) for each in self._expectations), strict=True)
        seed = int(rng.integers(2**63))
        beliefs, acquisition = self._expectations[0].beliefs, self._parts.acquisition

        def score_in(outlook: Outlook, candidates: Sequence[Architecture]) -> FloatArray:
            # what is drawn is drawn from the same numbers in every call, so that scores of several calls compare
            at_once = len(candidates) if acquisition.scale == "drawn" else TOGETHER
            scores = np.concatenate(
                [
                    acquisition.score(outlook, candidates[first : first + at_once], np.random.default_rng(seed))
                    for first in range(0, len(candidates), at_once)
                ]
            )
            if beliefs.seconds is not None:
                scores = scores - beliefs.seconds.predict(candidates).mean
            # while nothing feasible is known, no acquisition has anything to improve on
            kept = acquisition.keeps_limits and outlook.is_feasible.any()
            limits = np.full_like(outlook.limits, np.inf) if kept else outlook.limits
            if beliefs.failures is not None or np.isfinite(limits).any():
                feasible = log_probability_feasible(outlook, limits, beliefs.failures, candidates)
                scores = combined(acquisition, scores, feasible)
            return scores

        def score(candidates: Sequence[Architecture]) -> FloatArray:
            scores = averaged(acquisition, [score_in(outlook, candidates) for outlook in outlooks])
            if np.isnan(scores).any():
                place = int(np.flatnonzero(np.isnan(scores))[0])
                raise PredictorError(
                    f"the score of {candidates[place].to_json()} is not a number; its predictor must believe in finite "
                    f"losses, got {outlooks[0].posteriors[0].predict([candidates[place]])}"
                )
            return scores

        ground = Ground(space=self._history.space, untried=untried, parents=parents[0])
        candidates = self._parts.candidates
        if batch > 1:
            return cast(ManyCandidates, candidates).several(ground, score, rng, batch)
        best = candidates.best(ground, score, rng)
        return [] if best is None else [best]

    def believed(self) -> Believed:
        """What is believed of the finished trials, nothing that is pending taken in."""
        beliefs = self._expectations[0].beliefs
        predicted = [posterior.predict(beliefs.architectures) for posterior in beliefs.posteriors]
        return Believed(
            positions=beliefs.learnt.positions,
            means=np.stack([belief.mean for belief in predicted], axis=1),
            sds=np.sqrt(np.stack([belief.variance for belief in predicted], axis=1)),
        )
