"""The seam between workers and whoever hands out trials: what is given, what comes back, and the queue between them.

Light: no torch, no SQL, no Ray. `nas.store` implements `TrialQueue`; tests implement it in memory.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

Keep = Literal["last", "rungs", "best"]
"""Which checkpoints of trials that have completed are kept.

last: of each training the last one, while it may be gone on with.
rungs: the end of every trial, as long as the study is there.
best: as "last", and the end of the trials that are the best of those trained furthest.
"""

POLICIES: tuple[Keep, ...] = get_args(Keep)


class FailureKind(StrEnum):
    """Why a trial has no result."""

    OUT_OF_MEMORY = "out_of_memory"
    """The device or the memory limit was exceeded."""
    NAN = "nan"
    """A metric came out NaN or infinite."""
    TIME_OUT = "time_out"
    """The trial ran longer than its limit and was killed."""
    EXCEPTION = "exception"
    """The evaluator raised; the text holds the traceback."""
    BAD_RESULT = "bad_result"
    """The evaluator returned something else than one finite number for each metric of the study."""
    LOST = "lost"
    """Its workers died, more often than the study allows."""


class LeaseLost(RuntimeError):
    """This attempt no longer holds the trial: stop working on it and write nothing more about it."""


class Conflict(RuntimeError):
    """This attempt already finished the trial with another result; the first one stands."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value of one metric at one step, as it was reported (NaN and infinities included)."""

    metric: str
    step: int
    value: float


@dataclass(frozen=True, kw_only=True)
class ClaimedTrial:
    """One trial as the queue hands it out. (trial_id, attempt) fences every later write."""

    trial_id: int
    study_id: int
    study: str
    number: int
    attempt: int
    #: canonical JSON of the architecture
    architecture: str
    budget: float | None
    repeat: int
    #: derived from (study seed, number): the same trial trains the same way wherever it runs
    seed: int
    #: key of the checkpoint to start from, its file's SHA-256 as recorded, and the step it was made at
    checkpoint: str | None = None
    checkpoint_digest: str | None = None
    start_step: int = 0
    #: number of the trial whose training it continues
    promoted_from: int | None = None
    #: metrics of a completed trial with the same canonical key and budget, and its number: the same computation is not
    #: trained twice (see `EvaluatorWithReuse`); None where there is none, for repeats, and where the study says no
    known_metrics: Mapping[str, float] | None = None
    known_from: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """What a worker must know of a study; read once per study, constant for its life. JSON in the store.

    `space` is the space's document (`SearchSpace.to_document`); `evaluator`, `task` and limits are plain JSON.
    """

    study_id: int
    #: 32 hexadecimal digits that no other study has, in any database: what files of the study are found by
    uuid: str
    name: str
    #: the space's document
    space: Mapping[str, Any]
    #: names of the metrics a result must hold, no more and no fewer
    metrics: tuple[str, ...]
    #: {"path": "module:object", "settings": {...}}
    evaluator: Mapping[str, Any]
    #: {"data": ..., "settings": {...}} or {} when the evaluator needs none
    task: Mapping[str, Any] = field(default_factory=dict)
    #: a trial that runs longer is killed; None for no limit
    time_limit_seconds: float | None = None
    #: resident memory of the evaluation process above which it is killed; None for no limit
    memory_limit_bytes: int | None = None
    lease_seconds: float = 60.0
    beat_seconds: float = 10.0
    #: measurements of a trial are written at most this often
    report_seconds: float = 1.0
    #: how far a trial without a budget of its own is trained; None where the evaluator says so
    full_budget: float | None = None
    #: which checkpoints of trials that have completed are kept
    checkpoints: Keep = "last"

    @property
    def group(self) -> int:
        """How many trials its evaluator takes at once, see `EvaluatorOfGroups`: its setting of this name, else 1."""
        return group_size(self.evaluator)


