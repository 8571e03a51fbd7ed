"""LocalPool: workers in this process, for evaluators that cannot be named and so cannot be run elsewhere."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from search_spaces.space import SearchSpace
from workers.in_process import InProcess
from workers.pool import GRACE_SECONDS, WorkerDied
from workers.protocol import TrialQueue
from workers.remote_folder import Folder
from workers.worker import Worker

logger = logging.getLogger(__name__)


class LocalPool:
    """One worker in the calling thread, or workers in threads of their own.

    Args:
        queue: opens the queue; one is opened for the pool, and closed by `close`.
        evaluator: a function (assignment, report) -> metrics, or an object with `evaluate`; shared by all threads.
        workers: 1 evaluates within `work`, in the thread that calls it: no thread to switch to, and an interrupt
            reaches the evaluator itself.
        own_threads: even if there is 1, so that the caller can look at a trial meanwhile and stop it.
        space: the study's space, where the caller has it.
        device: where to evaluate.
        allow: packages beside ours that code named by the study may be imported from.
        checkpoints: the folder of checkpoints; None to keep none.
    """

    def __init__(
        self,
        queue: Callable[[], TrialQueue],
        evaluator: Any,
        *,
        workers: int = 1,
        own_threads: bool = False,
        space: SearchSpace | None = None,
        device: str = "cpu",
        allow: tuple[str, ...] = (),
        checkpoints: Folder | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least 1 worker, got {workers}")
        self._open_queue = queue
        self._make_evaluation = partial(InProcess, evaluator, space=space, device=device, allow=allow)
        self._device = device
        self._checkpoints = checkpoints
        self._size = workers
        self._is_inline = workers == 1 and not own_threads
        self._prefix = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._queue: TrialQueue | None = None
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    @property
    def size(self) -> int:
        """How many trials are evaluated at once."""
        return self._size

    def owns(self, worker: str) -> bool:
        """Whether a worker of this name is (or was) of this pool."""
        return worker.startswith(f"{self._prefix}-")

    def __enter__(self) -> LocalPool:
        self._queue = self._open_queue()
        self._workers = [
            Worker(
                self._queue,
                self._make_evaluation(),
                name=f"{self._prefix}-{index}",
                device=self._device,
                checkpoints=self._checkpoints,
            )
            for index in range(self._size)
        ]
        if self._is_inline:
            self._workers[0].open()
        else:
            self._threads = [
                threading.Thread(target=self._serve, args=(worker,), name=worker.name, daemon=True)
                for worker in self._workers
            ]
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.close()

    def tend(self) -> Sequence[WorkerDied]:
        """Raises what ended a worker: in this process that is an error of ours, or of the queue."""
        if self._errors:
            raise self._errors[0]
        return ()

    def work(self, seconds: float, wait: Callable[[float], object]) -> None:
        """Evaluate what waits (one worker in this thread), or wait for the threads' results."""
        if not self._is_inline or not self._workers[0].step():
            wait(seconds)

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Interrupt the workers at their next report; after the grace their trials are given back over their heads."""
        for worker in self._workers:
            worker.stop()
        deadline = time.monotonic() + grace_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for worker in self._workers:
            worker.close()
        late = sum(thread.is_alive() for thread in self._threads)
        if late:
            logger.warning(
                "%d evaluations go on in their threads; their trials are given back and their results dropped", late
            )
        self._workers, self._threads = [], []

    def close(self) -> None:
        """Close the queue."""
        if self._workers:
            self.stop()
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def _serve(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:  # handed to the thread that tends
            logger.exception("worker %s ended", worker.name)
            self._errors.append(error)
