"""When a search is over: the rules of `StopRules`, held against what is known."""

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.settings import StopRules


class Improvement:
    """Follows the best that was found, and how long nothing has improved. Looks at each finished trial once.

    With one metric, improving is a smaller loss; with several, not being dominated by (nor equal to) what came before.
    Trials beyond a limit, failed and stopped ones improve nothing. A new one gives the same answers.
    """

    def __init__(self) -> None:
        #: smallest loss of each metric among feasible completed trials; None while there is none
        self.best: NDArray[np.float64] | None = None
        #: trials that finished since the last one that improved on all before it
        self.idle = 0
        self._seen = 0
        self._front: NDArray[np.float64] | None = None

    def follow(self, history: History) -> None:
        """Take in what has finished since the last time."""
        finished = history.finished
        for position in range(self._seen, len(finished)):
            self.idle += 1
            if not (finished.is_completed[position] and finished.is_feasible[position]):
                continue
            losses = finished.losses[position]
            self.best = losses.copy() if self.best is None else np.minimum(self.best, losses)
            front = np.empty((0, len(losses))) if self._front is None else self._front
            if not np.any(np.all(front <= losses, axis=1)):
                self._front = np.vstack([front[~np.all(losses <= front, axis=1)], losses])
                self.idle = 0
        self._seen = len(finished)


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
    if stop.trials is not None and history.next_number >= stop.trials and len(history.pending) <= asked:
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
