"""What parent and child say to each other: one JSON object per line, over two pipes. Never pickle.

======================  ===========================================================================================
parent says             meaning
======================  ===========================================================================================
``settings``            first line: allow, import_paths, folder, device, limits
``study``               a study's constants: space, evaluator, task, metrics
``evaluate``            begin the runs in `trials`, together if there are several; each has its `run`, and `known`
                        metrics where the same computation has a result
``stop``                end run `run` early, for `reason`
``leave``               the worker leaves: end run `run` with its next checkpoint
``drop``                nobody waits for run `run` any more: end it with its next report, the others go on
======================  ===========================================================================================

======================  ===========================================================================================
child says              meaning
======================  ===========================================================================================
``ready``               it lives
``started``             run `run`: space and evaluator are loaded, the evaluation begins
``report``, ``note``    what the evaluator reported
``can_checkpoint``      its evaluator keeps checkpoints: leaving is worth waiting for one
``checkpoint``          one is written: key, step, digest, size
``finished``            metrics, and why it was stopped early if it was
``failed``              kind, text, transient
``interrupted``         it was left, after a checkpoint if there is one
======================  ===========================================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any

from workers.outcome import Failed, Finished, Interrupted, Outcome, clipped, finite, shown
from workers.protocol import FailureKind
from workers.running import checked_note, checked_report, checked_step

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
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a line that is no JSON: {error}") from None


FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = MappingProxyType(
    {
        "ready": {},
        "started": {},
        "can_checkpoint": {},
        "report": {"step": int, "metrics": dict},
        "note": {"attributes": dict},
        "checkpoint": {"key": str, "step": int, "digest": str, "size_bytes": int},
        "finished": {"metrics": dict, "stopped": (str, NoneType)},
        "failed": {"kind": str, "text": str, "transient": bool},
        "interrupted": {},
    }
)
"""What each of the child's messages must hold."""


def checked_event(message: object) -> dict[str, Any]:
    """A message of the child if it is one, as its own code would have sent it; `ValueError` says what is wrong.

    Trial code shares the child's process and may write anything into its pipe.
    """
    if not isinstance(message, dict) or not isinstance(message.get("event"), str):
        raise ValueError(f"no event: {shown(message)}")
    fields = FIELDS.get(message["event"])
    if fields is None:
        raise ValueError(f"an unknown event {shown(message['event'])}")
    for name, kind in fields.items():
        value = message.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{message['event']} with {name}={shown(value)}")
    if message["event"] == "report":
        checked_report(message["step"], message["metrics"])
    elif message["event"] == "note":
        checked_note(message["attributes"])
    elif message["event"] == "checkpoint":
        checked_step(message["step"], "checkpoint")
        checked_step(message["size_bytes"], "a checkpoint's size")
    elif message["event"] == "finished":
        _, metrics = checked_report(0, message["metrics"])
        if finite(metrics) != metrics:
            raise ValueError(f"finished with {shown(metrics)}")
    elif message["event"] == "failed":
        FailureKind(message["kind"])
    return message


def message_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the child sends it."""
    if isinstance(outcome, Finished):
        return {"event": "finished", "metrics": dict(outcome.metrics), "stopped": outcome.stopped}
    if isinstance(outcome, Failed):
        return {"event": "failed", "kind": outcome.kind.value, "text": outcome.text, "transient": outcome.transient}
    return {"event": "interrupted"}


def outcome_of(message: Mapping[str, Any]) -> Finished | Failed | Interrupted | None:
    """The outcome in a message, None if it holds none."""
    if message["event"] == "finished":
        return Finished(metrics=message["metrics"], stopped=message["stopped"])
    if message["event"] == "failed":
        return Failed(kind=FailureKind(message["kind"]), text=clipped(message["text"]), transient=message["transient"])
    if message["event"] == "interrupted":
        return Interrupted()
    return None
