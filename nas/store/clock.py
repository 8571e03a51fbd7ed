"""The database's clock: the only one that leases and times are measured by."""

import time
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now_us(FunctionElement[int]):
    """Microseconds since 1970 UTC, read when the statement runs.

    PostgreSQL: `clock_timestamp()` (`now()` stands still within a transaction). SQLite: the clock of its host, by a
    function that every connection is given (SQLite's own stops at milliseconds), which tests replace.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(now_us, "sqlite")
def _sqlite(element: now_us, compiler: Any, **options: Any) -> str:
    return "now_us()"


POSTGRESQL_NOW_US = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


@compiles(now_us, "postgresql")
def _postgresql(element: now_us, compiler: Any, **options: Any) -> str:
    return POSTGRESQL_NOW_US


def host_clock() -> int:
    """Microseconds since 1970 UTC by this host."""
    return time.time_ns() // 1000
