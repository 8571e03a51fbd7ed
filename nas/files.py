"""Files beside the database: what trials print, and their checkpoints. They lie below the study's uuid.

A database that is made anew numbers its studies from 1 again; a uuid is never used twice, so that no study finds
another one's files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from nas import findings
from nas.history import History
from nas.store import Store
from nas.strategies.rungs import Rungs
from nas.trial import TrialState
from workers.protocol import Keep
from workers.remote_folder import Folder, folder_named

logger = logging.getLogger(__name__)


def log_folder(store: Store) -> Path:
    """Where what the trials of a storage print is kept: beside a SQLite file, else in `NAS_LOGS` or ./nas-logs."""
    return Path(f"{store.path}.logs") if store.path else Path(os.environ.get("NAS_LOGS", "nas-logs")).resolve()


def checkpoint_folder(store: Store) -> Folder:
    """Where checkpoints are kept: in `NAS_CHECKPOINTS`, else beside a SQLite file, else in ./nas-checkpoints.

    Workers of several machines should name a folder that all of them reach, or a URL such as ``s3://bucket/folder``;
    without one, a trial that comes to another machine starts from scratch.
    """
    named = named_checkpoints()
    if named is not None:
        return named
    return Path(f"{store.path}.checkpoints") if store.path else Path("nas-checkpoints").resolve()


def named_checkpoints() -> Folder | None:
    """The folder that `NAS_CHECKPOINTS` names, None where it is not set; `ValueError` if none can be had from it."""
    given = os.environ.get("NAS_CHECKPOINTS")
    named = folder_named(given) if given else None
    return named.resolve() if isinstance(named, Path) else named


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


def sweep_checkpoints(root: Folder, uuid: str, history: History, keep: Keep = "last") -> None:
    """Delete checkpoints of trials that have ended, but for those that the study keeps.

    A trial that completed below the full budget keeps its end until one that was promoted from it has ended. With
    `keep` = "rungs" every trial that completed keeps its end; with "best" those on the Pareto front of the trials
    trained furthest do (with one metric: the best one), and the one that `Study.best` names.

    Args:
        root: the folder of checkpoints.
        uuid: the study's.
        history: what is known of its trials; of those that it does not know, nothing is deleted.
        keep: which ones of completed trials are kept.
    """
    from workers.checkpoints import CheckpointPlace, kept_trials

    try:
        numbers = kept_trials(root, uuid)
    except OSError as error:
        logger.warning("checkpoints in %s are not swept: %s", root, error)
        return
    best = {*findings.front(history), findings.best(history)} if keep == "best" and numbers else set()
    for number in numbers:
        position = history.finished.position_of(number)
        if position is None:
            continue
        is_kept = keep == "rungs" or number in best or _may_go_on(history, number, numbers)
        if not (is_kept and history.finished.states[position] == TrialState.COMPLETED):
            CheckpointPlace(root=root, study=uuid, trial=number).remove()


def _may_go_on(history: History, number: int, kept: Sequence[int]) -> bool:
    """Whether a completed trial may still be continued by one that is promoted from it."""
    budget = history.trial(number).budget
    if history.budget is None or budget is None or budget >= history.budget.most:
        return False
    finished, promoted = history.finished, Rungs.of(history).promoted.get(number)
    position = None if promoted is None else finished.position_of(promoted)
    if promoted is None or position is None:
        return True
    # a result that was taken over left no checkpoint: what goes on from there goes on from the one before
    is_full = not finished.budgets[position] < history.budget.most
    return bool(finished.states[position] == TrialState.COMPLETED and not is_full and promoted not in kept)
