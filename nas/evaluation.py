"""Who evaluates a study's trials, and where: from what the study says to a pool of workers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import catalogue
from nas.errors import NasError, NotResumable
from nas.store import Store, StudyRow, open_queue

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from workers.pool import Pool

SERVE_ROUND_SECONDS = 0.5


def make_pool(
    store: Store,
    row: StudyRow,
    *,
    space: SearchSpace,
    function: Any,
    kind: str,
    workers: int,
    gpus_per_worker: float,
    ray_address: str | None,
    allow: Sequence[str],
) -> Pool:
    """Workers for a study; see `Study.run`. `function` is the evaluator if it is at hand as an object."""
    if kind not in ("auto", "local", "ray"):
        raise ValueError(f"pool must be 'auto', 'local' or 'ray', got {kind!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers must be a whole number of at least 1, got {workers!r}")
    stored = row.spec["evaluator"]
    if "path" not in stored and kind == "ray":
        raise NasError(
            f"study {row.name!r}: {stored['function']} cannot be imported by Ray workers; define it at the top level "
            "of a module (not in the script that is run), or use pool='local'"
        )
    if kind == "local" or "path" not in stored or (kind == "auto" and workers == 1):
        if function is None:
            function = catalogue.load("evaluator", stored["path"], stored["settings"], allow=allow)
        from workers.local_pool import LocalPool

        opened = partial(open_queue, store.url, row.name)
        return LocalPool(opened, function, workers=workers, space=space, allow=tuple(allow))
    if function is not None:  # who hands over the object trusts its module
        allow = (*allow, stored["path"].partition(":")[0])
    if row.spec["space"]["root"] is None:
        raise NotResumable(
            f"study {row.name!r}: Ray workers cannot import its search space ({row.spec['space']['reason']})"
        )
    from workers.ray_pool import RayPool

    return RayPool(
        workers=workers,
        queue="nas.store:open_queue",
        url=store.url,
        study=row.name,
        address=ray_address,
        gpus_per_worker=gpus_per_worker,
        allow=tuple(allow),
        import_paths=tuple(import_paths()),
        log_folder=log_folder(store),
    )


def import_paths() -> list[str]:
    """Folders that code is imported from here, and so in workers; the current one last, so that it hides nothing."""
    return list(dict.fromkeys([*(str(Path(path).resolve()) for path in sys.path if path), str(Path.cwd())]))


def log_folder(store: Store) -> Path:
    """Where what the trials of a storage print is kept: beside a SQLite file, else in `NAS_LOGS` or ./nas-logs."""
    return Path(f"{store.path}.logs") if store.path else Path(os.environ.get("NAS_LOGS", "nas-logs")).resolve()


def log_files(store: Store, study_id: int, number: int) -> list[Path]:
    """The output of each attempt of a trial that ran on this machine, in order."""
    from workers.child_process import log_path

    attempts = sorted(attempt.attempt for attempt in store.attempts(store.trial(study_id, number).id))
    paths = [log_path(log_folder(store), study_id, number, attempt) for attempt in attempts]
    return [path for path in paths if path.is_file()]


def serve(store: Store, study_id: int, pool: Pool) -> str:
    """Evaluate the trials of a study that is searched elsewhere, until it ends; returns why it ended."""
    with pool:
        while (state := store.state(study_id)) in ("active", "paused"):
            pool.tend()
            pool.work(SERVE_ROUND_SECONDS, time.sleep)
    return f"the study is {state}"
