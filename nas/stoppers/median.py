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
    """The median stopping rule, on the study's first metric.

    A trial is ended when its best loss up to its last step is worse than the median, over completed trials, of the mean
    of what they reported up to that step.

    Args:
        after: no trial is ended before this step.
        enough: so many completed trials must have reported something by then.

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
        own = _known(reported.losses(trial.number))
        if step < self.after or not len(own):
            return None
        known: list[float] = history.cached(("median", step), list)  # as the trials ended; NaN where nothing was said
        for number in finished.numbers[finished.completed[len(known) :]].tolist():
            losses = _known(reported.losses(number, until=step))
            known.append(float(losses.mean()) if len(losses) else math.nan)
        means = [mean for mean in known if not math.isnan(mean)]
        if len(means) < self.enough:
            return None
        best, median, metric = float(own.min()), float(np.median(means)), history.metrics[0]
        if best <= median:
            return None
        shown = f"{metric.name} {metric.sign * best:.4g}, median {metric.sign * median:.4g}"
        return f"median: worse than the median of {len(means)} trials at step {step} ({shown})"


def _known(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first metric's losses without those that are no number."""
    known: NDArray[np.float64] = losses[~np.isnan(losses[:, 0]), 0]
    return known
