"""Where a database is: its URL, read, checked, and shown without passwords."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas.errors import StorageError

FORMS = "sqlite:///file.db or postgresql://user@host/database"

NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse", "9p", "lustre", "gpfs", "ceph")
"""Their locks or their shared memory are not those SQLite needs: a database there is lost sooner or later."""

LOCAL_DESPITE_ITS_NAME = frozenset({"fuseblk", "fusectl"})


SHOWN_OPTIONS = frozenset(
    {"synchronous", "host", "hostaddr", "port", "dbname", "user", "options", "sslmode", "application_name"}
    | {"connect_timeout", "target_session_attrs", "channel_binding", "gssencmode"}
)
"""Options of a URL whose values may be printed. Not those without "password": that word may be misspelt."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A checked URL."""

    #: never printed: it may hold a password; `str` of an address is its masked form
    url: URL = field(repr=False)
    #: the database file, absolute; None on a server
    path: Path | None
    #: SQLite's durability: FULL survives a power cut, NORMAL may lose the last commits then (never on a kill)
    synchronous: str = "FULL"

    @property
    def is_sqlite(self) -> bool:
        """True for a file, False for a PostgreSQL server."""
        return self.path is not None

    def __str__(self) -> str:
        return masked(self.url)

    @property
    def text(self) -> str:
        """The URL with its password and an absolute path, to be opened by other processes. Never print it."""
        if self.path is None:
            return self.url.render_as_string(hide_password=False)
        return f"sqlite:///{self.path}" + ("" if self.synchronous == "FULL" else f"?synchronous={self.synchronous}")


def masked(url: str | URL) -> str:
    """The URL as it may be printed: no password, neither in front of the host nor among the options."""
    try:
        str(url).encode()
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return f"{re.split(r'[^A-Za-z0-9+]', str(url), maxsplit=1)[0]}:…"  # where a password stands is anybody's guess
    if _hides_password(parsed) or _is_garbled(parsed):
        return f"{parsed.drivername}:…"
    hidden = {key: "***" for key, value in parsed.query.items() if not _may_be_shown(key, str(value))}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def _is_garbled(parsed: URL) -> bool:
    """Whether a lost or added "?", "&", "@" or "/" has put options or a password into another part of the URL."""
    if parsed.drivername.startswith("sqlite"):
        return False
    shown = (parsed.drivername, parsed.username, parsed.host, parsed.database)
    return (
        any(re.search(r"[=&?#@]", part or "") for part in shown)
        or ":" in (parsed.database or "")
        or re.search(r"[/?&].*=", str(parsed.password or "")) is not None
    )


def _may_be_shown(option: str, value: str) -> bool:
    """Whether an option's value is what it says; with a lost "&" it would hold the next option as well."""
    return option in SHOWN_OPTIONS and value.count("=") <= (option == "options")


def _hides_password(parsed: URL) -> bool:
    """Whether part of a password may stand in the database's name: it had a "/" that was not written as %2F."""
    return "@" in (parsed.database or "") and not parsed.drivername.startswith("sqlite")


def parse(url: str) -> Address:
    """Read a storage URL; anything but a SQLite file or a PostgreSQL database is a `StorageError`."""
    try:
        url.encode()  # no database takes a broken character, which a command line may hold
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StorageError(f"{masked(url)!r} is not a storage URL; allowed are {FORMS}") from None
    driver = parsed.drivername.partition("+")[0]
    if _hides_password(parsed):
        raise StorageError("the database's name holds an '@'; write '/', '@' and '%' in a password as %2F, %40 and %25")
    if driver in ("postgresql", "postgres"):
        return Address(url=parsed.set(drivername="postgresql+psycopg"), path=None)
    if driver != "sqlite":
        raise StorageError(f"storage of the kind {driver!r} is unknown; allowed are {FORMS}")
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise StorageError(f"{masked(url)}: a study needs a file that several processes can open: sqlite:///file.db")
    options = dict(parsed.query)
    synchronous = str(options.pop("synchronous", "FULL")).upper()
    if options or synchronous not in ("FULL", "NORMAL"):
        raise StorageError(f"{masked(url)}: the only option of a SQLite file is ?synchronous=FULL (default) or NORMAL")
    path = Path(parsed.database).absolute()
    return Address(url=URL.create("sqlite", database=str(path)), path=path, synchronous=synchronous)


def check_file(path: Path, *, create: bool) -> None:
    """Refuse a path that cannot hold a database, without touching it."""
    try:
        is_folder = path.is_dir()
    except OSError as error:  # such as a name that is too long
        raise StorageError(f"{path} cannot be a database file: {error.strerror}") from None
    if is_folder:
        raise StorageError(f"{path} is a folder; name a database file in it, for example {path / 'studies.db'}")
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent} is not a folder; create it first, or name another file")
    kind = file_system(path.parent.resolve())
    if kind not in LOCAL_DESPITE_ITS_NAME and kind.startswith(NETWORK_FILE_SYSTEMS):
        raise StorageError(
            f"{path} is on a network file system ({kind}), where SQLite loses data; "
            "use a local disk, or postgresql:// for several machines"
        )
    if not path.exists():
        if not create:
            raise StorageError(f"{path} does not exist; check the storage URL, or create a study there first")
        return
    # Not opened to look into it: closing any descriptor of a file drops all locks its process holds on it (POSIX),
    # those of SQLite's own connections too. SQLite says itself what is not a database, and leaves it as it is.
    if not os.access(path, os.R_OK):
        raise StorageError(f"{path} cannot be read; check its permissions")


def file_system(folder: Path) -> str:
    """The kind of file system a folder is on, as Linux names it; "" where that cannot be known."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        # later lines are mounted over earlier ones
        if folder.is_relative_to(mount) and len(mount) >= best:
            best, kind = len(mount), after.split()[0]
    return kind
