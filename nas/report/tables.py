"""Records as a table for people, or as JSON or CSV for programs."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nas.trial import Trial

Record = Mapping[str, Any]

LONGEST_LIST = 6
"""More values than this are shortened to their ends for people; JSON holds them all."""


def trial_record(trial: Trial) -> dict[str, Any]:
    """A trial as plain JSON."""
    return {
        "trial": trial.number,
        "state": str(trial.state),
        "metrics": dict(trial.metrics),
        "attempt": trial.attempt,
        "seconds": trial.seconds,
        "budget": trial.budget,
        "promoted_from": trial.promoted_from,
        "repeat": trial.repeat,
        "lineage": list(trial.lineage),
        "error_kind": trial.error_kind,
        "error_text": trial.error_text,
        "worker": trial.worker,
        "canonical_key": trial.canonical_key,
        "architecture": dict(trial.architecture),
    }


def print_records(
    records: Sequence[Record], *, as_json: bool, as_csv: bool, empty: str, hidden: Sequence[str] = ()
) -> None:
    """Print records; `hidden` keys are left out of the table for people, `empty` is said where there is none."""
    if as_json and as_csv:
        raise ValueError("--json and --csv cannot both be given")
    if as_json:
        sys.stdout.write(json.dumps(list(records), indent=2) + "\n")
    elif as_csv:
        sys.stdout.write(as_csv_text(records))
    elif not records:
        sys.stdout.write(empty + "\n")
    else:
        _print_table([flat(_readable({k: v for k, v in record.items() if k not in hidden})) for record in records])


def _readable(record: Record) -> dict[str, Any]:
    """The architecture in one column: a column for each of many decisions would leave no room for their values."""
    architecture = record.get("architecture")
    if not isinstance(architecture, Mapping):
        return dict(record)
    return {**record, "architecture": "  ".join(f"{path}={_number(value)}" for path, value in architecture.items())}


def as_csv_text(records: Sequence[Record]) -> str:
    """CSV with a header; nested mappings become columns named by their path."""
    rows = [flat(record) for record in records]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(record: Record) -> dict[str, Any]:
    """Mappings inside a record as columns of their own (decision paths contain "/", metrics are plain names)."""
    row: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            row.update({str(name): inner for name, inner in value.items()})
        elif isinstance(value, list | tuple):
            row[key] = " ".join(str(item) for item in value)
        else:
            row[key] = value
    return row


def print_facts(facts: Record, *, as_json: bool) -> None:
    """Print one record: JSON, or a line per fact."""
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _lines(facts):
        table.add_row(_plain(key), _plain(_number(value)))
    Console().print(table)


def _lines(facts: Record, prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            lines += _lines(value, f"{prefix}{key}.") if value else []
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                lines.append((f"{prefix}{key}[{index}]", ", ".join(f"{k}={_short(v)}" for k, v in item.items())))
        elif value is not None and value != []:
            lines.append((f"{prefix}{key}", value))
    return lines


def _short(value: Any) -> str:
    """A value, or the ends of a long list."""
    if not isinstance(value, list):
        return _number(value)
    shown = value if len(value) <= LONGEST_LIST else [*value[:2], "…", *value[-3:]]
    return f"[{' '.join(_number(item) for item in shown)}]"


def _print_table(rows: Sequence[Record]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [
        column
        for column in dict.fromkeys(column for row in rows for column in row)
        if any(row.get(column) not in (None, "") for row in rows)
    ]
    table = Table(header_style="bold")
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(_plain(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(_number(row.get(column))) for column in columns))
    Console().print(table)


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _plain(text: str) -> Any:
    """Text that the terminal library does not read as markup, without control characters."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else "�" for c in text))
