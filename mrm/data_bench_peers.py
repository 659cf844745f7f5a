"""Other packages' readers for `mrm.data_bench`: each writes the samples in its own form and gives a function that reads all.

None of them is needed for anything else: `pip install -e .[bench]` brings what installs beside this project.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Members = Sequence[Sequence[bytes]]  # of each sample: its record and its images
Reader = Callable[[], Iterable[Sequence[bytes]]]


def litdata_reader(folder: Path, members: Members) -> Reader:
    """Chunks by litdata, read in order."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    logging.getLogger("litdata").setLevel(logging.ERROR)
    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, sample in enumerate(members):
        writer.add_item(number, list(sample))
    writer.done()
    writer.merge()

    def read() -> Iterator[Any]:
        yield from StreamingDataset(str(folder), shuffle=False)

    return read


def streaming_reader(folder: Path, members: Members) -> Reader:
    """MDS shards by mosaicml-streaming, read in order."""
    from streaming import MDSWriter, StreamingDataset

    logging.getLogger("streaming").setLevel(logging.ERROR)
    names = [f"m{number}" for number in range(max(map(len, members)))]
    with MDSWriter(out=str(folder), columns=dict.fromkeys(names, "bytes")) as writer:
        for sample in members:
            writer.write({name: data for name, data in zip(names, sample, strict=True)})
    dataset = StreamingDataset(local=str(folder), shuffle=False, batch_size=1)

    def read() -> Iterator[Sequence[bytes]]:
        for sample in dataset:
            yield [sample[name] for name in names]

    return read


PEERS: dict[str, Callable[[Path, Members], Reader]] = {"litdata": litdata_reader, "streaming": streaming_reader}
