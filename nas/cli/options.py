"""Arguments and options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nas.settings import Part

Name = Annotated[str, typer.Argument(help="The study's name.", show_default=False)]
Number = Annotated[int, typer.Argument(help="The trial's number.", min=0, show_default=False)]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="NAS_STORAGE",
        help="Where studies are stored: sqlite:///file.db or postgresql://…",
        show_default="sqlite:///nas.db",
        metavar="URL",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Allow importing code of this package (repeat; also NAS_ALLOW).", metavar="PACKAGE"),
]
Workers = Annotated[int, typer.Option(help="How many trials to evaluate at once.", min=1)]
GpusPerWorker = Annotated[float, typer.Option(help="GPUs of each worker; fractions share one.", min=0)]
RayAddress = Annotated[
    str | None,
    typer.Option(help="Join a running Ray cluster at this address.", metavar="HOST:PORT", show_default=False),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(help="End this run after so long: 90s, 10m, 1h30m.", metavar="DURATION", show_default=False),
]
Folder = Annotated[
    Path, typer.Option("--to", help="The folder to write; made if it does not exist.", show_default=False)
]


def space_and_data(space: str, data: str, assignments: Sequence[str]) -> "tuple[Part, Part]":
    """A space and a data set by name, with the settings that ``--set space.KEY=VALUE`` and ``data.KEY=VALUE`` give."""
    from nas.settings import override, part

    document: dict[str, Any] = {"space": space, "data": data}
    for assignment in assignments:
        override(document, assignment)
    unknown = [key for key in document if key not in ("space", "data")]
    if unknown:
        raise ValueError(f"--set {unknown[0]}.…: only space.… and data.… can be set here")
    return part(document["space"], "space"), part(document["data"], "data")
