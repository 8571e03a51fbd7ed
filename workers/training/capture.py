"""A training step recorded once and replayed: a GPU is then told of hundreds of kernels in a single call.

Small networks are bound by how quickly Python asks for kernels. A CUDA graph holds all those of one step; as a step
takes nothing and returns nothing (`workers.training.step`), replaying it is doing it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

logger = logging.getLogger(__name__)

Step = Callable[[], None]

WARM_UP = 3
"""Steps that are done before one is recorded: the first ones choose kernels and allocate the optimiser's state."""


class NotCapturable(Exception):
    """The step cannot be recorded; the message says why."""


class Recorder(Protocol):
    """What records steps: `CudaGraphs`, or a stand-in for it in a test."""

    def warm_up(self, step: Step) -> None:
        """Do the step, as far as possible the way it will be recorded."""
        ...

    def record(self, step: Step) -> Step:
        """Record the step without doing it; returns what replays it. `NotCapturable` leaves everything as it was."""
        ...


class Replayed:
    """A step that is done as it is at first, then recorded, then replayed.

    The steps before the recording are steps of the training like all others, and recording does none: so the training
    is the same as without. What cannot be recorded is said once, and done as it is from then on.

    Args:
        step: what to do.
        recorder: who records it.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self._step, self._recorder = step, recorder
        self._done = 0
        self._do: Step | None = None
        #: why it is not replayed, once that is known
        self.refused: str | None = None

    def __call__(self) -> None:
        """Do the step."""
        if self._do is None and self._done == WARM_UP:
            self._do = self._recorded()
        if self._do is None:
            self._done += 1
            self._recorder.warm_up(self._step)
        else:
            self._do()

    def _recorded(self) -> Step:
        try:
            return self._recorder.record(self._step)
        except NotCapturable as reason:
            self.refused = str(reason)
            logger.warning("the training step cannot be recorded, it is done kernel by kernel: %s", reason)
            return self._step


class CudaGraphs:
    """Records on a GPU.

    A recording that fails half-way leaves torch's generator and current stream in a state that has to be mended, so the
    commonest cause is looked for before: a step that waits for the device (`.item()`, say) is not begun to be recorded.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._waits: list[str] = []

    def warm_up(self, step: Step) -> None:
        """Do the step on the stream that it will be recorded on, and note whether it waits for the device."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with watching() as seen, torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)
        self._waits = seen

    def record(self, step: Step) -> Step:
        """See `Recorder`."""
        if self._waits:
            raise NotCapturable(f"it waits for the device: {self._waits[0]}")
        index, current = self._device.index, torch.cuda.current_stream(self._device)
        random = torch.cuda.get_rng_state(index)
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads of this process may go on using the device meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                step()
        except Exception as error:  # a module is anybody's code, and may raise anything where it is recorded
            # torch ends a broken recording by raising once more, before it has put these back
            torch.cuda.set_stream(current)
            generator = torch.Generator(self._device)
            generator.set_state(random)
            torch.cuda.default_generators[index].graphsafe_set_state(generator)
            torch.cuda.synchronize(index)
            first = error.__context__ or error
            raise NotCapturable(str(first).partition("\n")[0]) from error
        replay: Step = graph.replay
        return replay


@contextmanager
def watching() -> Iterator[list[str]]:
    """Inside, torch says where it waits for the device; what it said is in the list afterwards."""
    seen: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            seen.append(f"{warning.filename}:{warning.lineno}")
        elif "Synchronization debug mode" not in str(warning.message):  # torch says once that this mode is new
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
