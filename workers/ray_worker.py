"""WorkerActor: what runs in a Ray actor. It imports neither torch nor anything a study names."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from search_spaces.loading import load_object
from workers.child_handle import ChildSettings
from workers.child_process import ChildProcess
from workers.pool import PoolError
from workers.remote_folder import Folder
from workers.worker import Worker

logger = logging.getLogger(__name__)

STORAGE_VARIABLE = "NAS_STORAGE"


@dataclass(frozen=True, kw_only=True)
class ActorSettings:
    """What an actor is told; plain values, since Ray writes what it is handed into its logs."""

    #: the worker's name
    name: str
    #: "module:object" of a function that opens the queue (with a method `serve` for other studies): called with the
    #: storage's URL, which is in the environment, and the studies
    queue: str
    #: a study's name, or the ids of several; None for all
    studies: str | Sequence[int] | None
    child: ChildSettings
    #: as for `Worker`
    batch: int
    checkpoints: Folder | None


class WorkerActor:
    """A worker with a child process, in a process of its own."""

    def __init__(self, settings: ActorSettings) -> None:
        self._settings = settings
        self._queue: Any = None
        self._worker: Worker | None = None
        self._stopping = threading.Event()
        self._was_told_to_end = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._leave)

    def run(self) -> int:
        """Work until `stop` or SIGTERM; returns how many trials were evaluated.

        Ray runs this in a thread that lives as long as the call, which is what the child's life hangs on.
        """
        evaluated = self._run()
        if self._was_told_to_end:
            import ray

            ray.actor.exit_actor()
        return evaluated

    def _run(self) -> int:
        url = os.environ.get(STORAGE_VARIABLE)
        if not url:
            raise PoolError(
                f"{STORAGE_VARIABLE} is not set on {socket.gethostname()}; set it there before `ray start` is run"
            )
        settings, child = self._settings, self._settings.child
        if child.folder is not None and child.folder.is_dir():
            # this process is ours alone; relative names mean what they mean to the caller
            os.chdir(child.folder)
        else:
            child = replace(child, folder=None)
        open_queue = load_object(settings.queue, (settings.queue.partition(":")[0],))
        self._queue = open_queue(url, settings.studies)
        try:
            if self._settings.studies != settings.studies:  # told otherwise while the database was opened
                self._queue.serve(self._settings.studies)
            self._worker = Worker(
                self._queue,
                ChildProcess(child),
                name=settings.name,
                device=child.device,
                batch=settings.batch,
                checkpoints=settings.checkpoints,
            )
            if self._stopping.is_set():
                self._worker.stop()
            self._worker.run()
        finally:
            self._queue.close()
        return self._worker.evaluated

    def serve(self, studies: Sequence[int]) -> None:
        """Claim trials of these studies from now on."""
        self._settings = replace(self._settings, studies=tuple(studies))
        if self._queue is not None:
            self._queue.serve(studies)

    def stop(self) -> None:
        """Let `run` end soon, what it holds given back."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: this process alone is to end. What runs is checkpointed and given back first: that is no loss."""
        self._was_told_to_end = True
        self.stop()

    def health(self) -> dict[str, Any]:
        """Where it runs and what it has done."""
        return {
            "worker": self._settings.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "evaluated": self._worker.evaluated if self._worker else 0,
        }
