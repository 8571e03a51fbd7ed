import copy

import pytest
import torch
from torch import nn

from search_spaces.operations.accelerated import is_available
from workers import measure
from workers.measure import checked_device, device_name, each_ms, latency, peak_memory


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_precision_is_that_of_weights_and_inputs_and_leaves_the_network_alone(precision):
    seen = []
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    network.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0].dtype, module[0].weight.dtype)))
    before = copy.deepcopy(network.state_dict())
    latency(network, (1, 4, 4), precision=precision, warm_up=0, repeats=2)
    assert seen == [(getattr(torch, precision),) * 2] * 2
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


@pytest.mark.parametrize("name", ["batch_size", "repeats"])
def test_latency_needs_something_to_measure(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        latency(nn.Identity(), (1,), **{name: 0})


def test_calls_that_follow_one_another_have_a_median_each(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

    def lasting(*spans):
        left = iter(spans)

        def call():
            order.append(spans[0])
            clock[0] += next(left)

        return call

    calls = [lasting(9.0, 0.001, 0.003, 0.002), lasting(8.0, 0.02, 0.02, 0.5)]
    assert each_ms(calls, torch.device("cpu"), warm_up=1, repeats=3) == pytest.approx([2.0, 20.0])
    assert order == [9.0, 8.0] * 4
    assert each_ms([], torch.device("cpu")) == []


@pytest.mark.parametrize("name", ["abacus", "cpu:x", "meta", ""])
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda'"):
        checked_device(name)


def test_a_device_that_is_not_there_is_refused_by_its_name(monkeypatch):
    assert checked_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda:0' is not there; this machine or this torch has no CUDA"):
        checked_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="device 'cuda:2' is not there; there are cuda:0, cuda:1"):
        checked_device("cuda:2")


def test_a_processor_has_a_name_and_a_thread_count():
    assert device_name("cpu").endswith(f"{torch.get_num_threads()} threads")


def test_peak_memory_of_a_processor_is_unknown():
    with peak_memory("cpu") as peak:
        torch.zeros(1000)
    assert peak.bytes is None


@pytest.mark.cuda
def test_peak_memory_of_a_gpu_counts_what_was_allocated():
    with peak_memory("cuda") as peak:
        torch.zeros(2**20, device="cuda")
    assert peak.bytes >= 4 * 2**20
    assert device_name("cuda") == torch.cuda.get_device_name()


@pytest.mark.cuda
def test_a_gpu_times_calls_itself_and_a_network_on_the_processor_stays_there():
    x = torch.randn(512, 512, device="cuda")
    first, second = each_ms([lambda: x @ x, lambda: [x @ x for _ in range(50)]], torch.device("cuda"))
    assert 0 < first < second
    network = nn.Linear(4, 2)
    assert latency(network, (4,), device="cuda", precision="bfloat16").median_ms > 0
    assert network.weight.device.type == "cpu"


def test_networks_are_measured_without_kernels_of_our_own_whatever_is_registered(monkeypatch):
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda operator, key: True)
    seen = []

    class Asking(nn.Module):
        def forward(self, x):
            seen.append(is_available("nas::sum_relu"))
            return x

    network = Asking()
    network(torch.zeros(1))
    latency(network, (1,), warm_up=1, repeats=1)
    network(torch.zeros(1))
    assert seen == [True, False, False, True]
