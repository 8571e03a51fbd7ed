"""Statements of the hot paths: compiled once for a kind of database, then handed to its driver.

SQLAlchemy looks a statement up in its cache, collects its parameters and wraps its result each time it runs: four times
as long as SQLite takes for a small statement. What a trial's life needs twenty times is therefore a constant of its
module, compiled by SQLAlchemy when it is first used, and run by the driver itself within SQLAlchemy's transaction.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Connection,
    Executable,
    Insert,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.exc import NoResultFound

Values = Mapping[str, Any]

ROWS_AT_ONCE = 500


class _Compiled:
    """A statement as its driver takes it."""

    def __init__(self, connection: Connection, statement: Any, columns: Sequence[str] | None) -> None:
        # an INSERT takes the columns it is given, and returns nothing of itself
        keys = None if columns is None else list(columns)
        compiled = statement.compile(dialect=connection.dialect, column_keys=keys, for_executemany=columns is not None)
        self.sql = str(compiled)
        self._fixed = dict(compiled.params)
        # a driver of positional parameters has an order of them
        names = compiled.positiontup if compiled.positional else None
        self._ordered: Callable[[dict[str, Any]], Any] | None = None if names is None else _in_order(names)
        self._row: Callable[[Iterable[Any]], Any] | None = None

    def parameters(self, values: Values) -> Any:
        """As the driver takes them, with those that the statement fixes itself."""
        given = {**self._fixed, **values}
        return given if self._ordered is None else self._ordered(given)

    def rows(self, names: Sequence[str], found: Sequence[Any]) -> list[Any]:
        """As named tuples."""
        if not found:
            return []
        if self._row is None:
            # a column without a name is called differently by each database
            kind: Any = namedtuple("Found", names, rename=True)  # type: ignore[misc]  # its names are known at run time
            self._row = kind._make
        return list(map(self._row, found))


def _in_order(names: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda given: tuple(given[name] for name in names)


_known: dict[tuple[Executable, str, tuple[str, ...] | None], _Compiled] = {}


def _compiled(connection: Connection, statement: Executable, example: Values) -> _Compiled:
    columns = tuple(example) if isinstance(statement, Insert) else None
    key = statement, connection.dialect.name, columns
    found = _known.get(key)
    if found is None:
        found = _known[key] = _Compiled(connection, statement, columns)
    return found


def rows(connection: Connection, statement: Executable, values: Values) -> list[Any]:
    """Run a module's constant statement; its rows as named tuples of the driver's values."""
    prepared, names, found = _fetched(connection, statement, values)
    return prepared.rows(names, found)


def tuples(connection: Connection, statement: Executable, values: Values) -> Sequence[Sequence[Any]]:
    """Run a module's constant statement; its rows as the driver gives them."""
    return _fetched(connection, statement, values)[2]


def _fetched(
    connection: Connection, statement: Executable, values: Values
) -> tuple[_Compiled, Sequence[str], Sequence[Any]]:
    prepared = _compiled(connection, statement, values)
    if connection.dispatch.before_cursor_execute:
        # somebody listens to the engine: the longer way tells them
        result = connection.exec_driver_sql(prepared.sql, prepared.parameters(values))
        return (prepared, tuple(result.keys()), result.fetchall()) if result.returns_rows else (prepared, (), ())
    cursor = _driver(connection).execute(prepared.sql, prepared.parameters(values))
    if cursor.description is None:
        return prepared, (), ()
    return prepared, [column[0] for column in cursor.description], cursor.fetchall()


def columns(connection: Connection, statement: Executable, values: Values) -> list[list[Any]]:
    """Run a module's constant SELECT; its result as columns, for many rows: no more than a few are alive at once."""
    prepared = _compiled(connection, statement, values)
    cursor = _driver(connection).cursor()
    cursor.execute(prepared.sql, prepared.parameters(values))
    found: list[list[Any]] = [[] for _ in cursor.description]
    while some := cursor.fetchmany(ROWS_AT_ONCE):
        for column, piece in zip(found, zip(*some, strict=True), strict=True):
            column.extend(piece)
    return found


def first(connection: Connection, statement: Executable, values: Values) -> Any:
    """Its first row, or None."""
    found = rows(connection, statement, values)
    return found[0] if found else None


def one(connection: Connection, statement: Executable, values: Values) -> Any:
    """Its only row; `NoResultFound` undoes the transaction where there is none."""
    found = rows(connection, statement, values)
    if len(found) != 1:
        raise NoResultFound(f"one row was expected, {len(found)} came")
    return found[0]


def run(connection: Connection, statement: Executable, values: Sequence[Values]) -> None:
    """Run a module's constant statement once for each of `values`, which have the same keys."""
    prepared = _compiled(connection, statement, values[0])
    parameters = [prepared.parameters(each) for each in values]
    if connection.dispatch.before_cursor_execute:
        connection.exec_driver_sql(prepared.sql, parameters)
    elif len(parameters) == 1:
        _driver(connection).execute(prepared.sql, parameters[0])
    else:
        _driver(connection).cursor().executemany(prepared.sql, parameters)


def among(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[bool]:
    """Whether a column is in a list of texts, which is bound under `name` as JSON: however many, one statement."""
    given = bindparam(name, type_=Text)
    if dialect == "sqlite":
        return column.in_(select(func.json_each(given).table_valued("value").c.value))
    each = func.json_array_elements_text(cast(given, JSON)).table_valued("value")
    # an array and not a sub-query: PostgreSQL would guess a hundred texts and read the whole table for them
    return column == any_(func.array(select(each.c.value).scalar_subquery(), type_=ARRAY(Text)))


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
