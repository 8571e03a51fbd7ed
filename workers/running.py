"""RunningTrial: one trial in a worker's hands; the evaluation fills it, the heartbeat sends what it holds."""

from __future__ import annotations

import json
import logging
import operator
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workers.checkpoints import CheckpointPlace, SavedCheckpoint
from workers.outcome import finite, number, shown
from workers.protocol import ClaimedTrial, Measurement, StudySpec
from workers.remote_folder import Folder

logger = logging.getLogger(__name__)

TRUSTED_LEASE = 0.8
"""Part of a lease after which, without a successful beat, a worker stops by itself: what is left covers the time a kill
takes and the difference of two clocks."""

TRUSTED_LEASES_AWAY = 5.0
"""So many leases while the queue is asked and does not answer, or says that it is away.

Then nobody else can claim either, and once it is back, a lease is taken only from who has been silent for a whole one:
the fence compares attempts, so that an expired lease is renewed. Only if this worker alone was cut off has another one
begun the trial meanwhile: that costs time, and changes no result."""

MEASUREMENTS_PER_METRIC = 100_000
"""More of one metric are counted, not kept."""

ATTRIBUTE_BYTES = 64 * 1024
NAME_LENGTH = 200


class RunningTrial:
    """What is known here of a trial being evaluated. Thread-safe.

    Args:
        claimed: the trial.
        spec: its study.
        renewed: when its lease was renewed last, by `clock`: the moment *before* the call that did it.
        checkpoints: the folder of checkpoints that workers share; None to keep none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        claimed: ClaimedTrial,
        spec: StudySpec,
        *,
        renewed: float,
        checkpoints: Folder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.claimed = claimed
        self.spec = spec
        #: where this trial's checkpoints lie; None to keep none
        self.place = (
            None if checkpoints is None else CheckpointPlace(root=checkpoints, study=spec.uuid, trial=claimed.number)
        )
        #: its evaluator has asked whether a checkpoint is wanted, or kept one
        self.can_checkpoint = False
        #: why it should end early; None to go on
        self.stop_reason: str | None = None
        #: somebody else holds it, or nobody
        self.lost = False
        #: how it ended is being written down: who holds it then is told by that write
        self.is_delivered = False
        #: this worker gives it back
        self.withdrawn = False
        #: when its evaluation began, None while it waits in a batch
        self.begun: float | None = None
        self.attributes: dict[str, Any] = {}
        self.renewed = renewed
        self.sent_at = renewed
        #: the heartbeat asks the queue right now; one that is away may take long to say so
        self.is_asked_for = False
        self._away = float("-inf")
        self._clock = clock
        self._lock = threading.Lock()
        self._unsent: list[Measurement] = []
        self._latest: dict[str, float] = {}
        self._count: dict[str, int] = {}
        self._checkpoint: SavedCheckpoint | None = None

    def __str__(self) -> str:
        return f"trial {self.claimed.number} of {self.claimed.study!r} (attempt {self.claimed.attempt})"

    @property
    def fence(self) -> tuple[int, int]:
        """(trial_id, attempt): what every write carries."""
        return self.claimed.trial_id, self.claimed.attempt

    @property
    def is_stale(self) -> bool:
        """Whether its lease has not been renewed for so long that it can no longer be trusted."""
        now, trusted = self._clock(), TRUSTED_LEASE * self.spec.lease_seconds
        silent = now - self.renewed
        if silent < trusted:
            return False
        is_away = self.is_asked_for or now - self._away < trusted
        return not is_away or silent >= TRUSTED_LEASES_AWAY * self.spec.lease_seconds

    @property
    def is_given_up(self) -> bool:
        """Whether working on it should end now, without a result."""
        return self.lost or self.withdrawn or self.is_stale

    def begin(self) -> bool:
        """Mark its evaluation as begun; False if it must not begin any more."""
        with self._lock:
            if self.is_given_up:
                return False
            self.begun = self._clock()
            return True

    def withdraw_unless_begun(self) -> bool:
        """Let it not begin; False if it has."""
        with self._lock:
            if self.begun is None:
                self.withdrawn = True
            return self.begun is None

    def renew(self, at: float, stop_reason: str | None) -> None:
        """A call that was sent at `at` renewed the lease and brought back whether to stop."""
        self.renewed = max(self.renewed, at)
        if stop_reason is not None:
            self.stop_reason = stop_reason

    def away(self, at: float) -> None:
        """A call that was sent at `at` said that the queue is away."""
        self._away = max(self._away, at)

    def saved(self, checkpoint: SavedCheckpoint) -> None:
        """The evaluation has kept a checkpoint; it counts once it is recorded. An older one that is not is dropped."""
        with self._lock:
            self._checkpoint = checkpoint

    def unrecorded(self) -> SavedCheckpoint | None:
        """The newest checkpoint, if the queue has not recorded it yet."""
        with self._lock:
            return self._checkpoint

    def recorded(self, checkpoint: SavedCheckpoint) -> None:
        """The queue has recorded this one: those before it are of no use any more."""
        with self._lock:
            if self._checkpoint is checkpoint:
                self._checkpoint = None
        if self.place is not None:
            self.place.remove_before(checkpoint.key)

    @property
    def may_go_on(self) -> bool:
        """Whether its training may be continued by a promoted trial once it is complete."""
        budget, full = self.claimed.budget, self.spec.full_budget
        return budget is not None and full is not None and budget < full

    @property
    def keeps_end(self) -> bool:
        """Whether the checkpoint of its end is kept once it is complete."""
        return self.may_go_on or self.spec.checkpoints != "last"

    @property
    def has_checkpoints(self) -> bool:
        """Whether there may be checkpoints of this trial."""
        return self.claimed.checkpoint is not None or self.can_checkpoint

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep measurements until they are sent."""
        with self._lock:
            for name, value in metrics.items():
                count = self._count[name] = self._count.get(name, 0) + 1
                self._latest[name] = value
                if count <= MEASUREMENTS_PER_METRIC:
                    self._unsent.append(Measurement(metric=name, step=step, value=value))
                    continue
                if count == MEASUREMENTS_PER_METRIC + 1:
                    logger.warning("%s: only the first %d measurements of %s are kept", self, count - 1, name)
                self.attributes["measurements_dropped"] = self.attributes.get("measurements_dropped", 0) + 1

    def unsent(self) -> Sequence[Measurement]:
        """What has not been acknowledged yet."""
        with self._lock:
            return tuple(self._unsent)

    def sent(self, count: int) -> None:
        """The first `count` of `unsent` are acknowledged."""
        with self._lock:
            del self._unsent[:count]

    def metrics_so_far(self) -> dict[str, float]:
        """The last finite value reported of each of the study's metrics."""
        with self._lock:
            return finite({name: self._latest[name] for name in self.spec.metrics if name in self._latest})


