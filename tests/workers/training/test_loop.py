import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error, r2_score
from torch import nn

from workers.datasets.dataset import Examples
from workers.datasets.load import load_dataset
from workers.datasets.prepare import SplitSettings, prepare
from workers.state_file import write_state
from workers.training.finite import NanLoss
from workers.training.loop import train
from workers.training.scores import resident, score
from workers.training.seeding import derived_seed, repeatable, seeded
from workers.training.seeding import threads as torch_threads
from workers.training.settings import TrainingSettings


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def perceptron(data, *, seed=0, dropout=0.0):
    with seeded(seed):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(data.input_shape), 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(32, data.outputs),
        )


def logistic(data):
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(data.input_shape), data.outputs))


def weights(network):
    return torch.cat([tensor.flatten().double() for tensor in network.state_dict().values()])


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.01), ("sgd", 0.1)])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
def test_a_logistic_regression_reads_digits(digits, optimizer, rate, schedule):
    settings = TrainingSettings(epochs=8, optimizer=optimizer, learning_rate=rate, schedule=schedule)
    result = train(logistic(digits), digits, settings, seed=0)
    assert result.scores["accuracy"] > 0.9
    assert result.scores["error"] == 1 - result.scores["accuracy"]
    assert (result.epochs, result.stopped) == (8, False)


def linear_task(columns):
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(400, 5))
    y = x @ rng.normal(size=(5, columns)) * 50 + 1000 + rng.normal(0, 10, size=(400, columns))
    return prepare(Examples(inputs=x, targets=y), SplitSettings(), name="line")


@pytest.mark.parametrize("columns", [1, 3])
def test_a_linear_regression_finds_the_least_squares_solution(columns):
    data = linear_task(columns)
    network = logistic(data)
    settings = TrainingSettings(epochs=200, batch_size=320, optimizer="sgd", learning_rate=0.2, weight_decay=0)
    result = train(network, data, settings, seed=0)

    def with_ones(split):
        return np.column_stack([split.inputs, np.ones(len(split))]).astype(np.float64)

    solution = np.linalg.lstsq(with_ones(data.train), data.train.targets.astype(np.float64), rcond=None)[0]
    predicted = with_ones(data.validation) @ solution
    wanted = data.validation.targets
    assert result.scores["rmse"] == pytest.approx(math.sqrt(mean_squared_error(wanted, predicted)), rel=1e-3)
    assert result.scores["loss"] == pytest.approx(mean_squared_error(wanted, predicted), rel=2e-3)
    assert result.scores["r2"] == pytest.approx(r2_score(wanted, predicted), abs=1e-4)


def test_scores_are_those_of_scikit_learn(digits):
    network = perceptron(digits).eval()
    found = score(
        network, resident(digits.validation, digits, torch.device("cpu")), digits, precision="float32", batch_size=100
    )
    with torch.no_grad():
        logits = network(torch.from_numpy(digits.normalised(digits.validation.inputs)))
    probabilities = logits.double().softmax(1).numpy()
    assert found["loss"] == pytest.approx(
        log_loss(digits.validation.targets, probabilities, labels=range(10)), rel=1e-5
    )
    assert found["accuracy"] == (probabilities.argmax(1) == digits.validation.targets).mean()


def test_a_constant_validation_column_has_r2_zero():
    x = np.random.default_rng(0).normal(size=(20, 2))
    data = prepare(
        Examples(inputs=x, targets=x[:, 0], validation=(x[:3], np.full(3, 5.0))), SplitSettings(), name="flat"
    )
    assert train(logistic(data), data, TrainingSettings(epochs=1), seed=0).scores["r2"] == 0


def test_equal_seeds_give_equal_bits(digits):
    settings = TrainingSettings(epochs=2, gradient_clip=1.0, label_smoothing=0.1, warmup=0.1)
    networks = [perceptron(digits, dropout=0.3) for _ in range(3)]
    results = [
        train(network, digits, settings, seed=seed).scores for network, seed in zip(networks, (1, 1, 2), strict=True)
    ]
    assert results[0] == results[1] != results[2]
    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert not torch.equal(weights(networks[0]), weights(networks[2]))


