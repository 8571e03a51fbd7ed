"""Settings of a study: what `study.toml`, the command line and `create_study` say, checked and in one shape.

A document is a nested mapping as TOML gives it. Wherever a part has a name and settings, the name alone may stand for
it: ``strategy = "local_search"`` is ``[strategy]`` with ``name = "local_search"``.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from nas.budget import Budget
from nas.metric import Metric, as_metrics
from nas.quantities import is_finite, is_positive, seconds, size_bytes
from workers.protocol import POLICIES, Keep


@dataclass(frozen=True, kw_only=True)
class Part:
    """A named piece (space, strategy, evaluator, data) and its settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """As stored in the study's row."""
        return {"path": self.name, "settings": dict(self.settings)}

    def to_table(self) -> dict[str, Any]:
        """As people write it: the name and the settings side by side; what `part` reads."""
        return {"name": self.name, **self.settings}


@dataclass(frozen=True, kw_only=True)
class StopRules:
    """When a search is over. None switches a rule off; the first one that holds ends it."""

    #: trials in all, earlier runs included
    trials: int | None = None
    #: wall-clock of this run
    time_limit_seconds: float | None = None
    #: hours of work by all workers, earlier runs included
    worker_hours: float | None = None
    #: metric -> value to reach, by one feasible trial
    target: Mapping[str, float] = field(default_factory=dict)
    #: so many finished trials without improvement (of the first metric; with several, of the Pareto front)
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "patience"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"stop.{name} must be a whole number of at least 1, got {value!r}")
        if self.time_limit_seconds is not None:
            object.__setattr__(self, "time_limit_seconds", seconds(self.time_limit_seconds, "stop.time_limit"))
        if self.worker_hours is not None and not is_positive(self.worker_hours):
            raise ValueError(f"stop.worker_hours must be a number above 0, got {self.worker_hours!r}")
        if not isinstance(self.target, Mapping):
            raise ValueError(f"stop.target must be a table of metrics and values, got {self.target!r}")
        for metric, value in self.target.items():
            if not is_finite(value):
                raise ValueError(f"stop.target.{metric} must be a finite number, got {value!r}")

    def to_document(self) -> dict[str, Any]:
        """As stored in the study's row."""
        return {name.name: getattr(self, name.name) for name in fields(self) if name.name != "target"} | {
            "target": dict(self.target)
        }


