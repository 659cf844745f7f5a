"""A pool of pairs to curate, in whichever form it lies: shards, or a file of LLaMA-Factory's ranking format.

Both forms say the same of themselves: which pairs there are, what is fed to a model that scores them, and the samples behind
them. What is written is left to `curated.py`.

Dimension letters: N samples, P pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datamodules.distinct import DistinctResponses, distinct_responses
from datamodules.index import INDEX_NAME, Index
from datamodules.ledger import Array, Ledger
from datamodules.loader import PreferenceDataset, SampleEncoder
from datamodules.pair_files import PairFile
from datamodules.pool import sample_lengths
from datamodules.reading import read_record, read_sample
from datamodules.remote import ShardCache, is_remote
from datamodules.work import scoring_work
from mrm.errors import ConfigError, MrmError, RecordError, ShardError
from mrm.model.packing import RewardBatch
from mrm.preference import PreferenceSample

SHARDS, LLAMA_FACTORY = "shards", PairFile.form
_WINDOW = 64  # batches whose samples are sorted by length: little is padded, and shards are still read in order


class ShardPool:
    """The pairs of an index.

    Attributes:
        form: SHARDS, or of a file LLAMA_FACTORY.
        name: of the data set.
        keys: Texts [N], unique. n_responses: int [N].
        pair_start: int64 [N + 1], pairs of sample i are `pair_start[i]:pair_start[i + 1]`. pair_sample: int [P]. pair_chosen,
            pair_rejected: int16 [P].
        problems: key -> why it is known beforehand that a sample cannot be used.
        fingerprint: of the content.
    """

    form = SHARDS

    def __init__(self, index: Index, name: str) -> None:
        self.index, self.name = index, name
        self.problems: Mapping[str, str] = {}
        self.keys, self.n_responses = index.keys, index.n_responses
        self.pair_start, self.pair_sample = index.pair_start, index.pair_sample
        self.pair_chosen, self.pair_rejected = index.pair_chosen, index.pair_rejected
        self.n_pairs, self.fingerprint = index.n_pairs, index.fingerprint

    def __len__(self) -> int:
        return len(self.index)

    def opening_ledger(self) -> Ledger:
        """Round 0, in which all pairs wait."""
        return Ledger.initial(self.index, np.zeros(len(self), bool), admit_open=False)

    def samples(self, wanted: Array) -> Iterator[tuple[int, PreferenceSample | MrmError]]:
        """(number, sample) of the wanted bool [N] samples, in order; an error where one cannot be read."""
        for row in np.flatnonzero(wanted).tolist():
            try:
                yield row, read_sample(self.index, row)
            except (RecordError, ShardError) as error:
                yield row, error

    def texts(self, wanted: Array) -> Iterator[tuple[int, PreferenceSample | MrmError]]:
        """As `samples`, but no image is read, and each is no bytes: one that does not decode is no error."""
        for row in np.flatnonzero(wanted).tolist():
            images = int(self.index.image_start[row + 1] - self.index.image_start[row])
            try:
                yield row, PreferenceSample.from_checked_json(read_record(self.index, row), [b""] * images)
            except (RecordError, ShardError) as error:
                yield row, error

    def distinct(self, wanted: Array) -> DistinctResponses:
        """What of the wanted bool [N] samples has to be scored; images are the same where their bytes are."""
        return distinct_responses(self.index, np.flatnonzero(wanted))

    def feed(
        self, rows: Array, responses: Mapping[int, tuple[int, ...]], batch_size: int, max_pixels: int
    ) -> Iterator[tuple[Array, Any]]:
        """(numbers, work) of each batch to score; the work is for `dataset`, which makes a packed batch of it.

        Args:
            rows: int64 [n], samples to score, in order. responses: row -> the numbers of those to score, where not all are.
            batch_size: samples at a time. max_pixels: of an image, for an estimate of its length.
        """
        lengths = sample_lengths(self.index, max_pixels)
        for start in range(0, len(rows), _WINDOW * batch_size):
            some = rows[start : start + _WINDOW * batch_size]
            some = some[np.argsort(-lengths[some], kind="stable")]
            for number, work in enumerate(scoring_work(some, batch_size, responses)):
                yield some[number * batch_size : (number + 1) * batch_size], work

    def dataset(self, encoder: SampleEncoder, row_tokens: int | None, layout: str) -> Dataset[RewardBatch]:
        return PreferenceDataset(self.index, encoder, row_tokens, layout)


PairPool = ShardPool | PairFile


def open_pool(
    given: str | os.PathLike[str], *, cache: ShardCache | None = None, media_dir: str | None = None
) -> PairPool:
    """The pairs of a folder or URL of shards, or of a file in LLaMA-Factory's form; which one it is, its content tells.

    Args:
        given: the path or URL.
        cache: where remote shards go; see `Index.load`.
        media_dir: see `PairFile`; only for a file.

    Raises:
        ConfigError: where there is nothing, or a `media_dir` is given for shards.
        ShardError: for shards whose index cannot be used.
    """
    form = form_of(given)
    if form == LLAMA_FACTORY:
        return PairFile(given, media_dir=media_dir)
    if media_dir is not None:
        raise ConfigError(f"media_dir={media_dir!r}: has no effect with shards, which hold their images; leave it out.")
    index = Index.load(given, cache)
    return ShardPool(index, index.dataset_names[0])


def form_of(given: str | os.PathLike[str]) -> str:
    """Which form a path or URL has.

    Raises:
        ConfigError: for a local path that leads nowhere.
    """
    text = os.fspath(given)
    if text.endswith((".json", ".jsonl")):
        return LLAMA_FACTORY
    if is_remote(text):
        return SHARDS
    path = Path(text)
    if path.is_file():
        return LLAMA_FACTORY
    if not path.is_dir():
        raise ConfigError(
            f"{text}: there is no such file or folder; give a folder or URL of shards, or a .json or .jsonl file."
        )
    if (path / INDEX_NAME).is_file() or any(path.glob("*.tar")):
        return SHARDS
    if any(path.glob("*.json")) or any(path.glob("*.jsonl")):
        return LLAMA_FACTORY
    raise ConfigError(
        f"{text}: holds neither shards (*.tar) nor a .json or .jsonl file; give a folder of shards or a file of pairs."
    )
