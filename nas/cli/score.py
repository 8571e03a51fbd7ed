"""The command that scores architectures without training them: score."""

import math
import sys
from collections.abc import Sequence
from itertools import accumulate
from textwrap import indent, wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Allow, AsCsv, AsJson, space_and_data

if TYPE_CHECKING:
    from nas.scoring import ScoredArchitectures

BORDER = 1
"""Width of the table's left border; each column has one on its right."""

INDENT, MOST_LINES = 6, 3
"""Of an architecture's text under the table: characters for its rank before it, lines of the terminal at most."""


def score(
    space: Annotated[str, typer.Option(help="A name (nas spaces) or module:object.", show_default=False)],
    data: Annotated[str, typer.Option(help="A data set's name or path.", show_default=False)],
    count: Annotated[int, typer.Option(help="Architectures to draw.", min=1)] = 100,
    proxies: Annotated[
        str | None, typer.Option(help="Names separated by commas, or 'all'.", show_default="the four of AZ-NAS")
    ] = None,
    examples: Annotated[int, typer.Option(help="Examples in the batch.", min=1)] = 64,
    gaussian: Annotated[bool, typer.Option("--gaussian", help="Random inputs in the data's shape.")] = False,
    seed: Annotated[int, typer.Option(help="All randomness derives from it.", min=0, max=2**53 - 1)] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set space.… or data.… (repeat).", metavar="PART.KEY=VALUE", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of the table; --json and --csv give all.", min=1)] = 20,
    device: Annotated[str, typer.Option(help="Where networks are scored: cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; small networks are quickest with one.", min=1)] = 1,
    allow: Allow = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Score untrained architectures by zero-cost proxies: the best by the aggregate of their ranks first.

    Larger scores are better. With --json also the rank correlations of the proxies.

    [bold]Example[/bold]: nas score --space nas_bench_201 --set space.channels=4 --data digits --count 50
    """
    import numpy as np
    import torch

    from nas.report.counting import counting
    from nas.report.tables import print_facts, print_records
    from nas.scoring import TRIES, make_scorer, sample_networks, score_architectures
    from nas.spec import allowed
    from predictors.zero_cost.catalogue import ALL, AZ_NAS, checked_names
    from search_spaces import load_space
    from search_spaces.out_of_memory import is_out_of_memory
    from workers.datasets import load_dataset

    if as_json and as_csv:
        raise ValueError("--json and --csv cannot both be given")
    names = ALL if proxies == "all" else AZ_NAS
    if proxies not in (None, "all"):
        names = checked_names([name.strip() for name in str(proxies).split(",")])
    spaces, sets = space_and_data(space, data, assignments or [])
    allow = list(allowed(tuple(allow or ())))
    found_space = load_space(spaces.name, allow=allow, **spaces.settings)
    scorer = make_scorer(
        found_space,
        load_dataset(sets.name, allow=allow, **sets.settings),
        proxies=names,
        examples=examples,
        gaussian=gaussian,
        seed=seed,
        allow=allow,
        device=device,
    )
    torch.set_num_threads(threads)
    architectures = list(sample_networks(found_space, count, seed))
    if len(architectures) < count:
        drawn = f"{len(architectures)} different networks were drawn"
        typer.echo(f"{drawn}, and {TRIES} draws more gave no other: the space has few others, if any", err=True)
    try:
        with counting("score", len(architectures), "architectures") as step:
            table = score_architectures(scorer, architectures, lambda done, scores: step(done))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(f"memory ran out, with {examples} examples in the batch; give fewer: --examples") from error
    failed = [reason for reasons in table.failures for reason in reasons.values()]
    if np.isnan(table.values).all():
        raise ValueError(f"no proxy has a score for any of {len(architectures)} architectures: {failed[0]}")
    records = scored_records(table)
    if as_json:
        print_facts(
            {
                "proxies": list(table.proxies),
                "architectures": records,
                "rank_correlations": {
                    f"{one} {other}": _plain(value) for (one, other), value in table.correlations.items()
                },
                "seconds_per_architecture": float(table.seconds.mean()),
            },
            as_json=True,
        )
        return
    if as_csv:
        print_records(records, as_json=False, as_csv=True, empty="no architectures")
    else:
        _print_best(records[:top])
    if failed:
        sys.stderr.write(f"{len(failed)} scores are missing and rank last; the first: {failed[0]}\n")
    sys.stderr.write(f"{len(records)} architectures, {table.seconds.mean():.3g} s each\n")


def scored_records(table: "ScoredArchitectures") -> list[dict[str, Any]]:
    """Scored architectures as plain JSON, the best aggregate first; what is not finite as text, no score as None."""
    aggregate = table.aggregate
    return [
        {
            "rank": place,
            "aggregate": float(aggregate[at]),
            "scores": {name: _plain(value) for name, value in zip(table.proxies, table.values[at], strict=True)},
            "architecture": dict(table.architectures[at]),
            "failures": table.failures[at],
            "seconds": float(table.seconds[at]),
        }
        for place, at in enumerate(map(int, table.order), start=1)
    ]


def _print_best(records: Sequence[dict[str, Any]]) -> None:
    """A table of as many proxies as fit into the terminal, then the architectures by their ranks."""
    from rich.console import Console

    from nas.report.tables import print_records

    width = Console().width
    names = list(records[0]["scores"])
    left = width - BORDER - _width("rank", []) - _width("aggregate", [record["aggregate"] for record in records])
    widths = accumulate(_width(name, [record["scores"][name] for record in records]) for name in names)
    shown = [name for name, needed in zip(names, widths, strict=True) if needed <= left]
    rows = [
        {"rank": record["rank"], "aggregate": record["aggregate"]} | {name: record["scores"][name] for name in shown}
        for record in records
    ]
    print_records(rows, as_json=False, as_csv=False, empty="no architectures")
    for record in records:
        text = "  ".join(f"{path}={_text(value)}" for path, value in record["architecture"].items())
        lines = wrap(text, width - INDENT, max_lines=MOST_LINES, placeholder=" …", break_on_hyphens=False)
        typer.echo(indent("\n".join(lines), " " * INDENT).replace(" " * INDENT, f"{record['rank']:>{INDENT - 2}}  ", 1))
    if len(shown) < len(names):
        sys.stderr.write(f"left out for want of width: {', '.join(names[len(shown) :])}; --csv and --json have all\n")


def _width(name: str, values: Sequence[float | str | None]) -> int:
    """Of a column of the table, with its border; numbers have four digits, whole ones all of theirs."""
    texts = [f"{value:,.0f}" if isinstance(value, float) and value.is_integer() else _text(value) for value in values]
    return max(map(len, (name, *texts))) + 3


def _text(value: Any) -> str:
    """A number or a decision, short; true and false as in JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: float) -> float | str | None:
    """A number that JSON knows; minus infinity as text, NaN (nothing) as None."""
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))
