"""When a search is over: the rules of `StopRules`, held against what is known."""

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.settings import StopRules

AT_ONCE = 256
"""Trials looked at together."""


class Improvement:
    """Follows the best that was found, and how long nothing has improved. Looks at each finished trial once.

    With one metric, improving is a smaller loss; with several, not being dominated by (nor equal to) what came before.
    Trials beyond a limit, failed and stopped ones improve nothing. Where trials are trained to different budgets,
    those that were trained less far than one before them neither improve nor count. A new one gives the same answers.
    """

    def __init__(self) -> None:
        #: smallest loss of each metric among feasible completed trials, of any budget; None while there is none
        self.best: NDArray[np.float64] | None = None
        #: trials that finished since the last one that improved on all before it
        self.idle = 0
        self._seen = 0
        self._furthest = -np.inf
        self._front: NDArray[np.float64] | None = None

    def follow(self, history: History) -> None:
        """Take in what has finished since the last time."""
        finished = history.finished
        while self._seen < len(finished):
            piece = slice(self._seen, min(self._seen + AT_ONCE, len(finished)))
            losses, counts = finished.losses[piece], finished.is_completed[piece] & finished.is_feasible[piece]
            if counts.any():
                lowest = losses[counts].min(axis=0)
                self.best = lowest if self.best is None else np.minimum(self.best, lowest)
            trained = history.trained(np.arange(piece.start, piece.stop))
            furthest = np.maximum(np.maximum.accumulate(np.where(counts, trained, -np.inf)), self._furthest)
            for level in np.unique(furthest):
                if level > self._furthest:
                    self._furthest, self._front = level, None
                compared = (furthest == level) & (trained >= level)
                self._take_in(losses[compared], counts[compared])
            self._seen = piece.stop

    def _take_in(self, losses: NDArray[np.float64], counts: NDArray[np.bool_]) -> None:
        """Some trials (n, m) that compare, those that may improve marked (n,)."""
        self.idle += len(losses)
        front = np.empty((0, losses.shape[1])) if self._front is None else self._front
        # nearly all are behind what was there before, which is seen at once; the others are looked at one by one
        behind = np.any(np.all(front <= losses[:, np.newaxis], axis=2), axis=1)
        for offset in np.flatnonzero(counts & ~behind):
            if not np.any(np.all(front <= losses[offset], axis=1)):
                front = np.vstack([front[~np.all(losses[offset] <= front, axis=1)], losses[offset]])
                self.idle = len(losses) - 1 - int(offset)
        self._front = front


def reason_to_end(
    stop: StopRules,
    history: History,
    *,
    asked: int = 0,
    elapsed_seconds: float,
    worker_seconds: float,
    improvement: Improvement,
) -> str | None:
    """The first rule that holds, in words; None to go on.

    Args:
        stop: the rules.
        history: up to now.
        asked: how many pending trials are with somebody who asked for them: a search does not wait for those.
        elapsed_seconds: since this run began.
        worker_seconds: work of all workers, earlier runs included; only read if a rule is on it.
        improvement: has followed this history.
    """
    if stop.trials is not None and history.next_number >= stop.trials and len(history.holders) <= asked:
        return f"all {stop.trials} trials are done" + (f", but for {asked} that were asked for" if asked else "")
    if stop.time_limit_seconds is not None and elapsed_seconds >= stop.time_limit_seconds:
        return f"the time limit of {stop.time_limit_seconds:g} s is reached"
    if stop.worker_hours is not None and worker_seconds >= stop.worker_hours * 3600:
        return f"{stop.worker_hours:g} worker hours are used up"
    if stop.target and improvement.best is not None:
        for metric, best in zip(history.metrics, improvement.best, strict=True):
            value = stop.target.get(metric.name)
            if value is not None and best <= metric.sign * value:
                return f"{metric.name} reached {value:g}"
    if stop.patience is not None and improvement.idle >= stop.patience:
        return f"no improvement in {improvement.idle} trials"
    return None
