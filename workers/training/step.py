"""TrainingStep: one step of training, as a function of nothing but what lies on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.training.augmentation import blended, moved, with_holes
from workers.training.epochs import Draw, EpochPlan
from workers.training.optimizers import set_rate
from workers.training.scores import Resident, autocast
from workers.training.settings import TrainingSettings


class TrainingStep:
    """Calling it draws the next batch from the plan, and moves the network's weights by one step.

    It takes no argument, returns nothing and waits for nothing: the same function is called step by step on a CPU, and
    recorded and replayed on a GPU (`workers.training.capture`).

    Args:
        network: in training mode.
        data: the training split.
        kind: "classification" or "regression".
        settings: of the training.
        optimizer: of the network's parameters.
        plan: has begun an epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Resident,
        kind: str,
        settings: TrainingSettings,
        optimizer: torch.optim.Optimizer,
        plan: EpochPlan,
    ) -> None:
        self._network, self._data, self._kind = network, data, kind
        self._settings, self._optimizer, self._plan = settings, optimizer, plan
        #: sum of the losses of the epoch's steps so far; stays where it is
        self.total = torch.zeros((), device=data.targets.device)

    def __call__(self) -> None:
        """Do one step."""
        draw = self._plan.draw()
        set_rate(self._optimizer, draw.rates)
        inputs, targets = self._batch(draw)
        with autocast(inputs.device, self._settings.precision):
            outputs = self._network(inputs)
        losses = self._losses(outputs.float(), targets, draw)
        if self._plan.scores is not None:
            self._plan.scores.latest.index_copy_(0, draw.order, losses.detach())
        loss = (losses if draw.weights is None else losses * draw.weights).mean()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self._settings.gradient_clip:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._settings.gradient_clip)
        self._optimizer.step()
        self.total += loss.detach()

    def _batch(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Inputs as the network sees them, and targets; both b x …."""
        settings = self._settings
        inputs, targets = (tensor.index_select(0, draw.order) for tensor in (self._data.inputs, self._data.targets))
        if draw.moves is not None:
            inputs = moved(inputs, draw.moves, settings.crop)
        inputs = self._data.normalised(inputs)
        if draw.holes is not None:
            inputs = with_holes(inputs, draw.holes, settings.cutout)
        return (inputs if draw.shares is None else blended(inputs, draw.shares)), targets

    def _losses(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """The loss of each example, b."""
        if self._kind == "regression":
            targets = targets if draw.shares is None else blended(targets, draw.shares)
            return (outputs.reshape(targets.shape) - targets).square().mean(1)
        losses = self._cross_entropies(outputs, targets)
        if draw.shares is None:
            return losses
        return draw.shares * losses + (1 - draw.shares) * self._cross_entropies(outputs, targets.roll(1))

    def _cross_entropies(self, outputs: Tensor, targets: Tensor) -> Tensor:
        smoothing = self._settings.label_smoothing
        return functional.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction="none")
