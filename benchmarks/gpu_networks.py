"""The rows of `gpu.py` that train and score whole networks."""

import math
import statistics
import time
from typing import Any

import numpy as np
import torch
from batched_mlp import SPACES, plainly, seconds, together
from gpu_timing import Row
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.naswot import naswot
from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.moves import sample
from workers.datasets.dataset import Dataset, Split
from workers.datasets.load import load_dataset
from workers.measure import peak_memory
from workers.training.loop import train
from workers.training.memory import predicted_memory
from workers.training.settings import TrainingSettings

BATCH = 256
IMAGES = 50 * BATCH
CELLS = 20
SCORED = 100
PUBLISHED_NASWOT_MS = 37.0
CANDIDATES = 256


def training_row(images: np.ndarray | None, targets: np.ndarray | None) -> Row:
    """Training images per second of NAS-Bench-201's networks, beside a plain loop; median over random cells."""
    data = _dataset(images, targets)
    space = nas_bench_201(channels=16, cells=5)
    rng = np.random.default_rng(0)
    ours, plain = [], []
    for _ in range(CELLS):
        cell = sample(space, rng)
        ours.append(_ours(build(space, cell, data.input_shape, data.outputs), data))
        plain.append(_plain(build(space, cell, data.input_shape, data.outputs).cuda(), data))
    ratio = statistics.median(ours) / statistics.median(plain)
    return Row(
        what=f"training NAS-Bench-201 cells, C=16, N=5, batch {BATCH}, median of {CELLS}",
        ours=statistics.median(ours),
        peer=statistics.median(plain),
        against="plain loop: eager, bfloat16 autocast, DataLoader",
        unit="images/s",
        wanted=">= 3x",
        reached=ratio >= 3,
        notes="CIFAR-10" if images is not None else "images drawn at random in CIFAR-10's shape",
    )


