"""export_trial: a trial's network, as it was kept or trained again, as a folder that needs none of our packages."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas import catalogue
from nas.errors import NasError
from nas.files import checkpoint_folder
from nas.store.claims import trial_seed
from nas.study import Study
from nas.trial import TrialState
from search_spaces.export import export_network
from workers.checkpoints import UnusableCheckpoint, usable_checkpoint
from workers.protocol import Assignment


def export_trial(study: Study, number: int, folder: Path, *, device: str = "cpu") -> list[Path]:
    """Train the trial's network as the study did (same data, budget and seed) and write it; see `export_network`.

    Where the study keeps the trial's checkpoint (`Study.checkpoints`) the network is taken from there.

    Returns the files. `NasError` if the study trains no networks or the trial has not completed; `ExportError` if the
    network cannot be written as plain PyTorch.
    """
    trial = study.trial(number)
    if not study.space.has_network:
        raise NasError(f"study {study.name!r}: its search space describes no network to export")
    if trial.state is not TrialState.COMPLETED:
        raise NasError(f"trial {number} of study {study.name!r} is {trial.state}; only completed trials are exported")
    stored = study.spec["evaluator"] or {}
    if "path" not in stored:
        raise NasError(
            f"study {study.name!r} is evaluated by a function of one process; its networks are not known here"
        )
    evaluator = catalogue.load("evaluator", stored["path"], stored["settings"], allow=study.allow)
    if not hasattr(evaluator, "fit"):
        raise NasError(
            f"study {study.name!r} is evaluated by {stored['path']}, which trains no network that could be exported"
        )
    origin = trial  # a promoted trial is the training that it continues, further on
    while origin.promoted_from is not None:
        origin = study.trial(origin.promoted_from)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, step = _kept(study, trial.id, Path(scratch))
        assignment = Assignment(
            study=study.name,
            trial=number,
            attempt=trial.attempt,
            architecture=trial.architecture,
            space=study.space,
            task=study.spec["task"],
            metrics=tuple(metric.name for metric in study.metrics),
            budget=trial.budget,
            full_budget=None if study.budget is None else study.budget.most,
            seed=trial_seed(study.seed, origin.number, origin.repeat),
            checkpoint=checkpoint,
            start_step=step,
            scratch=Path(scratch),
            device=device,
            allow=study.allow,
        )
        fitted = evaluator.fit(assignment, _Silent())
    return export_network(
        fitted.network,
        fitted.dataset.input_shape,
        folder,
        architecture=dict(trial.architecture),
        provenance={
            "study": study.name,
            "trial": number,
            "storage": study.store.masked_url,
            "space": study.spec["space_source"] or {"path": study.space.name, "settings": {}},
            "space_fingerprint": study.space.fingerprint,
            "canonical_key": trial.canonical_key,
            "data": study.spec["task"],
            "evaluator": stored,
            "seed": assignment.seed,
            "metrics_of_the_trial": dict(trial.metrics),
            "metrics_of_this_training": dict(fitted.metrics),
            "nas": version("nas-service"),
        },
    )


def _kept(study: Study, trial_id: int, scratch: Path) -> tuple[Path | None, int]:
    """The file of a trial's last checkpoint and its step; (None, 0) where none is kept."""
    recorded = study.store.last_checkpoint(trial_id)
    if recorded is not None:
        key, digest, step = recorded
        with suppress(UnusableCheckpoint):
            return usable_checkpoint(checkpoint_folder(study.store), key, digest, into=scratch), step
    return None, 0


class _Silent:
    """A `Report` that nobody reads."""

    def __call__(self, step: int, **metrics: float) -> bool:
        return False

    def note(self, **attributes: Any) -> None:
        """Drop them."""

    @property
    def wants_checkpoint(self) -> bool:
        """Nobody interrupts."""
        return False

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep none."""
