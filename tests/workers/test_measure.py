import pytest
import torch
from torch import nn

from workers import measure
from workers.measure import device_name, latency, peak_memory


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append((tuple(x.shape), self.training, torch.is_grad_enabled()))
        return x


def test_latency_times_forward_passes_in_evaluation_mode():
    network = Counting()
    found = latency(network, (3, 8, 8), batch_size=4, warm_up=2, repeats=5)
    assert network.calls == [((4, 3, 8, 8), False, False)] * 7
    assert network.training
    assert found.median_ms > 0
    assert (found.batch_size, found.repeats) == (4, 5)
    assert found.device_name == device_name("cpu")


def test_latency_is_the_median_of_the_passes_after_the_warm_up(monkeypatch):
    spans = [100.0, 100.0, 0.003, 0.001, 0.500, 0.002, 0.004]
    readings = iter([reading for span in spans for reading in (10.0, 10.0 + span)])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(readings))
    found = latency(nn.Identity(), (1,), warm_up=2, repeats=5)
    assert found.median_ms == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["batch_size", "repeats"])
def test_latency_needs_something_to_measure(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        latency(nn.Identity(), (1,), **{name: 0})


def test_a_processor_has_a_name_and_a_thread_count():
    assert device_name("cpu").endswith(f"{torch.get_num_threads()} threads")


def test_peak_memory_of_a_processor_is_unknown():
    with peak_memory("cpu") as peak:
        torch.zeros(1000)
    assert peak.bytes is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_of_a_gpu_counts_what_was_allocated():
    with peak_memory("cuda") as peak:
        torch.zeros(2**20, device="cuda")
    assert peak.bytes >= 4 * 2**20
    assert device_name("cuda") == torch.cuda.get_device_name()
