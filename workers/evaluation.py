"""The seam between a worker and the place where evaluators run: this process, or a child of it."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from workers.outcome import Outcome
from workers.running import RunningTrial


class Evaluation(Protocol):
    """Runs one trial at a time, or a group of one study's at once. Implemented by `InProcess` and `ChildProcess`."""

    def run(self, running: RunningTrial) -> Outcome:
        """Evaluate a trial, passing on what it reports, and heed `running.stop_reason` and `running.is_given_up`.

        Never raises for what an evaluator does.
        """
        ...

    def run_many(self, together: Sequence[RunningTrial]) -> Iterator[tuple[RunningTrial, Outcome]]:
        """Evaluate several trials of one study, as `run` does each; yields each as soon as it has ended."""
        ...

    def close(self) -> None:
        """Free what it holds; may be called twice."""
        ...
