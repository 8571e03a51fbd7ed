"""train_together: networks that are alike enough trained in the same steps, each to what it becomes alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.datasets.dataset import Dataset
from workers.kernels import register
from workers.training.capture import CudaGraphs, Replayed
from workers.training.checkpoint import Progress, restore_training, training_state
from workers.training.epochs import EpochPlan
from workers.training.finite import check_finite
from workers.training.grouped_network import GroupedNetwork, Perceptron, perceptron
from workers.training.loop import Keeper, TrainingResult
from workers.training.optimizers import make_optimizer
from workers.training.scores import Resident, autocast, evaluation_batch, precision_on, resident, score, scores_of
from workers.training.seeding import derived_seed
from workers.training.settings import TrainingSettings

OWN = ("epochs", "learning_rate", "momentum", "weight_decay", "schedule", "warmup", "label_smoothing", "gradient_clip")
"""Settings that differ from member to member."""
COMMON = ("batch_size", "optimizer", "precision", "threads", "capture")
"""Settings in which those trained together are equal. With any other one a network is trained alone."""

SCORED_NUMBERS = 2**24
"""Between two products while a split is scored, at most: 64 MiB."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training, as `workers.training.loop.train` takes it."""

    network: nn.Module
    settings: TrainingSettings
    seed: int
    report: Callable[[int, Mapping[str, float]], bool]
    start: Path | None = None
    keeper: Keeper | None = None
    until: int | None = None
    keep_end: bool = False

    @property
    def epochs(self) -> int:
        """Where it ends."""
        return self.settings.epochs if self.until is None else min(self.until, self.settings.epochs)


def company(
    network: nn.Module, settings: TrainingSettings, dataset: Dataset, device: torch.device | str
) -> tuple[object, ...] | None:
    """What members of one group have in common, the epoch they start from aside; None for what is trained alone.

    Alone are networks other than those of `perceptron`, those with settings that the steps of a group do not know, and,
    on a GPU, those with dropout: there a group cannot draw the same random numbers.
    """
    device, found, plain = torch.device(device), perceptron(network), type(settings)()
    other = [field.name for field in fields(TrainingSettings) if field.name not in (*OWN, *COMMON)]
    if (
        found is None
        or found.head.linear.out_features != dataset.outputs
        or (found.has_dropout and device.type != "cpu")
        or any(getattr(settings, name) != getattr(plain, name) for name in other)
    ):
        return None
    return (
        settings.batch_size,
        settings.optimizer,
        precision_on(device, settings.precision),
        settings.threads,
        settings.capture,
        found.linear(0).in_features,
    )


@dataclass(kw_only=True)
class Trainee:
    """A member on its way."""

    index: int
    member: Member
    layers: Perceptron
    plan: EpochPlan
    optimizer: torch.optim.Optimizer
    progress: Progress
    scores: Mapping[str, float]

    @property
    def generator(self) -> torch.Generator | None:
        """Of its dropout in the next epoch, as the generator of a training alone begins it."""
        if not self.layers.has_dropout:
            return None
        return torch.Generator().manual_seed(derived_seed(self.member.seed, self.progress.epochs, 0))


def train_together(
    members: Sequence[Member], dataset: Dataset, *, device: torch.device | str = "cpu"
) -> Iterator[tuple[int, TrainingResult | BaseException]]:
    """Train all members, in place; yields each one's number and its result, or what ended it, as soon as it has ended.

    They are of one `company`. Those whose checkpoints are of different epochs are trained in groups of their own, one
    after the other. A member that ends, whatever the reason, drops out, and the others go on: a loss that is NaN, an
    early end or an exception that its report asks for. Results are those of `train` up to rounding (which AdamW makes
    visible in a bias before batch normalisation, whose gradient is 0 but for it); their seconds are each one's share.
    """
    device = torch.device(device)
    if device.type == "cuda":
        register()
    training, validation = (resident(split, dataset, device) for split in (dataset.train, dataset.validation))
    groups: dict[int, list[Trainee]] = {}
    for index, member in enumerate(members):
        trainee = _prepared(index, member, training, device)
        if trainee.progress.epochs >= member.epochs:  # a budget that was reached before
            trainee.scores = _scores(trainee, validation, dataset)
            yield index, _result(trainee, stopped=False)
        else:
            groups.setdefault(trainee.progress.epochs, []).append(trainee)
    for trainees in groups.values():
        trainees.sort(key=lambda trainee: len(trainee.layers.layers))
        while trainees:
            group = Group(trainees, training, dataset, device)
            before = len(trainees)
            while len(trainees) == before:
                trainees = yield from _one_epoch(group, trainees, validation, dataset, device)


