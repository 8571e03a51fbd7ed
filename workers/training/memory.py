"""How much memory a training will take, from a pass on torch's meta device: shapes without numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces.cost import cost
from workers.datasets.dataset import Dataset, Split
from workers.training.scores import evaluation_batch, precision_on
from workers.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

GPU_WORKSPACE = 128 * 2**20
"""What cuBLAS and cuDNN keep for themselves."""


class WouldNotFit(MemoryError):
    """Training would run out of memory, so it was not begun; the message says by how much and what to do."""


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """The bytes of a training at its peak, by what they are for."""

    #: parameters and buffers, and their copies in a lower precision
    weights: int
    gradients: int
    #: of the optimiser, per parameter
    optimizer: int
    #: what the forward pass of a training step saves for the backward pass
    saved: int
    #: what that has beside it at once: an activation's gradient coming in, and one going out
    passing: int
    #: the activations of the forward pass that validates
    validation: int
    #: the splits that stay on the device
    data: int
    #: of the libraries
    workspace: int

    @property
    def bytes(self) -> int:
        """All together."""
        return sum(vars(self).values())


def keep_to_share(device: torch.device | str, share: float) -> None:
    """Give this process no more than its share of a GPU's memory: a training that wants more fails, and no other."""
    if share < 1.0 and torch.device(device).type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device)


def memory_limit(settings: TrainingSettings, device: torch.device | str, share: float = 1.0) -> int | None:
    """The bytes that a training may take: the setting `memory_bytes`, or else the share of the GPU's; None for any."""
    device = torch.device(device)
    if settings.memory_bytes is None and device.type == "cuda":
        return int(share * torch.cuda.get_device_properties(device).total_memory)
    return settings.memory_bytes


def fitting_together(needs: Sequence[MemoryNeed], limit: int) -> Iterator[list[int]]:
    """Neighbours that can be trained at once: they have the data and the libraries in common. Places in `needs`."""
    together: list[int] = []
    taken = 0
    for place, need in enumerate(needs):
        common = need.data + need.workspace
        own = need.bytes - common
        if together and common + taken + own > limit:
            yield together
            together, taken = [], 0
        together.append(place)
        taken += own
    if together:
        yield together


def check_memory(
    network: nn.Module, dataset: Dataset, settings: TrainingSettings, device: torch.device | str, share: float = 1.0
) -> int | None:
    """Raise `WouldNotFit` if the network cannot be trained in the memory there is; the GPU is not touched.

    Args:
        network: on the CPU.
        dataset: what it is to be trained on.
        settings: its `memory_bytes`, or else the share of the GPU's memory, is the limit.
        device: where it is to be trained.
        share: of the GPU.

    Returns:
        The bytes foretold; None where there is no limit, or where a network does not run without numbers.
    """
    device = torch.device(device)
    limit = memory_limit(settings, device, share)
    if limit is None:
        return None
    try:
        need = predicted_memory(network, dataset, settings, device)
    except Exception as error:  # a network may be anybody's code, which may look at numbers and raise anything
        logger.info("the memory of a training cannot be foretold: %s: %s", type(error).__name__, error)
        return None
    if need.bytes > limit:
        raise WouldNotFit(
            f"training would take about {_shown(need.bytes)}, {_shown(need.saved)} of it for the activations of a "
            f"batch of {min(settings.batch_size, len(dataset.train))}, and there are {_shown(limit)}: not begun. "
            "A smaller batch_size takes less"
        )
    return need.bytes


def predicted_memory(
    network: nn.Module, dataset: Dataset, settings: TrainingSettings, device: torch.device
) -> MemoryNeed:
    """Foretell what `workers.training.loop.train` takes.

    An estimate from above by some tens of percent: backward frees what it has read while gradients come into being, and
    both are counted whole.
    """
    low = precision_on(device, settings.precision) == "bfloat16"
    batch = min(settings.batch_size, len(dataset.train))
    saved = _saved(network, (batch, *dataset.input_shape), torch.bfloat16 if low else torch.float32)
    parameters = list(network.parameters())
    trained = sum(_bytes(parameter) for parameter in parameters if parameter.requires_grad)
    numbers = sum(parameter.numel() for parameter in parameters)
    states = 2 if settings.optimizer == "adamw" else int(settings.momentum > 0)
    examples = min(evaluation_batch(settings.batch_size), len(dataset.validation))
    validation = cost(network, dataset.input_shape).activation_bytes * examples // (2 if low else 1)
    is_gpu = device.type == "cuda"
    if not (is_gpu and settings.capture):  # a recorded step keeps its memory while validation runs
        validation = max(0, validation - sum(saved))
    return MemoryNeed(
        weights=sum(map(_bytes, [*parameters, *network.buffers()])) + (2 * numbers if low else 0),
        gradients=trained,
        optimizer=states * trained,
        saved=sum(saved),
        passing=2 * max(saved, default=0),
        validation=validation,
        data=sum(map(_split_bytes, (dataset.train, dataset.validation))),
        workspace=GPU_WORKSPACE if is_gpu else 0,
    )


def _saved(network: nn.Module, shape: tuple[int, ...], precision: torch.dtype) -> list[int]:
    """Bytes of each storage that a forward pass in the network's own mode saves for backward, weights left out."""

    def without_numbers(tensor: Tensor) -> Tensor:
        dtype = precision if tensor.is_floating_point() else tensor.dtype
        return torch.empty_like(tensor, device="meta", dtype=dtype).requires_grad_(tensor.requires_grad)

    state = {name: without_numbers(tensor) for name, tensor in network.named_parameters()}
    state |= {name: without_numbers(tensor) for name, tensor in network.named_buffers()}
    weights = {tensor.untyped_storage()._cdata for tensor in state.values()}
    # holding the storages keeps their identities distinct
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        functional_call(network, state, (torch.empty(shape, device="meta", dtype=precision),))
    return [storage.nbytes() for storage in storages.values()]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _split_bytes(split: Split) -> int:
    return split.inputs.nbytes + split.targets.nbytes


def _shown(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
