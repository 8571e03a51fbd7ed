"""Which machine this is."""

import socket
from functools import cache
from pathlib import Path


@cache
def host_name() -> str:
    """The machine's name."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """Identifies the time since the machine was last started; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