def _prepared(index: int, member: Member, training: Resident, device: torch.device) -> Trainee:
    network = member.network.to(device)
    layers = perceptron(network)
    if layers is None:
        raise ValueError(f"member {index} is no multilayer perceptron; ask `company` first")
    optimizer = make_optimizer(network, member.settings)
    progress = Progress() if member.start is None else restore_training(member.start, network, optimizer)
    if progress.steps:
        raise ValueError(f"member {index} goes on from within an epoch; train it alone")
    plan = EpochPlan(member.settings, training, seed=member.seed)
    return Trainee(
        index=index, member=member, layers=layers, plan=plan, optimizer=optimizer, progress=progress, scores={}
    )


def _one_epoch(
    group: Group, trainees: list[Trainee], validation: Resident, dataset: Dataset, device: torch.device
) -> Generator[tuple[int, TrainingResult | BaseException], None, list[Trainee]]:
    """Returns those that go on."""
    began = time.perf_counter()
    losses = group.epoch(trainees[0].progress.epochs)
    scores = group.scores(validation)
    share = (time.perf_counter() - began) / len(trainees)
    left = []
    for trainee, loss, found in zip(trainees, losses, scores, strict=True):
        member, trainee.scores, done = trainee.member, found, trainee.progress
        trainee.progress = replace(done, epochs=done.epochs + 1, seconds=done.seconds + share)
        try:
            stopped = _reported(trainee, loss)
            ends = stopped or trainee.progress.epochs == member.epochs
            kept = member.keep_end or trainee.progress.epochs < member.settings.epochs if ends else _is_due(member)
            if kept and not stopped and member.keeper is not None:
                state = training_state(member.network, trainee.optimizer, trainee.progress, device)
                member.keeper.keep(trainee.progress.epochs, state)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a report may end its own trial with any
            yield trainee.index, error
            continue
        if ends:
            yield trainee.index, _result(trainee, stopped=stopped)
        else:
            left.append(trainee)
    if len(left) < len(trainees):
        for trainee in trainees:
            _set_apart(trainee.member.network)
    return left


