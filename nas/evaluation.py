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
from nas.store import open_queue

if TYPE_CHECKING:
    from nas.study import Study
    from workers.pool import Pool

SERVE_ROUND_SECONDS = 0.5


def describe_evaluator(evaluator: Any) -> dict[str, Any]:
    """What a study's row says of an evaluator that is given as an object.

    A function or object that other processes can import has a path; a dataclass with plain JSON fields has a path and
    settings; anything else only a name for messages, and runs in this process alone.
    """
    if nameable(evaluator):
        return {"path": f"{evaluator.__module__}:{evaluator.__qualname__}", "settings": {}}
    if not hasattr(evaluator, "__qualname__"):
        try:
            part = catalogue.describe("evaluator", evaluator)
        except ValueError:
            pass
        else:
            return {"path": catalogue.path_of("evaluator", part.name), "settings": dict(part.settings)}
    name = getattr(evaluator, "__qualname__", type(evaluator).__qualname__)
    home = getattr(evaluator, "__module__", type(evaluator).__module__)
    return {"function": f"{home}:{name}"}


def nameable(function: Any) -> bool:
    """Whether another process can import this very object as ``module:object``."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function


def make_pool(
    study: Study,
    function: Any,
    *,
    kind: str,
    workers: int,
    gpus_per_worker: float,
    ray_address: str | None,
    allow: Sequence[str],
) -> Pool:
    """Workers for a study; see `Study.run`. `function` is the evaluator where it is at hand as an object."""
    if kind not in ("auto", "local", "ray"):
        raise ValueError(f"pool must be 'auto', 'local' or 'ray', got {kind!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers must be a whole number of at least 1, got {workers!r}")
    stored = study.spec["evaluator"]
    if "path" not in stored and kind == "ray":
        raise NasError(
            f"study {study.name!r}: {stored['function']} cannot be imported by Ray workers; define it at the top "
            "level of a module (not in the script that is run), or use pool='local'"
        )
    if kind == "local" or "path" not in stored or (kind == "auto" and workers == 1):
        if function is None:
            function = catalogue.load("evaluator", stored["path"], stored["settings"], allow=allow)
        from workers.local_pool import LocalPool

        opened = partial(open_queue, study.store.url, study.name)
        return LocalPool(opened, function, workers=workers, space=study.space, allow=tuple(allow))
    if function is not None:  # who hands over the object trusts its module
        allow = (*allow, stored["path"].partition(":")[0])
    if study.spec["space"]["root"] is None:
        raise NotResumable(
            f"study {study.name!r}: Ray workers cannot import its search space ({study.spec['space']['reason']})"
        )
    from workers.ray_pool import RayPool

    return RayPool(
        workers=workers,
        queue="nas.store:open_queue",
        url=study.store.url,
        study=study.name,
        address=ray_address,
        gpus_per_worker=gpus_per_worker,
        allow=tuple(allow),
        import_paths=tuple(import_paths()),
        log_folder=log_folder(study),
    )


def import_paths() -> list[str]:
    """Folders that code is imported from here, and so in workers; the current one last, so that it hides nothing."""
    return list(dict.fromkeys([*(str(Path(path).resolve()) for path in sys.path if path), str(Path.cwd())]))


def log_folder(study: Study) -> Path:
    """Where what the trials of a storage print is kept: beside a SQLite file, else below `NAS_LOGS` or ./nas-logs."""
    path = study.store.path
    return Path(f"{path}.logs") if path is not None else Path(os.environ.get("NAS_LOGS", "nas-logs")).resolve()


def log_files(study: Study, number: int) -> list[Path]:
    """The output of each attempt of a trial that ran on this machine, in order."""
    from workers.child_process import log_path

    attempts = [attempt.attempt for attempt in study.store.attempts(study.trial(number).id)]
    paths = [log_path(log_folder(study), study.id, number, attempt) for attempt in sorted(attempts)]
    return [path for path in paths if path.is_file()]


def serve(study: Study, *, workers: int, gpus_per_worker: float, ray_address: str | None) -> str:
    """Evaluate the trials of a study that is searched elsewhere, until it ends; returns why it ended."""
    study.bind_evaluator()
    pool = make_pool(
        study,
        None,
        kind="ray",
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        ray_address=ray_address,
        allow=study.allow,
    )
    with pool:
        while (state := study.state) in ("active", "paused"):
            pool.tend()
            pool.work(SERVE_ROUND_SECONDS, time.sleep)
    return f"the study is {state}"
