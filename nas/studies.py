"""The studies of a storage: create one, open it, list them, delete one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nas.budget import Budget
from nas.errors import SpecChanged
from nas.files import remove_files
from nas.metric import Metric
from nas.settings import DEFAULT_STRATEGY, Limits, StopRules, StudySettings
from nas.spec import allowed, default_storage, make_spec, modules_of, resolve_space, space_document
from nas.store import Store, StudyRow, open_store
from nas.study import Study, in_hand
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from workers.protocol import EvaluateFunction, Evaluator


def create_study(
    name: str,
    *,
    space: SearchSpace | str | Mapping[str, Any],
    metrics: Iterable[str | Metric | Mapping[str, Any]] | str | Metric,
    strategy: object = DEFAULT_STRATEGY,
    storage: str | None = None,
    seed: int = 0,
    evaluator: EvaluateFunction | Evaluator | str | Mapping[str, Any] | None = None,
    data: str | Mapping[str, Any] | None = None,
    stop: StopRules | None = None,
    limits: Limits | None = None,
    reuse: bool = True,
    allow: Sequence[str] = (),
    budget: Budget | str | Mapping[str, Any] | None = None,
    confirm: int = 0,
    stopper: object = None,
    checkpoints: str = "last",
) -> Study:
    """Create a study and return its handle; `StudyExists` if the name is taken.

    Args:
        name: 1 to 200 characters, unique in the storage.
        space: a `SearchSpace`, a ready space's name, ``"module:object"``, or ``{"name": ..., setting: ...}``.
        metrics: names, or `Metric`s with goal and limit; the first one is the main one.
        strategy: a name, ``"module:object"``, ``{"name": ..., setting: ...}``, or a strategy object (a frozen dataclass
            at the top level of a module).
        storage: a database URL; `NAS_STORAGE` or ``sqlite:///nas.db`` unless given.
        seed: all randomness of the search derives from it.
        evaluator: what turns an architecture into metrics: a function (assignment, report) -> metrics, a name,
            ``"module:object"``, or ``{"name": ..., setting: ...}``. "training" if `data` is given. `run` may say it.
        data: what to train on: a name or path, or ``{"name": ..., setting: ...}``.
        stop: when a search is over; `run` may say more.
        limits: what one trial may take.
        reuse: take over results of the same computation (`canonical_key`) instead of evaluating it again.
        allow: packages beside ours that code named by the study may be imported from.
        budget: how far trials are trained, for strategies and stoppers that look at them on the way: a `Budget`, text
            such as "epochs:1:27", or a table of its fields.
        stopper: what ends running trials that lead nowhere: a name ("median", "asha"), ``"module:object"``, a table of
            a name and settings, or a stopper object.
        confirm: so many finalists are measured again, twice each with other seeds, by the last trials of a search;
            takes a number of trials in all (`stop`, or `trials` of `run`). See `nas.strategies.confirming`.
        checkpoints: which ones of completed trials are kept. "last": of each training the last, while it may be gone on
            with. "rungs": the end of every trial. "best": as "last", and the end of the best trials; see
            `nas.files.sweep_checkpoints`.
    """
    allow = allowed(allow)
    source, made = resolve_space(space, allow)
    spec = make_spec(
        space=made,
        source=source,
        metrics=metrics,
        strategy=strategy,
        evaluator=evaluator,
        data=data,
        stop=stop or StopRules(),
        limits=limits or Limits(),
        reuse=reuse,
        allow=allow,
        budget=None if budget is None else Budget.of(budget),
        confirm=confirm,
        stopper=stopper,
        checkpoints=checkpoints,
    )
    store = open_store(storage or default_storage())
    with _closed_on_error(store):
        row = store.create_study(name, spec, seed)
    if source is None:
        allow = (*allow, *modules_of(spec["space"]))
    return Study(store, row, space=made, allow=allow, function=in_hand(evaluator))


def create_study_from(settings: StudySettings, *, storage: str | None = None, allow: Sequence[str] = ()) -> Study:
    """Create the study that a study file or the command line describes."""
    return create_study(
        settings.name,
        space=settings.space.to_table(),
        metrics=settings.metrics,
        strategy=settings.strategy.to_table(),
        storage=storage or settings.storage,
        seed=settings.seed,
        evaluator=settings.evaluator.to_table(),
        data=settings.data.to_table() if settings.data else None,
        stop=settings.stop,
        limits=settings.limits,
        reuse=settings.reuse,
        allow=allow,
        budget=settings.budget,
        confirm=settings.confirm,
        stopper=settings.stopper.to_table() if settings.stopper else None,
        checkpoints=settings.checkpoints,
    )


def open_study(
    name: str, storage: str | None = None, *, space: SearchSpace | None = None, allow: Sequence[str] = ()
) -> Study:
    """Open a study from the database alone; `UnknownStudy` names the nearest one.

    Args:
        name: the study's name.
        storage: a database URL; `NAS_STORAGE` or ``sqlite:///nas.db`` unless given.
        space: the space object, needed only where the study says its operations live in a script.
        allow: packages beside ours that code named by the study may be imported from.
    """
    store = open_store(storage or default_storage(), create=False)
    with _closed_on_error(store):
        row = store.study(name)
        if space is not None and row.spec["space"]["root"] is not None and space.to_document() != row.spec["space"]:
            raise SpecChanged(f"study {name!r} was made with another search space; create a new study for this one")
    allow = allowed(allow) if space is None else (*allowed(allow), *modules_of(space_document(space)))
    return Study(store, row, space=space, allow=allow)


def list_studies(storage: str | None = None) -> list[StudyRow]:
    """All studies of a storage, with their number of trials by state."""
    with open_store(storage or default_storage(), create=False) as store:
        return store.studies()


def delete_study(name: str, storage: str | None = None) -> None:
    """Delete a study with all its trials, logs and checkpoints, for ever."""
    with open_store(storage or default_storage(), create=False) as store:
        uuid = store.study(name).uuid
        store.delete_study(name)
        remove_files(store, uuid)


@contextmanager
def _closed_on_error(store: Store) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.close()
        raise
