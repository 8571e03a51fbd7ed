"""The training loop: the data on the device, no waiting for the device inside an epoch, seeded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.datasets.dataset import Dataset
from workers.kernels import register
from workers.training.checkpoint import Progress, restore_generators, restore_training, training_state
from workers.training.optimizers import make_optimizer
from workers.training.schedules import learning_rate_at
from workers.training.scores import EVALUATION_BATCH, Resident, autocast, resident, score
from workers.training.seeding import derived_seed, seeded
from workers.training.settings import TrainingSettings


class NanLoss(FloatingPointError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What training led to."""

    #: on the validation split after the last epoch; see `score`
    scores: Mapping[str, float]
    #: done in all, those before the checkpoint included
    epochs: int
    #: wall-clock of training and validation, that before the checkpoint included
    seconds: float
    #: whether `report` asked for an early end
    stopped: bool


class Keeper(Protocol):
    """Who keeps checkpoints of a training."""

    def is_due(self) -> bool:
        """Whether one should be kept now; asked after every step."""
        ...

    def keep(self, epochs: int, state: Mapping[str, Any]) -> None:
        """Keep a state in which so many epochs are done."""
        ...


def train(
    network: nn.Module,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    report: Callable[[int, Mapping[str, float]], bool] | None = None,
    start: Path | None = None,
    keeper: Keeper | None = None,
    until: int | None = None,
) -> TrainingResult:
    """Fit a network to the training split, in place.

    Epoch e draws its order and its dropout masks from (seed, e) alone, and a checkpoint within it holds where the
    generators are, so that a training which goes on from a checkpoint is the same as one that never stopped. On a CPU,
    equal seeds and thread counts give equal bits; on a GPU some of torch's kernels add up in varying order.

    Args:
        network: takes inputs of b x dataset.input_shape, returns b x dataset.outputs.
        dataset: its test split is not touched.
        settings: how to train; `threads` is the caller's business.
        seed: of the order of examples and of dropout, not of the weights, which are there already.
        device: where to.
        report: called after each epoch with (epochs done, scores on the validation split and train_loss); training
            ends when it returns True.
        start: a checkpoint to go on from.
        keeper: keeps checkpoints, after any step at which it says that one is due, and at an end before the last
            epoch of `settings`: that training may be gone on with.
        until: train to the end of so many epochs of those in `settings`, whose schedule spans all of them.

    Raises:
        NanLoss: the training loss of an epoch, or the validation loss after it, is NaN or infinite.
    """
    device = torch.device(device)
    began = time.perf_counter()
    epochs = settings.epochs if until is None else min(until, settings.epochs)
    if dataset.kind == "regression" and settings.label_smoothing:
        raise ValueError(f"label_smoothing is for classification only, got {settings.label_smoothing} for regression")
    if device.type == "cuda":
        register()
    network.to(device)
    optimizer = make_optimizer(network, settings)
    progress = Progress() if start is None else restore_training(start, network, optimizer)
    before = progress.seconds
    training, validation = (resident(split, dataset, device) for split in (dataset.train, dataset.validation))
    _check_outputs(network, validation, dataset)

    def scores() -> dict[str, float]:
        size = max(EVALUATION_BATCH, 2 * settings.batch_size)
        return score(network, validation, dataset, precision=settings.precision, batch_size=size)

    def keep(progress: Progress) -> None:
        if keeper is not None:
            progress = replace(progress, seconds=before + time.perf_counter() - began)
            keeper.keep(progress.epochs, training_state(network, optimizer, progress, device))

    def keep_if_due(progress: Progress) -> None:
        if keeper is not None and keeper.is_due():
            keep(progress)

    latest, stopped = None, False
    with seeded(seed, device):
        while progress.epochs < epochs and not stopped:
            train_loss = _one_epoch(
                network, training, dataset.kind, settings, optimizer, seed=seed, start=progress, keep_if_due=keep_if_due
            )
            latest, progress = scores(), Progress(epochs=progress.epochs + 1)
            for name, value in (("training", train_loss), ("validation", latest["loss"])):
                if not math.isfinite(value):
                    raise NanLoss(f"the {name} loss is {value} after epoch {progress.epochs} of {epochs}")
            if report is not None:
                stopped = report(progress.epochs, {**latest, "train_loss": train_loss})
            if progress.epochs < epochs and not stopped:
                keep_if_due(progress)
        if progress.epochs < settings.epochs and not stopped:
            keep(progress)
    return TrainingResult(
        scores=latest or scores(),
        epochs=progress.epochs,
        seconds=before + time.perf_counter() - began,
        stopped=stopped,
    )


def _one_epoch(
    network: nn.Module,
    data: Resident,
    kind: str,
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    *,
    seed: int,
    start: Progress,
    keep_if_due: Callable[[Progress], None],
) -> float:
    """Returns the mean training loss; reading it is the only point at which the device is waited for.

    Begins at the step that `start` names.
    """
    device, epoch = data.targets.device, start.epochs
    torch.manual_seed(derived_seed(seed, epoch, 0))
    generator = torch.Generator(device).manual_seed(derived_seed(seed, epoch, 1))
    order = torch.randperm(len(data), generator=generator, device=device)
    restore_generators(start, device)
    size = min(settings.batch_size, len(data))
    steps = len(data) // size
    total = torch.zeros((), device=device) if start.total is None else start.total.to(device)
    network.train()
    for step in range(start.steps, steps):
        rate = learning_rate_at(settings, epoch * steps + step, settings.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = data.batch(order[step * size : (step + 1) * size])
        with autocast(device, settings.precision):
            outputs = network(inputs)
        loss = _loss(outputs.float(), targets, kind, settings)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if settings.gradient_clip:
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimizer.step()
        total += loss.detach()
        if step + 1 < steps:
            keep_if_due(Progress(epochs=epoch, steps=step + 1, total=total))
    return float(total) / steps


def _loss(outputs: Tensor, targets: Tensor, kind: str, settings: TrainingSettings) -> Tensor:
    if kind == "classification":
        return functional.cross_entropy(outputs, targets, label_smoothing=settings.label_smoothing)
    return functional.mse_loss(outputs.reshape(targets.shape), targets)


def _check_outputs(network: nn.Module, data: Resident, dataset: Dataset) -> None:
    """Refuse a network whose output does not fit the task, before any time is spent."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        inputs, _ = data.batch(slice(0, 2))
        shape = tuple(network(inputs).shape)
    network.train(was_training)
    if shape != (len(inputs), dataset.outputs):
        raise ValueError(
            f"the network returns shape {shape} for {len(inputs)} inputs; {dataset.kind} on {dataset.name!r} needs "
            f"{(len(inputs), dataset.outputs)}"
        )
