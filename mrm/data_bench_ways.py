"""The samples that `mrm.data_bench` reads, and the ways to read them that it compares."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from datamodules.index import Index
from datamodules.loader import Workers
from datamodules.reading import read_members, read_sample
from datamodules.shards import ShardWriter
from mrm.images import decode_image
from mrm.preference import Message, Pair, PreferenceSample

SIZES = (320, 640)  # pixels of an image's side: published sets have what COCO has, 640 x 480, and smaller ones
SMALL = (64, 448)
BATCH = 64  # rows that a worker gets at a time
Timed = Callable[[Sequence[int]], None]  # reads these rows


@dataclass
class DataBenchConfig:
    """Settings of `python -m mrm.data_bench`, all `key=value`."""

    samples: int = 1000
    rounds: int = 6
    workers: int = 2  # in the second setting; the first is one process
    shard_samples: int = 100
    seed: int = 0


def make_samples(count: int, sizes: tuple[int, int], seed: int) -> Iterator[PreferenceSample]:
    """Pairs of two answers about one JPEG each, whose sides are drawn from `sizes`."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        width, height = rng.integers(sizes[0], sizes[1] + 1, 2)
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        grain = rng.integers(-8, 9, smooth.shape)
        buffer = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        answers = tuple(f"{side} of pair {number}. " + "Here is what can be seen. " * 15 for side in "AB")
        prompt = (Message("user", "<image>What is in the picture, and where? " + "Answer at length. " * 3),)
        yield PreferenceSample(f"k{number:07d}", "bench", prompt, (buffer.getvalue(),), answers, (Pair(0, 1, 0.5),))


class _Batches:
    """What workers do with a batch of rows; gives back how many rows they were, not to measure queues."""

    def __init__(self, read: Timed) -> None:
        self._read = read

    def __getitem__(self, rows: Sequence[int]) -> int:
        self._read(rows)
        return len(rows)


class _InOrder(IterableDataset):
    """`webdataset` in a worker, by batches."""

    def __init__(self, shards: Sequence[str]) -> None:
        self._shards = list(shards)

    def __iter__(self) -> Iterator[int]:
        number = 0
        for number, _ in enumerate(webdataset.WebDataset(self._shards, shardshuffle=False), start=1):
            if number % BATCH == 0:
                yield BATCH
        yield number % BATCH


class Reading:
    """Samples in shards and in memory, and the ways to read them."""

    def __init__(self, folder: Path, config: DataBenchConfig, sizes: tuple[int, int] = SIZES) -> None:
        self.config, self.folder = config, folder
        with ShardWriter(folder / "shards", max_samples=config.shard_samples) as writer:
            for sample in make_samples(config.samples, sizes, config.seed):
                writer.write(sample)
        self.index = Index.load(folder / "shards")
        self.images = [read_sample(self.index, row).images for row in range(len(self.index))]
        self._workers: dict[str, Workers] = {}
        self._loader = DataLoader(
            _InOrder(self._shards), batch_size=None, num_workers=config.workers, persistent_workers=True
        )

    @property
    def _shards(self) -> list[str]:
        return [str(path) for path in self.index.shard_files]

    def bare(self, rows: Sequence[int]) -> None:
        """Pillow alone, as it is usually called; it copies a picture that is RGB already, which takes it some 4 %."""
        for row in rows:
            for data in self.images[row]:
                Image.open(io.BytesIO(data)).convert("RGB")

    def decoded(self, rows: Sequence[int]) -> None:
        """Records and images, decoded; of samples that this process has read before, and not checked again."""
        for row in rows:
            for data in read_sample(self.index, row).images:
                decode_image(data, name="image")

    def first(self, rows: Sequence[int]) -> None:
        """The same, by a process that has seen none of them before: every byte is held against its checksum."""
        index = replace(self.index)
        for row in rows:
            for data in read_sample(index, row).images:
                decode_image(data, name="image")

    def members(self, rows: Sequence[int]) -> None:
        """The bytes alone, as `webdataset` gives them."""
        for row in rows:
            read_members(self.index, row)

    def samples(self, rows: Sequence[int]) -> None:
        """Records, checked, and images as bytes."""
        index = replace(self.index)
        for row in rows:
            read_sample(index, row)

    def in_order(self) -> int:
        """All samples by `webdataset`, in this process; how many."""
        return sum(1 for _ in webdataset.WebDataset(self._shards, shardshuffle=False))

    def in_order_by_workers(self) -> int:
        return sum(self._loader)

    def by_workers(self, name: str, rows: Sequence[int]) -> None:
        """One of the ways above in workers that stay alive."""
        if name not in self._workers:
            dataset: Any = _Batches(getattr(self, name))
            self._workers[name] = Workers(dataset, num_workers=self.config.workers, persistent=True)
        batches: Any = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        assert sum(self._workers[name].run(batches)) == len(rows)  # type: ignore[arg-type]

    def orders(self, share: float, pieces: int) -> list[list[int]]:
        """A shuffled plan of that share of the pool, in pieces; where it is a small share, several plans."""
        rng = np.random.default_rng(self.config.seed)
        count = max(1, round(share * len(self.index)))
        plans = [rng.choice(len(self.index), count, replace=False) for _ in range(round(1 / share))]
        return [piece.tolist() for plan in plans for piece in np.array_split(plan, pieces if share == 1 else 1)]

    def close(self) -> None:
        for workers in self._workers.values():
            workers.close()
        iterator, self._loader._iterator = self._loader._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]
