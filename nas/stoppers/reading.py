"""Reading: keeps what a history knows of measurements up to date, and finds the running trials that a stopper ends."""

from __future__ import annotations

from dataclasses import dataclass

from nas.history import History
from nas.stoppers.stopper import Stopper
from nas.store import Store


@dataclass(kw_only=True)
class Reading:
    """Reads what trials report, all of them at once, and asks the stopper about those that said something new."""

    store: Store
    study_id: int
    history: History
    stopper: Stopper
    _finished: int = 0
    _has_begun: bool = False

    def stop_hopeless(self) -> int:
        """Ask the store to stop what the stopper gives up; returns how many."""
        stopped = 0
        for number in sorted(self._read_news()):
            if self.history.holders.get(number) is None:
                continue
            reason = self.stopper.should_stop(self.history.trial(number), self.history)
            if reason is not None:
                stopped += self.store.stop_trial(self.study_id, number, reason, actor="stopper")
        return stopped

    def _read_news(self) -> set[int]:
        """Take in what was reported since the last time, with one query; returns the trials it is of."""
        history = self.history
        finished, reported = history.finished, history.reported
        ended = finished.numbers[self._finished :].tolist()
        first, self._finished = not self._has_begun, len(finished)
        self._has_begun = True
        if first:
            return reported.take_in(self.store.measurements(self.study_id))
        running = [number for number, worker in history.holders.items() if worker is not None]
        if not ended and not running:
            return set()
        # the last step once more: some of its metrics may have come later than others
        steps = {number: reported.last_step(number) for number in (*ended, *running)}
        return reported.take_in(
            self.store.measurements_since(self.study_id, [metric.name for metric in history.metrics], steps)
        )
