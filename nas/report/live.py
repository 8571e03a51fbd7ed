"""Live progress of a search: a bar in a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nas.controller import Progress

LINE_SECONDS = 10.0
"""Seconds between two lines where the output is no terminal."""


class Watch(Protocol):
    """What the controller calls once a round."""

    def __call__(self, progress: "Progress") -> None:
        """Show this."""
        ...


@contextmanager
def live(name: str) -> Iterator[Watch]:
    """A watcher that shows progress on standard error while the context lasts."""
    if sys.stderr.isatty():
        with _bar(name) as watch:
            yield watch
    else:
        yield _lines(name)


@contextmanager
def _bar(name: str) -> Iterator[Watch]:
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.markup import escape

    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("[bold]{task.description}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[facts]}", markup=False),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), refresh_per_second=5) as bar:
        task = bar.add_task(escape(name), total=None, facts="starting workers")

        def watch(progress: "Progress") -> None:
            bar.update(task, completed=ended(progress), total=progress.trials, facts=facts(progress))

        yield watch


def _lines(name: str) -> Watch:
    last = [-LINE_SECONDS]

    def watch(progress: "Progress") -> None:
        now = time.monotonic()
        if now - last[0] >= LINE_SECONDS:
            last[0] = now
            total = f"/{progress.trials}" if progress.trials else ""
            sys.stderr.write(f"{name}: {ended(progress)}{total} trials, {facts(progress)}\n")

    return watch


def ended(progress: "Progress") -> int:
    """Trials that are over."""
    return sum(progress.counts.get(state, 0) for state in ("completed", "failed", "stopped"))


def facts(progress: "Progress") -> str:
    """What else is worth a glance: running, failed, best of each metric, pace."""
    words = [f"{progress.counts.get('running', 0)} running"]
    words += [f"{count} {state}" for state in ("failed", "stopped") if (count := progress.counts.get(state, 0))]
    words += [f"{name} {value:.4g}" for name, value in progress.best.items() if value is not None]
    if progress.state == "paused":
        words.append(progress.state)
    return " · ".join(words)