def capture_row(images: np.ndarray | None, targets: np.ndarray | None) -> Row:
    """What recording the step brings, with the augmentation that CIFAR-10 is trained with; median over random cells."""
    data = _dataset(images, targets)
    space = nas_bench_201(channels=16, cells=5)
    rng = np.random.default_rng(2)
    recorded, plain = [], []
    for _ in range(CELLS // 4):
        cell = sample(space, rng)
        for rates, capture in ((recorded, True), (plain, False)):
            network = build(space, cell, data.input_shape, data.outputs)
            rates.append(_ours(network, data, capture=capture, crop=4, flip=True, cutout=16))
    return Row(
        what=f"the same with crop, flip and cutout, the step recorded, median of {CELLS // 4}",
        ours=statistics.median(recorded),
        peer=statistics.median(plain),
        against="the step kernel by kernel",
        unit="images/s",
        wanted="> 1x",
        reached=statistics.median(recorded) > statistics.median(plain),
    )


def memory_row(images: np.ndarray | None, targets: np.ndarray | None) -> Row:
    """The memory that is foretold beside the peak that the device saw; the ratio's median over random cells."""
    data = _dataset(images, targets)
    space = nas_bench_201(channels=16, cells=5)
    rng = np.random.default_rng(3)
    settings = TrainingSettings(epochs=1, batch_size=BATCH, optimizer="sgd", precision="bfloat16")
    foretold, seen = [], []
    for _ in range(CELLS // 4):
        network = build(space, sample(space, rng), data.input_shape, data.outputs)
        foretold.append(predicted_memory(network, data, settings, torch.device("cuda")).bytes / 2**20)
        with peak_memory("cuda") as peak:
            train(network, data, settings, seed=0, device="cuda")
        seen.append((peak.bytes or 0) / 2**20)
    ratios = [one / other for one, other in zip(foretold, seen, strict=True)]
    return Row(
        what=f"memory of a training, foretold and seen, median of {CELLS // 4}",
        ours=statistics.median(foretold),
        peer=statistics.median(seen),
        against="peak of torch's allocator",
        unit="MiB",
        wanted="never below, at most 1.5x",
        reached=all(1 <= ratio <= 1.5 for ratio in ratios),
        notes=f"ratios {min(ratios):.2f} to {max(ratios):.2f}",
    )


def batched_mlp_row() -> Row:
    """Multilayer perceptrons of different widths trained together, in candidates per second."""
    (space, *_), data = SPACES.values(), load_dataset("digits")
    common: dict[str, Any] = {"data": data, "epochs": 10, "device": "cuda"}
    seconds(together, space, count=CANDIDATES, group=CANDIDATES, **common)  # compiles, allocates
    ours = 1 / seconds(together, space, count=CANDIDATES, group=CANDIDATES, **common)
    plain = 1 / seconds(plainly, space, count=CANDIDATES // 16, group=1, **common)
    return Row(
        what=f"batched_mlp, training {CANDIDATES} candidates, 1 to 4 layers of 16 to 128, batch 64, digits, 10 epochs",
        ours=ours,
        peer=plain,
        against="one after the other, eager",
        unit="candidates/s",
        wanted=">= 20x",
        reached=ours / plain >= 20,
    )


def naswot_row() -> Row:
    """Milliseconds to score a built network; the first ones are not counted."""
    space = nas_bench_201(channels=16, cells=5)
    rng = np.random.default_rng(1)
    times = []
    for index in range(SCORED + 5):
        network = build(space, sample(space, rng), (3, 32, 32), 10).cuda()
        inputs = torch.randn(128, 3, 32, 32, device="cuda")
        batch = Batch(inputs=inputs, targets=torch.zeros(128, dtype=torch.long, device="cuda"), seed=index)
        torch.cuda.synchronize()
        began = time.perf_counter()
        naswot(network, batch, functional.cross_entropy)
        times.append(1e3 * (time.perf_counter() - began))
    ours = statistics.median(times[5:])
    return Row(
        what=f"naswot, {SCORED} built networks, batch 128, median",
        ours=ours,
        peer=PUBLISHED_NASWOT_MS,
        against="published",
        wanted="<= 5 ms a cell",
        reached=ours <= 5,
    )


def _ours(network: nn.Module, data: Dataset, **more: Any) -> float:
    """Images per second of the epochs after the first."""
    ends: list[float] = []

    def report(epochs: int, scores: object) -> bool:
        ends.append(time.perf_counter())
        return False

    settings = TrainingSettings(epochs=4, batch_size=BATCH, optimizer="sgd", precision="bfloat16", **more)
    train(network, data, settings, seed=0, device="cuda", report=report)
    return IMAGES / statistics.median(np.diff(ends))


def _plain(network: nn.Module, data: Dataset) -> float:
    """What one writes first; data in memory, loaded by four processes."""
    inputs, targets = torch.tensor(data.normalised(data.train.inputs)), torch.tensor(data.train.targets)
    loader = DataLoader(
        TensorDataset(inputs, targets),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=4,
        pin_memory=True,
        persistent_workers=True,
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    ends: list[float] = []
    for _ in range(3):
        for examples, labels in loader:
            with torch.autocast("cuda", torch.bfloat16):
                loss = functional.cross_entropy(network(examples.cuda()), labels.cuda())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not math.isfinite(loss.item()):
                raise FloatingPointError("the plain loop's loss is not finite")
        ends.append(time.perf_counter())
    return IMAGES / statistics.median(np.diff(ends))


def _dataset(images: np.ndarray | None, targets: np.ndarray | None) -> Dataset:
    rng = np.random.default_rng(0)
    held = 2 * BATCH
    if images is None or targets is None:
        images = rng.integers(0, 256, (IMAGES + held, 3, 32, 32), dtype=np.uint8)
        targets = rng.integers(0, 10, IMAGES + held)
    images, targets = images[: IMAGES + held], targets[: IMAGES + held].astype(np.int64)
    mean, scale = (f(images[:IMAGES], axis=(0, 2, 3), keepdims=True)[0].astype(np.float32) for f in (np.mean, np.std))
    return Dataset(
        name="cifar10",
        kind="classification",
        train=Split(images[:IMAGES], targets[:IMAGES]),
        validation=Split(images[IMAGES:], targets[IMAGES:]),
        test=Split(images[:0], targets[:0]),
        class_names=tuple(map(str, range(10))),
        mean=mean,
        scale=scale,
    )
