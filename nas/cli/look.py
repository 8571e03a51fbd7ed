"""Commands that only look: status, studies, trials, show, logs, best, pareto."""

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Allow, AsCsv, AsJson, Name, Number, Storage

if TYPE_CHECKING:
    from nas.study import Study
    from nas.trial import Trial


def _open(name: str, storage: str | None) -> "Study":
    from nas.studies import open_study

    return open_study(name, storage)


def status(name: Name, storage: Storage = None, as_json: AsJson = False) -> None:
    """How a study stands: trials by state, best so far, workers."""
    from nas.report.tables import print_facts, trial_record

    study = _open(name, storage)
    counts = study.counts()
    best = study.best
    facts = {
        "study": study.name,
        "state": study.state,
        "trials": counts,
        "total": study.stop.trials,
        "strategy": study.spec["strategy"]["path"],
        "metrics": [metric.to_document() for metric in study.metrics],
        "seed": study.seed,
        "best": trial_record(best) if best else None,
        "worker_seconds": study.store.worker_seconds(study.id),
        "workers": _workers(study),
        "storage": study.store.masked_url,
    }
    print_facts(facts, as_json=as_json)


def studies(storage: Storage = None, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """All studies of a storage."""
    from nas.report.tables import print_records
    from nas.studies import list_studies

    records = [
        {"study": row.name, "state": row.state, **{state: row.counts.get(state, 0) for state in _states()}}
        for row in list_studies(storage)
    ]
    print_records(records, as_json=as_json, as_csv=as_csv, empty="no studies yet; start one with: nas search --help")


def trials(
    name: Name,
    storage: Storage = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Only trials in this state (repeat).", show_default=False)
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """All trials of a study, by number."""
    from nas.report.tables import print_records, trial_record

    known = _states()
    for given in state or []:
        if given not in known:
            raise ValueError(f"--state {given}: no such state; allowed are {', '.join(known)}")
    study = _open(name, storage)
    records = [trial_record(trial) for trial in study.trials if not state or str(trial.state) in state]
    hidden = () if as_json or as_csv else ("architecture", "canonical_key", "error_text", "lineage", "worker")
    print_records(records, as_json=as_json, as_csv=as_csv, empty="no trials", hidden=hidden)


def show(name: Name, trial: Number, storage: Storage = None, as_json: AsJson = False) -> None:
    """One trial: architecture, metrics, attempts, attributes, what was measured on the way, why it failed."""
    from nas.report.tables import print_facts, trial_record

    study = _open(name, storage)
    found = study.trial(trial)
    facts = trial_record(found)
    facts["attributes"] = study.attributes(trial)
    facts["attempts"] = [attempt._asdict() for attempt in study.store.attempts(found.id)]
    facts["measurements"] = _curves(study, trial)
    print_facts(facts, as_json=as_json)


def logs(name: Name, trial: Number, storage: Storage = None) -> None:
    """What a trial printed, all attempts in order."""
    from nas.files import log_files

    study = _open(name, storage)
    found = study.trial(trial)
    files = log_files(study.store, study.id, study.uuid, trial)
    if not files:
        raise ValueError(
            f"trial {trial} of study {name!r} left no output on this machine "
            f"(its state is {found.state}; logs stay on the machine of the worker that wrote them)"
        )
    for path in files:
        typer.echo(f"── {path}")
        typer.echo(path.read_text(errors="replace"), nl=False)
    if found.error_text:
        typer.echo(f"── {found.error_kind}\n{found.error_text}")


def best(
    name: Name,
    storage: Storage = None,
    recommended: Annotated[
        bool,
        typer.Option(
            "--recommended", help="Only the trial believed to be best: a measurement that is best may be luck."
        ),
    ] = False,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """The feasible trial that measured best by the study's first metric, and the one believed to be best.

    [bold]Example[/bold]: nas best demo --recommended
    """
    from nas.report.tables import print_facts
    from nas.studies import open_study

    study = open_study(name, storage, allow=tuple(allow or ()))
    found = study.best
    if found is None:
        raise ValueError(f"study {name!r} has no feasible completed trial yet")
    belief, why = _recommended(study)
    if recommended and belief is None:
        raise ValueError(f"study {name!r} recommends no trial: {why}")
    if recommended:
        print_facts(belief or {}, as_json=as_json)
    else:
        print_facts(front_record(found) | {"recommended": belief, "no_recommendation": why}, as_json=as_json)


def _recommended(study: "Study") -> tuple[dict[str, Any] | None, str | None]:
    """The recommended trial with what is believed of it, as plain JSON; or why there is none."""
    from predictors.predictor import PredictorError

    try:
        belief = study.recommended()
    except PredictorError as error:
        return None, str(error)
    if belief is None:
        return None, "a recommendation needs two completed trials to learn from"
    measured = {"mean": belief.measured, "times": belief.measurements}
    return front_record(study.trial(belief.number)) | {
        "believed": {"mean": belief.mean, "sd": belief.sd},
        "measured": measured,
    }, None


def pareto(name: Name, storage: Storage = None, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """The Pareto front: completed, feasible trials that no other one beats in all metrics."""
    from nas.report.tables import print_records

    front = [front_record(trial) for trial in _open(name, storage).pareto_front()]
    print_records(front, as_json=as_json, as_csv=as_csv, empty="no completed, feasible trial yet")


def front_record(trial: "Trial") -> dict[str, Any]:
    """A trial on the Pareto front as plain JSON."""
    return {"trial": trial.number, "metrics": dict(trial.metrics), "architecture": dict(trial.architecture)}


def _workers(study: "Study") -> list[dict[str, Any]]:
    """The workers that are there now: those that hold trials of the study, and idle ones heard of lately."""
    from nas.controller import PRESENT_SECONDS

    present = {worker.worker for worker in study.store.present_workers(PRESENT_SECONDS)}
    return [
        {
            "worker": worker.worker,
            "host": worker.host,
            "pid": worker.pid,
            "device": worker.device,
            "holds": worker.holds,
            "attempts": worker.attempts,
        }
        for worker in study.store.workers(study.id)
        if worker.holds or worker.worker in present
    ]


def _curves(study: "Study", number: int) -> list[dict[str, Any]]:
    """Each metric's measurements of each attempt, in the order of their steps; NaN and infinities as text."""
    curves: dict[tuple[int, str], dict[str, Any]] = {}
    for row in study.store.measurements(study.id, number=number):
        empty = {"attempt": row.attempt, "metric": row.metric, "steps": [], "values": []}
        curve = curves.setdefault((row.attempt, row.metric), empty)
        curve["steps"].append(row.step)
        curve["values"].append(row.value if isfinite(row.value) else str(row.value))
    return list(curves.values())


def _states() -> list[str]:
    from nas.trial import TrialState

    return [str(state) for state in TrialState]
