"""A saved model over some responses of a pool: batches, what a journal has of them, and what cannot be read.

Which responses these are, and who shares their rewards, is left to `curate_scores.py`.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from callbacks.round_inputs import NOT_FINITE
from datamodules.ledger import Array
from datamodules.loader import Workers
from datamodules.pair_pools import PairPool
from datamodules.unreadable import UnreadableCount
from mrm.curate_journal import ScoreJournal
from mrm.model.encoding import Encoder
from mrm.model.packing import RewardBatch, Unreadable
from mrm.model.reward_model import RewardModel
from mrm.progress import shown


@dataclass(frozen=True)
class ModelReader:
    """Who scores, and how much at a time; see `curate_scores.model_scores`."""

    model: RewardModel
    encoder: Encoder
    device: torch.device
    batch_size: int
    row_tokens: int | None
    workers: int
    progress: bool


class ScoringPass:
    """What is known of a pool's responses so far; more with every `run`.

    Args:
        pool: what is scored.
        reader: who scores.
        max_bad: share of the samples that may have no scores.
        journal: batches that are scored already are taken from it, and others kept in it.

    Attributes:
        first: int64 [N + 1], response k of sample i has number `first[i] + k` of R.
        rewards: float32 [R], NaN where there is none.
    """

    def __init__(self, pool: PairPool, reader: ModelReader, *, max_bad: float, journal: ScoreJournal) -> None:
        self._pool, self._reader, self._journal = pool, reader, journal
        self.first = np.concatenate([[0], np.cumsum(pool.n_responses, dtype=np.int64)])
        self.rewards = np.full(self.first[-1], np.nan, np.float32)
        self._count = UnreadableCount(max_bad, "max_bad")
        self._batches = 0  # of earlier runs: a journal's numbers go on

    @property
    def unreadable(self) -> dict[str, str]:
        """Key -> why, of the samples that were to be scored and could not be."""
        return {key: item.reason for key, item in self._count.found.get(self._pool.name, {}).items()}

    def run(self, rows: Array, responses: Mapping[int, tuple[int, ...]]) -> None:
        """Scores samples.

        Args:
            rows: int64 [n], in order. responses: row -> the numbers of those to score, where not all are.

        Raises:
            UnreadableSamplesError: past `max_bad`.
        """
        pool, reader = self._pool, self._reader
        expected: deque[tuple[int, dict[str, _Asked]]] = deque()

        def works() -> Iterator[Any]:
            fed = pool.feed(rows, responses, reader.batch_size, reader.encoder.max_pixels)
            for number, (samples, work) in enumerate(fed, start=begun):
                asked = {pool.keys[row]: self._asked(row, responses.get(row)) for row in samples.tolist()}
                if not self._take(number, asked):
                    expected.append((number, asked))
                    yield work

        begun, batches = self._batches, -(-len(rows) // reader.batch_size)
        self._batches += batches
        left = batches - sum(begun <= number < self._batches for number in self._journal.done)
        dataset = pool.dataset(reader.encoder, reader.row_tokens, reader.model.layout)
        made = Workers(dataset, num_workers=reader.workers).run(works())
        with torch.inference_mode():
            for batch in shown(made, "score", total=left or None, show=reader.progress):
                self._score(batch, *expected.popleft())

    def _asked(self, row: int, some: tuple[int, ...] | None) -> _Asked:
        key, start = self._pool.keys[row], int(self.first[row])
        if some is None:
            return _Asked(key, np.arange(start, self.first[row + 1]))
        return _Asked(f"{key}:{','.join(map(str, some))}", start + np.array(some))

    def _take(self, number: int, asked: Mapping[str, _Asked]) -> bool:
        """Whether the journal has the batch; then its rewards are taken.

        A batch of another try may be another one: what could not be read then, and was scored elsewhere for that, can be read now.
        """
        done = self._journal.done.get(number, {})
        wanted = {one.name: len(one.places) for one in asked.values()}
        if {name: len(own) for name, own in done.items()} != wanted:
            return False
        for one in asked.values():
            self.rewards[one.places] = done[one.name]
        return True

    def _score(self, batch: RewardBatch, number: int, asked: Mapping[str, _Asked]) -> None:
        bad = {item.key for item in batch.unreadable}
        assert [key for key in asked if key not in bad] == batch.keys, "batches come in the order of their work"
        unreadable = [dataclasses.replace(item, dataset=self._pool.name) for item in batch.unreadable]
        if batch.keys:
            found = self._reader.model(batch.to(self._reader.device)).float().cpu().numpy()
            ends = np.cumsum(batch.response_counts)[:-1]
            found_of = dict(zip(batch.keys, np.split(found, ends), strict=True))
            for key, own in found_of.items():
                self.rewards[asked[key].places] = own
                if not np.isfinite(own).all():
                    unreadable.append(Unreadable(key, "the model", NOT_FINITE, self._pool.name))
            if not unreadable:
                self._journal.add(number, {asked[key].name: own.tolist() for key, own in found_of.items()})
        self._count.note(dataclasses.replace(batch, unreadable=unreadable), {self._pool.name: len(self._pool)})


@dataclass(frozen=True)
class _Asked:
    """What is asked of a sample: its name in the journal, which tells which responses, and their numbers int64 [k]."""

    name: str
    places: Array
