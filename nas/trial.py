"""Trials as values: what a row of the store says, and what a strategy asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from search_spaces.architecture import Architecture


class TrialState(StrEnum):
    """Where a trial is in its life.

    ::

        waiting ──claim──▶ running ──finish──▶ completed
           ▲                  │ ├────fail────▶ failed
           │                  │ └────stop────▶ stopped      (by a stopper, or by a person)
           └──release, lost───┘
              or retried

    The three on the right are terminal: such rows never change. A waiting trial may be stopped by a person too.
    """

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_terminal(self) -> bool:
        """True for completed, failed and stopped."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a strategy wants tried next."""

    architecture: Architecture
    #: how far to train; None for the study's own full budget
    budget: float | None = None
    #: number of the trial whose training this continues
    promoted_from: int | None = None
    #: > 0 asks for the same architecture and budget once more, with another seed
    repeat: int = 0
    #: numbers of the trials this architecture was derived from
    lineage: tuple[int, ...] = ()
    #: small JSON facts about how the proposal was made; stored as attributes of the trial
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row: one architecture at one budget. A snapshot; ask the study again for news."""

    #: the store's row id; people and strategies use `number`
    id: int
    number: int
    state: TrialState
    #: how many times it was claimed
    attempt: int
    architecture: Architecture
    canonical_key: str
    budget: float | None = None
    promoted_from: int | None = None
    repeat: int = 0
    lineage: tuple[int, ...] = ()
    #: metric name -> value as reported (not sign-flipped); empty unless completed (or stopped with metrics so far)
    metrics: Mapping[str, float] = field(default_factory=dict)
    #: a `workers.protocol.FailureKind`, or the reason it was stopped
    error_kind: str | None = None
    error_text: str | None = None
    worker: str | None = None
    #: study revision at which the row last changed, and the one its proposal was made from
    revision: int = 0
    proposed_revision: int = 0
    #: microseconds since 1970 UTC by the database's clock
    created_us: int = 0
    started_us: int | None = None
    ended_us: int | None = None

    @property
    def seconds(self) -> float | None:
        """Wall-clock seconds from its last claim to its end; None while it has not ended."""
        if self.started_us is None or self.ended_us is None:
            return None
        return (self.ended_us - self.started_us) / 1e6
