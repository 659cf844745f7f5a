"""The file `index.parquet`: its columns, written a piece at a time and read without a loop over rows.

Digests stand as numbers, sums over a row's members are taken beforehand and shards are numbered, so that a million rows
are read in a fraction of a second. The file carries its own digest, see `index_seal.py`. What the columns mean in memory
is told in `index.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamodules.index_seal import SEAL, UNSEALED, is_sealed, seal, seal_holds
from datamodules.tarscan import ScannedSample, check_digest, scan_shard
from mrm.errors import ShardError

FORMAT = "3"
SCHEMA = pa.schema(
    [
        ("key", pa.large_string()),
        ("key_hash", pa.uint64()),  # `number_of` the key
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("shard", pa.int32()),  # into the metadata's list of shards, which is by name
        ("json_offset", pa.int64()),
        ("json_length", pa.int64()),
        ("json_crc", pa.uint32()),  # zlib's crc32: what is read is held against it
        ("image_offsets", pa.list_(pa.int64())),
        ("image_lengths", pa.list_(pa.int64())),
        ("image_crcs", pa.list_(pa.uint32())),
        ("image_hashes", pa.list_(pa.uint64())),  # `short_digest` as a number: which images are the same
        ("n_responses", pa.int16()),
        ("pair_chosen", pa.list_(pa.int16())),
        ("pair_rejected", pa.list_(pa.int16())),
        ("pair_strength", pa.list_(pa.float32())),
        ("text_chars", pa.int32()),  # prompt and all responses
        ("image_pixels", pa.int64()),  # all images
        # never read for training: what salvage holds records against, and statistics
        ("json_hash", pa.uint64()),
        ("image_exts", pa.list_(pa.string())),
        ("image_widths", pa.list_(pa.int32())),
        ("image_heights", pa.list_(pa.int32())),
        ("prompt_chars", pa.int32()),
        ("response_chars", pa.list_(pa.int32())),
    ]
)
COLD = ("json_hash", "image_exts", "image_widths", "image_heights", "prompt_chars", "response_chars")
HOT = [name for name in SCHEMA.names if name not in COLD]
BATCH_ROWS, GROUP_ROWS = 4096, 2**18  # rows that are held as Python objects, and rows that are held at all


@dataclass(frozen=True)
class IndexMetadata:
    """What `index.parquet` says of itself.

    Args:
        shards: name -> bytes, by name.
        fingerprint: digest of keys, records and images, whatever the shards they lie in.
    """

    shards: dict[str, int]
    fingerprint: str


class IndexWriter:
    """Writes an index file from the rows of one tar after the other, holding a few hundred thousand at most.

    Use as a context manager; the file is complete when the block ends well.

    Args:
        path: the file to write.
        shards: name -> bytes of all shards.
    """

    def __init__(self, path: str | os.PathLike[str], shards: dict[str, int]) -> None:
        self._shards = {name: shards[name] for name in sorted(shards)}
        self._number = {name: number for number, name in enumerate(self._shards)}
        self._held: list[pa.Table] = []
        self._fingerprint = Fingerprint()
        self.rows = 0
        self._path = path
        self._writer = parquet_writer(path)

    def write(self, shard: str, rows: pa.Table) -> None:
        """Adds what `shard_rows` gave for the shard so named."""
        place = SCHEMA.get_field_index("shard")
        numbers = pa.array(np.full(len(rows), self._number[shard], np.int32))
        self._held.append(rows.set_column(place, SCHEMA.field(place), numbers))
        self._fingerprint.add(rows)
        self.rows += len(rows)
        if sum(map(len, self._held)) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Writes what is left, the metadata and the seal."""
        self._flush()
        self._writer.add_key_value_metadata(file_metadata(self._shards, self._fingerprint.hexdigest()))
        self._writer.close()
        seal(self._path)

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held).unify_dictionaries())
            self._held = []

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()


def shard_rows(task: tuple[Path, str | None]) -> pa.Table | ShardError:
    """The rows of one tar, whose sha256 is looked at where one is expected; or what is wrong with it.

    `IndexWriter` puts the shard's number in. An error is returned, since it crosses processes.
    """
    file, expected = task
    try:
        if expected is not None:
            check_digest(file, expected)
        return rows_of(scan_shard(file))
    except ShardError as error:
        return error


