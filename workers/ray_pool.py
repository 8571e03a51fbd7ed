"""RayPool: workers as Ray actors, on this machine or on a cluster. The only file that knows Ray.

Ray starts the processes, places them and says when one died; it holds no truth. An actor is a `Worker` that watches
over an evaluation process of its own.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from search_spaces.loading import load_object
from workers.child_handle import PACKAGE_ROOT, ChildSettings
from workers.child_process import ChildProcess
from workers.pool import PoolError, WorkerDied
from workers.worker import Worker

logger = logging.getLogger(__name__)

STORAGE_VARIABLE = "NAS_STORAGE"
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@|[?&;](password|sslpassword)=", re.IGNORECASE)
TEND_SECONDS = 0.25
"""Dead actors are looked for at most this often."""

EARLY_DEATH_SECONDS = 10.0
EARLY_DEATHS = 3
"""When so many workers in a row (per place in the pool) died within their first seconds, more of them will not help."""

WAIT_FOR_PLACE_SECONDS = 60.0
"""After so long without one worker at work, the cluster is said to be full."""


class WorkerActor:
    """What runs in a Ray actor: a worker with a child process. It imports neither torch nor anything a study names.

    Args:
        name: the worker's.
        queue: "module:object" of a function that opens the queue: called with the storage's URL, which is in the
            environment (Ray writes arguments and environments it is handed into its logs), and the study.
        study: the name of the study whose trials are claimed; None for all studies.
        settings: of the evaluation process.
        batch: as for `Worker`.
    """

    def __init__(self, name: str, queue: str, study: str | None, settings: ChildSettings, batch: int) -> None:
        self._name = name
        self._queue = queue
        self._study = study
        self._settings = settings
        self._batch = batch
        self._worker: Worker | None = None
        self._stopping = threading.Event()

    def run(self) -> int:
        """Work until `stop`; returns how many trials were evaluated.

        Ray runs this in a thread that lives as long as the call, which is what the child's life hangs on.
        """
        url = os.environ.get(STORAGE_VARIABLE)
        if not url:
            raise PoolError(
                f"{STORAGE_VARIABLE} is not set on {socket.gethostname()}; set it there before `ray start` is run"
            )
        if self._settings.folder is not None and self._settings.folder.is_dir():
            os.chdir(
                self._settings.folder
            )  # this process is ours alone; relative names mean what they mean to the caller
        else:
            self._settings = replace(self._settings, folder=None)
        open_queue = load_object(self._queue, (self._queue.partition(":")[0],))
        queue = open_queue(url, self._study)
        try:
            self._worker = Worker(
                queue, ChildProcess(self._settings), name=self._name, device=self._settings.device, batch=self._batch
            )
            if self._stopping.is_set():
                self._worker.stop()
            self._worker.run()
        finally:
            queue.close()
        return self._worker.evaluated

    def stop(self) -> None:
        """Let `run` end soon, what it holds given back."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    def health(self) -> dict[str, Any]:
        """Where it runs and what it has done."""
        return {
            "worker": self._name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "evaluated": self._worker.evaluated if self._worker else 0,
        }


@dataclass(kw_only=True)
class _Seat:
    """A place in the pool and who sits there."""

    name: str
    actor: Any
    #: ends when the actor's `run` does, or when the actor dies
    running: Any
    since: float
    #: its `health`, answered once the actor has a place in the cluster
    placed: Any
    #: when it may be filled again, if it is empty
    next_try: float = 0.0


