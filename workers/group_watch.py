"""GroupWatch: several evaluations that run together in one child, each until it ends or drops out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from workers.child_handle import LOOK_SECONDS, ChildHandle, ChildSettings
from workers.outcome import Finished, Interrupted, Outcome
from workers.processes import has_exited, kill_family
from workers.running import RunningTrial
from workers.watch import Watch

logger = logging.getLogger(__name__)


class GroupWatch:
    """Evaluations of one study in one process.

    What one of them wants (a stop, a lost lease, a worker that leaves) ends that one alone, as far as the evaluator
    reports for each. What the process does as a whole, be it death or more memory, time or processes than it may have,
    is nobody's own: it is ended, and those that are left have no outcome.
    """

    def __init__(
        self, child: ChildHandle, together: Sequence[RunningTrial], settings: ChildSettings, log: Path
    ) -> None:
        self._child = child
        self._together = together
        self._settings = settings
        self._log = log

    def until_done(self, scratches: Sequence[str]) -> Iterator[tuple[RunningTrial, Outcome]]:
        """Pass on what they report; yields each outcome as soon as it is there."""
        count = len(self._together)
        try:
            runs = self._child.begin(self._together, scratches, self._log)
        except BrokenPipeError:
            return
        left = {
            run: (running, Watch(self._child, running, self._settings, self._log, together=count))
            for run, running in zip(runs, self._together, strict=True)
        }
        unheard = set(runs)
        while True:
            is_dead = has_exited(self._child.process)  # before the look: then what it said last is seen
            try:
                messages = self._child.receive(0.0 if is_dead else LOOK_SECONDS)
                ended = []
                for message in messages:
                    run = message.get("run")
                    if run in left and (outcome := left[run][1].heed(message)) is not None:
                        ended.append((left.pop(run)[0], outcome))
                        unheard.discard(run)
                    elif run in unheard and message["event"] in ("finished", "failed", "interrupted"):
                        unheard.discard(run)  # it had dropped out
            except (ValueError, TypeError, KeyError, AttributeError) as error:  # trial code can write there, too
                logger.warning("the evaluation process sent something that is no message: %r", error)
                kill_family(self._child.process, 0.0)
                return
            self._child.is_idle = not unheard
            yield from ended
            if not unheard:
                return
            if is_dead and not messages:
                for _, watch in list(left.values())[:1]:  # it waits for the order to end that may have killed it
                    said = watch.died()
                    logger.warning("%d trials are evaluated one by one, their process died: %s", len(left), said)
                return
            for run in list(left):
                running, watch = left[run]
                dropped = self._dropped(run, running, watch)
                if dropped is not None:
                    del left[run]
                    yield running, dropped
            exceeded = next((watch.exceeded() for _, watch in left.values()), None)  # whichever of them looks
            if exceeded is not None:
                logger.warning("%d trials are evaluated one by one: together they %s", len(left), exceeded.text)
            if exceeded is not None or not left:
                kill_family(self._child.process, self._settings.grace_seconds if left else 0.0)
                return

    def _dropped(self, run: int, running: RunningTrial, watch: Watch) -> Outcome | None:
        """The outcome of one for which nobody waits any longer, else None."""
        watch.pass_on_stop(run)
        if watch.is_left(run):
            outcome: Outcome = Interrupted()
        elif watch.is_deaf:
            outcome = Finished(metrics={}, stopped=running.stop_reason)
        else:
            return None
        with suppress(BrokenPipeError):  # then it is dead, and the next look sees that
            self._child.send({"do": "drop", "run": run})
        return outcome