def rows_of(samples: Iterable[ScannedSample]) -> pa.Table:
    """The rows of one tar's samples, a few thousand at a time as Python objects."""
    batches, rows = [], []
    for scanned in samples:
        rows.append(table_row(scanned))
        if len(rows) == BATCH_ROWS:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
            rows = []
    batches.append(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    return pa.Table.from_batches(batches).unify_dictionaries()


def parquet_writer(path: str | os.PathLike[str]) -> pq.ParquetWriter:
    """A writer with this format's settings; the closed file still wants its seal."""
    return pq.ParquetWriter(path, SCHEMA, compression="lz4", use_dictionary=["source", "shard", "n_responses"])


def file_metadata(shards: dict[str, int], fingerprint: str) -> dict[str, str]:
    """The key-value metadata of an index file; `shards` is name -> bytes, by name."""
    return {"format": FORMAT, "fingerprint": fingerprint, "shards": json.dumps(shards), SEAL: UNSEALED}


def read_index(source: str | os.PathLike[str] | bytes, columns: Sequence[str] = HOT) -> tuple[pa.Table, IndexMetadata]:
    """Some columns, and the metadata; nothing is decoded of a file whose bytes are not those that were written.

    Args:
        source: the file, or what stands in it.
        columns: those to read; at first what training needs.

    Raises:
        FormatError: if it was written in another format.
        pa.ArrowException, KeyError, ValueError, OSError: if it is damaged.
    """
    with pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(os.fspath(source)) as data:
        sealed = is_sealed(data)  # other formats were not
        if sealed and not seal_holds(data):
            raise ValueError("its bytes are not those that were written")
        with pq.ParquetFile(data) as file:
            metadata = {key.decode(): value.decode() for key, value in (file.metadata.metadata or {}).items()}
            if metadata["format"] != FORMAT or not file.schema_arrow.equals(SCHEMA):
                raise FormatError(metadata["format"])
            if not sealed:
                raise ValueError("it has no seal")
            # In one thread: Arrow's own allocator keeps what each of its threads has used, 50 MB and more for good.
            table = file.read(columns=list(columns), use_threads=False)
    found = IndexMetadata(json.loads(metadata["shards"]), metadata["fingerprint"])
    _check_numbers(table, len(found.shards))
    return table, found


def _check_numbers(table: pa.Table, shards: int) -> None:
    """Every row is of one of the shards, and of a source: whoever wrote the file may have erred."""
    for name in {"shard", "source"} & set(table.column_names):
        for chunk in table[name].chunks:
            numbers, count = (chunk.indices, len(chunk.dictionary)) if name == "source" else (chunk, shards)
            if numbers.null_count or (
                len(numbers) and not 0 <= pc.min(numbers).as_py() <= pc.max(numbers).as_py() < count
            ):
                raise ValueError(f"column {name!r} holds other numbers than 0 to {count - 1}")


class FormatError(Exception):
    """An index of another format; the argument is its name."""


def table_row(scanned: ScannedSample) -> dict[str, Any]:
    """The row of one scanned sample, without the number of its shard."""
    sample, images = scanned.sample, scanned.images
    prompt_chars = sum(len(message.content) for message in sample.prompt)
    response_chars = [len(response) for response in sample.responses]
    return {
        "key": sample.key,
        "key_hash": number_of(sample.key),
        "source": sample.source,
        "shard": 0,
        "json_offset": scanned.json_offset,
        "json_length": scanned.json_length,
        "json_crc": scanned.json_crc,
        "image_offsets": [image.offset for image in images],
        "image_lengths": [image.length for image in images],
        "image_crcs": [image.crc for image in images],
        "image_hashes": [int(image.digest, 16) for image in images],
        "n_responses": len(sample.responses),
        "pair_chosen": [pair.chosen for pair in sample.pairs],
        "pair_rejected": [pair.rejected for pair in sample.pairs],
        "pair_strength": [pair.strength for pair in sample.pairs],
        "text_chars": prompt_chars + sum(response_chars),
        "image_pixels": sum(image.width * image.height for image in images),
        "json_hash": int(scanned.json_digest, 16),
        "image_exts": [image.extension for image in images],
        "image_widths": [image.width for image in images],
        "image_heights": [image.height for image in images],
        "prompt_chars": prompt_chars,
        "response_chars": response_chars,
    }


def number_of(key: str) -> int:
    """The first 64 bits of a key's sha256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def hex_digest(number: int) -> str:
    """A digest as `tarscan.short_digest` has it, of the number that stands for it."""
    return f"{number:016x}"


def digest_of(*texts: str) -> str:
    """sha256 of some lines, in hex."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


class Fingerprint:
    """Digest of all keys, records and images in order, whatever the shards they lie in: `digest_of` a line a sample."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._separator = ""

    def add(self, rows: pa.Table) -> None:
        """Adds samples."""
        columns = (rows[name].to_pylist() for name in ("key", "json_hash", "image_hashes"))
        for key, record, images in zip(*columns, strict=True):
            digests = ",".join(map(hex_digest, images))
            self._digest.update(f"{self._separator}{key} {hex_digest(record)} {digests}".encode())
            self._separator = "\n"

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
