"""Median: end a trial whose best so far is worse than what others had on average at that step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.proposed import Proposed
from nas.strategies.checks import at_least


@dataclass(frozen=True, kw_only=True)
class Median:
    """The median stopping rule.

    A trial is ended when its best loss up to its last step is worse than the median, over completed trials, of the mean
    of what they reported up to that step. With several metrics it must be worse in each that it reports.

    Args:
        after: no trial is ended before this step.
        enough: so many completed trials must have reported the metric by then.

    Source: Golovin, Solnik, Moitra, Kochanski, Karro, Sculley 2017, "Google Vizier: A Service for Black-Box
    Optimization", section 3.2.2.
    """

    after: int = 1
    enough: int = 5

    def __post_init__(self) -> None:
        at_least("after", self.after, 0)
        at_least("enough", self.enough, 1)

    def should_stop(self, trial: Proposed, history: History) -> str | None:
        """See `Stopper.should_stop`."""
        reported, finished = history.reported, history.finished
        step = reported.last_step(trial.number)
        own = reported.losses(trial.number)
        told = [column for column in range(len(history.metrics)) if not np.isnan(own[:, column]).all()]
        if step < self.after or not told:
            return None
        known: list[NDArray[np.float64]] = history.cached(("median", step), list)  # as the trials ended
        for number in finished.numbers[finished.completed[len(known) :]].tolist():
            known.append(_means(reported.losses(number, until=step)))
        means, shown = np.array(known).reshape(-1, len(history.metrics)), []
        for column in told:
            others = means[~np.isnan(means[:, column]), column]
            if len(others) < self.enough:
                return None
            best, median, metric = float(np.nanmin(own[:, column])), float(np.median(others)), history.metrics[column]
            if best <= median:
                return None
            shown.append(f"{metric.name} {metric.sign * best:.4g}, median {metric.sign * median:.4g}")
        return f"median: worse than the median of {len(others)} trials at step {step} ({'; '.join(shown)})"


def _means(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) of each metric over its steps, those left out that are no number; NaN where nothing is left."""
    is_known = ~np.isnan(losses)
    count = is_known.sum(axis=0)
    means: NDArray[np.float64] = np.where(is_known, losses, 0.0).sum(axis=0) / np.where(count, count, math.nan)
    return means
