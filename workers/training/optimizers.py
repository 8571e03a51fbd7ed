"""Optimisers by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workers.training.settings import TrainingSettings


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser of a network's trainable parameters; weights and the rest are two groups, only weights decay.

    The learning rate is a tensor beside the parameters (`set_rate`), so that a recorded step reads the one of its turn.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    device = trainable[0].device if trainable else torch.device("cpu")
    # one kernel for all parameters where torch has it: small networks are bound by the number of calls
    fused = bool(trainable) and device.type in ("cpu", "cuda")
    rate, momentum = torch.tensor(settings.learning_rate, device=device), settings.momentum
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=fused, capturable=device.type == "cuda")


def set_rate(optimizer: torch.optim.Optimizer, rate: Tensor) -> None:
    """Take a learning rate (1 number, on the parameters' device) from now on, without waiting for the device."""
    for group in optimizer.param_groups:
        group["lr"].copy_(rate.squeeze(0))
