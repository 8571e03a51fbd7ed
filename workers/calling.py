"""From a study's description of an evaluator to an outcome: load it, call it, classify what came."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.loading import PLUG_INS, LoadError, load_object
from workers.metrics import METRICS
from workers.outcome import Failed, Finished, Interrupted, Outcome, outcome_of_exception, outcome_of_result
from workers.protocol import Assignment, EvaluateFunction, EvaluateManyFunction, FailureKind, Report

logger = logging.getLogger(__name__)

CompleteFunction = Callable[[Assignment, Mapping[str, float], Report], Mapping[str, float]]


class GivenUp(BaseException):
    """Raised out of `report()` to leave an evaluation that nobody waits for any more.

    Not an Exception, so that an evaluator that carries on after errors does not swallow it.
    """


class OverTime(BaseException):
    """Raised out of `report()` where a trial is over its time limit and cannot be killed."""


class StoppableReport(Report, Protocol):
    """A report that knows whether it asked the evaluator to stop."""

    @property
    def stopped(self) -> str | None:
        """The reason it handed over, None if it never did."""
        ...


@dataclass(frozen=True)
class Callee:
    """An evaluator ready to be called."""

    evaluate: EvaluateFunction
    #: None: known metrics are taken over as they are
    complete: CompleteFunction | None = None
    #: None: several are evaluated one after the other
    evaluate_many: EvaluateManyFunction | None = None


def callee(evaluator: Any) -> Callee:
    """What to call of an object with `evaluate` (and perhaps `complete`, `evaluate_many`), or of a plain function."""
    evaluate = getattr(evaluator, "evaluate", None)
    if callable(evaluate):
        return Callee(evaluate, getattr(evaluator, "complete", None), getattr(evaluator, "evaluate_many", None))
    if callable(evaluator) and not inspect.isclass(evaluator):
        return Callee(evaluator)
    raise LoadError(
        f"{evaluator!r} is no evaluator: expected is a function (assignment, report) -> metrics, or an object with "
        "a method evaluate(assignment, report)"
    )


def load_evaluator(document: Mapping[str, Any], allow: Sequence[str] = ()) -> Callee:
    """The evaluator of a study: ``{"path": "module:object", "settings": {...}}``.

    A class is called with the settings as keywords; a function or an object takes none.
    """
    path, settings = document.get("path"), dict(document.get("settings") or {})
    if not isinstance(path, str):
        raise LoadError(f"the study's evaluator has no 'path' to import it from, got {dict(document)!r}")
    found = load_object(path, allow, ours=PLUG_INS["evaluator"])
    if inspect.isclass(found):
        if not callable(getattr(found, "evaluate", None)):
            raise LoadError(f"{path} is a class without a method evaluate(assignment, report)")
        try:
            found = found(**settings)
        except (TypeError, ValueError) as error:
            raise LoadError(f"{path} does not take the settings {settings!r}: {error}") from error
    elif settings:
        raise LoadError(f"{path} is no class, so it takes no settings; got {', '.join(settings)}")
    return callee(found)


def call(
    evaluator: Callee, assignment: Assignment, report: StoppableReport, known: Mapping[str, float] | None = None
) -> Outcome:
    """Evaluate, or complete what is `known` of the same computation; only a keyboard interrupt comes through."""
    try:
        if known is not None and evaluator.complete is not None:
            returned: object = evaluator.complete(assignment, known, report)
        elif known is not None and not any(map(belongs_to_architecture, assignment.metrics)):
            returned = known
        else:
            returned = evaluator.evaluate(assignment, report)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's code may raise anything, SystemExit included
        returned = error
    return _outcome(returned, assignment, report)


def call_many(
    evaluator: Callee, assignments: Sequence[Assignment], reports: Sequence[StoppableReport]
) -> Iterator[tuple[int, Outcome]]:
    """Evaluate several at once, where the evaluator can; yields each one's place and outcome as soon as it is there.

    Those that it leaves without one, because it failed as a whole, are evaluated one after the other.
    """
    left = dict.fromkeys(range(len(assignments)))
    if evaluator.evaluate_many is not None and len(left) > 1:
        try:
            for index, returned in evaluator.evaluate_many(assignments, reports):
                if index in left:
                    del left[index]
                    yield index, _outcome(returned, assignments[index], reports[index])
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            logger.warning("%d trials are evaluated one by one: together they failed: %r", len(left), error)
    for index in left:
        yield index, call(evaluator, assignments[index], reports[index])


def _outcome(returned: object, assignment: Assignment, report: StoppableReport) -> Outcome:
    """Of what an evaluator returned or raised."""
    if isinstance(returned, GivenUp):
        return Interrupted()
    if isinstance(returned, OverTime):
        return Failed(kind=FailureKind.TIME_OUT, text=str(returned))
    if isinstance(returned, BaseException):
        return outcome_of_exception(returned)
    return outcome_of_result(returned, assignment.metrics, report.stopped)


def belongs_to_architecture(metric: str) -> bool:
    """Whether two architectures of one canonical key may differ in this metric (parameters, MACs, latency …)."""
    return metric in METRICS and METRICS[metric].of_architecture


def with_metrics_so_far(outcome: Outcome, so_far: Mapping[str, float]) -> Outcome:
    """Fill what an evaluation that was stopped early left out with the last values it reported."""
    if isinstance(outcome, Finished) and outcome.stopped is not None:
        return Finished(metrics={**so_far, **outcome.metrics}, stopped=outcome.stopped)
    return outcome
