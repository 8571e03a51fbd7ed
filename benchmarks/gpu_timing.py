"""How long work takes on a GPU, and how long it must take at least."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

WARM_UP = 3
REPEATS = 30


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        what: was measured.
        ours: in `unit`.
        peer: the same for what it is held against, in `unit`.
        against: what that is.
        unit: of both; milliseconds are better when smaller, a rate when larger.
        floor: what the device allows, in `unit`, if that can be said.
        wanted: in words.
        reached: whether all that is wanted is there.
        notes: what else was seen.
    """

    what: str
    ours: float
    peer: float
    against: str
    unit: str = "ms"
    floor: float | None = None
    wanted: str
    reached: bool
    notes: str = ""

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        return self.peer / self.ours if self.unit == "ms" else self.ours / self.peer

    @property
    def of_floor(self) -> float | None:
        """The share of what the device allows."""
        if self.floor is None:
            return None
        return self.floor / self.ours if self.unit == "ms" else self.ours / self.floor


def device_ms(runs: list[Callable[[], object]], repeats: int = REPEATS) -> float:
    """Median milliseconds of a run; `runs` do the same work on different buffers, so that caches do not flatter.

    Each is captured as a graph and replayed: what is timed is the device's work, not how quickly Python asks for it,
    on both sides of a comparison. The time is between two events on the device.
    """
    graphs = []
    for run in runs:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):  # compiles, allocates, chooses kernels
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        graphs.append(graph)
    for graph in graphs * WARM_UP:
        graph.replay()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for index, (begin, end) in enumerate(events):
        begin.record()
        graphs[index % len(graphs)].replay()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def copy_bytes_per_ms() -> float:
    """Bytes read and written per millisecond by a large copy on the device."""
    size = 2**30
    pairs = [(torch.randint(256, (size,), dtype=torch.uint8, device="cuda"), _empty(size)) for _ in range(2)]
    return 2 * size / device_ms([partial(into.copy_, given) for given, into in pairs])


def matrix_operations_per_ms() -> float:
    """Operations (two per multiply-accumulate) per millisecond of a large bfloat16 matrix product on random numbers."""
    n = 8192
    pairs = [(_normal(n), _normal(n)) for _ in range(2)]
    return 2 * n**3 / device_ms([partial(torch.matmul, left, right) for left, right in pairs])


def _empty(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cuda")


def _normal(n: int) -> torch.Tensor:
    return torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
