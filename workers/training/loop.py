"""The training loop: the data on the device, no waiting for the device inside an epoch, seeded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from workers.datasets.dataset import Dataset
from workers.kernels import register
from workers.training.capture import CudaGraphs, Replayed
from workers.training.checkpoint import Progress, restore_generators, restore_training, training_state
from workers.training.epochs import EpochPlan
from workers.training.finite import FiniteWatch, check_finite
from workers.training.optimizers import make_optimizer
from workers.training.scaling import scaled
from workers.training.scores import Resident, evaluation_batch, layout_for, resident, score
from workers.training.seeding import derived_seed, seeded
from workers.training.settings import TrainingSettings
from workers.training.step import TrainingStep


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
    #: where something else than the settings say was done: this network's learning rate, why its step was not recorded
    notes: Mapping[str, Any] = field(default_factory=dict)


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
    keep_end: bool = False,
) -> TrainingResult:
    """Fit a network to the training split, in place.

    Epoch e draws its order, its augmentation and its dropout masks from (seed, e) alone, and a checkpoint within it
    holds where the generators are, so that a training which goes on from a checkpoint is the same as one that never
    stopped. On a CPU, equal seeds and thread counts give equal bits; on a GPU some of torch's kernels add up in varying
    order.

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
        keep_end: keep a checkpoint at the end of the last epoch, too.

    Raises:
        NanLoss: the training loss of an epoch, or the validation loss after it, is NaN or infinite.
    """
    device = torch.device(device)
    began = time.perf_counter()
    epochs = settings.epochs if until is None else min(until, settings.epochs)
    settings.check_task(dataset.kind, dataset.input_shape)
    notes: dict[str, Any] = {}
    if settings.base_depth:
        settings = scaled(network, dataset.input_shape, settings, seed=derived_seed(seed, 2) if start is None else None)
        notes["learning_rate"] = settings.learning_rate
    if device.type == "cuda":
        register()
    layout = layout_for(network, dataset.input_shape)
    training, validation = (resident(split, dataset, device, layout) for split in (dataset.train, dataset.validation))
    network.to(device).to(memory_format=layout)  # type: ignore[call-overload]  # not in torch's own types
    optimizer = make_optimizer(network, settings)
    progress = Progress() if start is None else restore_training(start, network, optimizer)
    before = progress.seconds
    _check_outputs(network, validation, dataset)
    plan = EpochPlan(settings, training, seed=seed)
    if plan.scores is not None:
        plan.scores.restore(progress.scores)
    step = TrainingStep(network, training, dataset.kind, settings, optimizer, plan)
    do = Replayed(step, CudaGraphs(device)) if device.type == "cuda" and settings.capture else step
    watch = FiniteWatch(step.total)

    def scores() -> dict[str, float]:
        size = evaluation_batch(settings.batch_size)
        return score(network, validation, dataset, precision=settings.precision, batch_size=size)

    def keep(progress: Progress) -> None:
        if keeper is not None:
            known = {} if plan.scores is None else plan.scores.state()
            progress = replace(progress, seconds=before + time.perf_counter() - began, scores=known)
            keeper.keep(progress.epochs, training_state(network, optimizer, progress, device))

    def keep_if_due(progress: Progress) -> None:
        if keeper is not None and keeper.is_due():
            keep(progress)

    def one_epoch(start: Progress) -> float:
        """The mean training loss; reading it is the only point at which the device is waited for."""
        epoch = start.epochs
        torch.manual_seed(derived_seed(seed, epoch, 0))
        steps = plan.begin(epoch, start.steps)
        restore_generators(start, device)
        step.total.copy_(torch.zeros(()) if start.total is None else start.total)
        network.train()
        for done in range(start.steps + 1, steps + 1):
            do()
            watch.look(epoch, done)
            if done < steps:
                keep_if_due(Progress(epochs=epoch, steps=done, total=step.total))
        return float(step.total) / steps

    latest, stopped = None, False
    with seeded(seed, device):
        while progress.epochs < epochs and not stopped:
            train_loss = one_epoch(progress)
            latest, progress = scores(), Progress(epochs=progress.epochs + 1)
            check_finite(train_loss, latest["loss"], progress.epochs, epochs)
            if report is not None:
                stopped = report(progress.epochs, {**latest, "train_loss": train_loss})
            if progress.epochs < epochs and not stopped:
                keep_if_due(progress)
        if (keep_end or progress.epochs < settings.epochs) and not stopped:
            keep(progress)
    # as it came: weights in their plain layout, nothing held that a recorded step had its gradients in
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizer.zero_grad(set_to_none=True)
    if isinstance(do, Replayed) and do.refused is not None:
        notes["not_captured"] = do.refused
    return TrainingResult(
        scores=latest or scores(),
        epochs=progress.epochs,
        seconds=before + time.perf_counter() - began,
        stopped=stopped,
        notes=notes,
    )


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
