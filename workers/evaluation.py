"""The seam between a worker and the place where evaluators run: this process, or a child of it."""

from typing import Protocol

from workers.outcome import Outcome
from workers.running import RunningTrial


class Evaluation(Protocol):
    """Runs one trial at a time. Implemented by `InProcess` and `ChildProcess`."""

    def run(self, running: RunningTrial) -> Outcome:
        """Evaluate a trial, passing on what it reports, and heed `running.stop_reason` and `running.is_given_up`.

        Never raises for what an evaluator does.
        """
        ...

    def close(self) -> None:
        """Free what it holds; may be called twice."""
        ...
