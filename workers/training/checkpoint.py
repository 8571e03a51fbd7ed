"""The state of a training: weights, optimiser, random numbers, and how far it is, as names and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workers.state_file import read_state


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is."""

    #: epochs done
    epochs: int = 0
    #: steps done of the epoch after those
    steps: int = 0
    #: sum of the losses of those steps
    total: Tensor | None = None
    #: states of the generators, by device, within an epoch
    generators: Mapping[str, Tensor] = field(default_factory=dict)
    #: what is known of each example, see `workers.training.pruning`
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    #: seconds spent so far
    seconds: float = 0.0


def training_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, device: torch.device
) -> dict[str, Any]:
    """What is needed to go on as if nothing had happened; see `workers.state_file.write_state`.

    An epoch's random numbers come from (seed, epoch) alone; within one, the generators' states are kept.
    """
    state: dict[str, Any] = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                state[f"optimizer/{index}/{name}"] = value
    state |= {"epochs": progress.epochs, "steps": progress.steps, "seconds": progress.seconds}
    state |= {f"scores/{name}": tensor for name, tensor in progress.scores.items()}
    if progress.steps and progress.total is not None:
        state |= {"total": progress.total, "random/cpu": torch.get_rng_state()}
        if device.type == "cuda":
            state["random/cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_training(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Progress:
    """Restore a state into a network (and its optimiser) of the same build; see `restore_generators` for the rest.

    Raises:
        ValueError: the file is no state of a training, or one of another network.
    """
    state = read_state(path)
    if not isinstance(state.get("epochs"), int):
        raise ValueError(f"{path} is no checkpoint of this training loop: it says nothing of epochs")
    try:
        network.load_state_dict(_below("network/", state))
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {error}") from error
    if optimizer is not None:
        document = optimizer.state_dict()
        document["state"] = {}
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for key, tensor in _below("optimizer/", state).items():
            index, name = key.split("/", 1)
            if int(index) < len(parameters) and tensor.shape == (like := parameters[int(index)]).shape:
                # what belongs to a parameter lies in memory as that does: a fused step goes through both side by side
                tensor = torch.empty_like(like, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
            document["state"].setdefault(int(index), {})[name] = tensor
        optimizer.load_state_dict(document)
    return Progress(
        epochs=state["epochs"],
        steps=state["steps"],
        total=state.get("total"),
        generators=_below("random/", state),
        scores=_below("scores/", state),
        seconds=float(state["seconds"]),
    )


def restore_generators(progress: Progress, device: torch.device) -> None:
    """Put the generators where they were within an epoch; one of a kind of device that is not used here is left out."""
    if "cpu" in progress.generators:
        torch.set_rng_state(progress.generators["cpu"])
    if device.type == "cuda" and "cuda" in progress.generators:
        torch.cuda.set_rng_state(progress.generators["cuda"], device)


def _below(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
