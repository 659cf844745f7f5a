"""What a model scored every pair of the test sets, kept so that two models can be compared on the same samples.

A Parquet file: set, key, pair (number within the sample), chosen, rejected (float32 rewards), a row a pair. Pairs that could not be
read are not in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mrm.errors import RecordError

SCORES_FILE = "test_scores.parquet"
SCHEMA = pa.schema(
    [
        ("set", pa.dictionary(pa.int32(), pa.string())),
        ("key", pa.string()),
        ("pair", pa.int32()),
        ("chosen", pa.float32()),
        ("rejected", pa.float32()),
    ]
)


@dataclass(frozen=True, eq=False)
class SampleScores:
    """Rewards of one test set's pairs, [N] each.

    Args:
        key: of the sample.
        pair: number within the sample.
        chosen, rejected: float32 rewards of the two responses.
    """

    key: np.ndarray
    pair: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    @property
    def right(self) -> np.ndarray:
        """bool [N]: a tie is wrong, as in `mrm.evaluation.metrics`."""
        return self.chosen > self.rejected


def write_scores(path: str | os.PathLike[str], scores: dict[str, SampleScores]) -> Path:
    """Writes test set -> scores; an older file is replaced whole."""
    target = Path(path)
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for name, one in scores.items():
        columns["set"] += [name] * len(one)
        for field in ("key", "pair", "chosen", "rejected"):
            columns[field] += getattr(one, field).tolist()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    pq.write_table(pa.table(columns, schema=SCHEMA), temporary, compression="zstd")
    temporary.replace(target)
    return target


def read_scores(path: str | os.PathLike[str]) -> dict[str, SampleScores]:
    """Test set -> scores, as `write_scores` wrote them.

    Raises:
        RecordError: for a file that is no such table.
    """
    try:
        table = pq.read_table(path, columns=SCHEMA.names)
        names = np.array(table["set"].cast(pa.string()).to_pylist(), object)
        columns = {name: table[name].to_numpy() for name in ("key", "pair", "chosen", "rejected")}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecordError("test scores", f"{path}: is no table of test scores: {error}") from error
    return {
        name: SampleScores(**{field: column[names == name] for field, column in columns.items()})
        for name in dict.fromkeys(names.tolist())
    }
