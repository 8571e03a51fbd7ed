"""Candidates per hour on a CPU: 20 random NAS-Bench-201-style networks on digits, two workers at once.

Ours (`workers.training.loop.train`, as a worker calls it) beside a plain loop: the same networks, data, optimiser,
schedule, batches and epochs, with a DataLoader, OneCycleLR and as many threads as PyTorch takes by itself. Each side
has two processes, which take every other network; their imports are not counted.

python benchmarks/training_cpu.py [--seeds 3] [--networks 20] [--epochs 12] [--into FILE]
"""

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from results import save
from spread import compare, heading

WORKERS = 2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def ours(network, data, epochs: int, seed: int) -> float:
    """Accuracy on the validation split."""
    from workers.training.loop import train
    from workers.training.seeding import threads
    from workers.training.settings import TrainingSettings

    settings = TrainingSettings(epochs=epochs)
    with threads(settings.threads):
        return train(network, data, settings, seed=seed).scores["accuracy"]


def plain(network, data, epochs: int, seed: int) -> float:
    """The same with what one writes first."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    from workers.training.settings import TrainingSettings

    settings = TrainingSettings(epochs=epochs)
    torch.manual_seed(seed)

    def loader(split, training):
        inputs, targets = torch.tensor(data.normalised(split.inputs)), torch.tensor(split.targets)
        return DataLoader(
            TensorDataset(inputs, targets), batch_size=settings.batch_size, shuffle=training, drop_last=training
        )

    training, validation = loader(data.train, True), loader(data.validation, False)
    weights = [parameter for parameter in network.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(settings.momentum, 0.999),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=epochs * len(training), cycle_momentum=False
    )
    accuracy = math.nan
    for _ in range(epochs):
        network.train()
        for inputs, targets in training:
            loss = functional.cross_entropy(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if not math.isfinite(loss.item()):
                raise FloatingPointError("the plain loop's loss is not finite")
        network.eval()
        with torch.no_grad():
            right = sum(int((network(inputs).argmax(1) == targets).sum()) for inputs, targets in validation)
        accuracy = right / len(data.validation)
    return accuracy


def worker(side: Callable, place: int, count: int, epochs: int, seed: int, ready, results) -> None:
    """Train every `WORKERS`-th network from `place` on, once all workers are ready."""
    import torch

    from search_spaces.build import build
    from search_spaces.catalogue.nas_bench_201 import nas_bench_201
    from search_spaces.moves import sample
    from workers.datasets.load import load_dataset

    space, rng = nas_bench_201(channels=8, cells=1), np.random.default_rng(seed)
    data = load_dataset("digits")
    architectures = [sample(space, rng) for _ in range(count)]
    networks = []
    for architecture in architectures:
        torch.manual_seed(seed)
        networks.append(build(space, architecture, data.input_shape, data.outputs))
    side(networks[-1], data, 1, seed)  # the first call of anything is slow
    torch.manual_seed(seed)
    networks[-1] = build(space, architectures[-1], data.input_shape, data.outputs)
    ready.wait()
    accuracies = [side(network, data, epochs, seed) for network in networks[place::WORKERS]]
    results.put((place, accuracies))


def seconds_and_accuracy(side: Callable, count: int, epochs: int, seed: int) -> tuple[float, list[float]]:
    """Wall-clock of all networks, and the accuracy of each."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(WORKERS + 1), context.Queue()
    processes = [
        context.Process(target=worker, args=(side, place, count, epochs, seed, ready, results))
        for place in range(WORKERS)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    found = dict(results.get() for _ in processes)
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds, [accuracy for place in sorted(found) for accuracy in found[place]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--into", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    for name in THREAD_VARIABLES:  # the plain loop's threads are PyTorch's own choice; ours are set by the settings
        os.environ.pop(name, None)
    heading(
        f"{arguments.networks} NAS-Bench-201-style networks on digits, {arguments.epochs} epochs, {WORKERS} workers on "
        f"{os.cpu_count()} cores",
        "torch",
    )
    hours: dict[str, list[float]] = {"ours": [], "plain": []}
    accuracy: dict[str, list[float]] = {"ours": [], "plain": []}
    for seed in range(arguments.seeds):
        for name, side in (("ours", ours), ("plain", plain)):
            seconds, found = seconds_and_accuracy(side, arguments.networks, arguments.epochs, seed)
            hours[name].append(seconds / 3600 / arguments.networks)
            accuracy[name] += found
    compare(hours["ours"], hours["plain"], "plain loop", 2.0, scale=3600, unit="s per candidate")
    rates = {name: 1 / statistics.median(values) for name, values in hours.items()}
    differences = np.subtract(accuracy["ours"], accuracy["plain"])
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    lines = [
        f"candidates per hour: ours {rates['ours']:.0f}, plain loop {rates['plain']:.0f}, "
        f"ratio {rates['ours'] / rates['plain']:.2f}",
        f"validation accuracy: ours {np.mean(accuracy['ours']):.4f}, plain loop {np.mean(accuracy['plain']):.4f}; "
        f"difference {differences.mean():+.4f} ± {error:.4f} (mean and standard error of {len(differences)} networks)",
    ]
    print("\n".join(f"  {line}" for line in lines))
    if arguments.into is not None:
        save(arguments.into, lines)


if __name__ == "__main__":
    main()
