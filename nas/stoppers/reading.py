"""Reading: keeps what a history knows of measurements up to date, and finds the running trials that a stopper ends."""

from __future__ import annotations

from dataclasses import dataclass

from nas.history import History
from nas.stoppers.stopper import Stopper
from nas.store import MeasurementRow, Store


@dataclass(kw_only=True)
class Reading:
    """Reads what trials report, each measurement once, and asks the stopper about those that run."""

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
        """Take in what was reported since the last time; returns the trials it is of."""
        finished, reported = self.history.finished, self.history.reported
        rows: list[MeasurementRow] = []
        if self._has_begun:
            ended = finished.numbers[self._finished :].tolist()
            running = [number for number, worker in self.history.holders.items() if worker is not None]
            for number in (*ended, *running):
                rows += self.store.measurements(self.study_id, number=number, beyond=reported.last_step(number))
        else:
            rows = self.store.measurements(self.study_id)
        self._has_begun, self._finished = True, len(finished)
        return reported.take_in(rows)