class Group:
    """The members that train together for as long as none of them drops out; calling it does one step of all.

    Like `workers.training.step.TrainingStep` a step takes nothing and returns nothing, and lets a GPU replay it.

    Args:
        trainees: shallow ones first, all with the same number of epochs done.
        data: the training split.
        dataset: what it is of.
        device: where to.
    """

    def __init__(self, trainees: Sequence[Trainee], data: Resident, dataset: Dataset, device: torch.device) -> None:
        settings = [trainee.member.settings for trainee in trainees]
        self._trainees, self._data, self._dataset = trainees, data, dataset
        self._precision = settings[0].precision
        self._network = GroupedNetwork([trainee.layers for trainee in trainees])
        self._size = min(settings[0].batch_size, len(data))
        self._steps = len(data) // self._size
        self._gradient = torch.empty_like(self._network.values)
        for place in self._network.places:
            place.parameter.grad = self._gradient[place.start : place.stop].view(place.parameter.shape)
        self._rate = torch.zeros(len(trainees), device=device)
        for trainee, rate in zip(trainees, self._rate, strict=True):
            for part in trainee.optimizer.param_groups:
                part["lr"] = rate  # a view: what is written there is the rate of the next step
        smoothing = [one.label_smoothing for one in settings]
        self._smoothing = torch.tensor(smoothing, device=device) if any(smoothing) else None
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self._offsets = torch.arange(self._size, device=device)
        self._orders = torch.empty(len(trainees), len(data), dtype=torch.int64, device=device)
        self._rates = torch.empty(len(trainees), self._steps, device=device)
        self._total = torch.zeros(len(trainees), device=device)
        self._generators: list[torch.Generator | None] = []
        self._do = Replayed(self, CudaGraphs(device)) if device.type == "cuda" and settings[0].capture else self

    def epoch(self, epoch: int) -> list[float]:
        """Do an epoch, so many being done; returns each member's mean training loss. Only here it is waited for."""
        for row, trainee in enumerate(self._trainees):
            trainee.member.network.train()
            trainee.plan.begin(epoch)
            self._orders[row] = trainee.plan.order
            self._rates[row] = trainee.plan.rates
        self._generators = [trainee.generator for trainee in self._trainees]
        self._at.zero_()
        self._total.zero_()
        for _ in range(self._steps):
            self._do()
        for norm in self._network.batch_norms():
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += self._steps
        return [total / self._steps for total in self._total.tolist()]

    @torch.no_grad()
    def scores(self, data: Resident) -> list[dict[str, float]]:
        """What each member scores on a split, see `workers.training.scores.score`."""
        members = len(self._trainees)
        size = min(evaluation_batch(self._size), max(1, SCORED_NUMBERS // self._network.widest))
        outputs = []
        for at in range(0, len(data), size):
            inputs, _ = data.batch(slice(at, at + size))
            with autocast(inputs.device, self._precision):
                outputs.append(self._network(inputs.reshape(1, len(inputs), -1).expand(members, -1, -1), None))
        predicted, targets = torch.cat(outputs, 2).float().cpu(), data.targets.cpu()
        return [scores_of(own.T.contiguous(), targets, self._dataset) for own in predicted]

    def __call__(self) -> None:
        """Do one step."""
        at = self._at.clone()
        self._at += 1
        order = self._orders.index_select(1, self._offsets + at * self._size)
        inputs = self._data.normalised(self._data.inputs.index_select(0, order.view(-1)))
        targets = self._data.targets.index_select(0, order.view(-1))
        with autocast(inputs.device, self._precision):
            outputs = self._network(inputs.reshape(*order.shape, -1), self._generators)
        losses = self._losses(outputs.float(), targets.view(*order.shape, *targets.shape[1:]))
        torch.cat(torch.autograd.grad(losses.sum(), self._network.leaves), out=self._gradient)
        self._rate.copy_(self._rates.index_select(1, at).squeeze(1))
        for trainee in self._trainees:
            if trainee.member.settings.gradient_clip:
                parameters = trainee.member.network.parameters()
                nn.utils.clip_grad_norm_(parameters, trainee.member.settings.gradient_clip)
            trainee.optimizer.step()
        self._total += losses.detach()

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of each member; outputs are ``members x outputs x b``, targets ``members x b (x outputs)``."""
        if self._dataset.kind == "regression":
            return (outputs - targets.transpose(1, 2)).square().mean((1, 2))
        logarithms = functional.log_softmax(outputs, 1)
        losses = -logarithms.gather(1, targets[:, None]).mean((1, 2))
        if self._smoothing is None:
            return losses
        return (1 - self._smoothing) * losses - self._smoothing * logarithms.mean((1, 2))


def _set_apart(network: nn.Module) -> None:
    """Let a network's numbers be its own again, no views of all members'."""
    for parameter in network.parameters():
        parameter.data, parameter.grad = parameter.data.clone(), None
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())


def _scores(trainee: Trainee, validation: Resident, dataset: Dataset) -> Mapping[str, float]:
    settings = trainee.member.settings
    size = evaluation_batch(settings.batch_size)
    return score(trainee.member.network, validation, dataset, precision=settings.precision, batch_size=size)


def _reported(trainee: Trainee, loss: float) -> bool:
    """Pass on what an epoch led to; True for an early end. `NanLoss` as in a training alone."""
    done = trainee.progress.epochs
    check_finite(loss, trainee.scores["loss"], done, trainee.member.epochs)
    return trainee.member.report(done, {**trainee.scores, "train_loss": loss})


def _is_due(member: Member) -> bool:
    return member.keeper is not None and member.keeper.is_due()


def _result(trainee: Trainee, *, stopped: bool) -> TrainingResult:
    progress = trainee.progress
    return TrainingResult(scores=trainee.scores, epochs=progress.epochs, seconds=progress.seconds, stopped=stopped)
