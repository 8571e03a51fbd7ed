"""What can be known to be wrong before a study is written or a worker is started."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas import catalogue
from nas.settings import StudySettings
from nas.spec import allowed, factories
from nas.study import Study
from search_spaces import SearchSpace, load_space, sample
from search_spaces.loading import load_object
from workers.protocol import Assignment

OURS = ("nas", "search_spaces", "predictors", "workers", "torch")
"""What is there wherever this runs; importing it here would only take time."""


def check(settings: StudySettings, allow: Sequence[str] = ()) -> SearchSpace:
    """Make everything the settings name, and let the evaluator check one sampled architecture.

    Returns the search space. `ValueError` says what is wrong and what to do.
    """
    allow = allowed(allow)
    space = load_space(settings.space.name, allow=allow, **settings.space.settings)
    catalogue.load("strategy", settings.strategy.name, settings.strategy.settings, allow=allow)
    evaluator = catalogue.load("evaluator", settings.evaluator.name, settings.evaluator.settings, allow=allow)
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
    paths = {study.spec["evaluator"]["path"], *factories(study.space.to_document())}
    for path in sorted(paths):
        if path.partition(":")[0].partition(".")[0] not in OURS:
            load_object(path, study.allow)
