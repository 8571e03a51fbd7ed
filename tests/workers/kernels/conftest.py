"""Where the CUDA sources run: on the CPU in an emulation, and on a GPU where there is one."""

from pathlib import Path

import pytest
import torch

from tests.workers.kernels.emulation import COMPILER, Emulation


@pytest.fixture(scope="session")
def emulation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulation")


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, emulation_folder: Path, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where inputs of a kernel must be."""
    if request.param == "cuda":
        pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[cuda]'")
        return torch.device("cuda")
    if COMPILER is None:
        pytest.skip("no g++ here to compile the emulation with")
    Emulation(emulation_folder, monkeypatch)
    return torch.device("cpu")
