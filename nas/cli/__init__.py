"""The command line: `nas search`, `nas resume`, `nas pareto` and the rest."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from nas.cli import change, latency, look, predictors, score, search, spaces, storage

app = typer.Typer(
    name="nas",
    help="Neural architecture search as a service: one SQL store, real workers, studies that resume.",
    epilog="Example: nas search --name demo --space nas_bench_201 --data digits --metric error --trials 30",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(search.search, search.resume, search.worker),
    *(look.status, look.studies, look.trials, look.show, look.logs, look.best, look.pareto),
    *(score.score, spaces.spaces),
    *(change.export, change.pause, change.stop, change.delete),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(predictors.app)
app.add_typer(latency.app)
app.add_typer(storage.app)


def main() -> None:
    """Run the command line: what is wrong with the input is one line and exit code 2, an interrupt is 130."""
    from nas.errors import NasError
    from nas.termination import interrupt
    from workers.pool import PoolError

    signal.signal(signal.SIGTERM, interrupt)  # a pre-empted search gives its trials back, as one that is interrupted
    sys.path.append(str(Path.cwd()))  # your own modules lie where you stand; last, so that they hide nothing
    try:
        app()
    except (NasError, PoolError, ValueError) as error:
        sys.stderr.write(f"nas: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("nas: interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has seen enough
        sys.exit(0)
