"""Giving memory back. Reading a million rows takes for a moment three times what is kept; allocators would keep it too.

Arrow's own allocator held on to 100 MB, and so did the C library's, where small arrays stand between large ones.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def system_memory() -> Iterator[None]:
    """Lets Arrow take its memory from the C library, so that `release_memory` reaches it; also a decorator."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def release_memory() -> None:
    """Gives what is free back to the system, where the C library is one that can be asked to (glibc)."""
    pa.default_memory_pool().release_unused()  # Parquet's buffers are in it whatever pool is set
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
