"""Commands that evaluate trials: search, resume, worker."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Allow, GpusPerWorker, Name, RayAddress, Storage, TimeLimit, Workers

if TYPE_CHECKING:
    from nas.settings import StudySettings
    from nas.study import Study
    from search_spaces import SearchSpace


def search(
    file: Annotated[
        Path | None, typer.Argument(help="A study file (TOML); options override it.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="The study's name.", show_default=False)] = None,
    space: Annotated[
        str | None,
        typer.Option(help="nas_bench_201, mobile_cnn, mlp … (nas spaces), or module:object.", show_default=False),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A data set's name or path.", show_default=False)] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="What to optimise (repeat): error, macs, latency_ms, …", show_default=False)
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="How to search.", show_default="auto")] = None,
    evaluator: Annotated[
        str | None, typer.Option(help="training, table, or module:function.", show_default="training")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Trials in all.", min=1, show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs each trial is trained.", min=1, show_default=False)] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="From the least to the most a trial is trained, for strategies that promote (asha, hyperband, bohb, …)"
            " and --stopper asha: epochs:1:27.",
            metavar="NAME:LEAST:MOST[:FACTOR]",
            show_default=False,
        ),
    ] = None,
    stopper: Annotated[
        str | None,
        typer.Option(
            help="Ends running trials that lead nowhere: median (worse than most), or asha (at each level of --budget "
            "but for the best; for evaluators that keep no checkpoints, instead of --strategy asha).",
            show_default=False,
        ),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Which ones of completed trials to keep: last (to go on from), rungs (all), best.", show_default="last"
        ),
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option(
            help="Measure so many finalists again, twice each, with the last trials.", min=0, show_default="0"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness derives from it.", show_default="0")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Set anything of the study file: space.channels=8 (repeat).", metavar="PART.KEY=VALUE"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="End when a trial reaches this: error=0.05 (repeat).", metavar="METRIC=VALUE"),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="End after so many trials without improvement.", min=1, show_default=False)
    ] = None,
    trial_time_limit: Annotated[
        str | None, typer.Option(help="Kill a trial that runs longer.", metavar="DURATION", show_default=False)
    ] = None,
    trial_memory_limit: Annotated[
        str | None, typer.Option(help="Kill a trial that takes more memory.", metavar="SIZE", show_default=False)
    ] = None,
    workers: Workers = 1,
    gpus_per_worker: GpusPerWorker = 0.0,
    ray_address: RayAddress = None,
    time_limit: TimeLimit = None,
    storage: Storage = None,
    allow: Allow = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how large the space is.")] = False,
) -> None:
    """Create a study and search.

    [bold]Examples[/bold]

    nas search --name demo --space nas_bench_201 --data digits --metric error --metric macs --trials 30 --workers 2

    nas search study.toml --set strategy.population=20 --dry-run
    """
    from nas.settings import override, read_study_file, settings_from

    document = read_study_file(file) if file else {}
    given: dict[str, Any] = {"name": name, "seed": seed, "metrics": metric or None, "confirm": confirm}
    given["checkpoints"] = checkpoints
    document |= {key: value for key, value in given.items() if value is not None}
    named = {"space": space, "data": data, "strategy": strategy, "evaluator": evaluator}
    named |= {"budget": budget, "stopper": stopper}
    for key, value in named.items():
        if value is not None:
            document[key] = value
    sections: dict[str, dict[str, Any]] = {
        "stop": {"trials": trials, "patience": patience, "time_limit": time_limit},
        "limits": {"time_limit": trial_time_limit, "memory_limit": trial_memory_limit},
    }
    for section, entries in sections.items():
        wanted = {key: value for key, value in entries.items() if value is not None}
        if wanted:
            stated = document.get(section, {})
            if not isinstance(stated, dict):
                raise ValueError(f"{section} must be a table, got {stated!r}")
            document[section] = {**stated, **wanted}
    if epochs is not None:
        document.setdefault("evaluator", "training")
        override(document, f"evaluator.epochs={epochs}")
    for assignment in assignments or []:
        override(document, assignment)
    for assignment in target or []:
        override(document, f"stop.target.{assignment}")
    _explain_missing(document, file)
    settings = settings_from(document)
    from nas.evaluation import own_device
    from nas.preflight import check

    made = check(settings, tuple(allow or ()), device=own_device(gpus_per_worker, ray_address))
    if dry_run:
        _dry_run(settings, made, storage, workers)
        return
    from nas.studies import create_study_from

    study = create_study_from(settings, storage=storage, allow=tuple(allow or ()))
    _run(study, workers=workers, gpus_per_worker=gpus_per_worker, ray_address=ray_address)


def resume(
    name: Name,
    trials: Annotated[
        int | None, typer.Option(help="Trials in all, those done included.", min=1, show_default="the study's own")
    ] = None,
    workers: Workers = 1,
    gpus_per_worker: GpusPerWorker = 0.0,
    ray_address: RayAddress = None,
    time_limit: TimeLimit = None,
    storage: Storage = None,
    allow: Allow = None,
) -> None:
    """Go on with a study, from the database alone.

    [bold]Example[/bold]: nas resume demo --storage sqlite:///demo.db --trials 60 --workers 4
    """
    from nas.preflight import check_stored
    from nas.studies import open_study

    study = open_study(name, storage, allow=tuple(allow or ()))
    check_stored(study)
    _run(
        study,
        trials=trials,
        time_limit=time_limit,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        ray_address=ray_address,
    )


def worker(
    names: Annotated[list[str] | None, typer.Argument(help="The studies' names.", show_default="all")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for studies to come, and for more of them after those that end.")
    ] = False,
    workers: Workers = 1,
    gpus_per_worker: GpusPerWorker = 0.0,
    ray_address: RayAddress = None,
    storage: Storage = None,
    allow: Allow = None,
) -> None:
    """Evaluate trials of studies that are searched elsewhere, until they end or Ctrl-C.

    Several studies share the workers evenly.

    [bold]Example[/bold], on another machine: nas worker demo --storage postgresql://user@host/nas --workers 2
    """
    from nas.evaluation import make_ray_pool
    from nas.preflight import check_stored
    from nas.serving import Served, serve
    from nas.spec import allowed, default_storage
    from nas.store import StudyRow, open_store
    from nas.study import Study

    allow = list(allowed(tuple(allow or ())))

    def check(row: StudyRow) -> None:
        check_stored(Study(store, row, allow=allow))

    with open_store(storage or default_storage(), create=wait) as store:
        served = Served(store=store, names=tuple(names or ()), wait=wait, check=check)
        rows = served.studies()  # what is wrong is said before any worker starts
        if not rows and not wait:
            typer.echo(f"done: {served.over()}", err=True)
            return
        typer.echo(
            f"serving {', '.join(repr(row.name) for row in rows) or 'whatever comes'} with {workers} "
            f"worker{'s' if workers > 1 else ''}; Ctrl-C returns running trials",
            err=True,
        )
        pool = make_ray_pool(
            store,
            studies=[row.id for row in rows],
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            ray_address=ray_address,
            allow=allow,
        )
        try:
            reason = serve(served, pool)
        except KeyboardInterrupt:
            typer.echo("running trials are back in the queue", err=True)
            sys.exit(130)
    typer.echo(f"done: {reason}", err=True)


def _run(study: "Study", **how: Any) -> None:
    """Search with live progress; ends in the Pareto table, or in how to resume."""
    from nas.cli.look import front_record
    from nas.report.live import live
    from nas.report.tables import print_records

    again = f"nas resume {_quoted(study.name)} --storage {_quoted(study.store.masked_url)}"
    try:
        with live(study.name) as watch:
            reason = study.run(pool="ray", watch=watch, **how)
    except KeyboardInterrupt:
        waiting = study.counts()["waiting"]
        typer.echo(
            f"interrupted; {waiting} trial{'' if waiting == 1 else 's'} back in the queue. Resume with:\n  {again}",
            err=True,
        )
        sys.exit(130)
    counts = study.counts()
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    typer.echo(f"{study.name}: {reason} ({said})", err=True)
    if counts["failed"]:
        failed = next(study.store.all_trials(study.id, states=["failed"]))
        why = (failed.error_text or "").strip().splitlines()
        typer.echo(f"trial {failed.number} failed ({failed.error_kind}): {why[-1] if why else ''}", err=True)
        typer.echo(f"  more of it: nas show {_quoted(study.name)} {failed.number}", err=True)
    front = [front_record(trial) for trial in study.pareto_front()]
    print_records(front, as_json=False, as_csv=False, empty="no completed, feasible trial")
    typer.echo(
        f"more: nas pareto {_quoted(study.name)} --storage {_quoted(study.store.masked_url)}   {again} --trials N",
        err=True,
    )


def _dry_run(settings: "StudySettings", space: "SearchSpace", storage: str | None, workers: int) -> None:
    """Print what a search would be, touching neither the storage nor Ray."""
    import numpy as np

    from nas.report.tables import print_facts
    from nas.spec import default_storage
    from nas.store import masked
    from search_spaces import sample, size

    count = size(space)
    facts = {
        "study": settings.name,
        "space": settings.space.name,
        "decisions": len(space.decisions),
        "architectures": f"{count:,}" if isinstance(count, int) else "infinitely many",
        "example": dict(sample(space, np.random.default_rng(settings.seed))),
        "data": settings.data.name if settings.data else None,
        "metrics": [metric.to_document() for metric in settings.metrics],
        "strategy": settings.strategy.to_table(),
        "confirm": settings.confirm or None,
        "evaluator": settings.evaluator.to_table(),
        "budget": settings.budget.to_document() if settings.budget else None,
        "checkpoints": settings.checkpoints,
        "stopper": settings.stopper.to_table() if settings.stopper else None,
        "stop": settings.stop.to_document(),
        "limits": settings.limits.to_document(),
        "workers": workers,
        "seed": settings.seed,
        "storage": masked(storage or settings.storage or default_storage()),
    }
    print_facts(facts, as_json=False)


def _explain_missing(document: dict[str, Any], file: Path | None) -> None:
    where = f"study file {file}" if file else "the options"
    for key, option in (("name", "--name"), ("space", "--space"), ("metrics", "--metric")):
        if key not in document:
            raise ValueError(
                f"{where} leaves out {key!r}; add it to a study file or give {option} (see nas search --help)"
            )


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
