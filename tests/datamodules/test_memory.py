import platform

import numpy as np
import pyarrow as pa
import pytest

from datamodules.memory import release_memory, system_memory
from datamodules.scale_bench import resident_mb


def test_system_memory_ends_with_the_allocator_before_it() -> None:
    before = pa.default_memory_pool().backend_name
    with system_memory():
        assert pa.default_memory_pool().backend_name == "system"
    assert pa.default_memory_pool().backend_name == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_release_memory_gives_back_what_lies_between_small_arrays() -> None:
    """400 arrays of 100 kB, of which each tenth is kept: 36 MB to give back."""
    arrays = [np.ones(12_500) for _ in range(400)]
    kept = arrays[::10]
    full = resident_mb()
    del arrays
    release_memory()
    assert len(kept) == 40 and resident_mb() < full - 25
