"""LatencyTable: what operators take on a device, measured once each, and a network's latency as their sum."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from search_spaces.operations.convolution import ConvBatchNorm
from workers.measure import device_name, each_ms, latency
from workers.operators import Operator, OperatorReader, Pool

logger = logging.getLogger(__name__)

FORMAT = "nas-latency-table-1"
BETWEEN = "between"
"""Under this name: milliseconds that Python and the calls of modules take between one operator and the next."""
CHAIN = 16


class LatencyTable:
    """Milliseconds of operators on one device with one version of PyTorch, kept in a file.

    Args:
        path: of the file; what several processes add is merged. One that cannot be written costs time, nothing else.
        device: where operators that are not in the file are measured.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.device = device
        self._reader = OperatorReader()
        self._known = _read(path, self._head())

    def __len__(self) -> int:
        return len(self._known)

    def latency_ms(
        self, network: nn.Module, input_shape: Sequence[int], *, batch_size: int = 1, precision: str = "float32"
    ) -> float:
        """What a forward pass is expected to take; operators that are not known yet are measured.

        Raises:
            UnreadableNetwork: see `OperatorReader.read`.
        """
        operators = self._reader.read(network, input_shape, batch_size=batch_size, precision=precision)
        if BETWEEN not in self._known:
            self._measure_chain()
        unknown = {one.signature for one in operators} - self._known.keys()
        if unknown:
            self._known |= {name: own for name, own in self._durations(operators).items() if name in unknown}
            self._keep()
        return sum(self._known[operator.signature] + self._known[BETWEEN] for operator in operators)

    def _durations(self, operators: Sequence[Operator]) -> dict[str, float]:
        """By signature; operators are timed one after the other as in the network, the same ones averaged."""
        pool = Pool(self.device)
        with torch.inference_mode():
            times = each_ms([operator.prepared(pool) for operator in operators], self.device)
        found: dict[str, list[float]] = {}
        for operator, own in zip(operators, times, strict=True):
            found.setdefault(operator.signature, []).append(own)
        return {signature: fmean(own) for signature, own in found.items()}

    def _measure_chain(self) -> None:
        """What stands between operators: how long a chain of tiny ones takes, beyond what they do themselves."""
        chain = nn.Sequential(*(ConvBatchNorm(1, 1, 1) for _ in range(CHAIN)))
        operators = self._reader.read(chain, (1, 1, 1))
        whole = latency(chain, (1, 1, 1), device=self.device).median_ms
        durations = self._durations(operators)
        own = sum(durations[operator.signature] for operator in operators)
        self._known[BETWEEN] = max(0.0, whole - own) / len(operators)

    def _head(self) -> dict[str, str]:
        return {"format": FORMAT, "device": device_name(self.device), "software": software()}

    def _keep(self) -> None:
        """Whole or not at all, with what others have added meanwhile."""
        self._known = _read(self.path, self._head()) | self._known
        text = json.dumps(self._head() | {"milliseconds": dict(sorted(self._known.items()))}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False) as file:
                file.write(text)
            Path(file.name).replace(self.path)
        except OSError as error:
            logger.warning(
                "latencies of operators cannot be kept in %s (%s); they are measured again", self.path, error
            )


@lru_cache(maxsize=8)
def table_for(device: torch.device, name: str) -> LatencyTable:
    """The table of a device, whose name stands in its file's: one for each number of threads of a CPU."""
    told = re.sub(r"\W+", "-", name).strip("-").lower()[:60]
    key = hashlib.sha256(f"{name}\0{software()}".encode()).hexdigest()[:12]
    return LatencyTable(cache_folder() / f"{told}-{key}.json", device)


def cache_folder() -> Path:
    """Where tables are kept: `NAS_LATENCY_CACHE`, else ``nas-latency`` in the user's cache folder."""
    if named := os.environ.get("NAS_LATENCY_CACHE"):
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "nas-latency"


def software() -> str:
    """What an operator's duration depends on beside its device."""
    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return f"torch {torch.__version__}{cuda}"


def _read(path: Path, head: dict[str, str]) -> dict[str, float]:
    """What a file holds; nothing where it is not there or not the table of this device and software."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if any(document.get(name) != value for name, value in head.items()):
            raise ValueError(f"it is of {document.get('device')!r} with {document.get('software')!r}")
        known = {str(name): float(value) for name, value in document["milliseconds"].items()}
        if not all(0 <= value < math.inf for value in known.values()):
            raise ValueError("a duration in it is no number of at least 0")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        logger.warning("%s is no table of latencies for this device (%s); operators are measured anew", path, error)
        return {}
    return known
