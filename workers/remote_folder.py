"""A folder behind a URL that workers share: S3, Google Cloud Storage, SFTP, whatever fsspec knows."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""URL schemes whose file system comes with an extra of ours."""


@dataclass(frozen=True)
class RemoteFolder:
    """What lies below a URL, by keys: relative names with "/" between their parts.

    A file is put there in one piece and never written over. Object stores show it whole or not at all; elsewhere it may
    be torn where its writer died. So whoever reads one holds it against a hash that was recorded after it was written.

    Raises:
        ValueError: there is no file system for such a URL, or it holds a password.
    """

    url: str

    def __post_init__(self) -> None:
        import fsspec

        if urlsplit(self.url).password is not None:
            raise ValueError(
                "a folder's URL is stored and logged: leave the password out of it, and give it to the file system "
                "by its own environment variables or fsspec's configuration files"
            )
        scheme = self.url.partition("://")[0].rpartition("::")[2]
        try:
            fsspec.get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            needed = f"pip install 'nas-service[{EXTRAS[scheme]}]'" if scheme in EXTRAS else "install what it names"
            raise ValueError(f"{self.url}: no file system for {scheme!r} here ({error}); {needed}") from None

    def __str__(self) -> str:
        return self.url

    def put(self, path: Path, key: str) -> None:
        """Copy a file there."""
        with self._told() as (files, base):
            where = f"{base}/{key}"
            files.makedirs(where.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), where)

    def get(self, key: str, path: Path) -> None:
        """Copy a file from there; `FileNotFoundError` if there is none."""
        with self._told() as (files, base):
            files.get_file(f"{base}/{key}", str(path))

    def names(self, folder: str = "") -> list[str]:
        """What lies directly in a folder below; nothing where there is none."""
        with self._told() as (files, base):
            files.invalidate_cache()  # others write there, too
            try:
                found = files.ls(f"{base}/{folder}".rstrip("/"), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def remove(self, key: str) -> None:
        """Delete a file, or a folder with all below it, if it is there."""
        with self._told() as (files, base):
            files.invalidate_cache()
            if files.exists(f"{base}/{key}"):
                files.rm(f"{base}/{key}", recursive=True)

    @contextmanager
    def _told(self) -> Iterator[tuple[Any, str]]:
        """The file system and our place in it; whatever goes wrong there comes as an `OSError`."""
        from fsspec.core import url_to_fs

        try:
            files, base = url_to_fs(self.url)
            yield files, base.rstrip("/")
        except OSError:
            raise
        except Exception as error:  # each has errors of its own (of a network library, say)
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.url) from error


Folder: TypeAlias = Path | RemoteFolder


def folder_named(name: str) -> Folder:
    """The folder that a path or a URL names; ``file://`` is a path."""
    if name.startswith("file://"):
        return Path(unquote(urlsplit(name).path))
    return RemoteFolder(name) if "://" in name else Path(name)
