"""Which responses of some samples have to be scored, so that each distinct (images, prompt, response) is scored once.

Open pools repeat themselves: a pair a record, over one prompt, brings its images and often a response again and again. Samples that
share neither images nor the want of them cannot share a response; only of the others is the text read. What was said is remembered
by a digest of 128 bits, so that a pool of millions keeps none of its texts in memory.

Dimension letters: N samples, R responses of the pool, n rows, C copies.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.digests import DigestTable, digest
from datamodules.duplicates import image_set_digests, repeated
from datamodules.index import Index
from datamodules.reading import read_record
from mrm.errors import RecordError, ShardError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DistinctResponses:
    """What to score, and where the rest comes from. Responses are numbered through the pool, see `response_starts`.

    Args:
        rows: int64 [n], rows of which at least one response has to be scored, in the order asked for.
        responses: row -> the numbers of its responses to score; rows of which all are scored are not in it.
        copy_to, copy_from: int64 [C], responses that say again what another one says.
    """

    rows: Array
    responses: Mapping[int, tuple[int, ...]]
    copy_to: Array
    copy_from: Array


class DistinctBuilder:
    """Takes samples one after the other and tells what each of them says for the first time."""

    def __init__(self) -> None:
        self._known, self._first = (
            DigestTable(),
            array("q"),
        )  # the n-th digest, and the response that was first to say it
        self._rows, self._copy_to, self._copy_from = array("q"), array("q"), array("q")
        self._some: dict[int, tuple[int, ...]] = {}
        self._alike: dict[tuple[int, ...], tuple[int, ...]] = {}  # a million rows share a few tuples

    def alone(self, row: int) -> None:
        """Takes a sample to be like no other."""
        self._rows.append(row)

    def add(self, row: int, start: int, prompt: bytes, texts: Sequence[str]) -> None:
        """Compares a sample with those that came before.

        Args:
            row: the sample's. start: number of its first response.
            prompt: see `prompt_digest`.
            texts: what its responses say.
        """
        own = []
        for number, text in enumerate(texts):
            first = self._first_to_say(digest(prompt, _bytes(text)), start + number)
            if first == start + number:
                own.append(number)
            else:
                self._copy_to.append(start + number)
                self._copy_from.append(first)
        if own:
            self._rows.append(row)
            if len(own) < len(texts):
                self._some[row] = self._alike.setdefault(tuple(own), tuple(own))

    def build(self) -> DistinctResponses:
        """What was found."""
        rows, to, source = (np.array(column, np.int64) for column in (self._rows, self._copy_to, self._copy_from))
        return DistinctResponses(rows, self._some, to, source)

    def _first_to_say(self, said: bytes, number: int) -> int:
        found = self._known.find(said)
        if found is not None:
            return self._first[found]
        self._known.add(said)
        self._first.append(number)
        return number


def prompt_digest(images: Sequence[bytes], turns: Iterable[tuple[str, str]]) -> bytes:
    """128 bits of what a response answers to.

    Args:
        images: what tells each image from others, in order.
        turns: role and content of each.
    """
    return digest(len(images).to_bytes(8, "little"), *images, *(_bytes(text) for turn in turns for text in turn))


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
    found = DistinctBuilder()
    for row, images, shared in zip(rows.tolist(), sets.tolist(), alike.tolist(), strict=True):
        if not shared:
            found.alone(row)
            continue
        try:
            record = read(index, row)
        except (RecordError, ShardError):  # named when it is scored
            found.alone(row)
            continue
        prompt = prompt_digest(
            [images.to_bytes(8, "little")], ((turn["role"], turn["content"]) for turn in record["prompt"])
        )
        found.add(row, int(starts[row]), prompt, record["responses"])
    return found.build()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
