"""The side-car lock of a SQLite file: one writer at a time, in order and without SQLite's sleeping retries."""

import fcntl
import os
import threading
import time
from pathlib import Path
from types import TracebackType

from nas.errors import DatabaseAway, StorageError


class WriteLock:
    """`flock` on `<database>.wlock`, held around every write transaction, checkpoint and close.

    SQLite's own waiting polls with growing sleeps, so that under several writers some wait for a second; here the
    kernel queues them. It also keeps writers from overlapping checkpoints (SQLite < 3.51.3 has a bug there, see
    sqlite.org/wal.html). The kernel frees it when its holder dies. `flock` excludes processes, the inner lock threads.
    """

    def __init__(self, database: Path, *, patience_seconds: float = 30.0) -> None:
        self.path = database.with_name(database.name + ".wlock")
        self._patience = patience_seconds
        self._threads = threading.Lock()
        self._file: int | None = None

    def __enter__(self) -> None:
        deadline = time.monotonic() + self._patience
        if not self._threads.acquire(timeout=self._patience):
            raise self._busy()
        try:
            if self._file is None:
                self._file = self._opened()
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self._queued(self._file, deadline):
                    raise self._busy() from None
        except BaseException:
            self._threads.release()
            raise

    def _queued(self, file: int, deadline: float) -> bool:
        """Stand in the kernel's queue until the deadline; whether the lock came.

        `flock` knows no deadline, and its holder may be a stopped process; a thread waits in its place. Who gives up
        leaves the file to that thread, which closes it (and so the lock) when its turn comes.
        """
        turn, given_up = threading.Semaphore(0), threading.Lock()

        def wait() -> None:
            fcntl.flock(file, fcntl.LOCK_EX)
            turn.release()
            if not given_up.acquire(blocking=False):
                os.close(file)

        threading.Thread(target=wait, name="waits for the write lock", daemon=True).start()
        came = False
        try:
            came = turn.acquire(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            if not came:
                if given_up.acquire(blocking=False):
                    self._file = None
                else:
                    # it came at the last moment
                    fcntl.flock(file, fcntl.LOCK_UN)
        return came

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}; check its folder's permissions"
            ) from None

    def _busy(self) -> DatabaseAway:
        return DatabaseAway(
            f"another process has been writing to {self.path.with_suffix('')} for {self._patience:g} s; "
            "look for a stopped one, then try again"
        )
