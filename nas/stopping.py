"""When a search is over: the rules of `StopRules`, held against what is known."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.settings import StopRules


@dataclass
class Improvement:
    """Follows how long nothing has improved. Looks at each finished trial once; a new one gives the same answer.

    With one metric, improving is a smaller loss; with several, not being dominated by (nor equal to) what came before.
    Trials beyond a limit, failed and stopped ones improve nothing.
    """

    _seen: int = 0
    _last: int = -1
    _front: NDArray[np.float64] | None = field(default=None, repr=False)

    def trials_without(self, history: History) -> int:
        """How many trials have finished since the last one that improved on all before it."""
        finished = history.finished
        for position in range(self._seen, len(finished)):
            if not (finished.is_completed[position] and finished.is_feasible[position]):
                continue
            losses = finished.losses[position]
            front = np.empty((0, len(losses))) if self._front is None else self._front
            if not np.any(np.all(front <= losses, axis=1)):
                self._front = np.vstack([front[~np.all(losses <= front, axis=1)], losses])
                self._last = position
        self._seen = len(finished)
        return self._seen - 1 - self._last


def reason_to_end(
    stop: StopRules, history: History, *, elapsed_seconds: float, worker_seconds: float, improvement: Improvement
) -> str | None:
    """The first rule that holds, in words; None to go on.

    Args:
        stop: the rules.
        history: up to now.
        elapsed_seconds: since this run began.
        worker_seconds: work of all workers, earlier runs included; only read if a rule is on it.
        improvement: follows this history.
    """
    if stop.trials is not None and history.next_number >= stop.trials and not len(history.pending):
        return f"all {stop.trials} trials are done"
    if stop.time_limit_seconds is not None and elapsed_seconds >= stop.time_limit_seconds:
        return f"the time limit of {stop.time_limit_seconds:g} s is reached"
    if stop.worker_hours is not None and worker_seconds >= stop.worker_hours * 3600:
        return f"{stop.worker_hours:g} worker hours are used up"
    if stop.target:
        finished = history.finished
        reached = finished.losses[finished.completed[finished.is_feasible[finished.completed]]]
        for index, metric in enumerate(history.metrics):
            value = stop.target.get(metric.name)
            if value is not None and np.any(reached[:, index] <= metric.sign * value):
                return f"{metric.name} reached {value:g}"
    if stop.patience is not None and (idle := improvement.trials_without(history)) >= stop.patience:
        return f"no improvement in {idle} trials"
    return None
