"""is_out_of_memory: whether an error says that memory ran out, of the CPU or of a GPU."""

from __future__ import annotations

ALLOCATION_FAILURES = ("can't allocate memory", "out of memory", "_ALLOC_FAILED")
"""What torch's plain RuntimeErrors say when memory ran out (CPU allocator, CUDA driver, cuBLAS and cuDNN)."""


def is_out_of_memory(error: BaseException) -> bool:
    """True of a `MemoryError`, of torch's own kind, and of a plain RuntimeError that says so."""
    # torch's exceptions are known by their names: who classifies errors need not have imported torch
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return type(error) is RuntimeError and any(said in str(error) for said in ALLOCATION_FAILURES)
