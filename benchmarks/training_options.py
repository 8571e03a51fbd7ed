"""What the optional ways of training bring: random NAS-Bench-201-style networks on digits, one CPU thread.

* prune (InfoBatch): its time and accuracy beside training on all examples; and its accuracy where it may take as many
  epochs as fit in the same time.
* base_depth (architecture-aware learning rate and weights): accuracy beside one learning rate for all, for several
  learning rates, with SGD as in the paper.

Differences are between the same network and seed with and without; times are of the processor.

python benchmarks/training_options.py [--networks 10] [--epochs 16] [--into FILE]
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from results import save
from spread import heading

from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.moves import sample
from workers.datasets.load import load_dataset
from workers.training.loop import train
from workers.training.seeding import seeded
from workers.training.settings import TrainingSettings

PRUNE = (0.3, 0.5)
RATES = (0.01, 0.03, 0.1, 0.3)
SPACE = nas_bench_201(channels=8, cells=1)


def trained(seed: int, settings: TrainingSettings) -> tuple[float, float]:
    """Accuracy on the validation split, and seconds of the processor; the network is the seed's own."""
    data = load_dataset("digits")
    with seeded(seed):
        network = build(SPACE, sample(SPACE, np.random.default_rng(seed)), data.input_shape, data.outputs)
    began = time.process_time()
    try:
        accuracy = train(network, data, settings, seed=seed).scores["accuracy"]
    except FloatingPointError:  # a learning rate too large for this network: it has learnt nothing
        accuracy = 1 / data.outputs
    return accuracy, time.process_time() - began


def mean_and_error(values: Sequence[float]) -> str:
    """Mean ± standard error."""
    return f"{np.mean(values):+.4f} ± {np.std(values, ddof=1) / math.sqrt(len(values)):.4f}"


def pruning(networks: int, epochs: int) -> Iterator[str]:
    """One line per ratio."""
    whole = [trained(seed, TrainingSettings(epochs=epochs)) for seed in range(networks)]
    yield f"all examples, {epochs} epochs: accuracy {np.mean([accuracy for accuracy, _ in whole]):.4f}"
    for ratio in PRUNE:
        short = [trained(seed, TrainingSettings(epochs=epochs, prune=ratio)) for seed in range(networks)]
        share = sum(seconds for _, seconds in short) / sum(seconds for _, seconds in whole)
        more = round(epochs / share)
        longer = [trained(seed, TrainingSettings(epochs=more, prune=ratio)) for seed in range(networks)]
        differences = [[a - b for (a, _), (b, _) in zip(side, whole, strict=True)] for side in (short, longer)]
        yield (
            f"prune {ratio:g}: {share:.2f} of the time, accuracy {mean_and_error(differences[0])}; at equal time "
            f"({more} epochs) {mean_and_error(differences[1])}"
        )


def scaling(networks: int, epochs: int, base_depth: int) -> Iterator[str]:
    """One line per learning rate, then the best of each."""
    means: dict[int, list[float]] = {0: [], base_depth: []}
    for rate in RATES:
        found = {}
        for depth in (0, base_depth):
            settings = TrainingSettings(
                epochs=epochs, optimizer="sgd", schedule="cosine", learning_rate=rate, base_depth=depth
            )
            found[depth] = [trained(seed, settings)[0] for seed in range(networks)]
            means[depth].append(float(np.mean(found[depth])))
        differences = np.subtract(found[base_depth], found[0])
        yield f"learning rate {rate:g}: accuracy {means[0][-1]:.4f}, scaled {mean_and_error(differences)}"
    best = {depth: max(values) for depth, values in means.items()}
    yield f"at its best learning rate: one for all {best[0]:.4f}, scaled {best[base_depth]:.4f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--base-depth", type=int, default=10, help="layers of the chain that the rates are for")
    parser.add_argument("--into", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heading(f"options of training, {arguments.networks} networks on digits, {arguments.epochs} epochs", "torch")
    trained(0, TrainingSettings(epochs=1))  # the first one is slow
    lines = []
    for line in chain(
        pruning(arguments.networks, arguments.epochs),
        scaling(arguments.networks, arguments.epochs, arguments.base_depth),
    ):
        print(f"  {line}", flush=True)
        lines.append(line)
    if arguments.into is not None:
        save(arguments.into, lines)


if __name__ == "__main__":
    main()
