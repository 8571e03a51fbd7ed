import logging
import warnings

import pytest
import torch
from torch import nn

from workers.datasets.load import load_dataset
from workers.training import loop
from workers.training.capture import WARM_UP, CudaGraphs, NotCapturable, Replayed, watching
from workers.training.loop import train
from workers.training.seeding import seeded, threads
from workers.training.settings import TrainingSettings


class Tape:
    """A recorder on the CPU: what it replays is the step itself; it may refuse to record."""

    def __init__(self, refusal=None):
        self.refusal, self.said = refusal, []

    def warm_up(self, step):
        self.said.append("warm-up")
        step()

    def record(self, step):
        self.said.append("record")
        if self.refusal:
            raise NotCapturable(self.refusal)

        def replay():
            self.said.append("replay")
            step()

        return replay


@pytest.mark.parametrize("refusal", [None, "it looks at numbers"])
def test_every_call_is_one_step_whether_it_is_recorded_or_not(refusal, caplog):
    tape, done = Tape(refusal), []
    step = Replayed(lambda: done.append(len(done)), tape)
    with caplog.at_level(logging.WARNING):
        for calls in range(1, WARM_UP + 4):
            step()
            assert len(done) == calls
    replays = [] if refusal else ["replay"] * 3
    assert tape.said == ["warm-up"] * WARM_UP + ["record"] + replays
    assert step.refused == refusal
    assert len(caplog.records) == (1 if refusal else 0), "what cannot be recorded is said once"


def test_waits_are_noted_and_other_warnings_are_said_but_not_that_the_mode_is_new(monkeypatch):
    def mode(wanted):
        if wanted == "warn":
            warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=2)

    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode)

    def watched():
        with watching() as seen:
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
        return seen

    with pytest.warns(UserWarning, match="something else") as said:
        seen = watched()
    assert len(said) == len(seen) == 1


def test_what_a_step_raises_comes_through():
    def step():
        raise FloatingPointError("lost")

    with pytest.raises(FloatingPointError, match="lost"):
        Replayed(step, Tape())()


@pytest.mark.parametrize("extra", [{}, {"crop": 1, "flip": True, "cutout": 2}, {"prune": 0.5}, {"mixup": 0.5}])
def test_a_step_reads_all_it_needs_from_the_device(extra, monkeypatch):
    """Recorded from the fourth step on, it goes through the whole training as it would step by step.

    The tensors that it reads must stay where they are from the recording to the end, over all epochs.
    """
    digits = load_dataset("digits")
    places = set()

    class Remembering(Tape):
        def record(self, step):
            def replay():
                plan = step._plan
                held = [*plan._of_examples.values(), *plan._of_steps.values(), plan._at, step.total]
                places.add(tuple(tensor.data_ptr() for tensor in held))
                step()

            return replay

    def result():
        with seeded(0):
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 10))
        with threads(1):
            return train(network, digits, TrainingSettings(epochs=3, batch_size=128, **extra), seed=4).scores

    eager = result()
    real = loop.TrainingStep
    monkeypatch.setattr(loop, "TrainingStep", lambda *given: Recorded(real(*given)))

    class Recorded:
        def __init__(self, step):
            self.total, self._replayed = step.total, Replayed(step, Remembering())

        def __call__(self):
            self._replayed()

    assert result() == eager
    assert len(places) == 1


def test_a_step_that_waits_for_the_device_is_found_out_and_other_warnings_pass(monkeypatch):
    modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waits():
        with watching() as seen:
            assert modes[-1] == "warn"
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
        return seen

    with pytest.warns(UserWarning, match="^something else$") as passed:
        seen = waits()
    assert modes[-1] == "default"
    assert len(passed) == 1
    assert len(seen) == 1
    assert "test_capture.py" in seen[0]


class Looks(nn.Module):
    """Waits for the device in its forward pass."""

    def forward(self, x):
        return x * (1.0 if float(x.detach().mean()) < 1e9 else 0.0)


class RaisesInCapture(nn.Module):
    """Does what a recording forbids without waiting for the device."""

    def forward(self, x):
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not while recording")
        return x


@pytest.fixture
def digits_on_gpu():
    return load_dataset("digits")


def convolutional(*more):
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), *more, nn.Flatten(), nn.Linear(512, 10)
        )


@pytest.mark.cuda
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("extra", [{}, {"crop": 1, "cutout": 2, "prune": 0.5}, {"gradient_clip": 1.0, "mixup": 0.2}])
def test_a_recorded_training_is_the_training(digits_on_gpu, optimizer, extra):
    losses = []
    for capture in (True, False):
        settings = TrainingSettings(
            epochs=3, optimizer=optimizer, precision="float32", learning_rate=0.01, capture=capture, **extra
        )
        network = convolutional(nn.Dropout(0.2))
        result = train(network, digits_on_gpu, settings, seed=3, device="cuda")
        assert "not_captured" not in result.notes
        losses.append(result.scores["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("module", [Looks, RaisesInCapture])
def test_what_cannot_be_recorded_is_trained_all_the_same(digits_on_gpu, module, caplog):
    network = convolutional(module(), nn.Dropout(0.2))
    result = train(network, digits_on_gpu, TrainingSettings(epochs=3), seed=3, device="cuda")
    assert result.scores["accuracy"] > 0.7
    assert result.notes["not_captured"]
    assert sum("cannot be recorded" in record.message for record in caplog.records) == 1


@pytest.mark.cuda
def test_a_refused_recording_leaves_the_generator_where_it_was(digits_on_gpu):
    device = torch.device("cuda")
    with torch.random.fork_rng([0]):
        torch.manual_seed(1)
        expected = torch.rand(3, device=device)
        torch.manual_seed(1)
        recorder = CudaGraphs(device)

        def step():
            torch.rand(5, device=device)
            raise RuntimeError("no")

        with pytest.raises(NotCapturable, match="no"):
            recorder.record(step)
        assert torch.equal(torch.rand(3, device=device), expected)
