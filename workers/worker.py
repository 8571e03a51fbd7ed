"""Worker: claim, evaluate, report, finish or fail; again. A plain class: no Ray, no SQL, no torch."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from workers.evaluation import Evaluation
from workers.heartbeat import Heartbeat, recording
from workers.outcome import Failed, Finished, Interrupted, Outcome, outcome_of_result
from workers.processes import this_process
from workers.protocol import ClaimedTrial, Conflict, LeaseLost, StudySpec, TrialQueue
from workers.remote_folder import Folder
from workers.running import RunningTrial

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FIRST_PAUSE_SECONDS = 0.02
LAST_PAUSE_SECONDS = 1.0
"""An idle worker asks again after the first pause, then ever more seldom up to the last one."""

LAST_AWAY_PAUSE_SECONDS = 5.0
"""The same of a queue that is away: when it comes back, all workers want something of it at once."""

BATCH_SECONDS = 0.1
"""A worker claims as many trials at once as it expects to evaluate in this time, at least one: claims are cheap beside
trials of seconds, and what waits in one worker's hands is kept from the others (see `heartbeat.HOG_SECONDS`)."""

GATHER_SECONDS = 0.3
"""So long a worker waits for more, if less than a group was there: when one group ends, the next is just proposed."""

REGISTER_SECONDS = 20.0
"""An idle worker makes itself known anew this often: so a search sees that there is somebody to propose for."""

PATIENCE_SECONDS = 3600.0
"""How long an outcome is offered to a queue that is away: while it is, there is nothing else to do, and a result may
have cost hours. It may be late: the fence refuses it if somebody else has taken the trial meanwhile."""

FAREWELL_SECONDS = 8.0
"""The same while shutting down."""


