"""Commands about latency: nas latency fit."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Allow, AsJson, space_and_data

app = typer.Typer(name="latency", help="Foretell latencies where measuring them takes too long.", no_args_is_help=True)


@app.command()
def fit(
    space: Annotated[str, typer.Option(help="A name (nas spaces) or module:object.", show_default=False)],
    data: Annotated[str, typer.Option(help="A data set's name or path.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    count: Annotated[int, typer.Option(help="Networks to measure.", min=10)] = 60,
    device: Annotated[str, typer.Option(help="Where: cpu, cuda, cuda:1 …")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Inputs per forward pass.", min=1)] = 1,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    repeats: Annotated[int, typer.Option(help="Forward passes, whose median is taken.", min=1)] = 30,
    threads: Annotated[int, typer.Option(help="CPU threads, as evaluator.threads.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the networks that are drawn.", min=0, max=2**53 - 1)] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set space.… or data.… (repeat).", metavar="PART.KEY=VALUE", show_default=False),
    ] = None,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Measure networks of a space and fit a predictor of latency to them, which a search may ask instead of measuring.

    It is told how well it foretells networks that it has not seen: tau (Kendall's, 1 is the right order) and the mean
    relative error.

    [bold]Example[/bold]: nas latency fit --space mobile_cnn --data digits --count 60 --out latency.json
    """
    from nas.latency import fit_latency
    from nas.report.counting import counting
    from nas.report.tables import print_facts
    from nas.spec import allowed
    from search_spaces import load_space
    from workers.datasets import load_dataset
    from workers.measure import PRECISIONS

    if precision not in PRECISIONS:
        raise ValueError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.absolute().parent}")
    spaces, sets = space_and_data(space, data, assignments or [])
    allow = list(allowed(tuple(allow or ())))
    with counting("latency", count, "networks") as step:
        predictor = fit_latency(
            load_space(spaces.name, allow=allow, **spaces.settings),
            load_dataset(sets.name, allow=allow, **sets.settings),
            count=count,
            device=device,
            batch_size=batch_size,
            precision=precision,
            repeats=repeats,
            threads=threads,
            seed=seed,
            allow=allow,
            watch=step,
        )
    predictor.write(out)
    told = {
        "file": str(out.absolute()),
        "device": predictor.device,
        "software": predictor.software,
        "networks": predictor.held_out.count,
        "held-out tau": predictor.held_out.kendall_tau,
        "held-out relative error": predictor.held_out.relative_error,
    }
    print_facts(told, as_json=as_json)
    typer.echo(
        f"use it: nas search … --metric latency_ms --set evaluator.latency_source=predicted "
        f"--set evaluator.latency_predictor={shlex.quote(str(out.absolute()))}",
        err=True,
    )