LONGEST_LEASE_SECONDS = 31_536_000
MOST_RETRIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one trial may take, and how patient the study is with its workers."""

    #: a trial that runs longer is killed
    time_limit_seconds: float | None = None
    #: resident memory of a trial's process above which it is killed
    memory_limit_bytes: int | None = None
    lease_seconds: float = 60.0
    beat_seconds: float = 10.0
    #: measurements of a trial are written at most this often; what is left goes with its result
    report_seconds: float = 1.0
    #: how often a trial may lose its worker before it counts as failed
    lost: int = 3
    #: how often a failure that its evaluator calls transient is tried again
    transient: int = 1
    #: how often a trial out of memory is tried again; more than 0 only where the evaluator has a smaller variant
    out_of_memory: int = 0
    #: longest wait after a lost worker; doubled by each further one, up to ten minutes, and cut at random
    backoff_seconds: float = 5.0
    #: pause the study when 8 of its last 10 trials failed
    breaker: bool = True

    def __post_init__(self) -> None:
        if self.time_limit_seconds is not None:
            object.__setattr__(self, "time_limit_seconds", seconds(self.time_limit_seconds, "limits.time_limit"))
        if self.memory_limit_bytes is not None:
            object.__setattr__(self, "memory_limit_bytes", size_bytes(self.memory_limit_bytes, "limits.memory_limit"))
        for name in ("lease_seconds", "beat_seconds", "report_seconds"):
            if not is_positive(getattr(self, name)) or getattr(self, name) > LONGEST_LEASE_SECONDS:
                raise ValueError(
                    f"limits.{name} must be a number above 0 and at most {LONGEST_LEASE_SECONDS}, "
                    f"got {getattr(self, name)!r}"
                )
        if self.beat_seconds > self.lease_seconds / 3:
            raise ValueError(
                f"limits.beat_seconds must be at most a third of limits.lease_seconds ({self.lease_seconds:g}), "
                f"got {self.beat_seconds:g}"
            )
        if not is_finite(self.backoff_seconds) or not 0 <= self.backoff_seconds <= LONGEST_LEASE_SECONDS:
            raise ValueError(
                f"limits.backoff_seconds must be a number from 0 to {LONGEST_LEASE_SECONDS}, "
                f"got {self.backoff_seconds!r}"
            )
        for name in ("lost", "transient", "out_of_memory"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
                raise ValueError(f"limits.{name} must be a whole number from 0 to {MOST_RETRIES}, got {value!r}")
        if not isinstance(self.breaker, bool):
            raise ValueError(f"limits.breaker must be true or false, got {self.breaker!r}")

    def to_document(self) -> dict[str, Any]:
        """As stored in the study's row."""
        return {name.name: getattr(self, name.name) for name in fields(self)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """From a study's row: defaults for what it does not say, and keys of other versions are left alone."""
        known = {name.name for name in fields(cls)}
        given = {key: value for key, value in document.items() if key in known and value is not None}
        lease, beat = given.get("lease_seconds", cls.lease_seconds), given.get("beat_seconds", cls.beat_seconds)
        # a short lease in a document that nobody checked: beats that are too rare would lose it
        return cls(**{**given, "beat_seconds": beat if beat <= lease / 3 else lease / 6})


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Everything that defines a study, but for the search space object itself."""

    name: str
    space: Part
    metrics: tuple[Metric, ...]
    strategy: Part
    evaluator: Part
    #: None where the evaluator needs no data
    data: Part | None = None
    seed: int = 0
    stop: StopRules = StopRules()
    limits: Limits = Limits()
    #: how far trials are trained; None where each is trained as far as the evaluator says
    budget: Budget | None = None
    #: what ends running trials that lead nowhere
    stopper: Part | None = None
    #: so many finalists are measured again by the last trials; 0 for none
    confirm: int = 0
    #: which checkpoints of completed trials are kept: "last", "rungs" or "best"
    checkpoints: Keep = "last"
    #: take over results of the same computation instead of training it again
    reuse: bool = True
    #: where it is stored, if the file says so
    storage: str | None = None


DEFAULT_STRATEGY = "auto"
KEYS = (
    *("name", "storage", "seed", "reuse", "space", "data", "metrics", "strategy", "confirm", "evaluator"),
    *("budget", "checkpoints", "stopper", "stop", "limits"),
)
ALIASES = {
    "stop": {"time_limit": "time_limit_seconds"},
    "limits": {"time_limit": "time_limit_seconds", "memory_limit": "memory_limit_bytes"},
}


def read_study_file(path: Path) -> dict[str, Any]:
    """The document in a TOML file; `ValueError` says what is wrong with it, and where."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise ValueError(
            f"study file {path} does not exist; write one (see docs/studies.md) or use the options"
        ) from None
    except IsADirectoryError:
        raise ValueError(f"study file {path} is a folder; name the file in it") from None
    except RecursionError:
        raise ValueError(f"study file {path} is nested too deeply") from None
    except ValueError as error:  # of tomllib, of the encoding, of a number with too many digits
        raise ValueError(f"study file {path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ValueError(f"study file {path} cannot be read: {error.strerror}") from None


def settings_from(document: Mapping[str, Any]) -> StudySettings:
    """Check a document and give the settings it stands for; unknown keys name the nearest known one."""
    check_keys(document, KEYS, "")
    _check_plain(document, "")
    for key in ("name", "space", "metrics"):
        if key not in document:
            raise ValueError(f"{key!r} is missing; a study needs a name, a space and metrics")
    name, seed, reuse = document["name"], document.get("seed", 0), document.get("reuse", True)
    if not isinstance(name, str):
        raise ValueError(f"name must be text, got {name!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**53:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    if not isinstance(reuse, bool):
        raise ValueError(f"reuse must be true or false, got {reuse!r}")
    confirm = checked_confirm(document.get("confirm", 0))
    given = document["metrics"]
    if not isinstance(given, str | Metric | Sequence):
        raise ValueError(f"metrics must be a list of names or tables, got {given!r}")
    try:
        metrics = as_metrics(given)
    except TypeError:
        raise ValueError(f"a metric is a name or a table with name, goal and limit, got {given!r}") from None
    default_evaluator = "training" if "data" in document else None
    evaluator = document.get("evaluator", default_evaluator)
    if evaluator is None:
        raise ValueError("'data' is missing (what to train on), or 'evaluator' (what to run instead of training)")
    storage = document.get("storage")
    if storage is not None and not isinstance(storage, str):
        raise ValueError(f"storage must be text such as sqlite:///file.db, got {storage!r}")
    stop = section(StopRules, document, "stop")
    check_target(stop, metrics)
    return StudySettings(
        name=name,
        space=part(document["space"], "space"),
        metrics=metrics,
        strategy=part(document.get("strategy", {}), "strategy", default=DEFAULT_STRATEGY),
        evaluator=part(evaluator, "evaluator", default=default_evaluator),
        data=part(document["data"], "data") if "data" in document else None,
        seed=seed,
        stop=stop,
        limits=section(Limits, document, "limits"),
        budget=Budget.of(document["budget"]) if "budget" in document else None,
        stopper=part(document["stopper"], "stopper") if "stopper" in document else None,
        confirm=confirm,
        checkpoints=checked_checkpoints(document.get("checkpoints", "last")),
        reuse=reuse,
        storage=storage,
    )


def _check_plain(value: Any, where: str) -> None:
    """Refuse what a study's row cannot hold: TOML's dates and times, NaN and infinities."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_plain(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value!r}")
    elif value is not None and not isinstance(value, str | int | float | Metric):
        raise ValueError(f"{where} must be text, a number, true or false, got {value!r}; write a date as text")


def checked_confirm(confirm: object) -> int:
    """How many finalists are measured again, if that is a number of them."""
    if isinstance(confirm, bool) or not isinstance(confirm, int) or confirm < 0:
        raise ValueError(f"confirm must be a whole number of finalists, 0 for none, got {confirm!r}")
    return confirm


def checked_checkpoints(checkpoints: object) -> Keep:
    """Which checkpoints are kept, if that is one of the policies there are."""
    for policy in POLICIES:
        if checkpoints == policy:
            return policy
    raise ValueError(f"checkpoints must be one of {', '.join(POLICIES)}, got {checkpoints!r}")


def check_target(stop: StopRules, metrics: Sequence[Metric]) -> None:
    """Refuse a target on a metric that the study does not have."""
    names = [metric.name for metric in metrics]
    for name in stop.target:
        if name not in names:
            raise ValueError(f"stop.target.{name}: no such metric; the study has {', '.join(names)}")


def part(given: Any, key: str, default: str | None = None) -> Part:
    """A `Part` from a name, or from a table with "name" and settings."""
    if isinstance(given, str):
        return Part(name=given)
    if isinstance(given, Mapping):
        settings = dict(given)
        name = settings.pop("name", default)
        if isinstance(name, str):
            return Part(name=name, settings=settings)
    raise ValueError(f"{key} must be a name, or a table with a name and settings, got {given!r}")


def section(kind: type[Any], document: Mapping[str, Any], key: str) -> Any:
    """One of the flat sections as its dataclass."""
    given = document.get(key, {})
    if not isinstance(given, Mapping):
        raise ValueError(f"{key} must be a table, got {given!r}")
    aliases = ALIASES[key]
    names = [name.name for name in fields(kind)]
    check_keys(given, [*names, *aliases], key)
    return kind(**{aliases.get(str(name), str(name)): value for name, value in given.items()})


def check_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse a key that is not known, naming the nearest one that is."""
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"unknown key {f'{where}.{key}' if where else key!r}; {hint}")


def override(document: dict[str, Any], assignment: str) -> None:
    """Apply one ``part.key=value`` of the command line; the value is TOML, or text if it is not."""
    path, equals, text = assignment.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names) or len(names) < 2:
        raise ValueError(f"--set takes part.key=value, for example space.channels=8, got {assignment!r}")
    check_keys({names[0]: None}, KEYS, "")
    table = document
    for name in names[:-1]:
        inner = table.get(name, {})
        if isinstance(inner, str):
            inner = {"name": inner}
        if not isinstance(inner, dict):
            raise ValueError(f"--set {assignment}: {name} is {inner!r} and has no settings")
        table[name] = inner
        table = inner
    table[names[-1]] = toml_value(text)


def toml_value(text: str) -> Any:
    """A TOML value, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError, RecursionError):
        return text.strip()
