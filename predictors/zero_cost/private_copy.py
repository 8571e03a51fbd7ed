"""proxy: makes a formula a proxy by giving it copies of network and batch to do with as it likes."""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import wraps
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from predictors.zero_cost.batch import Batch, Loss, Proxy
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.seeded import seeded
from search_spaces.out_of_memory import is_out_of_memory


def proxy(formula: Proxy) -> Proxy:
    """The proxy of a formula.

    The formula gets a copy of the batch, and one of the network in training mode, so that batch normalisation uses the
    batch's statistics, on the network's own device; every floating-point parameter of it wants a gradient and has none
    yet. Dropout is off: its masks tell even equal examples apart, and would be scored in the network's place. What is
    written to the copies nobody sees, and torch's global generators, which the network may draw from all the same,
    start from the batch's seed and are put back. A formula that needs eval mode or other weights says so itself.

    Whatever the formula or the network raises becomes a `ProxyError` under the formula's name, but for a lack of
    memory; so does a score that is no number, NaN or plus infinity. What is a proxy already is returned as it is.
    """
    made: Proxy | None = getattr(formula, "_proxy", None)
    if made is formula:
        return made
    name: str = getattr(formula, "__name__", type(formula).__name__)

    @wraps(formula)
    def score(network: nn.Module, batch: Batch, loss: Loss) -> float:
        try:
            with _private_copy(network, batch) as (private, moved):
                value = _number(formula(private, moved, loss))
        except ProxyError as error:
            raise ProxyError(f"{name}: {error}") from error.__cause__
        except Exception as error:  # a network is anybody's code and may raise anything
            if is_out_of_memory(error):
                raise
            raise ProxyError(f"{name}: {type(error).__name__}: {error}") from error
        if math.isnan(value) or value == math.inf:
            raise ProxyError(f"{name}: the score is {value}; the network gives NaN or overflows on this batch")
        return value

    score._proxy = score  # type: ignore[attr-defined]  # itself, since `wraps` copies attributes to whoever wraps it
    return score


def _number(given: Any) -> float:
    """A score as a float: from a number, or from what holds one (a tensor, with or without gradient)."""
    shape = getattr(given, "shape", None)
    value = given.item() if shape is not None and math.prod(shape) == 1 else given
    if isinstance(value, bool) or not isinstance(value, int | float):
        came = reprlib.repr(given) if shape is None else f"shape {tuple(shape)}"
        raise ProxyError(f"the score must be one number, got {came} ({type(given).__name__})")
    return float(value)


def device_of(network: nn.Module, default: torch.device) -> torch.device:
    """Where the network's first parameter or buffer is; `default` where it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return default if first is None else first.device


@contextmanager
def _private_copy(network: nn.Module, batch: Batch) -> Iterator[tuple[nn.Module, Batch]]:
    device = device_of(network, batch.device)
    private = copy.deepcopy(network)
    private.train()
    _switch_dropout_off(private)
    for parameter in private.parameters():
        parameter.grad = None
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    with seeded(batch.seed, device), torch.enable_grad(), _differentiable(private):
        there = batch.to(device)
        yield private, replace(there, inputs=there.inputs.detach().clone())  # a network may write into its inputs


def _switch_dropout_off(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
        elif isinstance(module, nn.RNNBase | nn.MultiheadAttention):
            module.dropout = 0.0


@contextmanager
def _differentiable(network: nn.Module) -> Iterator[None]:
    """Attention as matrix products, and recurrent layers without cuDNN: their kernels are not differentiated twice.

    (Nor are those of cuDNN in eval mode.)
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
        yield
