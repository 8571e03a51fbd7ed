"""Scorer: from an architecture to the scores of its untrained network."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from predictors.zero_cost.batch import Batch, Loss, Proxy
from predictors.zero_cost.catalogue import AZ_NAS, checked_names, load_proxy
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.seeded import seeded
from search_spaces.architecture import Architecture
from search_spaces.build import build
from search_spaces.nodes import Decidable, Scalar, SpaceError
from search_spaces.space import SearchSpace
from search_spaces.walk import Condition, walk


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the proxies say about one architecture.

    Args:
        values: proxy -> score; NaN where it has none.
        failures: proxy -> why it has none.
        seconds: building and scoring.
    """

    values: Mapping[str, float]
    failures: Mapping[str, str]
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scorer:
    """Builds networks and scores them; the same architecture always gets the same scores.

    The weights are drawn from the seed and the decisions that the network depends on (`network_decisions`), so that no
    other architecture, and nothing decided about training, has a part in them.

    Args:
        space: its architectures are scored; it must describe a network.
        batch: normalised inputs with their targets; see `gaussian_batch` for when there is no data.
        outputs: how many values a network gives per example.
        loss: (outputs, targets) -> mean loss.
        proxies: names in `catalogue.PROXIES`, or ``module:function`` paths.
        seed: of the weights.
        allow: packages that operations and proxies may be imported from.
        device: where networks are scored; they are built on the CPU.
    """

    space: SearchSpace
    batch: Batch
    outputs: int
    loss: Loss
    proxies: Sequence[str] = AZ_NAS
    seed: int = 0
    allow: Sequence[str] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        checked_names(self.proxies)
        if not self.space.has_network:
            raise ProxyError(f"space {self.space.name!r} describes no network to score")

    @cached_property
    def loaded(self) -> Mapping[str, Proxy]:
        """The proxies by name."""
        return {name: load_proxy(name, allow=self.allow) for name in self.proxies}

    @cached_property
    def _batch(self) -> Batch:
        return self.batch.to(self.device)

    def scores(self, architecture: Mapping[str, Scalar]) -> Scores:
        """Score one architecture; a network that cannot be built or scored is a failure, not an exception.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        began = time.perf_counter()
        checked = self.space.validate(architecture)
        values, failures = dict.fromkeys(self.loaded, float("nan")), {}
        try:
            network = self._network(checked)
        except SpaceError as error:
            failures = dict.fromkeys(self.loaded, str(error))
        else:
            for name, proxy in self.loaded.items():
                try:
                    values[name] = proxy(network, self._batch, self.loss)
                except ProxyError as error:
                    failures[name] = str(error)
        return Scores(values=values, failures=failures, seconds=time.perf_counter() - began)

    def _network(self, architecture: Architecture) -> torch.nn.Module:
        text = f"{self.seed} {network_decisions(self.space, architecture).to_json()}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        with seeded(seed, torch.device("cpu")):
            network = build(
                self.space, architecture, tuple(self.batch.inputs.shape[1:]), self.outputs, allow=self.allow
            )
        return network.to(self.device)


def network_decisions(space: SearchSpace, architecture: Mapping[str, Scalar]) -> Architecture:
    """The part of an architecture that its network depends on: equal parts are networks made in the same way.

    A key for scores. The canonical key is not: equal ones are made from their pieces in different orders, and so from
    other random numbers.
    """
    if not isinstance(space.root, Mapping):
        return Architecture(architecture)
    used: dict[str, Scalar] = {}

    def decide(path: str, domain: Decidable, when: tuple[Condition, ...]) -> tuple[Scalar]:
        used[path] = architecture[path]
        return (architecture[path],)

    walk({"network": space.root["network"]}, decide)
    return Architecture(used)
