"""Files beside the database: what trials print, and their checkpoints. They lie below the study's uuid.

A database that is made anew numbers its studies from 1 again; a uuid is never used twice, so that no study finds
another one's files.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from nas.errors import NasError, UnknownTrial
from nas.store import Store
from nas.trial import TrialState

logger = logging.getLogger(__name__)


def log_folder(store: Store) -> Path:
    """Where what the trials of a storage print is kept: beside a SQLite file, else in `NAS_LOGS` or ./nas-logs."""
    return Path(f"{store.path}.logs") if store.path else Path(os.environ.get("NAS_LOGS", "nas-logs")).resolve()


def checkpoint_folder(store: Store) -> Path:
    """Where checkpoints are kept: in `NAS_CHECKPOINTS`, else beside a SQLite file, else in ./nas-checkpoints.

    Workers of several machines should name a folder that all of them reach; without one, a trial that comes to another
    machine starts from scratch.
    """
    if named := os.environ.get("NAS_CHECKPOINTS"):
        return Path(named).resolve()
    return Path(f"{store.path}.checkpoints") if store.path else Path("nas-checkpoints").resolve()


def log_files(store: Store, study_id: int, uuid: str, number: int) -> list[Path]:
    """The output of each attempt of a trial that ran on this machine, in order."""
    from workers.child_process import log_path

    attempts = sorted(attempt.attempt for attempt in store.attempts(store.trial(study_id, number).id))
    paths = [log_path(log_folder(store), uuid, number, attempt) for attempt in attempts]
    return [path for path in paths if path.is_file()]


def remove_files(store: Store, uuid: str) -> None:
    """Delete the logs and checkpoints of a study that was deleted, as far as they are on this machine."""
    from workers.checkpoints import remove_study

    for folder in (log_folder(store), checkpoint_folder(store)):
        remove_study(folder, uuid)


def sweep_checkpoints(store: Store, study_id: int, uuid: str, full_budget: float | None = None) -> None:
    """Delete what is left of trials that ended where no worker could: stopped while they waited, or lost for good.

    Where there is a full budget, a trial that completed below it keeps its checkpoint until a trial that was promoted
    from it has ended.
    """
    folder = checkpoint_folder(store) / uuid
    if not folder.is_dir():
        return
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    try:
        rows = store.changes(study_id, 0) if full_budget is not None and numbers else []
        ended = [row for row in rows if TrialState(row.state).is_terminal and row.promoted_from is not None]
        # a result that was taken over left no checkpoint: what goes on from there goes on from the one before
        continued = {
            row.promoted_from
            for row in ended
            if row.state != TrialState.COMPLETED or row.budget == full_budget or row.number in numbers
        }
        for number in numbers:
            try:
                trial = store.trial(study_id, number)
            except UnknownTrial:
                continue  # somebody else's folder
            below = full_budget is not None and trial.budget is not None and trial.budget < full_budget
            may_go_on = below and trial.state is TrialState.COMPLETED and number not in continued
            if trial.state.is_terminal and not may_go_on:
                shutil.rmtree(folder / str(number), ignore_errors=True)
    except NasError as error:
        logger.warning("checkpoints in %s are not swept: %s", folder, error)
