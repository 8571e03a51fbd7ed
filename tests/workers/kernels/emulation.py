"""CUDA sources run on the CPU: compiled as C++ against `emulator.hpp`, launched as `workers.kernels.launch` does."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.kernels import launch as launching
from workers.kernels.compile import HERE, Program

COMPILER = shutil.which("g++")
EMULATOR = Path(__file__).with_name("emulator.hpp")


class Emulation:
    """Takes the place of the launcher; remembers what was launched."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, multiprocessors: int = 3) -> None:
        self.folder, self.entries = folder, list[str]()
        patch.setattr(launching, "launch", self.launch)
        patch.setattr(launching, "multiprocessors", lambda device: multiprocessors)

    def launch(
        self,
        program: Program,
        entry: str,
        *,
        grid: tuple[int, int],
        block: int,
        arguments: Sequence[Tensor | int | None],
        device: torch.device,
    ) -> None:
        values = [launching._value(argument) for argument in arguments]
        run = getattr(compiled(program, self.folder), f"emulated_{entry}")
        run(*map(ctypes.c_uint, (*grid, block)), (ctypes.c_longlong * len(values))(*values))
        self.entries.append(entry)


@cache
def compiled(program: Program, folder: Path) -> ctypes.CDLL:
    """The program as a library of this process."""
    assert COMPILER is not None
    source = (HERE / f"{program.source}.cu").read_text()
    defines = "".join(f"#define {name} {value}\n" for name, value in program.defines)
    entries = re.findall(r"__global__[^{]*?\bvoid\s+(\w+)\(", re.sub(r"__launch_bounds__\([^)]*\)", "", source))
    assert entries
    text = [EMULATOR.read_text(), defines, source, *[f"EMULATED({entry})" for entry in entries]]
    name = folder / re.sub(r"\W", "_", f"{program.source}{program.defines}")
    name.with_suffix(".cpp").write_text("\n".join(text))
    library = name.with_suffix(".so")
    flags = ["-std=c++17", "-fno-strict-aliasing", "-shared", "-fPIC", "-w"]
    subprocess.run([COMPILER, *flags, "-o", library, name.with_suffix(".cpp")], check=True)
    return ctypes.CDLL(str(library))