class Worker:
    """Takes trials from a queue and evaluates them, one after another, in the calling thread.

    Where a study's evaluator takes groups (`StudySpec.group`), so many at once.

    Args:
        queue: where trials come from; the heartbeat's thread uses it too.
        evaluation: where evaluators run; closed by `close`.
        name: unique among all workers, also earlier ones.
        device: what it evaluates on.
        batch: claim at most this many trials at once.
        checkpoints: the folder of checkpoints that workers share; None to keep none.
        clock: monotonic seconds.
        pause: sleeps for so many seconds, or until `stop`; True if stopped.
    """

    def __init__(
        self,
        queue: TrialQueue,
        evaluation: Evaluation,
        *,
        name: str,
        device: str = "cpu",
        batch: int = 16,
        checkpoints: Folder | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.name = name
        #: trials evaluated so far
        self.evaluated = 0
        self._queue = queue
        self._evaluation = evaluation
        self._device = device
        self._batch = batch
        self._checkpoints = checkpoints
        self._clock = clock
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self._heartbeat = Heartbeat(queue, clock=clock)
        self._specs: dict[int, StudySpec] = {}
        self._held: dict[tuple[int, int], RunningTrial] = {}
        self._typical_seconds: float | None = None
        self._jitter = random.Random(name)  # noqa: S311 (when, never what)
        self._is_open = False
        self._registered = clock()

    def run(self) -> None:
        """Work until `stop`; then give back what is not done."""
        self.open()
        try:
            pause = FIRST_PAUSE_SECONDS
            while not self._stopping.is_set():
                if self.step():
                    pause = FIRST_PAUSE_SECONDS
                else:
                    if self._clock() - self._registered > REGISTER_SECONDS:
                        self._register()
                    self._pause(self._about(pause))
                    pause = min(1.5 * pause, LAST_PAUSE_SECONDS)
        finally:
            self.close()

    def open(self) -> None:
        """Make the worker known and start its heart. `run` does it by itself."""
        self._register()
        self._heartbeat.__enter__()
        self._is_open = True

    def _register(self) -> None:
        self._registered = self._clock()
        me = this_process()
        self._insist(
            lambda: self._queue.register(
                self.name, host=me.host, boot=me.boot, pid=me.pid, started=me.started, device=self._device
            )
        )

    def step(self) -> int:
        """Claim what is waiting and evaluate it; returns how many trials were claimed."""
        trials = self._claim()
        if trials and len(trials) < trials[0].spec.group:
            trials = self._gather(trials)
        for together in _groups(trials):
            began = self._clock()
            outcomes = self._evaluate(together)
            while True:
                try:
                    ended = next(outcomes, None)
                except Exception:
                    # an error of ours: not given back unharmed, for then it would come again for ever
                    for running in together:
                        self._forget(running)
                    raise
                if ended is None:
                    break
                self._settle(*ended)
            self._learn((self._clock() - began) / len(together))
        return len(trials)

    def _gather(self, trials: Sequence[RunningTrial]) -> Sequence[RunningTrial]:
        """Claim up to a whole group."""
        group = trials[0].spec.group
        for last in (False, True):
            trials = [*trials, *self._claim(group - len(trials))]
            if len(trials) >= group or last or self._stopping.is_set():
                break
            self._pause(GATHER_SECONDS)
        return trials

    def stop(self) -> None:
        """End as soon as possible: what runs is interrupted and given back. From any thread; returns at once."""
        self._stopping.set()
        for running in list(self._held.values()):
            running.withdrawn = True

    def close(self) -> None:
        """Give back what is still held and free everything; the queue stays open. May be called twice."""
        self.stop()
        for running in list(self._held.values()):
            self._settle(running, Interrupted())
        if self._is_open:
            self._is_open = False
            self._heartbeat.__exit__(None, None, None)
            try:
                self._queue.leave(self.name)
            except OSError as error:
                logger.warning("worker %s leaves a queue that is away: %s", self.name, error)
        self._evaluation.close()

    def _claim(self, count: int | None = None) -> Sequence[RunningTrial]:
        typical = self._typical_seconds
        if count is None:
            count = 1 if typical is None else max(1, min(self._batch, int(BATCH_SECONDS / max(typical, 1e-6))))
        key = uuid.uuid4().hex  # a claim whose answer was lost is repeated under the same key
        sent = self._clock()

        def claim() -> Sequence[ClaimedTrial]:
            nonlocal sent
            sent = self._clock()
            return self._queue.claim(self.name, count, claim_key=key)

        claimed = self._insist(claim)
        if not claimed:
            return ()
        trials = []
        for trial in claimed:
            spec = self._spec(trial.study_id)
            if spec is None:  # stopped while the queue is away: its lease will tell
                continue
            running = RunningTrial(trial, spec, renewed=sent, checkpoints=self._checkpoints, clock=self._clock)
            trials.append(running)
            self._held[running.fence] = running
            self._heartbeat.hold(running)
        if self._stopping.is_set():
            self.stop()  # it came between the claim and the lines above
        return trials

    def _spec(self, study_id: int) -> StudySpec | None:
        if study_id not in self._specs:
            found = self._insist(lambda: self._queue.spec(study_id))
            if found is None:
                return None
            self._specs[study_id] = found
        return self._specs[study_id]

    def _evaluate(self, together: Sequence[RunningTrial]) -> Iterator[tuple[RunningTrial, Outcome]]:
        begun = []
        for running in together:
            if not running.begin():
                yield running, Interrupted()
            elif running.stop_reason is not None:
                yield running, Finished(metrics={}, stopped=running.stop_reason)
            else:
                begun.append(running)
                if running.claimed.known_metrics is not None:
                    running.attributes["same_computation_as"] = running.claimed.known_from
                logger.debug("%s begins", running)
        if len(begun) == 1:
            yield begun[0], self._evaluation.run(begun[0])
        elif begun:
            yield from self._evaluation.run_many(begun)

    def _settle(self, running: RunningTrial, outcome: Outcome) -> None:
        """Write down how it ended, or give it back, or (if it is somebody else's) nothing."""
        try:
            if running.lost:
                return
            if isinstance(outcome, Interrupted):
                if not running.withdrawn:
                    logger.warning("%s: no beat for too long; it was ended here and is given back", running)
                self._deliver(running, partial(self._release, running))
                return
            if isinstance(outcome, Finished) and outcome.stopped is None:
                checked = outcome_of_result(outcome.metrics, running.spec.metrics)
                outcome = checked if isinstance(checked, Failed) else outcome
            self.evaluated += 1
            if isinstance(outcome, Finished):
                self._deliver(running, lambda: self._finish(running, outcome))
            else:
                logger.info("%s failed: %s", running, outcome.kind)
                self._deliver(running, lambda: self._fail(running, outcome))
        finally:
            self._forget(running)

    def _forget(self, running: RunningTrial) -> None:
        self._heartbeat.drop(running)
        self._held.pop(running.fence, None)

    def _release(self, running: RunningTrial) -> None:
        """Give it back with all it has reached. If nobody has taken it, even an expired lease allows that."""
        if measurements := running.unsent():
            self._queue.report(*running.fence, measurements)
            running.sent(len(measurements))
        if (checkpoint := running.unrecorded()) is not None:
            self._queue.checkpoint(*running.fence, **recording(checkpoint))
            running.recorded(checkpoint)
        if not self._queue.release(*running.fence):
            self._retire(running)

    def _finish(self, running: RunningTrial, outcome: Finished) -> None:
        is_kept = outcome.stopped is None and running.keeps_end
        if is_kept and (checkpoint := running.unrecorded()) is not None:
            self._queue.checkpoint(*running.fence, **recording(checkpoint))
            running.recorded(checkpoint)
        self._queue.finish(
            *running.fence,
            outcome.metrics,
            measurements=running.unsent(),
            attributes=dict(running.attributes),
            stopped=outcome.stopped,
        )
        self._retire(running, keep_own=is_kept)

    def _fail(self, running: RunningTrial, outcome: Failed) -> None:
        waits = self._queue.fail(
            *running.fence,
            outcome.kind,
            outcome.text,
            measurements=running.unsent(),
            attributes=dict(running.attributes),
            transient=outcome.transient,
        )
        self._retire(running, waits=waits)

    def _retire(self, running: RunningTrial, *, keep_own: bool = False, waits: bool = False) -> None:
        """Delete the checkpoints from which nothing starts any more, and which the study does not keep otherwise.

        Args:
            running: the trial.
            keep_own: it is complete, and its end is kept.
            waits: it is tried again: then from the start, or from the trial that it continues.
        """
        if running.place is None:
            return
        if not keep_own and running.has_checkpoints:
            running.place.remove()
        continued = running.claimed.promoted_from
        # a result that was taken over left no checkpoint: what goes on from here goes on from the one before
        has_own = running.can_checkpoint or not keep_own
        if continued is not None and has_own and not waits and running.spec.checkpoints == "last":
            replace(running.place, trial=continued).remove()

    def _deliver(self, running: RunningTrial, write: Callable[[], None]) -> None:
        """Make a write that ends an attempt, again and again while the queue is away."""
        running.is_delivered = True
        try:
            try:
                self._insist(write, running)
            except KeyboardInterrupt:  # somewhere within a write that may be made twice
                self._insist(write, running)
                raise
        except LeaseLost:
            logger.warning("%s: its lease is lost; the outcome is dropped", running)
        except Conflict as error:
            logger.warning("%s: %s; the first result stands", running, error)

    def _insist(self, call: Callable[[], Answer], running: RunningTrial | None = None) -> Answer | None:
        """Make a call, repeating it while the queue is away; None if it is given up.

        Without a trial it is given up by `stop` only; with one when the trial is lost, or patience ends.
        """
        began, pause = self._clock(), FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except OSError as error:  # ConnectionError and TimeoutError among them
                waited = self._clock() - began
                patience = FAREWELL_SECONDS if self._stopping.is_set() else PATIENCE_SECONDS
                if running is None:
                    if self._stopping.is_set():
                        return None
                elif running.lost or waited > patience:
                    logger.error("%s: given up after %.0f s: %s", running, waited, error)
                    return None
                logger.warning("the queue is away: %s", error)
            if self._stopping.is_set():
                time.sleep(self._about(pause))
            else:
                self._pause(self._about(pause))
            pause = min(2 * pause, LAST_AWAY_PAUSE_SECONDS)

    def _learn(self, seconds: float) -> None:
        before = self._typical_seconds
        self._typical_seconds = seconds if before is None else 0.8 * before + 0.2 * seconds

    def _about(self, seconds: float) -> float:
        """The same on average; many workers must not ask in step."""
        return seconds * self._jitter.uniform(0.5, 1.5)


def _groups(trials: Sequence[RunningTrial]) -> Iterator[Sequence[RunningTrial]]:
    """Those to be evaluated together: of one study, as many as its evaluator takes, none whose result is known."""
    open_groups: dict[int, list[RunningTrial]] = {}
    for running in trials:
        size = running.spec.group
        if size == 1 or running.claimed.known_metrics is not None:
            yield [running]
            continue
        group = open_groups.setdefault(running.spec.study_id, [])
        group.append(running)
        if len(group) == size:
            yield open_groups.pop(running.spec.study_id)
    yield from open_groups.values()
