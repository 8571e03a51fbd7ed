"""Checkpoints as files: where they lie, how they get there whole, and which of them are believed.

They lie in a folder that workers share, one folder per study and trial below it. A key names one: it is made here, of
the study's uuid and numbers only, so that no name from elsewhere becomes a path. A file is written under another name
and renamed, behind a URL it is put there in one piece; then its hash goes into the database with the key. So it counts
only once it is whole, and whoever reads it checks that hash first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.remote_folder import Folder, RemoteFolder
from workers.state_file import write_state

KEY = re.compile(r"(?P<study>[0-9a-f]{32})/(?P<trial>\d{1,19})/(?P<name>\d{1,19}-\d{1,19}-\d{1,19}\.safetensors)")
FILE = re.compile(r"(?P<attempt>\d{1,19})-(?P<count>\d{1,19})-\d{1,19}\.safetensors(\.[0-9a-f]{16}\.partial)?")
UUID = re.compile(r"[0-9a-f]{32}")

COPY = "checkpoint.safetensors"
"""What a checkpoint from behind a URL is called where it is copied to."""


class UnusableCheckpoint(Exception):
    """It cannot be started from; the message says why."""


@dataclass(frozen=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint's file, written and whole."""

    key: str
    #: the evaluator's own count of how far it is
    step: int
    #: SHA-256 of the file, hexadecimal
    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CheckpointPlace:
    """Where the checkpoints of one trial lie.

    Args:
        root: the folder that workers share: a path, or what lies behind a URL.
        study: the study's uuid.
        trial: the trial's number.
    """

    root: Folder
    study: str
    trial: int

    def __post_init__(self) -> None:
        if not UUID.fullmatch(self.study):
            raise ValueError(f"a study's uuid is 32 hexadecimal digits, got {self.study!r}")

    def key(self, attempt: int, count: int, step: int) -> str:
        """The key of an attempt's `count`-th checkpoint, made at `step`."""
        return f"{self.study}/{self.trial}/{attempt}-{count}-{step}.safetensors"

    def owns(self, key: str, attempt: int) -> bool:
        """Whether a key is one of an attempt's."""
        return bool(KEY.fullmatch(key)) and key.startswith(f"{self.study}/{self.trial}/{attempt}-")

    def save(self, attempt: int, count: int, step: int, state: Mapping[str, Any]) -> SavedCheckpoint:
        """Write a state; when this returns, the file is whole and there to stay. `OSError` if there is no room."""
        key = self.key(attempt, count, step)
        if isinstance(self.root, RemoteFolder):
            with tempfile.TemporaryDirectory(prefix="nas-") as folder:
                path = Path(folder) / "state"
                digest, size = _written(path, state)
                self.root.put(path, key)
        else:
            digest, size = _write_whole(self.root, self.root / key, state)
        return SavedCheckpoint(key=key, step=step, digest=digest, size_bytes=size)

    def remove_before(self, key: str) -> None:
        """Delete the files that were made before this one: of earlier attempts, or earlier in its own."""
        newest = _order(Path(key).name)
        with suppress(OSError):  # what cannot be deleted now is deleted with the trial or the study
            for name in _names(self.root, self._folder):
                order = _order(name)
                if order is not None and newest is not None and order < newest:
                    _remove(self.root, f"{self._folder}/{name}")

    def remove(self) -> None:
        """Delete all: the trial has ended."""
        with suppress(OSError):
            _remove(self.root, self._folder)

    @property
    def _folder(self) -> str:
        return f"{self.study}/{self.trial}"


def usable_checkpoint(root: Folder | None, key: str, digest: str | None, *, into: Path | None = None) -> Path:
    """The file of a key, its contents held against the hash that was recorded; `UnusableCheckpoint` says why not.

    What lies behind a URL is copied to a file in the folder `into`.
    """
    if root is None:
        raise UnusableCheckpoint("this worker has no folder of checkpoints")
    if not KEY.fullmatch(key):
        raise UnusableCheckpoint(f"{key!r} is no key of a checkpoint")
    try:
        if isinstance(root, RemoteFolder):
            if into is None:
                raise UnusableCheckpoint(
                    f"the checkpoint {key} lies behind a URL, and there is no folder to copy it to"
                )
            path = into / COPY
            root.get(key, path)
        else:
            path = root / key
            _check_below(root, path.parent)
        # no link is followed: a key leads to a file that was written under it, or nowhere
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = error.strerror or error
        raise UnusableCheckpoint(f"the checkpoint {key} cannot be read on this machine: {why}") from error
    if found != digest:
        raise UnusableCheckpoint(f"the checkpoint {key} is not the file that was recorded: its hash differs")
    return path


def kept_trials(root: Folder, study: str) -> list[int]:
    """Numbers of the trials of a study that have checkpoints. `OSError` if nobody can say."""
    return [int(name) for name in _names(root, study) if name.isdecimal()] if UUID.fullmatch(study) else []


def remove_study(root: Folder, study: str) -> None:
    """Delete what a study has below a folder of checkpoints, or of logs."""
    if UUID.fullmatch(study):
        with suppress(OSError):
            _remove(root, study)


def _names(root: Folder, folder: str) -> list[str]:
    """What lies in a folder below the root."""
    if isinstance(root, RemoteFolder):
        return root.names(folder)
    return sorted(path.name for path in (root / folder).iterdir()) if (root / folder).is_dir() else []


def _remove(root: Folder, name: str) -> None:
    """Delete a file or a folder below the root, if it is there."""
    if isinstance(root, RemoteFolder):
        root.remove(name)
    elif (root / name).is_dir():
        shutil.rmtree(root / name, ignore_errors=True)
    else:
        (root / name).unlink(missing_ok=True)


def _written(path: Path, state: Mapping[str, Any]) -> tuple[str, int]:
    """Write a state to the disk; its hash and its size."""
    write_state(path, state)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return digest, os.fstat(file.fileno()).st_size


def _write_whole(root: Path, path: Path, state: Mapping[str, Any]) -> tuple[str, int]:
    """Write a state under another name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_below(root, path.parent)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        found = _written(partial, state)
        partial.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return found


def _order(name: str) -> tuple[int, int] | None:
    """(attempt, count) of a checkpoint's file, unfinished ones included; None for what is none of ours."""
    found = FILE.fullmatch(name)
    return (int(found["attempt"]), int(found["count"])) if found else None


def _check_below(root: Path, folder: Path) -> None:
    if not folder.resolve().is_relative_to(root.resolve()):
        raise PermissionError(errno.EACCES, f"it leads out of {root}", str(folder))


def _flush_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
