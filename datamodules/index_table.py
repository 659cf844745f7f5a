"""The columns of `index.parquet`: one row a sample."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datamodules.tarscan import ScannedSample, check_digest, scan_shard
from mrm.errors import ShardError

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("shard", pa.string()),
        ("json_offset", pa.int64()),
        ("json_length", pa.int64()),
        ("json_hash", pa.string()),
        ("image_offsets", pa.list_(pa.int64())),
        ("image_lengths", pa.list_(pa.int64())),
        ("image_exts", pa.list_(pa.string())),
        ("image_widths", pa.list_(pa.int32())),
        ("image_heights", pa.list_(pa.int32())),
        ("image_hashes", pa.list_(pa.string())),
        ("n_responses", pa.int16()),
        ("pair_chosen", pa.list_(pa.int16())),
        ("pair_rejected", pa.list_(pa.int16())),
        ("pair_strength", pa.list_(pa.float32())),
        ("prompt_chars", pa.int32()),
        ("response_chars", pa.list_(pa.int32())),
    ]
)


def table_row(shard: str, scanned: ScannedSample) -> dict[str, Any]:
    """The row of one scanned sample."""
    sample, images = scanned.sample, scanned.images
    return {
        "key": sample.key,
        "source": sample.source,
        "shard": shard,
        "json_offset": scanned.json_offset,
        "json_length": scanned.json_length,
        "json_hash": scanned.json_digest,
        "image_offsets": [image.offset for image in images],
        "image_lengths": [image.length for image in images],
        "image_exts": [image.extension for image in images],
        "image_widths": [image.width for image in images],
        "image_heights": [image.height for image in images],
        "image_hashes": [image.digest for image in images],
        "n_responses": len(sample.responses),
        "pair_chosen": [pair.chosen for pair in sample.pairs],
        "pair_rejected": [pair.rejected for pair in sample.pairs],
        "pair_strength": [pair.strength for pair in sample.pairs],
        "prompt_chars": sum(len(message.content) for message in sample.prompt),
        "response_chars": [len(response) for response in sample.responses],
    }


def digest_of(*texts: str) -> str:
    """sha256 of some lines, in hex."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def fingerprint_of(table: pa.Table) -> str:
    """Digest of all keys, records and images, whatever the shards they lie in."""
    images = pc.binary_join(table["image_hashes"], ",")
    rows = pc.binary_join_element_wise(table["key"], table["json_hash"], images, " ")
    return digest_of(*rows.to_pylist())


def scan_table(task: tuple[Path, str | None]) -> pa.Table | ShardError:
    """The rows of one tar, whose sha256 is looked at where one is expected; or what is wrong with it."""
    file, expected = task
    try:
        if expected is not None:
            check_digest(file, expected)
        return pa.Table.from_pylist([table_row(file.name, scanned) for scanned in scan_shard(file)], schema=SCHEMA)
    except ShardError as error:
        return error


def duplicate_error(root: Path, table: pa.Table) -> ShardError:
    """The error that names the first key that stands twice, and both shards."""
    where: dict[str, str] = {}
    for key, shard in zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True):
        if key in where:
            return ShardError(
                f"{root / shard}: duplicate key {key!r}, also in {where[key]}; keys must be unique over all shards."
            )
        where[key] = shard
    raise AssertionError("no duplicate")
