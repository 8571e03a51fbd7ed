import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from workers.energy import NoEnergyMeter, energy, meter_for, nvml_meter, rapl_meter

CPU = torch.device("cpu")
RANGE = 1000


def zone(root: Path, folder: str, name: str, microjoules: int = 0) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return path


class Ticking(nn.Module):
    """Each pass takes a second of a clock, and what is said here from counters."""

    def __init__(self, spend) -> None:
        super().__init__()
        self.seconds = 0.0
        self.spend = spend

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seconds += 1.0
        self.spend()
        return x


def test_processors_and_their_memory_are_counted_once_each_and_counters_that_start_again_go_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 10)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 5)
    parts = [zone(tmp_path, "intel-rapl:0:0", "core", 7), zone(tmp_path, "intel-rapl:2", "psys", 7)]
    meter = rapl_meter(tmp_path)
    assert set(meter.zones) == {package, second, memory}
    assert meter.name == "RAPL (package-0, dram, package-1)"
    assert meter.joules() == 0

    def advance(path: Path, by: int) -> None:
        (path / "energy_uj").write_text(str((int((path / "energy_uj").read_text()) + by) % RANGE))

    for path in parts:
        advance(path, 99)
    advance(package, 60)
    advance(second, 30)
    advance(memory, 1)
    assert meter.joules() == pytest.approx(91e-6)
    advance(package, 60)  # from 960 over 1000 to 20
    assert (package / "energy_uj").read_text() == "20"
    assert meter.joules() == pytest.approx(151e-6)
    advance(package, 990)  # to 10: again over the end
    assert meter.joules() == pytest.approx(1141e-6)


def test_energy_is_what_the_counter_says_divided_by_the_passes_after_the_warm_up(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 700) / "energy_uj"
    network = Ticking(lambda: counter.write_text(str((int(counter.read_text()) + 70) % RANGE)))
    found = energy(network, (2,), meter=rapl_meter(tmp_path), device=CPU, seconds=7.5, clock=lambda: network.seconds)
    assert found.passes == 8
    assert found.millijoules == pytest.approx(0.070)
    assert found.watts == pytest.approx(70e-6)
    assert found.meter == "RAPL (package-0)"
    assert network.seconds == 8 + 5


def test_a_counter_that_does_not_move_is_no_result(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    network = Ticking(lambda: None)
    with pytest.raises(NoEnergyMeter, match=r"did not move in 3 s; measure for longer \(evaluator.energy_seconds\)"):
        energy(network, (2,), meter=rapl_meter(tmp_path), device=CPU, seconds=3, clock=lambda: network.seconds)


def test_where_nothing_can_be_read_the_message_says_what_was_looked_for_and_what_to_do(
    tmp_path: Path,
) -> None:
    looked = re.escape(f"looked for readable {tmp_path}/intel-rapl:*/energy_uj")
    with pytest.raises(NoEnergyMeter, match=f"{looked}, there are none .*latency_device = 'cuda'.* leave the metric"):
        rapl_meter(tmp_path)
    counter = zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj"
    counter.unlink()
    counter.mkdir()  # what cannot be read even by root
    with pytest.raises(NoEnergyMeter, match=rf"{looked}; they are there, but not for this user \(.*chmod a\+r them"):
        rapl_meter(tmp_path)


class FakeNvml:
    """What is used of ``pynvml``; one GPU, in millijoules since the driver was loaded."""

    class NVMLError(Exception):
        pass

    def __init__(self, supported: bool = True) -> None:
        self.millijoules, self.started, self.supported = 5_000, False, supported

    def nvmlInit(self) -> None:
        self.started = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert self.started
        assert handle == "handle"
        if not self.supported:
            raise self.NVMLError("Not Supported")
        return self.millijoules


def test_a_gpu_is_found_by_its_identity_and_its_counter_read_in_millijoules() -> None:
    nvml = FakeNvml()
    meter = nvml_meter("GPU-1", name="H1", nvml=nvml)
    assert (meter.name, meter.joules()) == ("NVML (H1)", 5.0)

    def spend() -> None:
        nvml.millijoules += 40

    network = Ticking(spend)
    found = energy(network, (2,), meter=meter, device=CPU, seconds=2, clock=lambda: network.seconds)
    assert (found.passes, found.millijoules, found.watts) == (2, pytest.approx(40.0), pytest.approx(0.04))


def test_a_gpu_without_a_counter_or_without_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoEnergyMeter, match=r"measured on H1: .* through NVML, which says: Not Supported; GPUs older"):
        nvml_meter("GPU-1", name="H1", nvml=FakeNvml(supported=False))
    with pytest.raises(NoEnergyMeter, match="which says: Not Found"):
        nvml_meter("GPU-2", name="H1", nvml=FakeNvml())
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoEnergyMeter, match="pip install nvidia-ml-py brings it"):
        nvml_meter("GPU-1", name="H1")


@pytest.mark.cuda
def test_the_counter_of_this_gpu_moves() -> None:
    pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    device = torch.device("cuda")
    network = nn.Linear(4096, 4096)
    found = energy(network, (4096,), meter=meter_for(device), device=device, batch_size=512, seconds=2)
    assert 1 < found.watts < 2000
