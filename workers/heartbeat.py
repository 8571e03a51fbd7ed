"""Heartbeat: keeps the leases of trials that are being evaluated, sends what they report, brings back what to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from workers.checkpoints import SavedCheckpoint
from workers.protocol import LeaseLost, TrialQueue
from workers.running import RunningTrial

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often it is looked for what is due, unless something that is held is due more often."""

HOG_SECONDS = 1.0
"""When an evaluation takes longer, the trials claimed together with it are given back, for idle workers to take."""


class Heartbeat:
    """Beats for the trials it was told to hold, from a thread of its own while entered as a context.

    Everything a trial sends before its result goes through here, so that neither an evaluator that reports nor the
    watch over its time limit ever waits for a database.

    Args:
        queue: where the leases are.
        clock: monotonic seconds.
    """

    def __init__(self, queue: TrialQueue, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._held: dict[tuple[int, int], RunningTrial] = {}
        self._lock = threading.Lock()
        #: when all that was held was renewed last
        self._renewed = clock()
        self._tick = TICK_SECONDS
        self._closed = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def hold(self, running: RunningTrial) -> None:
        """Beat for this trial from now on."""
        with self._lock:
            self._held[running.fence] = running
            tick = min(self._tick, running.spec.beat_seconds / 2, running.spec.report_seconds)
            if tick < self._tick:
                self._tick = tick
                self._hurry.set()

    def drop(self, running: RunningTrial) -> None:
        """Beat for it no more."""
        with self._lock:
            self._held.pop(running.fence, None)

    def beat(self) -> None:
        """One round: renew all leases if one is due, send what is due, share what waits. Raises nothing."""
        with self._lock:
            held = [running for running in self._held.values() if not running.lost]
        if not held:
            return
        for running in held:
            running.is_asked_for = True
        try:
            self._round(held)
        finally:
            for running in held:
                running.is_asked_for = False

    def _round(self, held: list[RunningTrial]) -> None:
        now = self._clock()
        due = min(running.spec.beat_seconds for running in held)
        if any(now - max(running.renewed, self._renewed) >= due for running in held) and not self._renew(held, now):
            return  # the queue is away: asking it more would only take longer
        for running in held:
            if not running.lost and self._clock() - running.sent_at >= running.spec.report_seconds:
                self._send(running)
            if not running.lost and (checkpoint := running.unrecorded()) is not None:
                self._record(running, checkpoint)
        if any(running.begun is not None and self._clock() - running.begun >= HOG_SECONDS for running in held):
            for running in held:
                if not running.lost and running.withdraw_unless_begun():
                    self._give_back(running)

    def _give_back(self, running: RunningTrial) -> None:
        try:
            self._queue.release(*running.fence)
        except LeaseLost:
            pass
        except Exception as error:  # as in `_renew`; the next round, or the worker, tries again
            logger.warning("%s: not given back: %s", running, error, exc_info=not isinstance(error, OSError))
            return
        self.drop(running)
        running.lost = True

    def _renew(self, held: list[RunningTrial], now: float) -> bool:
        """Renew all leases; False if the queue is away."""
        try:
            answer = self._queue.beat([running.fence for running in held])
        except OSError as error:
            logger.warning("no beat for %d trials: %s", len(held), error)
            for running in held:
                running.away(self._clock())
            return False
        except Exception:  # nothing may end this thread; unrenewed trials stop by themselves
            logger.warning("no beat for %d trials", len(held), exc_info=True)
            return True
        self._renewed = now
        for running in held:
            trial_id = running.claimed.trial_id
            if trial_id in answer:
                running.renew(now, answer[trial_id])
            else:
                self._lose(running)
        return True

    def _send(self, running: RunningTrial) -> None:
        measurements = running.unsent()
        if not measurements:
            return
        now = running.sent_at = self._clock()
        try:
            reason = self._queue.report(*running.fence, measurements)
        except LeaseLost:
            self._lose(running)
        except Exception as error:  # as above; they stay and are sent again
            running.away(self._clock())
            logger.warning("%s: measurements not sent: %s", running, error, exc_info=not isinstance(error, OSError))
        else:
            running.sent(len(measurements))
            running.renew(now, reason)

    def _record(self, running: RunningTrial, checkpoint: SavedCheckpoint) -> None:
        try:
            self._queue.checkpoint(*running.fence, **recording(checkpoint))
        except LeaseLost:
            self._lose(running)
        except Exception as error:  # as above; it is recorded in a later round, or when the trial is given back
            running.away(self._clock())
            logger.warning("%s: checkpoint not recorded: %s", running, error, exc_info=not isinstance(error, OSError))
        else:
            running.recorded(checkpoint)

    def _lose(self, running: RunningTrial) -> None:
        with self._lock:
            if running.fence not in self._held or running.is_delivered:
                return  # finished, or just finishing, while the call was under way
        running.lost = True
        logger.warning("%s: its lease is lost; this attempt ends and writes nothing", running)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._hurry.wait(self._tick)
            self._hurry.clear()
            self.beat()


def recording(checkpoint: SavedCheckpoint) -> dict[str, Any]:
    """What the queue is told of a checkpoint."""
    return {
        "step": checkpoint.step,
        "key": checkpoint.key,
        "digest": checkpoint.digest,
        "size_bytes": checkpoint.size_bytes,
    }
