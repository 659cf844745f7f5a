"""Keys that stand twice: found by their hashes, compared by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.texts import Texts
from mrm.errors import ShardError

Array = npt.NDArray[Any]


def first_double(key_hash: Array, keys: Texts) -> tuple[int, int] | None:
    """The first two rows of the same key, or None; rows of equal hash are compared by their keys.

    Args:
        key_hash: uint64 [N], `index_table.number_of` the keys.
        keys: Texts [N].
    """
    seen: dict[str, int] = {}
    for row in doubles(key_hash).tolist():
        first = seen.setdefault(keys[row], row)
        if first != row:
            return first, row
    return None


def check_unique(key_hash: Array, keys: Texts, dataset: Array, names: tuple[str, ...]) -> None:
    """No key is in two data sets.

    Args:
        key_hash, keys: as `first_double`.
        dataset: int16 [N], into `names`.
        names: of the data sets.

    Raises:
        ShardError: naming the key and both.
    """
    double = first_double(key_hash, keys)
    if double is None:
        return
    first, second = double
    raise ShardError(
        f"duplicate key {keys[first]!r} in data sets {names[dataset[first]]!r} and {names[dataset[second]]!r};"
        " keys must be unique over all training data. Keys made from the file's name differ where one data set has another"
        f" name (data.datasets.{names[dataset[second]]}.options.name=...); keys that the records give must be changed there."
    )


def doubles(hashes: Array) -> Array:
    """int64, rising: the rows whose hash another row has too; mostly none."""
    ordered = np.sort(hashes)  # a plain sort of numbers is 20 times as fast as one that also gives places
    same = ordered[1:] == ordered[:-1]
    return np.flatnonzero(np.isin(hashes, ordered[1:][same])) if same.any() else np.zeros(0, np.int64)
