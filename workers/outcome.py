"""How an evaluation ended: the values, and the rules that classify what an evaluator returned or raised."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

from search_spaces.out_of_memory import is_out_of_memory
from workers.protocol import FailureKind

TEXT_BYTES = 8 * 1024
"""A failure's text is cut to this size."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The evaluation came to its end, or to an early one if `stopped` gives the reason."""

    metrics: Mapping[str, float]
    stopped: str | None = None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """There is no result."""

    kind: FailureKind
    text: str
    #: trying again may help
    transient: bool = False


@dataclass(frozen=True)
class Interrupted:
    """The worker gave the evaluation up: its lease is lost, or it is shutting down. Says nothing about the trial."""


Outcome: TypeAlias = Finished | Failed | Interrupted


def outcome_of_result(returned: object, wanted: Sequence[str], stopped: str | None = None) -> Finished | Failed:
    """Hold what an evaluator returned against the study's metrics.

    An evaluation that was stopped early (for the reason `stopped`) may leave metrics out, and loses those that are not
    finite; one that ran to its end has to return one finite number for each.
    """
    expected = f"expected is one finite number for each of: {', '.join(wanted)}"
    if stopped is not None and returned is None:
        returned = {}
    if not isinstance(returned, Mapping):
        return _bad(f"the evaluator returned {shown(returned)}; {expected}")
    for name in returned:
        if name not in wanted:
            close = get_close_matches(str(name), wanted, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            return _bad(f"the evaluator returned a metric {name!r} that the study does not have{hint}; {expected}")
    if stopped is None:
        for name in wanted:
            if name not in returned:
                came = ", ".join(map(str, returned)) or "none"
                return _bad(f"the evaluator did not return the metric {name!r}; returned were: {came}; {expected}")
    metrics: dict[str, float] = {}
    for name in wanted:
        if name in returned:
            try:
                metrics[name] = number(returned[name])
            except ValueError as error:
                return _bad(f"metric {name!r} is {error}; {expected}")
    if stopped is not None:
        return Finished(metrics=finite(metrics), stopped=stopped)
    for name, value in metrics.items():
        if not math.isfinite(value):
            return Failed(kind=FailureKind.NAN, text=f"metric {name!r} came out {value}; {expected}")
    return Finished(metrics=metrics)


def outcome_of_exception(error: BaseException) -> Failed:
    """Classify what an evaluator raised."""
    causes = [error, *([error.__cause__] if error.__cause__ else [])]
    if any(is_out_of_memory(cause) for cause in causes):
        kind = FailureKind.OUT_OF_MEMORY
    elif any(isinstance(cause, FloatingPointError) for cause in causes):
        kind = FailureKind.NAN
    else:
        kind = FailureKind.EXCEPTION
    text = clipped("".join(traceback.format_exception(error)))
    return Failed(kind=kind, text=text, transient=getattr(error, "transient", False) is True)


def number(value: object) -> float:
    """The number that an int, a float, or a numpy or torch scalar on the CPU is; `ValueError` says what came."""
    device = str(getattr(value, "device", "cpu"))
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        if device != "cpu":
            raise ValueError(f"a tensor on {device}; return tensor.item()")
        value = value.item()  # type: ignore[attr-defined]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(shown(value))
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a whole number too large for a float") from None


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that are neither NaN nor infinite."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def clipped(text: str, size: int = TEXT_BYTES) -> str:
    """Text of at most `size` bytes in UTF-8 that any database takes; what is left out is the middle.

    A traceback says most at its end, and where it started at its beginning.
    """
    encoded = text.replace("\0", "\\0").encode("utf-8", "backslashreplace")
    if len(encoded) <= size:
        return encoded.decode("utf-8")
    gap = b"\n[...]\n"
    head = size // 4
    kept = encoded[:head] + gap + encoded[-(size - head - len(gap)) :]
    return kept.decode("utf-8", "ignore")


def _bad(text: str) -> Failed:
    return Failed(kind=FailureKind.BAD_RESULT, text=clipped(text))


def shown(value: Any) -> str:
    """A value and its type, short; a broken `repr` of the user's does no harm."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<no repr: {type(error).__name__}>"
    shape = getattr(value, "shape", None)
    shaped = f" of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else ""
    return f"{text[:200]} ({type(value).__name__}{shaped})"