def checked_step(step: object, of: str) -> int:
    """A step as a whole number; `ValueError` says what came."""
    try:
        whole = operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        whole = -1
    if isinstance(step, bool) or not 0 <= whole < 2**63:
        raise ValueError(f"{of}: a step is a whole number from 0 to 2^63 - 1, got {shown(step)}")
    return whole


def checked_report(step: object, metrics: Mapping[str, object]) -> tuple[int, dict[str, float]]:
    """A report in its stored form; `ValueError` says what is wrong with it. NaN and infinities are welcome here."""
    whole = checked_step(step, "report")
    checked = {}
    for name, value in metrics.items():
        _check_name(name, "report: a metric's name")
        try:
            checked[name] = number(value)
        except ValueError as error:
            raise ValueError(f"report: metric {name!r} at step {whole} is {error}; expected is a number") from None
    return whole, checked


def _check_name(name: object, of: str) -> None:
    """Refuse here, where the evaluator sees it, what no queue stores."""
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_LENGTH or not name.isprintable() or not name.strip():
        raise ValueError(f"{of} has 1 to {NAME_LENGTH} printable characters, got {shown(name)[:80]}")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError(f"{of} must be in Unicode's composed form (NFC), got {name!r}")


def checked_note(attributes: Mapping[str, object]) -> dict[str, Any]:
    """Attributes as plain JSON values; `ValueError` says which one is none, or too large."""
    checked = {}
    for name, value in attributes.items():
        _check_name(name, "note: an attribute's name")
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"note: attribute {name!r} is no JSON value: {error}") from None
        if len(text) > ATTRIBUTE_BYTES:
            raise ValueError(f"note: attribute {name!r} takes {len(text)} bytes; at most {ATTRIBUTE_BYTES} are stored")
        checked[name] = json.loads(text)
    return checked
