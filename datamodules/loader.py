"""Loaders: workers read and encode what the main process asks for; batches come back packed.

Workers hold only the index and the encoder, which never change, and may therefore outlive an epoch. A resumed run
starts anywhere in the plan without reading what came before. What is asked for is left to `work.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from datamodules.index import Index
from datamodules.reading import read_sample
from datamodules.work import EpochWork, Work, WorkItem
from mrm.errors import ConfigError, RecordError, ShardError
from mrm.model.encoding import EncodedSample
from mrm.model.packing import Edges, RewardBatch, Unreadable, check_fits, collate
from mrm.preference import PreferenceSample


class SampleEncoder(Protocol):
    """What a loader needs of an encoder; see `mrm.model.encoding.Encoder`."""

    pad_id: int
    max_pixels: int
    image_token_id: int

    @property
    def filler(self) -> EncodedSample | None:
        """See `mrm.model.packing.collate`."""
        ...

    def encode(self, sample: PreferenceSample) -> EncodedSample: ...


class PreferenceDataset(Dataset[RewardBatch]):
    """Makes packed batches of an index's samples; what cannot be read or fits no row is named in the batch, not raised.

    Args:
        index: whose rows are asked for.
        encoder: samples to numbers.
        row_tokens, layout: see `mrm.model.packing.collate`.
        text_only: whether a batch brings the same samples without images too.
    """

    def __init__(
        self,
        index: Index,
        encoder: SampleEncoder,
        row_tokens: int | None,
        layout: str = "shared",
        *,
        text_only: bool = False,
    ) -> None:
        self.index = index
        self.text_only = text_only
        self.encoder = encoder
        self.row_tokens = row_tokens
        self.layout = layout
        filler = encoder.filler
        if filler is not None and layout == "shared" and row_tokens is not None and filler.tokens > row_tokens:
            raise ConfigError(
                f"data.row_tokens={row_tokens}: too few for the smallest image, of {filler.tokens} tokens."
            )

    def __getitem__(self, work: Work) -> RewardBatch:
        items = [self._item(item) for item in work.items]
        pack = functools.partial(
            collate,
            row_tokens=self.row_tokens,
            pad_id=self.encoder.pad_id,
            normalizer=work.normalizer,
            layout=self.layout,
        )
        batch = pack(items, filler=self.encoder.filler)
        if self.text_only:  # no rank's has an image, so none waits for another's vision tower
            image = self.encoder.image_token_id
            readable = [item for item in items if not isinstance(item, Unreadable)]
            batch.text_only = pack([(sample.without_images(image), edges) for sample, edges in readable])
        return batch

    def _item(self, item: WorkItem) -> tuple[EncodedSample, Edges] | Unreadable:
        try:
            encoded = self.encoder.encode(read_sample(self.index, item.row))
            if item.responses is not None:
                encoded = encoded.with_responses(item.responses)
            check_fits(encoded, self.row_tokens, self.layout)
            return encoded, item.edges
        except (RecordError, ShardError) as error:
            index, row = self.index, item.row
            shard, dataset = index.shard_files[index.shard[row]], index.dataset_names[index.dataset[row]]
            return Unreadable(index.keys[row], str(shard), str(error), dataset)


class Workers:
    """A torch DataLoader that is fed afresh for every pass, so that its workers can stay alive between passes.

    Args:
        dataset: what makes the batches.
        num_workers: processes; 0 works in the caller's.
        persistent: whether they outlive a pass.
    """

    def __init__(self, dataset: Dataset[RewardBatch], *, num_workers: int, persistent: bool = False) -> None:
        self._feed = _Feed()
        self._loader: DataLoader[RewardBatch] = DataLoader(
            dataset,
            batch_size=None,  # an item of the feed is a whole micro-batch already
            sampler=self._feed,
            num_workers=num_workers,
            persistent_workers=persistent and num_workers > 0,
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
        )

    def run(self, works: Iterable[Work]) -> Iterator[RewardBatch]:
        """The batches of some work, in order. One pass at a time."""
        self._feed.works = works
        return iter(self._loader)

    def close(self) -> None:
        """Ends persistent workers now, not when the garbage collector comes by."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()


class _Feed(Sampler[Work]):
    works: Iterable[Work] = ()

    def __iter__(self) -> Iterator[Work]:
        return iter(self.works)


def _as_is(batch: RewardBatch) -> RewardBatch:
    return batch


class BatchLoader:
    """A sized iterable over work. Starting is lazy: Lightning asks for iterators that it never uses.

    Args:
        workers: who makes the batches.
        works: what to make.
        note: called with every batch, in the main process.
    """

    def __init__(self, workers: Workers, works: Sequence[Work], note: Callable[[RewardBatch], None]) -> None:
        self._workers = workers
        self._works = works
        self._note = note

    def __len__(self) -> int:
        return len(self._works)

    def __iter__(self) -> Iterator[RewardBatch]:
        for batch in self._workers.run(self._works):
            self._note(batch)
            yield batch


class EpochLoader(BatchLoader):
    """One epoch of training, from any batch on.

    Its length is that of the whole epoch, also when it starts in the middle: Lightning adds what was done before.

    Args:
        workers, works, note: as for `BatchLoader`.
        epoch: the epoch that `works` is the plan of.
        start: the first micro-batch to give.
    """

    def __init__(
        self, workers: Workers, works: EpochWork, note: Callable[[RewardBatch], None], *, epoch: int, start: int = 0
    ) -> None:
        super().__init__(workers, works, note)
        self.epoch = epoch
        self.start = start
        self.digest = works.digest
        self.nbytes = works.nbytes

    def __iter__(self) -> Iterator[RewardBatch]:
        for batch in self._workers.run(self._works[number] for number in range(self.start, len(self._works))):
            self._note(batch)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The plan, for a check; how far it was carried out, Lightning counts."""
        return {"epoch": self.epoch, "plan": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Checks that the checkpoint's epoch goes on by the same plan, if it was left in the middle.

        Raises:
            ConfigError: if it is another, so that the epoch cannot be taken up where it was left.
        """
        if self.start and state != self.state_dict():
            raise ConfigError(
                f"the checkpoint was saved in epoch {state['epoch']} of plan {state['plan']}, now it is epoch"
                f" {self.epoch} of plan {self.digest}: data, ledger, seed, batch size, accumulation or the number of"
                " devices changed; resume with the same settings, or from a checkpoint of an epoch's end."
            )
