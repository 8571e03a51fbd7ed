"""Compiling the CUDA sources: all of them for the architectures we promise, kept on disk, missed without harm."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workers.kernels import registration
from workers.kernels.compile import ELF, NotCompiled, Program, cache_folder, compiled, machine_code, sources

DEPTHWISE = ("ELEMENT", "KERNEL", "STRIDE", "TILE", "CHANNELS")
PROGRAMS = [
    Program("activation_overlap", (("ELEMENT", "bfloat16"), ("BITS", 1), ("WIDE", 1))),
    Program("activation_overlap", (("ELEMENT", "float"), ("BITS", 0), ("WIDE", 0))),
    Program("batched_mlp", (("ELEMENT", "bfloat16"),)),
    Program("batched_mlp", (("ELEMENT", "double"),)),
    Program("depthwise_conv2d", tuple(zip(DEPTHWISE, ("bfloat16", 3, 1, 8, 2), strict=True))),
    Program("depthwise_conv2d", tuple(zip(DEPTHWISE, ("float", 5, 2, 4, 1), strict=True))),
    Program("sum_relu", (("ELEMENT", "float16"), ("COUNT", 2), ("KEEP", 1))),
    Program("sum_relu", (("ELEMENT", "double"), ("COUNT", 8), ("KEEP", 0))),
]
SMALL = Program("sum_relu", (("ELEMENT", "float"), ("COUNT", 2), ("KEEP", 0)))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_KERNEL_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def test_every_source_is_compiled_here() -> None:
    assert {program.source for program in PROGRAMS} == set(sources())


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_every_source_compiles_at_run_time(program: Program, architecture: str) -> None:
    pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[cuda]'")
    assert compiled(program, architecture).startswith(ELF)


@pytest.mark.slow
@pytest.mark.parametrize("name", sources())
def test_every_source_compiles_with_nvcc(name: str, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc here")
    program = next(program for program in PROGRAMS if program.source == name)
    (tmp_path / "source.cu").write_text(program.text())
    targets = [f"-gencode=arch=compute_{version},code=sm_{version}" for version in (80, 90)]
    subprocess.run([nvcc, "-std=c++17", *targets, "-fatbin", "-o", "both", "source.cu"], check=True, cwd=tmp_path)
    assert (tmp_path / "both").stat().st_size


def test_what_the_compiler_refuses_is_no_machine_code_and_the_message_says_why() -> None:
    pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[cuda]'")
    with pytest.raises(NotCompiled, match=r"sum_relu for sm_1: NVRTCError: .*nas-service\[cuda12\]"):
        compiled(SMALL, "sm_1")


def test_what_was_compiled_is_kept_and_found_again(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[cuda]'")
    first = machine_code(SMALL, "sm_80")
    (kept,) = empty_cache.iterdir()
    assert kept.read_bytes() == first
    monkeypatch.setitem(sys.modules, "cuda.core", None)  # no compiler any more
    assert machine_code(SMALL, "sm_80") == first
    for other, architecture in ((SMALL, "sm_90"), (PROGRAMS[-1], "sm_80")):
        with pytest.raises(NotCompiled):
            machine_code(other, architecture)
    kept.write_bytes(b"half a fi")
    with pytest.raises(NotCompiled):
        machine_code(SMALL, "sm_80")


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_KERNEL_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr("workers.kernels.compile.compiled", lambda program, architecture: ELF + b"code")
    assert machine_code(SMALL, "sm_90") == ELF + b"code"
    assert "cannot be kept" in caplog.text


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_KERNEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/nas-kernels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "nas-kernels"


def test_without_a_gpu_nothing_is_registered_and_without_a_compiler_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    register = registration.register.__wrapped__
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert register() is False
    assert not caplog.records
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    assert register() is False
    (record,) = caplog.records
    assert "pip install 'nas-service[cuda]'" in record.getMessage()


def test_on_a_gpu_that_no_source_compiles_for_nothing_is_registered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, said in (((7, 5), "this one has 7.5"), ((99, 0), "sum_relu for sm_990")):
        caplog.clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert registration.register.__wrapped__() is False
        (record,) = caplog.records
        assert said in record.getMessage()


def test_kernels_are_registered_for_operators_that_lower_floors_declare() -> None:
    import predictors.zero_cost.activation_overlap  # noqa: F401
    import search_spaces.operations.batched_mlp
    import search_spaces.operations.depthwise
    import search_spaces.operations.sum_relu  # noqa: F401

    for name in registration.implementations():
        schema = getattr(torch.ops.nas, name).default._schema
        assert schema.name == f"nas::{name}"


def test_the_kernels_load_without_what_only_searches_need() -> None:
    script = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'sqlalchemy', 'cuda'): sys.modules[name] = None\n"
        "import workers.kernels, workers.kernels.registration as r\n"
        "r.implementations()\n"
        "assert 'predictors' not in sys.modules and 'nas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(registration.__file__).parents[2])