def test_training_leaves_the_global_generator_alone(digits):
    before = torch.random.get_rng_state()
    train(perceptron(digits, dropout=0.5), digits, TrainingSettings(epochs=1), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


class Left(Exception):
    pass


class KeepAt:
    """Keeps one checkpoint, when asked for the n-th time, and leaves."""

    def __init__(self, file, asked):
        self.file = file
        self.asked = asked

    def is_due(self):
        self.asked -= 1
        return self.asked == 0

    def keep(self, epochs, state):
        write_state(self.file, state)
        raise Left


STEPS = 17
"""Per epoch, below; the end of an epoch counts as its last one."""


@pytest.mark.parametrize("asked", [1, STEPS - 1, STEPS, 2 * STEPS + 5])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_going_on_from_a_checkpoint_is_the_same_as_never_stopping(digits, tmp_path, optimizer, asked):
    settings = TrainingSettings(epochs=4, batch_size=len(digits.train) // STEPS, optimizer=optimizer)
    straight = perceptron(digits, dropout=0.2)
    reports = []
    whole = train(straight, digits, settings, seed=5, report=lambda *given: bool(reports.append(given)))

    first, second = perceptron(digits, dropout=0.2), perceptron(digits, seed=9, dropout=0.2)
    file = tmp_path / "state.safetensors"
    again = []
    with pytest.raises(Left):
        train(first, digits, settings, seed=5, keeper=KeepAt(file, asked))
    rest = train(second, digits, settings, seed=5, start=file, report=lambda *given: bool(again.append(given)))
    assert rest.scores == whole.scores
    assert torch.equal(weights(straight), weights(second))
    assert again == reports[asked // STEPS :], "the training loss of the epoch that was cut in two included"


@pytest.mark.parametrize(
    "extra",
    [{"crop": 1, "flip": True, "cutout": 3}, {"mixup": 0.3}, {"prune": 0.6}, {"base_depth": 3, "schedule": "cosine"}],
)
@pytest.mark.parametrize("asked", [STEPS + 5, 2 * STEPS])
def test_every_option_goes_on_as_if_it_had_never_stopped(digits, tmp_path, extra, asked):
    settings = TrainingSettings(epochs=4, batch_size=len(digits.train) // STEPS, **extra)
    straight, first, second = (perceptron(digits, seed=seed, dropout=0.2) for seed in (0, 0, 9))
    whole = train(straight, digits, settings, seed=5)
    file = tmp_path / "state.safetensors"
    with pytest.raises(Left):
        train(first, digits, settings, seed=5, keeper=KeepAt(file, asked))
    rest = train(second, digits, settings, seed=5, start=file)
    assert rest.scores == whole.scores
    assert rest.notes == whole.notes
    assert torch.equal(weights(straight), weights(second))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_convolutions_go_on_as_if_they_had_never_stopped_and_come_back_in_their_plain_layout(
    digits, tmp_path, optimizer, device
):
    """They are trained in another memory layout; a checkpoint knows of none."""
    settings = TrainingSettings(epochs=2, batch_size=len(digits.train) // STEPS, optimizer=optimizer)

    def convolutional(seed):
        with seeded(seed):
            return nn.Sequential(
                nn.Conv2d(1, 4, 3),
                nn.ReLU(),
                nn.Conv2d(4, 3, (3, 2)),
                nn.Conv2d(3, 3, 1),
                nn.Flatten(),
                nn.Linear(60, 10),
            )

    straight, first, second = (convolutional(seed) for seed in (0, 0, 9))
    file = tmp_path / "state.safetensors"
    with repeatable(device != "cpu"):
        whole = train(straight, digits, settings, seed=5, device=device)
        with pytest.raises(Left):
            train(first, digits, settings, seed=5, keeper=KeepAt(file, STEPS + 4), device=device)
        rest = train(second, digits, settings, seed=5, start=file, device=device)
    assert not first[2].weight.is_contiguous()
    assert rest.scores == whole.scores
    assert torch.equal(weights(straight), weights(second))
    assert all(parameter.is_contiguous() and parameter.grad is None for parameter in second.parameters())


def test_a_checkpoint_that_does_not_fit_is_refused(digits, tmp_path):
    file = tmp_path / "state.safetensors"
    with pytest.raises(Left):
        train(logistic(digits), digits, TrainingSettings(epochs=1), seed=0, keeper=KeepAt(file, 1))
    with pytest.raises(ValueError, match="does not fit the network"):
        train(perceptron(digits), digits, TrainingSettings(epochs=1), seed=0, start=file)
    write_state(file, {"step": 1})
    with pytest.raises(ValueError, match="no checkpoint of this training loop"):
        train(perceptron(digits), digits, TrainingSettings(epochs=1), seed=0, start=file)
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match="cannot be read as a state"):
        train(perceptron(digits), digits, TrainingSettings(epochs=1), seed=0, start=file)


def test_every_epoch_is_reported_and_a_stop_is_obeyed(digits):
    seen = []

    def report(epoch, scores):
        seen.append((epoch, set(scores)))
        return epoch == 3

    result = train(logistic(digits), digits, TrainingSettings(epochs=10), seed=0, report=report)
    names = {"error", "accuracy", "loss", "train_loss"}
    assert seen == [(1, names), (2, names), (3, names)]
    assert (result.epochs, result.stopped) == (3, True)


def test_a_loss_that_is_nan_ends_training_early(digits):
    network = logistic(digits)
    with torch.no_grad():
        network[1].weight[0, 0] = math.nan
    reports = []
    with pytest.raises(NanLoss, match="training loss is nan after epoch 1 of 5"):
        train(network, digits, TrainingSettings(epochs=5), seed=0, report=lambda *given: reports.append(given))
    assert reports == []


def test_regression_that_diverges_ends_with_a_named_error():
    settings = TrainingSettings(epochs=50, optimizer="sgd", learning_rate=1e6)
    with pytest.raises(NanLoss):
        train(logistic(linear_task(1)), linear_task(1), settings, seed=0)


def test_the_test_split_is_never_looked_at(digits):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError("the test split was read")

    object.__setattr__(copy := load_dataset("digits"), "test", Untouchable())
    train(logistic(copy), copy, TrainingSettings(epochs=1), seed=0)


def test_a_network_with_other_outputs_is_refused(digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(
        ValueError, match=r"returns shape \(2, 7\) for 2 inputs; classification on 'digits' needs \(2, 10\)"
    ):
        train(network, digits, TrainingSettings(), seed=0)


def test_label_smoothing_is_for_classification():
    with pytest.raises(ValueError, match="label_smoothing is for classification only"):
        train(logistic(linear_task(1)), linear_task(1), TrainingSettings(label_smoothing=0.1), seed=0)


def test_bfloat16_learns_too(digits):
    settings = TrainingSettings(epochs=5, learning_rate=0.01, precision="bfloat16")
    assert train(logistic(digits), digits, settings, seed=0).scores["accuracy"] > 0.85


def test_only_weights_decay(digits):
    network = perceptron(digits)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    from workers.training.optimizers import make_optimizer

    optimizer = make_optimizer(
        network, TrainingSettings(optimizer="sgd", weight_decay=0.1, momentum=0, learning_rate=1.0)
    )
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        expected = 0.9 if before[name].ndim == 2 else 1.0
        assert torch.allclose(parameter, torch.full_like(parameter, expected)), name


def test_derived_seeds_differ():
    seeds = {derived_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_thread_counts_are_put_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_on_a_gpu_learns(digits, precision):
    settings = TrainingSettings(epochs=8, learning_rate=0.01, precision=precision)
    result = train(perceptron(digits), digits, settings, seed=0, device="cuda")
    assert result.scores["accuracy"] > 0.9


@pytest.mark.cuda
def test_on_a_gpu_the_dropout_of_an_epoch_that_was_cut_in_two_is_the_same(digits, tmp_path):
    settings = TrainingSettings(epochs=2, batch_size=len(digits.train) // STEPS)
    whole = train(perceptron(digits, dropout=0.5), digits, settings, seed=5, device="cuda")
    file = tmp_path / "state.safetensors"
    with pytest.raises(Left):
        train(perceptron(digits, dropout=0.5), digits, settings, seed=5, device="cuda", keeper=KeepAt(file, 5))
    rest = train(perceptron(digits, seed=9, dropout=0.5), digits, settings, seed=5, device="cuda", start=file)
    assert rest.scores["loss"] == pytest.approx(whole.scores["loss"], rel=1e-3)
