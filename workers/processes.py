"""Facts about processes, and ways to end them: identity, memory of a tree, killing a group, a clean environment."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

SECRET_NAMES = re.compile(
    r"NAS_STORAGE|RAY_AUTH_TOKEN(_PATH)?|PG(HOST|HOSTADDR|PORT|USER|DATABASE|PASS\w*|SERVICE\w*|SSL\w*)"
)
DATABASE_URL = re.compile(
    r"\b(postgres|postgresql|sqlite|mysql|mariadb|oracle|mssql|cockroachdb|redis|mongodb)(\+\w+)?://", re.IGNORECASE
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """Tells a process from every other one, on any machine, at any time."""

    host: str
    #: of the machine's last start; "" where the system does not say
    boot: str
    pid: int
    #: seconds since 1970 UTC
    started: float


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    return ProcessIdentity(
        host=socket.gethostname(), boot=_boot_id(), pid=os.getpid(), started=psutil.Process().create_time()
    )


def is_alive(pid: int, started: float) -> bool:
    """Whether the process that had this number when it started then (seconds since 1970 UTC) still runs."""
    try:
        process = psutil.Process(pid)
        # on Linux the start is known to 10 ms, and moves with the clock by as much
        return bool(abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # somebody is there: better to wait for the lease than to take a trial from the living


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; pages they share are counted once for each."""
    total = 0
    for process in family(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def memory_is_short() -> bool:
    """Whether the machine has less than a tenth of its memory to give."""
    memory = psutil.virtual_memory()
    return bool(memory.available < 0.1 * memory.total)


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it started; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended. It is not reaped: while it is a zombie its number belongs to nobody else."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_family(process: subprocess.Popen[bytes], grace_seconds: float = 0.0) -> None:
    """End a process that leads its own group, and its descendants: SIGTERM, a grace, SIGKILL. Reaps it.

    Args:
        process: started with `start_new_session`, and watched with `has_exited` only.
        grace_seconds: how long it may take to end itself after SIGTERM; 0 kills at once.
    """
    if process.returncode is not None:
        return
    descendants = family(process.pid)[1:]  # they may have left the group
    if grace_seconds > 0:
        _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while not has_exited(process) and time.monotonic() < deadline:
            time.sleep(0.01)
    _signal_group(process.pid, signal.SIGKILL)
    for descendant in descendants:
        with suppress(psutil.Error):
            descendant.kill()  # psutil sees to it that the number still means the same process
    process.wait()


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def evaluation_environment(base: Mapping[str, str], *, threads: int, package_root: str) -> dict[str, str]:
    """The environment trial code runs in: without anything that leads to the database, with few threads.

    Threads are set here because numerical libraries read them when they are imported.
    """
    clean = {
        name: value
        for name, value in base.items()
        if not SECRET_NAMES.fullmatch(name) and not DATABASE_URL.search(value)
    }
    clean |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    paths = [package_root, *filter(None, clean.get("PYTHONPATH", "").split(os.pathsep))]
    clean["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return clean