def group_size(evaluator: Mapping[str, Any]) -> int:
    """The setting `group` of an evaluator's document; 1 where it has none."""
    size = (evaluator.get("settings") or {}).get("group", 1)
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 1 else 1


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What an evaluator receives: everything about one trial, nothing about queues."""

    study: str
    trial: int
    attempt: int
    architecture: Architecture
    space: SearchSpace
    task: Mapping[str, Any]
    metrics: tuple[str, ...]
    #: how far to train; None for the full budget
    budget: float | None = None
    #: what `budget` may become by promotions: schedules are laid out over it; None where `budget` stands alone
    full_budget: float | None = None
    seed: int = 0
    #: a file for `workers.state_file.read_state`, to go on from, and the step it was made at; None for from scratch
    checkpoint: Path | None = None
    start_step: int = 0
    #: whether the state at the end is kept as well, where nothing will go on from it: keep a checkpoint then
    keep_end: bool = False
    #: a folder of this attempt's own, empty unless `checkpoint` had to be copied there, removed afterwards
    scratch: Path
    #: a torch device string: "cpu", "cuda:0"
    device: str = "cpu"
    #: of the device's memory, where several workers have one GPU
    device_share: float = 1.0
    #: packages beside ours that code named by the study may be imported from; hand it on wherever a name is imported
    allow: tuple[str, ...] = ()


class Report(Protocol):
    """Handed to the evaluator with its assignment: `report(step, **metrics)`.

    An evaluator that can go on from where it was asks `wants_checkpoint` now and then, and answers with `checkpoint`;
    besides, it may keep one whenever it likes. Who never asks starts anew after an interruption.
    """

    def __call__(self, step: int, **metrics: float) -> bool:
        """Report metrics at a step; returns True when the trial should stop early (then return the metrics so far)."""
        ...

    def note(self, **attributes: Any) -> None:
        """Attach JSON values to the trial (device name, sizes); each at most 64 KiB."""
        ...

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the worker is about to leave and waits some seconds for a checkpoint. Cheap: ask at each step."""
        ...

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep a state to go on from: torch tensors, numpy arrays and JSON values by name.

        If this attempt is interrupted, the next one gets the newest as `Assignment.checkpoint`. Does not return when
        the worker waits for it in order to leave. What has no room on the disk is logged and left out.
        """
        ...


class Evaluator(Protocol):
    """Turns an assignment into metrics. A plain function with this signature of `evaluate` serves as well.

    An exception fails the trial. One with an attribute `transient = True` lets it be tried once more; a
    `FloatingPointError` counts as NaN, a `MemoryError` (or torch's own) as out of memory.
    """

    def evaluate(self, assignment: Assignment, report: Report) -> Mapping[str, float]:
        """Return one finite number for every metric of the study."""
        ...


class EvaluatorWithReuse(Evaluator, Protocol):
    """An evaluator some of whose metrics belong to the architecture itself rather than to what was trained.

    Two architectures of one canonical key compute the same, but may differ in dead parts, hence in parameters, MACs and
    latency. For an evaluator without this method all known metrics are taken over, unless the study has a metric that
    by its name belongs to the architecture (`workers.metrics`): then it evaluates anew.
    """

    def complete(self, assignment: Assignment, known: Mapping[str, float], report: Report) -> Mapping[str, float]:
        """Return the metrics, the trained ones from `known`, the others measured now."""
        ...


class EvaluatorOfGroups(Evaluator, Protocol):
    """An evaluator that evaluates several trials of one study quicker together than one after the other.

    Its setting `group` says how many it wants at once; a worker claims up to so many. Each keeps its own lease,
    measurements, failure and end.
    """

    def evaluate_many(
        self, assignments: Sequence[Assignment], reports: Sequence[Report]
    ) -> Iterable[tuple[int, Mapping[str, float] | BaseException]]:
        """Yield the place of each assignment with its metrics, or with what ended it, as soon as it has ended.

        Whatever a call of one trial's report raises, `BaseException` too, ends that trial alone: yield it and go on
        with the others. What is left out, or not done when this raises, is evaluated by itself.
        """
        ...


class EvaluatorWithCheck(Evaluator, Protocol):
    """An evaluator that can tell before a search starts that it cannot work."""

    def check(self, assignment: Assignment) -> None:
        """Raise `ValueError`, saying what to do, if a trial like this one could not be evaluated. Trains nothing."""
        ...


class EvaluatorOnDevice(Evaluator, Protocol):
    """An evaluator that can tell before a search starts what cannot be measured on a device of this machine."""

    def check_device(self, metrics: Sequence[str], device: str) -> None:
        """Raise `ValueError`, saying what to do, if one of the study's metrics cannot be had on the workers' device."""
        ...


EvaluateFunction = Callable[[Assignment, Report], Mapping[str, float]]
EvaluateManyFunction = Callable[
    [Sequence[Assignment], Sequence[Report]], Iterable[tuple[int, Mapping[str, float] | BaseException]]
]


class TrialQueue(Protocol):
    """Where trials come from and results go. Every write is fenced by (trial_id, attempt) and raises `LeaseLost`.

    A queue is used by two threads at once: a worker's own and its heartbeat. Any call may raise a `ConnectionError`:
    not reachable now, the same call may be repeated safely.
    """

    def spec(self, study_id: int) -> StudySpec:
        """What is constant for all trials of a study."""
        ...

    def register(self, worker: str, *, host: str, boot: str, pid: int, started: float, device: str) -> None:
        """Make the worker and its process known (idempotent); `boot`, `pid` and `started` identify the process."""
        ...

    def leave(self, worker: str) -> None:
        """The worker ends: nothing is proposed for it any more (until it registers anew)."""
        ...

    def claim(self, worker: str, count: int, *, claim_key: str) -> Sequence[ClaimedTrial]:
        """Up to `count` waiting trials, now leased to `worker`; the same `claim_key` returns the same trials."""
        ...

    def beat(self, held: Sequence[tuple[int, int]]) -> Mapping[int, str | None]:
        """Renew the leases of (trial_id, attempt) pairs.

        Returns for each trial that is still held the reason to stop it, or None to go on. A trial missing from the
        answer is no longer held.
        """
        ...

    def report(self, trial_id: int, attempt: int, measurements: Sequence[Measurement]) -> str | None:
        """Store measurements (a repeated one is ignored), renew the lease; returns the reason to stop, or None."""
        ...

    def checkpoint(self, trial_id: int, attempt: int, *, step: int, key: str, digest: str, size_bytes: int) -> None:
        """Record that a checkpoint was written under `key`."""
        ...

    def finish(
        self,
        trial_id: int,
        attempt: int,
        metrics: Mapping[str, float],
        *,
        measurements: Sequence[Measurement] = (),
        attributes: Mapping[str, Any] | None = None,
        stopped: str | None = None,
    ) -> bool:
        """Complete the trial (or end it as stopped, for the reason given). True if it was new, False if "already".

        Raises `Conflict` when this attempt has finished before with other metrics.
        """
        ...

    def fail(
        self,
        trial_id: int,
        attempt: int,
        kind: FailureKind,
        text: str,
        *,
        measurements: Sequence[Measurement] = (),
        attributes: Mapping[str, Any] | None = None,
        transient: bool = False,
    ) -> bool:
        """Record a failure; the trial waits again where the study's retry rules say so (then True)."""
        ...

    def release(self, trial_id: int, attempt: int) -> bool:
        """Give the trial back unharmed (clean shutdown): waiting at once, not counted as a loss.

        Returns:
            Whether it waits again; False where it was to be stopped, and so has ended.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...
