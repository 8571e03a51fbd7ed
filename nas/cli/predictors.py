"""Commands about predictors: nas predictors list, compare, effects."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Allow, AsCsv, AsJson, Name, Storage

if TYPE_CHECKING:
    from nas.comparison import Compared

SHORT = {"kendall_tau": "tau", "spearman": "rho", "calibration": "calib"}
"""Headings of the table for people."""

EFFECT = ("mean", "deviation", "depth", "trials", "count")
"""What `nas predictors effects --json` says of each beside the sub-tree."""

app = typer.Typer(name="predictors", help="Which predictors there are, and how good they are.", no_args_is_help=True)


@app.command("list")
def list_predictors(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """The predictors of ours: what `strategy.predictor` may name, beside 'module:object' of your own."""
    from nas.catalogue import described, names, path_of
    from nas.report.tables import print_records

    records = [{"predictor": name, "what it is": described(path_of("predictor", name))} for name in names("predictor")]
    print_records(records, as_json=as_json, as_csv=as_csv, empty="no predictors")


@app.command()
def compare(
    name: Name,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="A name, module:object, or 'all' (repeat).", show_default="those that take seconds", metavar="NAME"
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What is foretold.", show_default="the study's first")] = None,
    folds: Annotated[int, typer.Option(help="Each trial is foretold by a fit to the other folds.", min=2)] = 5,
    storage: Storage = None,
    allow: Allow = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """How well predictors would have foretold a study's completed trials (cross-validation); the best ranking first.

    tau (Kendall's) and rho (Spearman's): 1 is the right order. rmse: in the metric's units. nll: negative log
    likelihood, small is good. calib: mean distance of the calibration curve from the diagonal, 0 is good. Features that
    the study's strategy tells its predictor are told to these too.

    [bold]Example[/bold]: nas predictors compare demo --predictor gaussian_process --predictor random_forest
    """
    from nas.catalogue import names
    from nas.comparison import QUICK, examination
    from nas.comparison import compare as compare_predictors
    from nas.report.counting import counting
    from nas.report.tables import print_facts, print_records
    from nas.studies import open_study

    if as_json and as_csv:
        raise ValueError("--json and --csv cannot both be given")
    wanted = tuple(names("predictor")) if predictor == ["all"] else tuple(predictor or QUICK)
    study = open_study(name, storage, allow=tuple(allow or ()))
    task = examination(study.history, metric=metric, folds=folds)
    with counting("compare", len(wanted) * task.folds, "fits") as step:
        compared = compare_predictors(
            study.history, task, wanted, strategy=study.strategy, allow=study.allow, watch=step
        )
    if all(one.quality is None for one in compared):
        raise ValueError("; ".join(f"{one.predictor}: {one.failure}" for one in compared))
    if as_json:
        facts = {"study": name, "metric": task.metric, "trials": len(task.losses), "folds": task.folds}
        print_facts(
            facts | {"predictors": [_record(one) | _curve(one) | _diagnostics(one) for one in compared]}, as_json=True
        )
        return
    records = [_record(one) for one in compared]
    if not as_csv:  # as many columns as fit into a narrow terminal; of features a line below speaks
        records = [{SHORT.get(key, key): value for key, value in record.items()} for record in records]
    print_records(records, as_json=False, as_csv=as_csv, empty="no predictors", hidden=() if as_csv else ("features",))
    if told := _told(compared):
        typer.echo(told, err=True)
    typer.echo(f"{task.metric} of {len(task.losses)} trials, {task.folds} folds", err=True)


@app.command()
def effects(
    name: Name,
    metric: Annotated[str | None, typer.Option(help="Whose loss it is.", show_default="the study's first")] = None,
    most: Annotated[int, typer.Option(help="So many at most.", min=1)] = 10,
    storage: Storage = None,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Which pieces of a network a study's trials hold responsible for the loss: sub-trees, the largest effect first.

    A Gaussian process learns from the completed trials; an effect is by how much the loss rises with one more of a
    sub-tree, all others as they are, with the standard deviation of that belief. Below 0 it does good.

    [bold]Example[/bold]: nas predictors effects demo --most 5
    """
    from nas.comparison import examination
    from nas.report.tables import print_facts
    from nas.studies import open_study
    from predictors.feature_effects import feature_effects
    from predictors.gaussian_process import GaussianProcess

    study = open_study(name, storage, allow=tuple(allow or ()))
    task = examination(study.history, metric=metric)
    found = feature_effects(GaussianProcess(study.space).fit(task.architectures, task.losses), most)
    if not found:
        raise ValueError(f"space {study.space.name!r} describes no network: there are no pieces to have an effect")
    if as_json:
        facts = {"study": name, "metric": task.metric, "trials": len(task.losses)}
        pieces = [{"sub_tree": each.subtree.drawn(), **{key: getattr(each, key) for key in EFFECT}} for each in found]
        print_facts(facts | {"effects": pieces}, as_json=True)
        return
    typer.echo("\n\n".join(each.drawn() for each in found))
    typer.echo(f"on the loss by {task.metric}, of {len(task.losses)} trials", err=True)


def _told(compared: Sequence["Compared"]) -> str:
    """What the predictors were told beside the decisions, and which of them were not; "" for nothing."""
    told = max((one.features for one in compared), key=len)
    without = [one.predictor for one in compared if len(one.features) < len(told)]
    exception = f"; not so, as they take none: {', '.join(without)}" if without else ""
    return f"told features, as the study's own predictor is: {', '.join(told)}{exception}" if told else ""


def _record(compared: "Compared") -> dict[str, Any]:
    """One predictor's figures; None where there is none."""
    quality = compared.quality
    figures = (
        {}
        if quality is None
        else {
            "kendall_tau": quality.kendall_tau,
            "spearman": quality.spearman,
            "rmse": quality.rmse,
            "nll": quality.negative_log_likelihood,
            "calibration": quality.calibration_error,
        }
    )
    known = {key: value if math.isfinite(value) else None for key, value in figures.items()}
    return {
        "predictor": compared.predictor,
        **known,
        "seconds": compared.seconds,
        "features": list(compared.features),
        "failure": compared.failure,
    }


def _diagnostics(compared: "Compared") -> dict[str, Any]:
    """What the predictor says of its own fits; None for what is not finite."""
    found = {name: value if math.isfinite(value) else None for name, value in compared.diagnostics.items()}
    return {"diagnostics": found} if found else {}


def _curve(compared: "Compared") -> dict[str, Any]:
    """The calibration curve: level -> share of losses below that quantile of their belief."""
    from predictors.quality import LEVELS

    if compared.quality is None:
        return {}
    return {"calibration_curve": dict(zip(map(str, LEVELS), compared.quality.calibration, strict=True))}
