import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.moves import sample
from workers.datasets.load import load_dataset
from workers.outcome import outcome_of_exception
from workers.protocol import FailureKind
from workers.training.loop import train
from workers.training.memory import WouldNotFit, check_memory, fitting_together, keep_to_share, predicted_memory
from workers.training.settings import TrainingSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def perceptron(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def test_what_a_perceptron_saves_is_its_inputs_and_its_activations(digits):
    need = predicted_memory(perceptron(50), digits, TrainingSettings(batch_size=32, optimizer="sgd"), CPU)
    numbers = 64 * 50 + 50 + 50 * 10 + 10
    assert need.saved == 4 * 32 * (64 + 50)
    assert (need.weights, need.gradients, need.optimizer) == (4 * numbers,) * 3
    assert need.passing == 2 * 4 * 32 * 64
    adamw = predicted_memory(perceptron(50), digits, TrainingSettings(batch_size=32), CPU)
    assert adamw.optimizer == 8 * numbers
    assert adamw.bytes == need.bytes + 4 * numbers


def test_bfloat16_saves_half_and_keeps_a_copy_of_the_weights(digits):
    whole, half = (
        predicted_memory(perceptron(50), digits, TrainingSettings(precision=precision), CPU)
        for precision in ("float32", "bfloat16")
    )
    assert half.saved == whole.saved / 2
    assert half.weights == 1.5 * whole.weights
    assert half.gradients == whole.gradients


def measured_peak(network, data, settings):
    """The most bytes that torch has handed out at once while it trained."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        train(network, data, settings, seed=0)
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.slow
def test_the_peak_is_foretold_from_above_and_not_by_much(digits):
    space = nas_bench_201(channels=8, cells=1)
    network = build(space, sample(space, np.random.default_rng(1)), digits.input_shape, digits.outputs)
    settings = TrainingSettings(epochs=1, batch_size=256)
    need = predicted_memory(network, digits, settings, CPU)
    peak = measured_peak(network, digits, settings) + need.weights
    assert peak <= need.bytes <= 1.4 * peak


def test_nothing_of_the_network_changes(digits):
    space = nas_bench_201(channels=4, cells=1)
    network = build(space, sample(space, np.random.default_rng(0)), digits.input_shape, digits.outputs)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    predicted_memory(network, digits, TrainingSettings(), CPU)
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.device == CPU


def test_what_cannot_fit_fails_as_out_of_memory_and_says_what_to_do(digits):
    settings = TrainingSettings(memory_bytes=20_000_000, batch_size=512)
    with pytest.raises(
        WouldNotFit, match=r"activations of a batch of 512, and there are 19\.1 MiB.*smaller batch_size"
    ) as raised:
        check_memory(perceptron(20_000), digits, settings, CPU)
    assert outcome_of_exception(raised.value).kind is FailureKind.OUT_OF_MEMORY
    foretold = check_memory(perceptron(20), digits, settings, CPU)
    assert foretold is not None
    assert foretold < 20_000_000


def test_without_a_limit_nothing_is_foretold_on_a_cpu(digits):
    assert check_memory(perceptron(20_000), digits, TrainingSettings(), CPU) is None


def test_a_gpu_is_measured_by_what_it_has_and_not_touched(digits, monkeypatch):
    class Small:
        total_memory = 150 * 2**20

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Small)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    foretold = check_memory(perceptron(20), digits, TrainingSettings(), "cuda")
    assert foretold is not None
    assert 128 * 2**20 < foretold < 150 * 2**20
    with pytest.raises(WouldNotFit):
        check_memory(perceptron(20_000), digits, TrainingSettings(batch_size=512), "cuda")
    with pytest.raises(WouldNotFit, match="there are 75 MiB"):
        check_memory(perceptron(20), digits, TrainingSettings(), "cuda", 0.5)


def test_a_process_that_shares_a_gpu_takes_its_share(monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *told: given.append(told))
    for device, share in (("cpu", 0.5), ("cuda:0", 1.0), ("cuda:0", 0.25)):
        keep_to_share(device, share)
    assert given == [(0.25, "cuda:0")]


@pytest.mark.cuda
def test_beyond_its_share_of_a_gpu_a_process_is_out_of_memory():
    whole = torch.cuda.get_device_properties("cuda:0").total_memory
    keep_to_share("cuda:0", 0.01)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(whole // 50, dtype=torch.uint8, device="cuda:0")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, "cuda:0")


def test_a_network_that_looks_at_numbers_is_left_to_try(digits):
    class Looks(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    network = nn.Sequential(perceptron(10), Looks())
    assert check_memory(network, digits, TrainingSettings(memory_bytes=1), CPU) is None


def test_neighbours_share_data_and_libraries_and_no_part_needs_more_than_there_is(digits):
    needs = [predicted_memory(perceptron(width), digits, TrainingSettings(), CPU) for width in (10, 200, 30, 30, 30)]
    own = [need.bytes - need.data - need.workspace for need in needs]
    common = needs[0].data + needs[0].workspace
    assert list(fitting_together(needs, common + sum(own))) == [[0, 1, 2, 3, 4]]
    assert list(fitting_together(needs, common + sum(own) - 1)) == [[0, 1, 2, 3], [4]]
    assert list(fitting_together(needs, common + own[1])) == [[0], [1], [2, 3, 4]]
    assert list(fitting_together(needs, 1)) == [[0], [1], [2], [3], [4]]
    assert not list(fitting_together([], 1))
