"""The lock beside a SQLite file."""

import threading
from pathlib import Path

import pytest

from nas.errors import DatabaseAway, StorageError
from nas.store.write_lock import WriteLock


def test_who_waits_too_long_gives_up_and_may_try_again(tmp_path: Path) -> None:
    first = WriteLock(tmp_path / "x.db")
    second = WriteLock(tmp_path / "x.db", patience_seconds=0.05)
    with first:
        for _ in range(2):
            with pytest.raises(DatabaseAway, match=r"x\.db"), second:
                pass
    # those that gave up pass the lock on when their turn comes
    second._patience = 30.0
    with second:
        pass
    with first:
        pass


def test_the_lock_excludes_threads_and_other_holders(tmp_path: Path) -> None:
    locks = [WriteLock(tmp_path / "x.db"), WriteLock(tmp_path / "x.db")]
    inside, most = 0, 0

    def work(lock: WriteLock) -> None:
        nonlocal inside, most
        for _ in range(50):
            with lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work, args=(lock,)) for lock in locks * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"), WriteLock(tmp_path / "none" / "x.db"):
        pass
