"""Where each key's line begins in a file: sorted arrays of 24 bytes a key, and a dictionary for the latest."""

from __future__ import annotations

import numpy as np

_MERGE_AT = 50_000  # keys in the dictionary, at least; it takes some 150 bytes a key
_WIDTH = 16


class KeyIndex:
    """A map of 16-byte keys to offsets; the last of equal keys counts."""

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype=f"S{_WIDTH}")  # sorted
        self._offsets = np.empty(0, dtype=np.int64)
        self._recent: dict[bytes, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: bytes, offset: int) -> None:
        """Takes a key in; a known one gets the new offset."""
        self._count += self.find(key) is None
        self._recent[key] = offset
        if len(self._recent) >= max(_MERGE_AT, len(self._keys) // 4):  # a share: else sorting grows with the square
            self._merge()

    def find(self, key: bytes) -> int | None:
        """The offset of a key; None where it is unknown."""
        if (offset := self._recent.get(key)) is not None:
            return offset
        place = int(np.searchsorted(self._keys, np.bytes_(key)))
        # numpy drops zeros at the end of bytes; as all keys are of one width, order and equality stay the same.
        found = place < len(self._keys) and self._keys[place].ljust(_WIDTH, b"\0") == key
        return int(self._offsets[place]) if found else None

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, np.frombuffer(b"".join(self._recent), dtype=f"S{_WIDTH}")])
        offsets = np.concatenate([self._offsets, np.array(list(self._recent.values()), dtype=np.int64)])
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        last = np.ones(len(keys), dtype=bool)
        last[:-1] = keys[:-1] != keys[1:]
        self._keys, self._offsets = keys[last], offsets[last]
        self._recent.clear()
