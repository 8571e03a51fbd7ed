"""Checkpoints of a training: a safetensors file with weights, optimiser state and the number of epochs done."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

FORMAT = "nas-training-1"


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """Write the state after `epoch` epochs. Random numbers need no state: an epoch's come from (seed, epoch) alone."""
    from safetensors.torch import save_file

    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
    # clone: tied weights share memory, which safetensors refuses
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"format": FORMAT, "epoch": json.dumps(epoch)})
    partial.replace(path)


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
    """Restore what `save_checkpoint` wrote into a network (and its optimiser) of the same build.

    Returns:
        The number of epochs done.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this training loop: its format is {metadata.get('format')!r}")
    weights = {name.removeprefix("network/"): t for name, t in tensors.items() if name.startswith("network/")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {error}") from error
    if optimizer is not None:
        document = optimizer.state_dict()
        document["state"] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/", 2)
                document["state"].setdefault(int(index), {})[name] = tensor
        optimizer.load_state_dict(document)
    return int(json.loads(metadata["epoch"]))
