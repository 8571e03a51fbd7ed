"""What to take home from a search: the trial that is believed to be best, rather than the one that was luckiest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.pareto import standings
from nas.repeats import Averages, averages

if TYPE_CHECKING:
    from nas.strategies.next_candidate import Believed


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """A trial and what is believed of its first metric, in that metric's own units.

    Args:
        number: of the trial; of an architecture that was measured several times, the first.
        mean: posterior mean, without the noise of an evaluation.
        sd: standard deviation of that belief.
        measured: the mean of what was measured of it.
        measurements: how often it was measured.
        learnt_from: how many completed trials there were.
    """

    number: int
    mean: float
    sd: float
    measured: float
    measurements: int
    learnt_from: int


def recommended(strategy: Any, history: History, *, confirm: int = 0, allow: Sequence[str] = ()) -> Recommended | None:
    """The feasible trial with the best posterior mean of the first metric; None while nothing can be learnt.

    Of several architectures that were measured with noise, the one with the best measurement owes it mostly to luck
    (the winner's curse). Where finalists were confirmed, it is the one of them with the best mean of what was measured:
    a posterior mean leans on how similar architectures did, also where this one differs from them.

    Args:
        strategy: asked for its beliefs, if it has a predictor.
        history: all that is known.
        confirm: how many finalists the study confirms; those count that were measured more than once.
        allow: packages beside ours that code may be imported from.
    """
    finished, measured = history.finished, averages(history)
    believed = beliefs(strategy, history, allow=allow)
    if believed is None:
        return None
    learnt, groups = _believed_groups(measured, believed)
    if not len(learnt):
        return None
    best = int(believed.means[learnt, 0].argmin())
    if confirm and len(history.metrics) == 1:
        chosen = [finished.position_of(number) for number in finalists(history, believed, confirm)]
        places = np.flatnonzero(np.isin(measured.positions[groups], [place for place in chosen if place is not None]))
        places = places[measured.counts[groups[places]] > 1]
        if len(places):
            best = int(places[measured.losses[groups[places], 0].argmin()])
    sign = history.metrics[0].sign
    return Recommended(
        number=int(finished.numbers[measured.positions[groups[best]]]),
        mean=float(sign * believed.means[learnt[best], 0]),
        sd=float(believed.sds[learnt[best], 0]),
        measured=float(sign * measured.losses[groups[best], 0]),
        measurements=int(measured.counts[groups[best]]),
        learnt_from=len(finished.completed),
    )


def finalists(history: History, believed: Believed | None, count: int) -> list[int]:
    """The numbers of the first trials of the `count` feasible architectures believed to be best, the best first.

    Those that were trained furthest come first; where they are too few, those trained less far follow, as measured.
    With several metrics: those in the first fronts of what is believed, the least crowded first. Of architectures that
    are the same computation (`canonical_key`) only the best stands for it. Where nothing is `believed`, what was
    measured is all there is to go by.
    """
    finished, measured = history.finished, averages(history)
    budgets = history.trained(measured.positions)
    found: dict[str, int] = {}
    for budget in np.unique(budgets)[::-1]:
        groups = np.flatnonzero(measured.is_feasible & (budgets == budget))
        losses = measured.losses[groups]
        if believed is not None and budget == budgets.max():
            learnt, groups = _believed_groups(measured, believed)
            learnt, groups = learnt[budgets[groups] == budget], groups[budgets[groups] == budget]
            losses = believed.means[learnt]
        ranks = losses[:, 0] if len(history.metrics) == 1 else standings(losses, np.zeros_like(losses))
        for group in groups[np.argsort(ranks, kind="stable")].tolist():
            if len(found) == count:
                break
            position = int(measured.positions[group])
            found.setdefault(finished.canonical_key(position), int(finished.numbers[position]))
    return list(found.values())


def beliefs(strategy: Any, history: History, *, allow: Sequence[str] = ()) -> Believed | None:
    """What is believed of the finished trials; None while fewer than two have completed.

    A strategy that has a predictor is asked; for any other one, `Bayesian` as it comes learns from the same trials.
    """
    if not hasattr(strategy, "believed"):
        from nas.strategies.bayesian import Bayesian

        strategy = Bayesian().allowing(tuple(allow))
    found: Believed | None = strategy.believed(history)
    return found


def _believed_groups(measured: Averages, believed: Believed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each feasible architecture that was learnt from: its first place in `believed`, its place in `measured`."""
    groups = measured.groups[believed.positions]
    learnt = np.sort(np.unique(groups, return_index=True)[1])  # equal architectures have equal beliefs
    learnt = learnt[measured.is_feasible[groups[learnt]]]
    return learnt, groups[learnt]
