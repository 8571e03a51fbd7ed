"""A `TrialQueue` in memory, with a clock that only moves when told to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search_spaces import Choice, SearchSpace
from workers.protocol import ClaimedTrial, Conflict, FailureKind, LeaseLost, Measurement, StudySpec

SPACE = SearchSpace({"width": Choice([1, 2, 3])}, name="widths")


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> bool:
        self.now += seconds
        return False


def study_spec(evaluator: str = "evaluation_samples:quick", **changes: Any) -> StudySpec:
    settings = changes.pop("settings", {})
    return StudySpec(
        **{
            "study_id": 1,
            "uuid": "0" * 32,
            "name": "demo",
            "space": SPACE.to_document(),
            "metrics": ("error",),
            "evaluator": {"path": evaluator, "settings": settings},
            **changes,
        }
    )


def claimed_trial(number: int = 0, **changes: Any) -> ClaimedTrial:
    return ClaimedTrial(
        **{
            "trial_id": 1000 + number,
            "study_id": 1,
            "study": "demo",
            "number": number,
            "attempt": 1,
            "architecture": json.dumps({"width": 1 + number % 3}),
            "budget": None,
            "repeat": 0,
            "seed": number,
            **changes,
        }
    )


@dataclass
class Ended:
    how: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    kind: FailureKind | None = None
    text: str = ""
    transient: bool = False
    stopped: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class FakeQueue:
    """Hands out the trials it was given; `away` makes that many calls fail."""

    def __init__(self, trials: Sequence[ClaimedTrial] = (), spec: StudySpec | None = None) -> None:
        self.study = spec or study_spec()
        self.waiting = list(trials)
        self.held: dict[tuple[int, int], ClaimedTrial] = {}
        self.ended: dict[int, Ended] = {}
        self.measurements: list[Measurement] = []
        self.reports = 0
        self.beats: list[list[tuple[int, int]]] = []
        self.stops: dict[int, str] = {}
        self.registered: list[dict[str, Any]] = []
        self.left: list[str] = []
        self.claims: dict[str, list[ClaimedTrial]] = {}
        self.claim_counts: list[int] = []
        self.checkpoints: list[str] = []
        self.released: list[tuple[int, int]] = []
        self.away = 0
        self.lose_replies = 0
        self.on_finish: Any = None

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionError("the database does not answer")

    def _fence(self, trial_id: int, attempt: int) -> None:
        if (trial_id, attempt) not in self.held:
            raise LeaseLost(f"trial {trial_id} is not held by attempt {attempt}")

    def spec(self, study_id: int) -> StudySpec:
        return self.study

    def register(self, worker: str, **identity: Any) -> None:
        self._answer()
        self.registered.append({"worker": worker, **identity})

    def leave(self, worker: str) -> None:
        self.left.append(worker)

    def claim(self, worker: str, count: int, *, claim_key: str) -> Sequence[ClaimedTrial]:
        self._answer()
        if claim_key not in self.claims:
            self.claim_counts.append(count)
            taken, self.waiting = self.waiting[:count], self.waiting[count:]
            self.claims[claim_key] = taken
            self.held |= {(trial.trial_id, trial.attempt): trial for trial in taken}
        if self.lose_replies:
            self.lose_replies -= 1
            raise TimeoutError("no reply")
        return self.claims[claim_key]

    def beat(self, held: Sequence[tuple[int, int]]) -> Mapping[int, str | None]:
        self._answer()
        self.beats.append(list(held))
        return {trial_id: self.stops.get(trial_id) for trial_id, attempt in held if (trial_id, attempt) in self.held}

    def report(self, trial_id: int, attempt: int, measurements: Sequence[Measurement]) -> str | None:
        self._answer()
        self._fence(trial_id, attempt)
        self.reports += 1
        self.measurements += measurements
        return self.stops.get(trial_id)

    def checkpoint(self, trial_id: int, attempt: int, *, step: int, key: str, digest: str, size_bytes: int) -> None:
        self._answer()
        self._fence(trial_id, attempt)
        assert size_bytes > 0
        self.checkpoints.append(key)
        found = {"checkpoint": key, "checkpoint_digest": digest, "start_step": step}
        self.held[trial_id, attempt] = replace(self.held[trial_id, attempt], **found)

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
        self._answer()
        if self.on_finish is not None:
            self.on_finish()
        if trial_id in self.ended:
            raise Conflict("finished before with another result")
        self._fence(trial_id, attempt)
        del self.held[trial_id, attempt]
        self.measurements += measurements
        self.ended[trial_id] = Ended(
            "stopped" if stopped else "completed", metrics=metrics, stopped=stopped, attributes=attributes or {}
        )
        return True

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
        self._answer()
        self._fence(trial_id, attempt)
        del self.held[trial_id, attempt]
        self.measurements += measurements
        self.ended[trial_id] = Ended("failed", kind=kind, text=text, transient=transient, attributes=attributes or {})
        return False

    def release(self, trial_id: int, attempt: int) -> bool:
        self._answer()
        self._fence(trial_id, attempt)
        self.released.append((trial_id, attempt))
        trial = self.held.pop((trial_id, attempt))
        if trial_id in self.stops:
            return False
        self.waiting.append(trial)
        return True

    def again(self) -> None:
        """Let what waits be claimed as the next attempt."""
        self.waiting = [replace(trial, attempt=trial.attempt + 1) for trial in self.waiting]

    def close(self) -> None:
        pass
