"""Many short strings in two arrays: a million keys take 35 MB so, and 100 MB as Python objects.

Numpy only at the bottom, so that worker processes share the bytes and never enter Arrow's thread pools.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Texts:
    """An immutable column of strings; a number gives a `str`, a slice or an array of numbers or truth values gives `Texts`.

    Args:
        start: int64 [N + 1], where each string starts in `data`.
        data: uint8 [bytes], all strings in UTF-8, one behind the other.
    """

    start: Array
    data: Array

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray | pa.Array) -> Texts:
        """From a column of strings without nulls."""
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        assert whole.null_count == 0, "a column of keys has no nulls"
        whole = whole.cast(pa.large_string())
        _, start, data = whole.buffers()
        if start is None:
            return cls(np.zeros(1, np.int64), np.zeros(0, np.uint8))
        places = np.frombuffer(start, np.int64)[whole.offset : whole.offset + len(whole) + 1]
        return cls(places, np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8))

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """From Python strings."""
        return cls.from_arrow(pa.array(texts, pa.large_string()))

    @classmethod
    def concat(cls, parts: Sequence[Texts]) -> Texts:
        """Several columns as one."""
        return cls.from_arrow(pa.chunked_array([part.arrow() for part in parts], pa.large_string()))

    def arrow(self) -> pa.LargeStringArray:
        """The same column for Arrow, without a copy."""
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self.start), pa.py_buffer(self.data))

    @property
    def nbytes(self) -> int:
        return self.start.nbytes + self.data.nbytes

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, (int, np.integer)):
            place = range(len(self))[which]  # as a list does it: negative numbers, and an IndexError past the end
            return self.data[self.start[place] : self.start[place + 1]].tobytes().decode()
        return Texts.from_arrow(self.arrow().take(pa.array(np.arange(len(self))[which])))

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def tolist(self) -> list[str]:
        """All strings, as Python objects."""
        return self.arrow().to_pylist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.tolist(), dtype=object)


def object_column(column: pa.ChunkedArray | pa.Array) -> Array:
    """object [N]: a column of few distinct strings, each of them one object that all its rows share."""
    codes, names = coded(column)
    return np.array(names, dtype=object)[codes] if names else np.zeros(0, dtype=object)


def coded(column: pa.ChunkedArray | pa.Array) -> tuple[Array, tuple[str, ...]]:
    """(int32 [N] numbers, names) of a column of few distinct strings, dictionary-encoded or not."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # what Arrow makes of no chunks at all
        return np.zeros(0, np.int32), ()
    return column.indices.to_numpy(zero_copy_only=False).astype(np.int32), tuple(column.dictionary.to_pylist())


def distinct(column: Array) -> tuple[str, ...]:
    """The different strings of an object column [N], by name."""
    return tuple(sorted(coded(pa.array(column, pa.string()))[1]))
