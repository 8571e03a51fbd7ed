"""RayPool: workers as Ray actors, on this machine or on a cluster.

Ray starts the processes, places them and says when one died; it holds no truth. An actor is a `Worker` that watches
over an evaluation process of its own.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from workers import ray_session
from workers.child_handle import ChildSettings
from workers.pool import GRACE_SECONDS, PoolError, WorkerDied
from workers.process_limits import ProcessLimits
from workers.ray_worker import ActorSettings, WorkerActor
from workers.remote_folder import Folder

logger = logging.getLogger(__name__)

TEND_SECONDS = 0.25
"""Dead actors are looked for at most this often."""

EARLY_DEATH_SECONDS = 10.0
EARLY_DEATHS = 3
"""When so many workers in a row (per place in the pool) died within their first seconds, more of them will not help."""

WAIT_FOR_PLACE_SECONDS = 60.0
"""After so long without one worker at work, the cluster is said to be full."""


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
    #: its process, once it has a place on this machine
    process: psutil.Process | None = None
    #: when it may be filled again, if it is empty
    next_try: float = 0.0


class RayPool:
    """Workers as Ray actors.

    Args:
        queue: "module:object" of the function that opens the queue, called with the storage's URL and the study.
        url: the storage's. It travels in the environment of a Ray that is started here. To a cluster that is joined it
            is handed only if it holds no password, since Ray writes what it is handed into its logs; otherwise, or if
            None, the nodes' own `NAS_STORAGE` is used.
        studies: the name of the study whose trials are claimed, or the ids of several (see `serve`); None for all.
        workers: how many.
        address: a running cluster to join ("auto" for the one on this machine); a private one is started unless given.
            If this process uses Ray already, that one is joined.
        cpus_per_worker: what each worker takes of the cluster's processors.
        gpus_per_worker: the same of GPUs; a fraction shares one.
        allow: packages beside ours that code named by the study may be imported from.
        import_paths: folders that evaluation processes import from; this process's own unless given.
        log_folder: each attempt's output is kept below it, on the machine it ran on.
        checkpoints: the folder of checkpoints, which all workers should reach; None to keep none.
        limits: of each evaluation process.
        threads: of each evaluation's numerical libraries; the machine's cores shared out among the workers unless
            given (in a cluster: `cpus_per_worker`).
        batch: as for `Worker`.
    """

    def __init__(
        self,
        *,
        queue: str,
        url: str | None = None,
        studies: str | Sequence[int] | None = None,
        workers: int = 2,
        address: str | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        allow: Sequence[str] = (),
        import_paths: Sequence[str] | None = None,
        log_folder: Path | None = None,
        checkpoints: Folder | None = None,
        limits: ProcessLimits | None = None,
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
        self._studies = studies
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
            device_share=gpus_per_worker if 0 < gpus_per_worker < 1 else 1.0,
            threads=max(1, threads),
            limits=limits or ProcessLimits(),
        )
        self._checkpoints = checkpoints.absolute() if isinstance(checkpoints, Path) else checkpoints
        self._batch = batch
        self._prefix = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._started = 0
        self._seats: list[_Seat] = []
        self._tended = 0.0
        self._early_deaths = 0
        self._own_ray: ray_session.OwnRay | None = None
        self._head: ray_session.Head | None = None
        self._has_joined = False
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
        if broken := self._broken():
            raise PoolError(f"Ray has lost its {broken}, and no worker can be started any more; start the search again")
        self._look_who_is_placed()
        died = []
        running = [seat.running for seat in self._seats if seat.running is not None]
        ended = set(ray.wait(running, num_returns=len(running), timeout=0)[0]) if running else set()
        for index, seat in enumerate(self._seats):
            if seat.running in ended:
                reason = ray_session.why(seat.running)
                died.append(WorkerDied(seat.name, reason))
                logger.warning("worker %s died: %s", seat.name, reason)
                self._early_deaths = self._early_deaths + 1 if now - seat.since < EARLY_DEATH_SECONDS else 0
                if self._early_deaths >= EARLY_DEATHS * self._size:
                    raise PoolError(
                        f"{self._early_deaths} workers died one after another right after their start: {reason}"
                    )
                seat.running = None
                seat.next_try = now + min(30.0, 0.5 * 2**self._early_deaths if self._early_deaths else 0.0)
            if seat.running is None and now >= seat.next_try and (self._head is None or self._head.answers()):
                self._seats[index] = self._seat()
        self._say_if_full(now)
        return died

    def _broken(self) -> str | None:
        watched = self._own_ray or self._head
        return None if watched is None else watched.broken()

    def _look_who_is_placed(self) -> None:
        """Note the processes of workers on this machine that have found their place."""
        import ray

        asked = [seat for seat in self._seats if seat.process is None and seat.running is not None]
        for seat in asked:
            if self._own_ray is not None and ray.wait([seat.placed], timeout=0)[0]:
                with suppress(ray.exceptions.RayError, psutil.Error):
                    seat.process = psutil.Process(ray.get(seat.placed)["pid"])
                    self._own_ray.look()

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

    def serve(self, studies: Sequence[int]) -> None:
        """Let all workers claim trials of these studies (their ids) from now on."""
        self._studies = tuple(studies)
        for seat in self._seats:
            seat.actor.serve.remote(self._studies)

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

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop all workers, running trials given back; those that do not end within the grace are killed."""
        if not self._seats:
            return
        import ray

        seats, self._seats = self._seats, []
        if self._broken():
            _end_without_ray([seat.process for seat in seats if seat.process is not None], grace_seconds)
            return
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
        self._head = None
        own, self._own_ray = self._own_ray, None
        if own is not None:
            own.end()
        if self._has_joined:
            import ray

            self._has_joined = False
            ray.shutdown()

    def _join_or_start(self) -> None:
        if self._address is not None or ray_session.is_joined():
            self._environment, self._has_joined = ray_session.join(self._address, self._url)
            self._head = ray_session.Head.joined()
            return
        cpus = max(os.cpu_count() or 1, math.ceil(self._cpus * self._size))
        self._own_ray = ray_session.OwnRay(self._url, cpus)
        import ray

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
        settings = ActorSettings(
            name=name,
            queue=self._queue,
            studies=self._studies,
            child=self._settings,
            batch=self._batch,
            checkpoints=self._checkpoints,
        )
        actor = ray.remote(**options)(WorkerActor).remote(settings)
        return _Seat(
            name=name, actor=actor, running=actor.run.remote(), since=time.monotonic(), placed=actor.health.remote()
        )


def _end_without_ray(processes: Sequence[psutil.Process], grace_seconds: float) -> None:
    """Tell workers to leave whom Ray does not reach any more; they give back what they hold."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, late = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in late:
        with suppress(psutil.Error):
            process.kill()


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
