"""Machine code of the CUDA sources beside this file, compiled when it is needed and kept on disk.

The compiler is NVRTC, which `cuda-core` and `cuda-bindings` bring (the extra ``cuda``): no toolkit, no C++ compiler.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
FLAGS = {"std": "c++17"}
GET_ONE = "pip install 'nas-service[cuda]' brings a compiler for drivers of CUDA 13, 'nas-service[cuda12]' one for 12"
ELF = b"\x7fELF"
"""How machine code begins."""


class NotCompiled(RuntimeError):
    """There is no machine code; the message says why, and how to get a compiler where there is none."""


@dataclass(frozen=True)
class Program:
    """A CUDA source with its defines.

    Args:
        source: name of a ``.cu`` file here, without the ending.
        defines: name and value of each macro that the file's head asks for.
    """

    source: str
    defines: tuple[tuple[str, str | int], ...] = ()

    def text(self) -> str:
        """What is compiled: defines, `hardware.cuh`, the source."""
        defines = "".join(f"#define {name} {value}\n" for name, value in self.defines)
        parts = (HERE / "hardware.cuh", HERE / f"{self.source}.cu")
        return defines + "\n".join(path.read_text(encoding="utf-8") for path in parts)


def sources() -> list[str]:
    """The names of all CUDA sources."""
    return sorted(path.stem for path in HERE.glob("*.cu"))


def machine_code(program: Program, architecture: str) -> bytes:
    """The cubin of a program for an architecture such as "sm_90", from the cache if it is there.

    Raises:
        NotCompiled: it is not in the cache, and there is no compiler or it refuses.
    """
    path = cache_folder() / f"{_key(program, architecture)}.cubin"
    try:
        kept = path.read_bytes()
        if kept.startswith(ELF):
            return kept
    except OSError:
        pass  # not there, or not for us to read: it is compiled
    code = compiled(program, architecture)
    _keep(path, code)
    return code


def compiled(program: Program, architecture: str) -> bytes:
    """The same, always compiled anew. Needs no GPU."""
    try:
        from cuda.core import Program as Source
        from cuda.core import ProgramOptions
    except ImportError as error:
        raise NotCompiled(f"no CUDA compiler ({error}); {GET_ONE}") from error
    try:
        options = ProgramOptions(arch=architecture, name=f"{program.source}.cu", **FLAGS)
        return bytes(Source(program.text(), "c++", options=options).compile("cubin").code)
    except Exception as error:  # NVRTC that is not there or does not know the GPU: each release has its own exceptions
        reason = str(error).partition("\n")[0]
        raise NotCompiled(
            f"{program.source} for {architecture}: {type(error).__name__}: {reason}; {GET_ONE}"
        ) from error


def cache_folder() -> Path:
    """Where machine code is kept: `NAS_KERNEL_CACHE`, else ``nas-kernels`` in the user's cache folder."""
    if named := os.environ.get("NAS_KERNEL_CACHE"):
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "nas-kernels"


def _key(program: Program, architecture: str) -> str:
    """Changes with all that the machine code depends on."""
    parts = [program.text(), architecture, repr(FLAGS), _compiler_version()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@cache
def _compiler_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        with suppress(PackageNotFoundError):
            return version(package)
    return "unknown"  # from a toolkit of the system's


def _keep(path: Path, code: bytes) -> None:
    """Whole or not at all; a folder that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        Path(file.name).replace(path)
    except OSError as error:
        logger.warning(
            "compiled CUDA code cannot be kept in %s (%s); it is compiled again next time", path.parent, error
        )
