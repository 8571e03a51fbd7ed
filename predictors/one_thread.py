"""one_thread: linear algebra on one thread of the CPU, for many small matrices.

A BLAS that wakes a thread per core for matrices of a few hundred rows gains nothing on an idle machine, and on one that
trains networks at the same time it waits for its own threads: 30 times slower was measured. On one thread the result is
also the same bits on every machine's number of cores.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # it has no types

Given = ParamSpec("Given")
Result = TypeVar("Result")


class _Limit:
    """The limit of BLAS is the process's: it is set while anybody is within, and the last one out takes it away.

    That of OpenMP is each thread's own.
    """

    def __init__(self) -> None:
        controller = ThreadpoolController()
        self.blas = controller.select(user_api="blas")
        self.openmp = controller.select(user_api="openmp")
        self.lock = threading.Lock()
        self.within = 0
        self.limiter: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if self.within == 0:
                self.limiter = self.blas.limit(limits=1)
            self.within += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.within -= 1
            if self.within == 0:
                self.limiter.restore_original_limits()


@cache
def _limit(with_torch: bool) -> _Limit:
    """One for all; another once torch is there, which brings threads of its own."""
    return _Limit()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, linear algebra of numpy, scipy and torch is on one thread; afterwards on as many as before."""
    limit = _limit("torch" in sys.modules)
    with limit, limit.openmp.limit(limits=1):
        yield


def on_one_thread(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same function, its linear algebra on one thread."""

    @wraps(function)
    def limited(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with one_thread():
            return function(*args, **kwargs)

    return limited
