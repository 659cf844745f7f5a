"""The index: one row a sample, where its bytes lie and what a plan needs to know, for all shards of a directory.

`index.parquet` stands beside the shards and can be rebuilt from any WebDataset tars of `KEY.json` and images. In memory
it is a handful of numpy arrays, immutable and shared by all workers. Reading samples is left to `shards.py`.

Dimension letters: N samples, P pairs, R responses, M images, S shards.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamodules.index_table import SCHEMA, digest_of, duplicate_error, fingerprint_of, scan_table
from datamodules.ordered_pool import OrderedPool
from datamodules.tarscan import (
    MANIFEST_NAME,
    local_directory,
    manifest_digests,
    shard_paths,
    verify_shards,
)
from mrm.errors import ShardError

INDEX_NAME = "index.parquet"
FORMAT = "1"
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Index:
    """All samples of one or several directories, in order.

    Args:
        shard_files: [S] the tars.
        keys: object [N]. sources: object [N].
        shard: int32 [N], into `shard_files`. json_offset, json_length: int64 [N], bytes. json_digest: uint64 [N].
        image_start: int64 [N + 1]: images of row i are `image_start[i]:image_start[i + 1]`.
        image_offset, image_length: int64 [M], bytes. image_digest: uint64 [M]. Digests are `short_digest` as a number.
        n_responses: int16 [N]. text_chars: int32 [N], prompt and all responses. image_pixels: int64 [N].
        pair_start: int64 [N + 1], as `image_start`. pair_sample: int32 [P], the pair's row.
        pair_number: int16 [P], within its sample. pair_chosen, pair_rejected: int16 [P], response numbers.
        pair_strength: float32 [P], NaN where unknown.
        dataset: int16 [N], into `dataset_names`.
        fingerprint: digest of keys, records and images, whatever the shards they lie in.
    """

    shard_files: tuple[Path, ...]
    keys: Array
    sources: Array
    shard: Array
    json_offset: Array
    json_length: Array
    json_digest: Array
    image_start: Array
    image_offset: Array
    image_length: Array
    image_digest: Array
    n_responses: Array
    text_chars: Array
    image_pixels: Array
    pair_start: Array
    pair_sample: Array
    pair_number: Array
    pair_chosen: Array
    pair_rejected: Array
    pair_strength: Array
    dataset: Array
    dataset_names: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_pairs(self) -> int:
        return len(self.pair_sample)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Index:
        """The index of one directory of shards.

        Raises:
            ShardError: if there is none, it is unreadable, or a shard is missing, new, or of another size than indexed.
        """
        root = local_directory(directory)
        files = shard_paths(root)
        mend = f"rebuild it: python -c \"from datamodules.index import Index; Index.build('{root}')\""
        path = root / INDEX_NAME
        if not path.is_file():
            raise ShardError(f"{path}: no index beside the shards; {mend}")
        try:
            table = pq.read_table(path)
            metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            sizes = json.loads(metadata["shards"])
            fingerprint, version = metadata["fingerprint"], metadata["format"]
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise ShardError(f"{path}: not a readable index ({error}); {mend}") from error
        if version != FORMAT or not table.schema.equals(SCHEMA):
            raise ShardError(f"{path}: written in format {version}, this version reads {FORMAT}; {mend}")
        found = {file.name: file.stat().st_size for file in files}
        if found != sizes:
            name = min(name for name in found.keys() | sizes.keys() if found.get(name) != sizes.get(name))
            raise ShardError(
                f"{path}: does not fit its shards: {name} has {found.get(name, 'no')} bytes, the index was built from"
                f" {sizes.get(name, 'no')}; copy the shard again, or {mend}"
            )
        return _from_table(table, files, root.name, fingerprint)

    @classmethod
    def build(cls, directory: str | os.PathLike[str], *, workers: int = 1) -> Index:
        """Scans every tar of a directory and writes its `index.parquet`.

        Args:
            directory: a folder of tars.
            workers: processes that scan, each a tar at a time.

        Raises:
            ShardError: naming the shard that is cut, altered against the manifest, or breaks a rule of `scan_shard`.
        """
        root = local_directory(directory)
        files = shard_paths(root)
        expected: dict[str, str] = {}
        if (root / MANIFEST_NAME).exists():
            verify_shards(root)
            expected = manifest_digests(root)
        tasks = [(file, expected.get(file.name)) for file in files]
        with OrderedPool(scan_table, workers) as pool:
            tables = []
            for _, made in pool.map(tasks, lambda task: task, chunk_items=1):
                if isinstance(made, ShardError):
                    raise made
                tables.append(made)
        return cls.write(root, files, tables)

    @classmethod
    def write(cls, root: Path, files: list[Path], tables: list[pa.Table]) -> Index:
        """Writes the `index.parquet` of a directory from its shards' tables.

        Raises:
            ShardError: if there is no sample, or a key stands twice.
        """
        table = pa.concat_tables(tables)
        if not len(table):
            raise ShardError(f"{root}: no sample in its {len(files)} shard(s); prepare the data set again.")
        if len(table["key"].unique()) < len(table):
            raise duplicate_error(root, table)
        fingerprint = fingerprint_of(table)
        sizes = {file.name: file.stat().st_size for file in files}
        table = table.replace_schema_metadata(
            {"format": FORMAT, "fingerprint": fingerprint, "shards": json.dumps(sizes)}
        )
        partial = root / f".{INDEX_NAME}.{uuid.uuid4().hex}"
        pq.write_table(table, partial)
        os.replace(partial, root / INDEX_NAME)
        return _from_table(table, files, root.name, fingerprint)

    @classmethod
    def concat(cls, indexes: Mapping[str, Index]) -> Index:
        """Several data sets as one, in the mapping's order; `.dataset` says which row came from which.

        Raises:
            ShardError: if a key is in two of them, naming the key and both.
        """
        assert indexes, "nothing to concatenate"
        parts = list(indexes.values())
        names = tuple(indexes)

        def join(name: str) -> Array:
            return np.concatenate([getattr(part, name) for part in parts])

        def starts(name: str) -> Array:
            return _starts(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

        dataset = np.repeat(np.arange(len(parts), dtype=np.int16), [len(part) for part in parts])
        keys = join("keys")
        _check_unique(keys, dataset, names)
        shard_shift = np.cumsum([0, *(len(part.shard_files) for part in parts)])[:-1]
        row_shift = np.cumsum([0, *(len(part) for part in parts)])[:-1]
        same = (
            "sources",
            "json_offset",
            "json_length",
            "json_digest",
            "image_offset",
            "image_length",
            "image_digest",
            "n_responses",
            "text_chars",
            "image_pixels",
        )
        pairs = ("pair_number", "pair_chosen", "pair_rejected", "pair_strength")
        return cls(
            shard_files=tuple(file for part in parts for file in part.shard_files),
            keys=keys,
            shard=np.concatenate([part.shard + shift for part, shift in zip(parts, shard_shift, strict=True)]).astype(
                np.int32
            ),
            image_start=starts("image_start"),
            pair_start=starts("pair_start"),
            pair_sample=np.concatenate(
                [p.pair_sample + shift for p, shift in zip(parts, row_shift, strict=True)]
            ).astype(np.int32),
            dataset=dataset,
            dataset_names=names,
            fingerprint=digest_of(*(part for name, index in indexes.items() for part in (name, index.fingerprint))),
            **{name: join(name) for name in (*same, *pairs)},
        )


def _from_table(table: pa.Table, files: list[Path], name: str, fingerprint: str) -> Index:
    def flat(column: str) -> Array:
        return table[column].combine_chunks().to_numpy(zero_copy_only=False)

    def values(column: str) -> Array:
        return pc.list_flatten(table[column]).combine_chunks().to_numpy(zero_copy_only=False)

    def counts(column: str) -> Array:
        return pc.list_value_length(table[column]).combine_chunks().to_numpy(zero_copy_only=False)

    rows = len(table)
    image_start, pair_start = _starts(counts("image_offsets")), _starts(counts("pair_chosen"))
    pair_sample = np.repeat(np.arange(rows, dtype=np.int32), np.diff(pair_start))
    pixels = values("image_widths").astype(np.int64) * values("image_heights")
    chars = flat("prompt_chars") + _sums(values("response_chars"), _starts(counts("response_chars")))
    shard = pc.index_in(table["shard"], pa.array([file.name for file in files])).combine_chunks()
    return Index(
        shard_files=tuple(files),
        keys=flat("key"),
        sources=flat("source"),
        shard=shard.to_numpy(zero_copy_only=False).astype(np.int32),
        json_offset=flat("json_offset"),
        json_length=flat("json_length"),
        json_digest=_numbers(flat("json_hash")),
        image_start=image_start,
        image_offset=values("image_offsets"),
        image_length=values("image_lengths"),
        image_digest=_numbers(values("image_hashes")),
        n_responses=flat("n_responses"),
        text_chars=chars.astype(np.int32),
        image_pixels=_sums(pixels, image_start),
        pair_start=pair_start,
        pair_sample=pair_sample,
        pair_number=(np.arange(len(pair_sample)) - pair_start[pair_sample]).astype(np.int16),
        pair_chosen=values("pair_chosen"),
        pair_rejected=values("pair_rejected"),
        pair_strength=values("pair_strength").astype(np.float32),
        dataset=np.zeros(rows, np.int16),
        dataset_names=(name,),
        fingerprint=fingerprint,
    )


def _numbers(digests: Array) -> Array:
    """uint64: digests of 16 hexadecimal digits as numbers: strings would take nine times the memory."""
    return np.frombuffer(bytes.fromhex("".join(digests)), ">u8").astype(np.uint64)


def _starts(counts: Array) -> Array:
    """int64 [N + 1]: where each row's values start, from how many it has."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _sums(values: Array, start: Array) -> Array:
    """int64 [N]: the sum of each row's values."""
    total = _starts(values)
    return total[start[1:]] - total[start[:-1]]


def _check_unique(keys: Array, dataset: Array, names: tuple[str, ...]) -> None:
    encoded = pa.array(keys, pa.string()).dictionary_encode()
    if len(encoded.dictionary) == len(keys):
        return
    codes = encoded.indices.to_numpy()
    code = int(np.flatnonzero(np.bincount(codes) > 1)[0])
    first, second = np.flatnonzero(codes == code)[:2]
    raise ShardError(
        f"duplicate key {keys[first]!r} in data sets {names[dataset[first]]!r} and {names[dataset[second]]!r};"
        " keys must be unique over all training data. Keys made from the file's name differ where one data set has another"
        f" name (data.datasets.{names[dataset[second]]}.options.name=...); keys that the records give must be changed there."
    )
