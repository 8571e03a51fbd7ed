"""Commands that change or copy what is stored: export, pause, stop, delete."""

import shlex
from typing import Annotated

import typer

from nas.cli.options import Allow, Folder, Name, Number, Storage


def export(name: Name, trial: Number, to: Folder, storage: Storage = None, allow: Allow = None) -> None:
    """Write a trial's network, from its checkpoint or trained again, as a folder that needs none of our packages.

    The folder holds weights (safetensors), the architecture (JSON), ONNX, a plain-PyTorch model.py and where it came
    from. [bold]Example[/bold]: nas export demo 7 --to best/
    """
    from nas.export import export_trial
    from nas.studies import open_study

    study = open_study(name, storage, allow=tuple(allow or ()))
    typer.echo(f"trial {trial} of {name!r}: trained again, unless its checkpoint is kept", err=True)
    for path in export_trial(study, trial, to):
        typer.echo(str(path))


def pause(name: Name, storage: Storage = None) -> None:
    """Hand out no more trials; running ones go on. `nas resume` goes on."""
    from nas.studies import open_study

    open_study(name, storage).pause()
    typer.echo(f"study {name!r} is paused; go on with: nas resume {shlex.quote(name)}", err=True)


def stop(
    name: Name,
    trial: Annotated[int | None, typer.Option(help="Stop only this trial.", min=0, show_default=False)] = None,
    storage: Storage = None,
) -> None:
    """End a search from anywhere; running trials stop at their next beat."""
    from nas.studies import open_study

    study = open_study(name, storage)
    if trial is None:
        study.stop_search()
        typer.echo(f"study {name!r} is stopped; go on with: nas resume {shlex.quote(name)}", err=True)
    else:
        study.store.stop_trial(study.id, trial, "stopped by a person")
        typer.echo(f"trial {trial} of study {name!r} stops at its next beat", err=True)


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = None,
) -> None:
    """Delete a study with all its trials, for ever."""
    from nas.studies import delete_study, open_study

    study = open_study(name, storage)
    count = sum(study.counts().values())
    study.close()
    if not yes:
        typer.confirm(f"Delete study {name!r} with {count} trials for ever?", abort=True)
    delete_study(name, storage)
    typer.echo(f"study {name!r} is deleted", err=True)
