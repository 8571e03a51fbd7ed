"""Rows of the change feed as `History` reads them, and what of a trial is settled from its proposal on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

from nas.trial import Trial
from search_spaces.architecture import Architecture


class FeedRow(Protocol):
    """A row of the store's change feed: texts stay texts until somebody asks."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def architecture(self) -> str: ...  # noqa: D102
    @property
    def canonical_key(self) -> str: ...  # noqa: D102
    @property
    def budget(self) -> float | None: ...  # noqa: D102
    @property
    def promoted_from(self) -> int | None: ...  # noqa: D102
    @property
    def repeat(self) -> int: ...  # noqa: D102
    @property
    def lineage(self) -> str: ...  # noqa: D102
    @property
    def metrics(self) -> str | None: ...  # noqa: D102
    @property
    def started(self) -> int | None: ...  # noqa: D102
    @property
    def ended(self) -> int | None: ...  # noqa: D102
    @property
    def revision(self) -> int: ...  # noqa: D102
    @property
    def proposed_revision(self) -> int: ...  # noqa: D102


class Proposed:
    """What of a trial is settled when it is proposed; architecture and lineage are parsed when first asked for."""

    __slots__ = ("_architecture", "_lineage", "_row")

    def __init__(self, row: FeedRow) -> None:
        self._row = row
        self._architecture: Architecture | None = None
        self._lineage: tuple[int, ...] | None = None

    @property
    def number(self) -> int:
        """Its number."""
        return self._row.number

    @property
    def architecture_json(self) -> str:
        """The architecture's canonical JSON."""
        return self._row.architecture

    @property
    def architecture(self) -> Architecture:
        """The parsed architecture."""
        if self._architecture is None:
            self._architecture = Architecture.from_json(self._row.architecture)
        return self._architecture

    @property
    def lineage(self) -> tuple[int, ...]:
        """Numbers of the trials its architecture was derived from."""
        if self._lineage is None:
            self._lineage = tuple(json.loads(self._row.lineage)) if self._row.lineage else ()
        return self._lineage

    @property
    def canonical_key(self) -> str:
        """The identity of its computation."""
        return self._row.canonical_key

    @property
    def budget(self) -> float | None:
        """How far to train; None for the study's own full budget."""
        return self._row.budget

    @property
    def promoted_from(self) -> int | None:
        """Number of the trial whose training this continues."""
        return self._row.promoted_from

    @property
    def repeat(self) -> int:
        """Which repetition of its architecture and budget it is, from 0."""
        return self._row.repeat

    @property
    def revision(self) -> int:
        """The history's revision it was proposed from."""
        return self._row.proposed_revision


@dataclass(frozen=True, kw_only=True)
class TrialAsRow:
    """A `Trial` as the store's row would be."""

    number: int
    state: str
    architecture: str
    canonical_key: str
    budget: float | None
    promoted_from: int | None
    repeat: int
    lineage: str
    metrics: str | None
    started: int | None
    ended: int | None
    revision: int
    proposed_revision: int

    @classmethod
    def of(cls, trial: Trial, *, revision: int | None = None, proposed: int | None = None) -> TrialAsRow:
        """The row of a trial; with other revisions where they are given."""
        return cls(
            number=trial.number,
            state=trial.state,
            architecture=trial.architecture.to_json(),
            canonical_key=trial.canonical_key,
            budget=trial.budget,
            promoted_from=trial.promoted_from,
            repeat=trial.repeat,
            lineage=json.dumps(list(trial.lineage)),
            metrics=json.dumps(dict(trial.metrics)) if trial.metrics else None,
            started=trial.started_us,
            ended=trial.ended_us,
            revision=trial.revision if revision is None else revision,
            proposed_revision=trial.proposed_revision if proposed is None else proposed,
        )
