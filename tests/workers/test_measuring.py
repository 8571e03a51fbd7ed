from pathlib import Path

import pytest
import torch
from torch import nn

from workers import measuring
from workers.energy import NoEnergyMeter, RaplMeter
from workers.latency_predictor import HeldOut, LatencyPredictor, features
from workers.latency_table import table_for
from workers.measure import device_name
from workers.measuring import MeasuringSettings
from workers.operators import OperatorReader

NETWORK, SHAPE = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (3,)


class Notes:
    wants_checkpoint = False

    def __init__(self):
        self.notes = {}

    def __call__(self, step, **metrics):
        return False

    def note(self, **attributes):
        self.notes.update(attributes)

    def checkpoint(self, step, state):
        raise AssertionError


def measured(settings, *metrics, space="mine", device="cpu"):
    report = Notes()
    return settings.device_metrics(NETWORK, space, SHAPE, metrics, report, device), report.notes


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_LATENCY_CACHE", str(tmp_path / "cache"))
    table_for.cache_clear()
    yield tmp_path / "cache"
    table_for.cache_clear()


@pytest.fixture
def file(tmp_path):
    coefficients = {name: 0.25 for name in features(OperatorReader().read(NETWORK, SHAPE, batch_size=2))}
    LatencyPredictor(
        space="mine",
        input_shape=SHAPE,
        device="a processor",
        software="torch",
        batch_size=2,
        precision="float32",
        coefficients=coefficients,
        held_out=HeldOut(kendall_tau=1.0, relative_error=0.0, count=20),
    ).write(tmp_path / "latency.json")
    return str(tmp_path / "latency.json")


def test_what_was_measured_is_noted_with_its_device_batch_and_precision():
    settings = MeasuringSettings(latency_batch_size=4, latency_precision="bfloat16", latency_repeats=2)
    found, notes = measured(settings, "latency_ms", "macs")
    assert found.keys() == {"latency_ms"}
    assert found["latency_ms"] > 0
    assert notes == {
        "latency_batch_size": 4,
        "latency_precision": "bfloat16",
        "latency_device": device_name("cpu"),
        "latency_source": "measured",
    }
    assert measured(settings, "macs") == ({}, {})


def test_a_named_device_takes_the_place_of_the_workers_own():
    found, notes = measured(MeasuringSettings(latency_device="cpu"), "latency_ms", device="cuda:7")
    assert notes["latency_device"] == device_name("cpu")
    assert found["latency_ms"] > 0
    settings = MeasuringSettings(latency_device="cuda:64")
    with pytest.raises(ValueError, match="device 'cuda:64' is not there"):
        measured(settings, "latency_ms")
    with pytest.raises(ValueError, match="device 'cuda:64' is not there"):
        settings.check_device(["error", "latency_ms"], "cpu")
    settings.check_device(["error", "macs"], "cpu")


def test_a_look_up_is_kept_for_the_next_process(cache):
    settings = MeasuringSettings(latency_source="look_up", latency_batch_size=2)
    found, notes = measured(settings, "latency_ms")
    assert notes["latency_source"] == "look_up"
    (kept,) = cache.iterdir()
    assert "aten.addmm.default(float32[4], float32[2,3]" in kept.read_text()
    table_for.cache_clear()
    assert measured(settings, "latency_ms")[0] == pytest.approx(found)


def test_a_prediction_is_that_of_the_file(file):
    settings = MeasuringSettings(latency_source="predicted", latency_predictor=file, latency_batch_size=2)
    settings.check_device(["latency_ms"], "cuda:9")  # no device is asked
    found, notes = measured(settings, "latency_ms", device="cuda:9")
    expected = features(OperatorReader().read(NETWORK, SHAPE, batch_size=2))
    assert found["latency_ms"] == pytest.approx(0.25 * sum(expected.values()))
    assert (notes["latency_device"], notes["latency_source"]) == ("a processor", "predicted")
    with pytest.raises(ValueError, match=r"foretells networks of space 'mine' on inputs of shape \(3,\), got 'other'"):
        measured(settings, "latency_ms", space="other")


def test_a_predictor_for_another_batch_or_no_file_is_refused_before_a_search(file):
    settings = MeasuringSettings(latency_source="predicted", latency_predictor=file)
    with pytest.raises(ValueError, match=r"fitted to latencies with batch_size 2; set evaluator\.latency_batch_size"):
        settings.check_device(["latency_ms"], "cpu")
    settings.check_device(["error"], "cpu")
    settings = MeasuringSettings(latency_source="predicted", latency_predictor="absent.json")
    with pytest.raises(ValueError, match=r"absent\.json holds no latency predictor"):
        settings.check_device(["latency_ms"], "cpu")


def test_energy_is_measured_by_the_meter_of_the_device_and_refused_without_one(tmp_path, monkeypatch):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "100000")):
        (package / name).write_text(text)

    class Moving(RaplMeter):
        def joules(self):
            (package / "energy_uj").write_text(str(int((package / "energy_uj").read_text()) + 300))
            return super().joules()

    monkeypatch.setattr(measuring, "meter_for", lambda device: Moving([package]))
    settings = MeasuringSettings(energy_seconds=0.01)
    settings.check_device(["energy_mj"], "cpu")
    found, notes = measured(settings, "energy_mj")
    assert found["energy_mj"] == pytest.approx(0.3 / notes["energy_passes"])
    assert notes["energy_meter"] == "RAPL (package-0)"
    assert notes["energy_watts"] > 0

    def none(device):
        raise NoEnergyMeter("nothing here")

    monkeypatch.setattr(measuring, "meter_for", none)
    with pytest.raises(ValueError, match="nothing here"):
        settings.check_device(["error", "energy_mj"], "cpu")


@pytest.mark.skipif(Path("/sys/class/powercap/intel-rapl:0").exists(), reason="this machine may have a counter")
def test_on_a_machine_without_counters_energy_is_refused():
    with pytest.raises(NoEnergyMeter, match="looked for readable /sys/class/powercap/intel-rapl"):
        MeasuringSettings().check_device(["energy_mj"], "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latency_batch_size": True}, "latency_batch_size must be a whole number >= 1, got True"),
        ({"latency_repeats": 0}, "latency_repeats must be a whole number >= 1, got 0"),
        ({"latency_precision": "int8"}, "latency_precision must be one of float32, bfloat16, float16, got 'int8'"),
        ({"latency_source": "table"}, "latency_source must be one of measured, look_up, predicted, got 'table'"),
        ({"latency_device": 0}, "latency_device must be text, got 0"),
        ({"energy_seconds": 0}, "energy_seconds must be a number above 0, got 0"),
        ({"energy_seconds": float("inf")}, "energy_seconds must be a number above 0"),
        ({"latency_source": "predicted"}, "belong together"),
        ({"latency_predictor": "file.json"}, "belong together"),
        (
            {"latency_source": "predicted", "latency_predictor": "file.json", "latency_device": "cpu"},
            "leave latency_device out",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MeasuringSettings(**settings)


@pytest.mark.cuda
def test_a_gpu_looks_up_too(cache):
    found, notes = measured(MeasuringSettings(latency_source="look_up"), "latency_ms", device="cuda")
    assert found["latency_ms"] > 0
    assert notes["latency_device"] == torch.cuda.get_device_name()
