"""Who evaluates a study's trials, and where: from what the study says to a pool of workers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import catalogue
from nas.errors import NasError, NotResumable
from nas.files import checkpoint_folder, log_folder
from nas.store import Store, StudyRow, open_queue
from workers.metrics import DEVICE_METRICS

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from workers.pool import Pool
    from workers.ray_pool import RayPool

logger = logging.getLogger(__name__)


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
    is_limited = _is_limited(store, row)
    if "path" not in stored and kind == "ray":
        raise NasError(
            f"study {row.name!r}: {stored['function']} cannot be imported by Ray workers; define it at the top level "
            "of a module (not in the script that is run), or use pool='local'"
        )
    if kind == "auto":
        # a limit can be held, and a GPU be shared out, only where the evaluation is a process of its own
        needs_process = workers > 1 or gpus_per_worker > 0 or (is_limited and row.spec["space"]["root"] is not None)
        kind = "ray" if needs_process and "path" in stored else "local"
    if kind == "local" and gpus_per_worker > 0:
        raise NasError(
            f"study {row.name!r}: gpus_per_worker {gpus_per_worker:g} needs Ray workers, and workers in this process "
            "evaluate on the CPU; use pool='ray' with an evaluator from a module, or gpus_per_worker 0"
        )
    device = "cpu" if kind == "local" else own_device(gpus_per_worker, ray_address)
    metrics = [metric["name"] for metric in row.spec["metrics"]]
    if device is not None and DEVICE_METRICS.intersection(metrics):
        check_device(
            function or catalogue.load("evaluator", stored["path"], stored["settings"], allow=allow), metrics, device
        )
    if kind == "local":
        if function is None:
            function = catalogue.load("evaluator", stored["path"], stored["settings"], allow=allow)
        if is_limited:
            logger.warning(
                "study %r: its limits are not held in this process: time is looked at only when the evaluator reports, "
                "memory not at all. Let other processes evaluate (pool='ray') where the evaluator can be imported",
                row.name,
            )
        from workers.local_pool import LocalPool

        opened = partial(open_queue, store.url, row.name)
        return LocalPool(
            opened,
            function,
            workers=workers,
            own_threads=row.spec.get("stopper") is not None,  # it is asked while a trial runs
            space=space,
            allow=tuple(allow),
            checkpoints=checkpoint_folder(store),
        )
    if function is not None:  # who hands over the object trusts its module
        allow = (*allow, stored["path"].partition(":")[0])
    if row.spec["space"]["root"] is None:
        raise NotResumable(
            f"study {row.name!r}: Ray workers cannot import its search space ({row.spec['space']['reason']})"
        )
    return make_ray_pool(
        store,
        studies=row.name,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        ray_address=ray_address,
        allow=allow,
    )


def own_device(gpus_per_worker: float, ray_address: str | None) -> str | None:
    """Where workers that are started here evaluate; None where they are on machines of which nothing is known."""
    if ray_address is not None:
        return None
    return "cuda:0" if gpus_per_worker > 0 else "cpu"


def check_device(evaluator: object, metrics: Sequence[str], device: str | None) -> None:
    """Raise `ValueError`, saying what to do, if the evaluator cannot measure these metrics on this machine's device."""
    if device is not None and hasattr(evaluator, "check_device"):
        evaluator.check_device(metrics, device)


def make_ray_pool(
    store: Store,
    *,
    studies: str | Sequence[int],
    workers: int,
    gpus_per_worker: float,
    ray_address: str | None,
    allow: Sequence[str],
) -> RayPool:
    """Ray workers for a study by its name, or for several by their ids."""
    from workers.ray_pool import RayPool

    return RayPool(
        workers=workers,
        queue="nas.store:open_queue",
        url=store.url,
        studies=studies,
        address=ray_address,
        gpus_per_worker=gpus_per_worker,
        allow=tuple(allow),
        import_paths=tuple(import_paths()),
        log_folder=log_folder(store),
        checkpoints=checkpoint_folder(store),
    )


def _is_limited(store: Store, row: StudyRow) -> bool:
    limits = store.queue.facts(row.id)[1].limits
    return limits.time_limit_seconds is not None or limits.memory_limit_bytes is not None


def import_paths() -> list[str]:
    """Folders that code is imported from here, and so in workers; the current one last, so that it hides nothing."""
    return list(dict.fromkeys([*(str(Path(path).resolve()) for path in sys.path if path), str(Path.cwd())]))
