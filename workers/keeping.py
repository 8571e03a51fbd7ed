"""Checkpoints as an evaluation sees them: what it starts from, and how it keeps new ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.checkpoints import CheckpointPlace, SavedCheckpoint, UnusableCheckpoint, usable_checkpoint
from workers.remote_folder import Folder
from workers.running import checked_step

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """Where an attempt begins."""

    #: None: from scratch
    checkpoint: Path | None = None
    step: int = 0
    #: why a checkpoint that was recorded is not used
    note: str | None = None


def starting_point(
    root: Folder | None,
    key: str | None,
    digest: str | None,
    step: int,
    *,
    promoted_from: int | None = None,
    scratch: Path | None = None,
) -> StartingPoint:
    """The recorded checkpoint if its file is there and the one that was recorded, else from scratch with a note.

    Args:
        root: the folder of checkpoints; None where there is none.
        key: of the recorded checkpoint; None where none was recorded.
        digest: its recorded hash.
        step: it was made at.
        promoted_from: number of the trial that is continued; there should be a checkpoint then.
        scratch: the attempt's own folder, into which a checkpoint from behind a URL is copied.
    """
    if key is None and promoted_from is not None:
        return StartingPoint(note=f"trial {promoted_from}, which this one continues, left no checkpoint")
    if key is None:
        return StartingPoint()
    try:
        return StartingPoint(checkpoint=usable_checkpoint(root, key, digest, into=scratch), step=step)
    except UnusableCheckpoint as error:
        logger.warning("starting from scratch: %s", error)
        return StartingPoint(note=str(error))


class CheckpointWriter:
    """Writes the checkpoints of one attempt.

    Args:
        place: where they lie; None to keep none.
        attempt: in their names, so that an attempt never writes over another one's.
    """

    def __init__(self, place: CheckpointPlace | None, attempt: int) -> None:
        self._place = place
        self._attempt = attempt
        self._count = 0

    def write(self, step: object, state: Mapping[str, Any]) -> SavedCheckpoint | None:
        """Write one; None if none are kept, or if there is no room. `ValueError` for what cannot be written."""
        whole = checked_step(step, "checkpoint")
        if self._place is None:
            return None
        self._count += 1
        try:
            return self._place.save(self._attempt, self._count, whole, state)
        except OSError as error:
            logger.warning("no checkpoint at step %d: %s", whole, error)
            return None
