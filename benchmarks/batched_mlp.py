"""Candidates per second: multilayer perceptrons of different widths trained together, beside one after the other.

    python benchmarks/batched_mlp.py [--candidates 64] [--group 16] [--epochs 5] [--repeats 3]

On the digits, one CPU thread, batches of 64, each candidate with a learning rate and a weight decay of its own. "Alone"
is the same training without a group (`workers.training.loop.train`), "plain" an eager loop as one writes it first. The
row on a GPU is in `gpu.py`.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from spread import compare, heading
from torch import nn
from torch.nn import functional

from search_spaces.build import build
from search_spaces.catalogue.mlp import mlp
from search_spaces.moves import sample
from search_spaces.space import SearchSpace
from workers.datasets.dataset import Dataset
from workers.datasets.load import load_dataset
from workers.training.grouped import Member, train_together
from workers.training.loop import train
from workers.training.seeding import seeded, threads
from workers.training.settings import TrainingSettings

NARROW = {"widths": (16, 32, 64, 128), "training": False}
SPACES = {
    "ReLU, up to 4 layers of up to 128": mlp(
        **NARROW, activations=("relu",), normalizations=("none",), dropout=0.0, skips=False
    ),
    "2 layers of 64": mlp(2, (64,), ("relu",), ("none",), dropout=0.0, skips=False, training=False),
    "all kinds, with normalisation, dropout and skips": mlp(**NARROW),
}
WANTED = 1.0


def drawn(space: SearchSpace, data: Dataset, count: int, epochs: int) -> tuple[list[nn.Module], list[TrainingSettings]]:
    """Networks, and how to train each."""
    rng = np.random.default_rng(0)
    networks, settings = [], []
    for seed in range(count):
        with seeded(seed):
            networks.append(build(space, sample(space, rng), data.input_shape, data.outputs))
        rate, decay = 10 ** rng.uniform(-3, -2), 10 ** rng.uniform(-4, -1)
        settings.append(TrainingSettings(epochs=epochs, learning_rate=rate, weight_decay=decay, precision="float32"))
    return networks, settings


def together(networks: Sequence[nn.Module], settings: Sequence[TrainingSettings], data: Dataset, device: str) -> None:
    """One group."""
    members = [
        Member(network=network, settings=one, seed=seed, report=lambda epochs, scores: False)
        for seed, (network, one) in enumerate(zip(networks, settings, strict=True))
    ]
    for _, result in train_together(members, data, device=device):
        if isinstance(result, BaseException):
            raise result


def one_by_one(networks: Sequence[nn.Module], settings: Sequence[TrainingSettings], data: Dataset, device: str) -> None:
    """Each by the same training without a group."""
    for seed, (network, one) in enumerate(zip(networks, settings, strict=True)):
        train(network, data, one, seed=seed, device=device)


def plainly(networks: Sequence[nn.Module], settings: Sequence[TrainingSettings], data: Dataset, device: str) -> None:
    """Each by an eager loop; the data is on the device, and the validation split is scored after every epoch."""
    splits = [
        (torch.tensor(data.normalised(split.inputs), device=device), torch.tensor(split.targets, device=device))
        for split in (data.train, data.validation)
    ]
    (inputs, targets), (held_inputs, held_targets) = splits
    for network, one in zip(networks, settings, strict=True):
        network.to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=one.learning_rate, weight_decay=one.weight_decay)
        steps = len(targets) // one.batch_size
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, one.learning_rate, total_steps=one.epochs * steps)
        for _ in range(one.epochs):
            network.train()
            for index in torch.randperm(len(targets), device=device)[: steps * one.batch_size].split(one.batch_size):
                optimizer.zero_grad()
                functional.cross_entropy(network(inputs[index]), targets[index]).backward()
                optimizer.step()
                schedule.step()
            network.eval()
            with torch.no_grad():
                float((network(held_inputs).argmax(1) == held_targets).float().mean())


def seconds(
    way: Callable[..., None], space: SearchSpace, data: Dataset, count: int, *, group: int, epochs: int, device: str
) -> float:
    """Per candidate, the building of networks aside."""
    networks, settings = drawn(space, data, count, epochs)
    if device != "cpu":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for at in range(0, count, group):
        way(networks[at : at + group], settings[at : at + group], data, device)
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    data = load_dataset("digits")
    with threads(1):
        for name, space in SPACES.items():
            heading(f"{name}: seconds per candidate, {options.group} together, {options.epochs} epochs", "torch")
            measured: dict[str, list[float]] = {"together": [], "alone": [], "plain": []}
            for repeat in range(options.repeats + 1):  # the first one warms up
                for label, way in (("together", together), ("alone", one_by_one), ("plain", plainly)):
                    took = seconds(
                        way,
                        space,
                        data,
                        options.candidates if repeat else options.group,
                        group=options.group,
                        epochs=options.epochs if repeat else 1,
                        device="cpu",
                    )
                    if repeat:
                        measured[label].append(took)
            compare(measured["together"], measured["alone"], "alone", WANTED, scale=1e3, unit="ms")
            compare(measured["together"], measured["plain"], "plain", WANTED, scale=1e3, unit="ms")


if __name__ == "__main__":
    main()