class RayPool:
    """Workers as Ray actors.

    Args:
        queue: "module:object" of the function that opens the queue, called with the storage's URL and the study.
        url: the storage's. It travels in the environment of a Ray that is started here. To a cluster that is joined it
            is handed only if it holds no password, since Ray writes what it is handed into its logs; otherwise, or if
            None, the nodes' own `NAS_STORAGE` is used.
        study: the name of the study whose trials are claimed; None for all studies.
        workers: how many.
        address: a running cluster to join ("auto" for the one on this machine); a private one is started unless given.
            If this process uses Ray already, that one is joined.
        cpus_per_worker: what each worker takes of the cluster's processors.
        gpus_per_worker: the same of GPUs; a fraction shares one.
        allow: packages beside ours that code named by the study may be imported from.
        import_paths: folders that evaluation processes import from; this process's own unless given.
        log_folder: each attempt's output is kept below it, on the machine it ran on.
        threads: of each evaluation's numerical libraries; the machine's cores shared out among the workers unless
            given (in a cluster: `cpus_per_worker`).
        batch: as for `Worker`.
    """

    def __init__(
        self,
        *,
        queue: str,
        url: str | None = None,
        study: str | None = None,
        workers: int = 2,
        address: str | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        allow: Sequence[str] = (),
        import_paths: Sequence[str] | None = None,
        log_folder: Path | None = None,
        threads: int | None = None,
        batch: int = 16,
    ) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least 1 worker, got {workers}")
        for name, value in (("cpus_per_worker", cpus_per_worker), ("gpus_per_worker", gpus_per_worker)):
            if not 0 <= value < math.inf or (value > 1 and value != int(value)):
                raise ValueError(f"{name} must be a fraction up to 1 or a whole number, got {value!r}")
        if threads is None:
            own = address is None
            threads = (os.cpu_count() or 1) // workers if own else int(cpus_per_worker)
        self._queue = queue
        self._url = url
        self._study = study
        self._size = workers
        self._address = address
        self._cpus = cpus_per_worker
        self._gpus = gpus_per_worker
        self._settings = ChildSettings(
            allow=tuple(allow),
            import_paths=_own_import_paths() if import_paths is None else tuple(import_paths),
            folder=Path.cwd(),
            log_folder=None if log_folder is None else log_folder.absolute(),
            device="cuda:0" if gpus_per_worker > 0 else "cpu",
            threads=max(1, threads),
        )
        self._batch = batch
        self._prefix = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._started = 0
        self._seats: list[_Seat] = []
        self._tended = 0.0
        self._early_deaths = 0
        self._owns_ray = False
        self._full_said = False
        self._environment: dict[str, str] = {}

    @property
    def size(self) -> int:
        """How many trials are evaluated at once."""
        return self._size

    def owns(self, worker: str) -> bool:
        """Whether a worker of this name is (or was) of this pool."""
        return worker.startswith(f"{self._prefix}-")

    def __enter__(self) -> RayPool:
        try:
            self._join_or_start()
            self._seats = [self._seat() for _ in range(self._size)]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self.close()

    def tend(self) -> Sequence[WorkerDied]:
        """Replace workers that died; returns which did. `PoolError` if they keep dying at once."""
        import ray

        now = time.monotonic()
        if now - self._tended < TEND_SECONDS:
            return ()
        self._tended = now
        died = []
        running = [seat.running for seat in self._seats if seat.running is not None]
        ended = set(ray.wait(running, num_returns=len(running), timeout=0)[0]) if running else set()
        for index, seat in enumerate(self._seats):
            if seat.running in ended:
                reason = _why(seat.running)
                died.append(WorkerDied(seat.name, reason))
                logger.warning("worker %s died: %s", seat.name, reason)
                self._early_deaths = self._early_deaths + 1 if now - seat.since < EARLY_DEATH_SECONDS else 0
                if self._early_deaths >= EARLY_DEATHS * self._size:
                    raise PoolError(
                        f"{self._early_deaths} workers died one after another right after their start: {reason}"
                    )
                seat.running = None
                seat.next_try = now + min(30.0, 0.5 * 2**self._early_deaths if self._early_deaths else 0.0)
            if seat.running is None and now >= seat.next_try:
                self._seats[index] = self._seat()
        self._say_if_full(now)
        return died

    def _say_if_full(self, now: float) -> None:
        """Workers that the cluster has no room for wait in silence: say so once."""
        import ray

        if self._full_said or not self._seats or now - min(seat.since for seat in self._seats) < WAIT_FOR_PLACE_SECONDS:
            return
        self._full_said = True
        asked = [seat.placed for seat in self._seats]
        placed, waiting = ray.wait(asked, num_returns=len(asked), timeout=0)
        if waiting:
            logger.warning(
                "%d of %d workers wait for a place in the Ray cluster; each needs %g CPUs and %g GPUs",
                len(waiting),
                len(placed) + len(waiting),
                self._cpus,
                self._gpus,
            )

    def work(self, seconds: float, wait: Callable[[float], object]) -> None:
        """Wait: the actors work by themselves."""
        wait(seconds)

    def health(self, timeout_seconds: float = 5.0) -> list[dict[str, Any]]:
        """What each worker says of itself; those that do not answer in time are left out."""
        import ray

        asked = [seat.actor.health.remote() for seat in self._seats if seat.running is not None]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=timeout_seconds) if asked else ([], [])
        found = []
        for answer in answered:
            try:
                found.append(ray.get(answer))
            except ray.exceptions.RayError as error:
                logger.info("a worker does not answer: %s", error)
        return found

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Stop all workers, running trials given back; those that do not end within the grace are killed."""
        if not self._seats:
            return
        import ray

        seats, self._seats = self._seats, []
        for seat in seats:
            seat.actor.stop.remote()
        running = [seat.running for seat in seats if seat.running is not None]
        if running:
            _, late = ray.wait(running, num_returns=len(running), timeout=grace_seconds)
            if late:
                logger.warning("%d workers did not end within %g s and are killed", len(late), grace_seconds)
        for seat in seats:
            ray.kill(seat.actor, no_restart=True)

    def close(self) -> None:
        """Leave Ray, and end it if it was started here."""
        if self._owns_ray:
            import ray

            self._owns_ray = False
            ray.shutdown()

    def _join_or_start(self) -> None:
        handed = {"PYTHONPATH": _python_path()}
        if self._url is not None:
            handed[STORAGE_VARIABLE] = self._url
        if self._address is None and "ray" not in sys.modules:
            _prepare_private_ray()
        import ray

        if ray.is_initialized() or self._address is not None:
            if self._url is not None and PASSWORD.search(self._url):
                logger.info("the storage URL holds a password: the cluster's nodes use their own %s", STORAGE_VARIABLE)
                del handed[STORAGE_VARIABLE]
            self._environment = handed
            if not ray.is_initialized():
                self._owns_ray = True
                with _quiet():
                    ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
            return
        self._owns_ray = True
        with _environment(handed), _quiet():
            ray.init(
                num_cpus=max(os.cpu_count() or 1, math.ceil(self._cpus * self._size)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
            )
        have = ray.cluster_resources().get("GPU", 0)
        need = gpus_needed(self._size, self._gpus)
        if have < need:
            raise PoolError(
                f"{self._size} workers with {self._gpus:g} GPUs each need {need} GPUs, and this machine has {have:g}"
            )

    def _seat(self) -> _Seat:
        import ray

        self._started += 1
        name = f"{self._prefix}-{self._started}"
        options: dict[str, Any] = {
            "num_cpus": self._cpus,
            "num_gpus": self._gpus,
            "max_restarts": 0,
            "max_concurrency": 4,
        }
        if self._environment:
            options["runtime_env"] = {"env_vars": self._environment}
        actor = ray.remote(**options)(WorkerActor).remote(name, self._queue, self._study, self._settings, self._batch)
        return _Seat(
            name=name, actor=actor, running=actor.run.remote(), since=time.monotonic(), placed=actor.health.remote()
        )


def gpus_needed(workers: int, gpus_per_worker: float) -> int:
    """Whole GPUs for so many workers; a worker's fraction lies on one of them."""
    if gpus_per_worker <= 0:
        return 0
    if gpus_per_worker >= 1:
        return math.ceil(workers * gpus_per_worker)
    return math.ceil(workers / math.floor(1 / gpus_per_worker + 1e-9))


def _own_import_paths() -> tuple[str, ...]:
    """What this process imports from, made absolute, for the evaluation processes."""
    return tuple(dict.fromkeys(str(Path(path).resolve()) for path in sys.path))


def _python_path() -> str:
    """`PYTHONPATH` with the folder our packages are in, for the actors."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([PACKAGE_ROOT, *filter(None, inherited)]))


def _prepare_private_ray() -> None:
    """Say before Ray is imported that only who knows its token is obeyed, whatever this version's default is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    has_token = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if not has_token and not os.access(Path.home(), os.W_OK):  # where Ray would keep one
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _why(ended: Any) -> str:
    """Why an actor's `run` is over."""
    import ray

    try:
        ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        return f"{type(error.cause).__name__}: {error.cause}"
    except ray.exceptions.RayError as error:
        return str(error).strip().splitlines()[0]
    return "it ended without being asked to"


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while processes are started that inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's greetings to itself; its errors come as exceptions."""
    ray_logger = logging.getLogger("ray")
    level = ray_logger.level
    ray_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray_logger.setLevel(level)
