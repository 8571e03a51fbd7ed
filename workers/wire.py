"""What parent and child say to each other: one JSON object per line, over two pipes. Never pickle.

======================  ===========================================================================================
parent says             meaning
======================  ===========================================================================================
``settings``            first line: allow, import_paths, folder, device
``study``               a study's constants: space, evaluator, task, metrics
``evaluate``            begin run `run`; `known` metrics where the same computation has a result
``stop``                end run `run` early, for `reason`
======================  ===========================================================================================

======================  ===========================================================================================
child says              meaning
======================  ===========================================================================================
``ready``               it lives
``started``             run `run`: space and evaluator are loaded, the evaluation begins
``report``, ``note``    what the evaluator reported
``finished``            metrics, and why it was stopped early if it was
``failed``              kind, text, transient
======================  ===========================================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from workers.outcome import Failed, Finished, Interrupted, Outcome
from workers.protocol import FailureKind

LONGEST_LINE = 64 * 1024 * 1024
"""A line beyond this is no message of ours."""


def encoded(message: Mapping[str, Any]) -> bytes:
    """One line. NaN and infinities pass: measurements may be any float."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def write(descriptor: int, message: Mapping[str, Any]) -> None:
    """Send a message whole; blocks while the pipe is full."""
    rest = memoryview(encoded(message))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Lines:
    """Messages out of a pipe's bytes, as they come."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._rest = bytearray()

    def read(self) -> list[dict[str, Any]]:
        """The messages completed by one read, which blocks if there is nothing; `ended` at the end of the pipe."""
        try:
            chunk = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return []
        if not chunk:
            self.ended = True
            return []
        self._rest += chunk
        if b"\n" not in chunk:
            if len(self._rest) > LONGEST_LINE:
                raise ValueError(f"a message of more than {LONGEST_LINE} bytes")
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        return [json.loads(line) for line in lines]


def message_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the child sends it."""
    if isinstance(outcome, Finished):
        return {"event": "finished", "metrics": dict(outcome.metrics), "stopped": outcome.stopped}
    if isinstance(outcome, Failed):
        return {"event": "failed", "kind": outcome.kind.value, "text": outcome.text, "transient": outcome.transient}
    raise ValueError("an evaluation in a child is never given up by the child itself")


def outcome_of(message: Mapping[str, Any]) -> Finished | Failed | Interrupted | None:
    """The outcome in a message, None if it holds none."""
    if message["event"] == "finished":
        return Finished(metrics=message["metrics"], stopped=message["stopped"])
    if message["event"] == "failed":
        return Failed(kind=FailureKind(message["kind"]), text=message["text"], transient=message["transient"])
    return None
