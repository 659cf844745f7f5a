"""From keys back to rows of an index, by the keys' hashes: a million keys as a dictionary would take 150 MB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.index import Array, Index
from datamodules.index_table import number_of


class KeyRows:
    """Finds rows by key; keys are unique in an index (`index_doubles.check_unique`).

    Args:
        index: whose rows.
    """

    def __init__(self, index: Index) -> None:
        self._order = np.argsort(index.key_hash)
        self._sorted = index.key_hash[self._order]

    def __call__(self, keys: Sequence[str]) -> Array:
        """int64 [n]: the rows of these keys, all of which the index has."""
        hashes = np.array([number_of(key) for key in keys], np.uint64)
        return self._order[np.searchsorted(self._sorted, hashes)]
