"""Which responses of some samples have to be scored, so that each distinct (images, prompt, response) is scored once.

Open pools repeat themselves: a pair a record, over one prompt, brings its images and often a response again and again. Samples that
share neither images nor the want of them cannot share a response; only of the others is the text read.

Dimension letters: N samples, R responses of the index, n rows, C copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.duplicates import image_set_digests, repeated
from datamodules.index import Index
from datamodules.reading import read_record
from mrm.errors import RecordError, ShardError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DistinctResponses:
    """What to score, and where the rest comes from. Responses are numbered through the index, see `response_starts`.

    Args:
        rows: int64 [n], rows of which at least one response has to be scored, in the order asked for.
        responses: row -> the numbers of its responses to score; rows of which all are scored are not in it.
        copy_to, copy_from: int64 [C], responses that say again what another one says.
    """

    rows: Array
    responses: Mapping[int, tuple[int, ...]]
    copy_to: Array
    copy_from: Array


def response_starts(index: Index) -> Array:
    """int64 [N + 1]: response k of row i has number `starts[i] + k` of R."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(index.n_responses, dtype=np.int64)])


def distinct_responses(
    index: Index, rows: Array, read: Callable[[Index, int], Mapping[str, Any]] = read_record
) -> DistinctResponses:
    """Finds what says the same.

    Args:
        index: the samples.
        rows: int64 [n], each once.
        read: gives a row's record; one that cannot be read is taken to be like no other.
    """
    rows = np.asarray(rows, np.int64)
    starts = response_starts(index)
    sets = image_set_digests(index.image_digest, index.image_start)[rows]
    alike = repeated(sets) if len(rows) else np.zeros(0, bool)
    known: dict[tuple[Any, ...], int] = {}
    scored: list[int] = []
    some: dict[int, tuple[int, ...]] = {}
    copies: list[tuple[int, int]] = []
    for row, images, shared in zip(rows.tolist(), sets.tolist(), alike.tolist(), strict=True):
        if not shared:
            scored.append(row)
            continue
        try:
            record = read(index, row)
        except (RecordError, ShardError):  # named when it is scored
            scored.append(row)
            continue
        prompt = (images, *((turn["role"], turn["content"]) for turn in record["prompt"]))
        own = []
        for number, text in enumerate(record["responses"]):
            flat = int(starts[row]) + number
            first = known.setdefault((prompt, text), flat)
            if first == flat:
                own.append(number)
            else:
                copies.append((flat, first))
        if own:
            scored.append(row)
        if own and len(own) < len(record["responses"]):
            some[row] = tuple(own)
    pairs = np.array(copies, np.int64).reshape(-1, 2)
    return DistinctResponses(np.array(scored, np.int64), some, pairs[:, 0], pairs[:, 1])
