"""What can be known to be wrong before a study is written or a worker is started."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas import catalogue
from nas.evaluation import check_device
from nas.files import named_checkpoints
from nas.settings import StudySettings
from nas.spec import allowed, check_budget, factories, stopper_part
from nas.strategies.confirming import confirming
from nas.study import Study
from search_spaces import SearchSpace, load_space, sample
from search_spaces.loading import PLUG_INS, check_allowed, load_object
from workers.protocol import Assignment

OURS = ("nas", "search_spaces", "predictors", "workers", "torch")
"""What is there wherever this runs; importing it here would only take time."""


def check(settings: StudySettings, allow: Sequence[str] = (), *, device: str | None = None) -> SearchSpace:
    """Make everything the settings name, and let the evaluator check one sampled architecture.

    With `device`, the workers' own on this machine, also whether the metrics can be measured there; None where workers
    are on other machines. Returns the search space. `ValueError` says what is wrong and what to do.
    """
    allow = allowed(allow)
    named_checkpoints()
    space = load_space(settings.space.name, allow=allow, **settings.space.settings)
    strategy = catalogue.load("strategy", settings.strategy.name, settings.strategy.settings, allow=allow)
    if hasattr(strategy, "check"):
        strategy.check(space, settings.metrics)
    stopping = settings.stopper.to_table() if settings.stopper else None
    stopper_part(stopping, strategy, allow, has_budget=settings.budget is not None)
    check_budget(strategy, f"strategy {settings.strategy.name!r}", has_budget=settings.budget is not None)
    confirming(strategy, settings.confirm, settings.stop)
    evaluator = catalogue.load("evaluator", settings.evaluator.name, settings.evaluator.settings, allow=allow)
    check_device(evaluator, [metric.name for metric in settings.metrics], device)
    if not hasattr(evaluator, "check"):
        return space
    task = {"data": settings.data.name, "settings": dict(settings.data.settings)} if settings.data else {}
    with tempfile.TemporaryDirectory() as scratch:
        evaluator.check(
            Assignment(
                study=settings.name,
                trial=0,
                attempt=0,
                architecture=sample(space, np.random.default_rng(settings.seed)),
                space=space,
                task=task,
                metrics=tuple(metric.name for metric in settings.metrics),
                budget=settings.budget.least if settings.budget else None,
                full_budget=settings.budget.most if settings.budget else None,
                seed=settings.seed,
                scratch=Path(scratch),
                allow=allow,
            )
        )
    return space


def check_stored(study: Study) -> None:
    """Import what a stored study names beside our own packages, before workers do.

    `NotResumable` or `ValueError` names what is not allowed, not found, or lives in a process that is gone.
    """
    study.bind_evaluator()
    _ = study.strategy  # made when first asked for
    named = {("operation", path) for path in factories(study.space.to_document())}
    named.add(("evaluator", study.spec["evaluator"]["path"]))
    for kind, path in sorted(named):
        module = path.partition(":")[0]
        if module.partition(".")[0] in OURS:
            check_allowed(module, study.allow, path, PLUG_INS[kind])
        else:
            load_object(path, study.allow, ours=PLUG_INS[kind])
