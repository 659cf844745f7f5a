"""The index: one row a sample, where its bytes lie and what a plan needs to know, for all shards of a directory.

`index.parquet` stands beside the shards and can be rebuilt from any WebDataset tars of `KEY.json` and images
(`python -m datamodules.reindex`). In memory it is a handful of numpy arrays, immutable and shared by all workers: 140 MB
for a million. The file is `index_table.py`'s, reading samples is left to `shards.py`.

Dimension letters: N samples, P pairs, R responses, M images, S shards.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.index_doubles import check_unique
from datamodules.index_table import FORMAT, FormatError, IndexMetadata, digest_of, read_index
from datamodules.memory import system_memory
from datamodules.remote import RemoteShard, ShardCache, check_url, is_remote, make_cache, read_remote, remote_digests
from datamodules.tarscan import local_directory, shard_paths
from datamodules.texts import Texts, coded
from mrm.errors import ShardError

log = logging.getLogger(__name__)

INDEX_NAME = "index.parquet"
DEFAULT_GB = 100.0
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Index:
    """All samples of one or several directories, in order.

    Args:
        shard_files: [S] the tars.
        keys: Texts [N]. key_hash: uint64 [N], `number_of` the keys.
        source: int32 [N], into `source_names`.
        shard: int32 [N], into `shard_files`. json_offset, json_length: int64 [N], bytes. json_crc: uint32 [N], zlib's.
        image_start: int64 [N + 1]: images of row i are `image_start[i]:image_start[i + 1]`.
        image_offset, image_length: int64 [M], bytes. image_crc: uint32 [M], zlib's. image_digest: uint64 [M],
            `short_digest` as a number.
        n_responses: int16 [N]. text_chars: int32 [N], prompt and all responses. image_pixels: int64 [N].
        pair_start: int64 [N + 1], as `image_start`. pair_sample: int32 [P], the pair's row.
        pair_number: int16 [P], within its sample. pair_chosen, pair_rejected: int16 [P], response numbers.
        pair_strength: float32 [P], NaN where unknown.
        dataset: int16 [N], into `dataset_names`.
        fingerprint: digest of keys, records and images, whatever the shards they lie in.
    """

    shard_files: tuple[Path | RemoteShard, ...]
    keys: Texts
    key_hash: Array
    source: Array
    source_names: tuple[str, ...]
    shard: Array
    json_offset: Array
    json_length: Array
    json_crc: Array
    image_start: Array
    image_offset: Array
    image_length: Array
    image_crc: Array
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

    @property
    def sources(self) -> Array:
        """object [N]: each sample's source by name."""
        return np.array(self.source_names, dtype=object)[self.source]

    @property
    def nbytes(self) -> int:
        """Bytes of all columns in memory."""
        columns = (getattr(self, field.name) for field in dataclasses.fields(self))
        return sum(column.nbytes for column in columns if isinstance(column, (np.ndarray, Texts)))

    @classmethod
    @system_memory()
    def load(cls, directory: str | os.PathLike[str], cache: ShardCache | None = None) -> Index:
        """The index of one directory of shards.

        Args:
            directory: a local one, or a URL.
            cache: where remote shards go when they are read; None takes the default of the configuration.

        Raises:
            ShardError: if there is none, it is unreadable, or a shard is missing, new, or of another size than indexed.
        """
        if is_remote(directory):
            return _load_remote(os.fspath(directory).rstrip("/"), cache or make_cache(None, DEFAULT_GB))
        root = local_directory(directory)
        files = shard_paths(root)
        mend = rebuild_hint(root)
        path = root / INDEX_NAME
        if not path.is_file():
            raise ShardError(f"{path}: no index beside the shards; {mend}")
        table, metadata = _read_table(path, str(path), mend)
        found = {file.name: file.stat().st_size for file in files}
        sizes = metadata.shards
        cut = {name: size for name, size in found.items() if size < sizes.get(name, 0)}
        for name, size in sorted(cut.items()):  # each sample is checked when it is read: those past the cut are counted
            log.warning(
                "%s is cut off: %d bytes, the index was built from %d; samples past the cut cannot be read. Copy it again.",
                root / name,
                size,
                sizes[name],
            )
        if found != sizes | cut:
            name = min(name for name in found.keys() | sizes.keys() if found.get(name) != sizes.get(name))
            raise ShardError(
                f"{path}: does not fit its shards: {name} has {found.get(name, 'no')} bytes, the index was built from"
                f" {sizes.get(name, 'no')}; copy the shard again, or {mend}"
            )
        return index_from_table(table, files, root.name, metadata)

    @classmethod
    @system_memory()
    def concat(cls, indexes: Mapping[str, Index]) -> Index:
        """Several data sets as one, in the mapping's order; `.dataset` says which row came from which.

        Raises:
            ShardError: if a key is in two of them, naming the key and both.
        """
        assert indexes, "nothing to concatenate"
        parts, names = list(indexes.values()), tuple(indexes)
        fingerprint = digest_of(*(part for name, index in indexes.items() for part in (name, index.fingerprint)))
        if len(parts) == 1:
            check_unique(parts[0].key_hash, parts[0].keys, parts[0].dataset, names)
            return dataclasses.replace(parts[0], dataset_names=names, fingerprint=fingerprint)

        def join(name: str) -> Array:
            return np.concatenate([getattr(part, name) for part in parts])

        def shifted(name: str, sizes: Sequence[int]) -> Array:
            shifts = np.cumsum([0, *sizes])[:-1]
            return np.concatenate(
                [getattr(part, name) + np.int32(by) for part, by in zip(parts, shifts, strict=True)], dtype=np.int32
            )

        def starts(name: str) -> Array:
            return _starts(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

        dataset = np.repeat(np.arange(len(parts), dtype=np.int16), [len(part) for part in parts])
        keys, key_hash = Texts.concat([part.keys for part in parts]), join("key_hash")
        check_unique(key_hash, keys, dataset, names)
        source_names = tuple(dict.fromkeys(name for part in parts for name in part.source_names))
        places = [np.array([source_names.index(n) for n in part.source_names], np.int32) for part in parts]
        return cls(
            shard_files=tuple(file for part in parts for file in part.shard_files),
            keys=keys,
            key_hash=key_hash,
            source=np.concatenate([place[part.source] for part, place in zip(parts, places, strict=True)]),
            source_names=source_names,
            shard=shifted("shard", [len(part.shard_files) for part in parts]),
            image_start=starts("image_start"),
            pair_start=starts("pair_start"),
            pair_sample=shifted("pair_sample", [len(part) for part in parts]),
            dataset=dataset,
            dataset_names=names,
            fingerprint=fingerprint,
            **{name: join(name) for name in _PLAIN},
        )


_PLAIN = (  # columns that hold no reference to others
    *("json_offset", "json_length", "json_crc"),
    *("image_offset", "image_length", "image_crc", "image_digest"),
    *("n_responses", "text_chars", "image_pixels"),
    *("pair_number", "pair_chosen", "pair_rejected", "pair_strength"),
)


def rebuild_hint(directory: Path) -> str:
    """What to do about an index that cannot be used."""
    return f"rebuild it: python -m datamodules.reindex shards={shlex.quote(str(directory))}"


def _read_table(source: Path | bytes, name: str, mend: str) -> tuple[pa.Table, IndexMetadata]:
    """The hot columns and the metadata of an index."""
    try:
        return read_index(source)
    except FormatError as error:
        raise ShardError(f"{name}: written in format {error}, this version reads {FORMAT}; {mend}") from error
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise ShardError(f"{name}: not a readable index ({error}); {mend}") from error


def _load_remote(url: str, cache: ShardCache) -> Index:
    name, mend = f"{url}/{INDEX_NAME}", "build the index where the shards are, and copy it beside them."
    try:
        data = read_remote(name)
    except FileNotFoundError as error:
        raise ShardError(f"{name}: no index beside the shards; {mend}") from error
    table, metadata = _read_table(data, name, mend)
    digests = remote_digests(url)
    shards = [
        RemoteShard(f"{url}/{shard}", size, digests.get(shard), cache, metadata.fingerprint)
        for shard, size in metadata.shards.items()
    ]
    for shard in shards:
        check_url(shard.url)
        if "/" in shard.name or f"{url}/{shard.name}" != shard.url:
            raise ShardError(f"{name}: shard {shard.url!r} does not lie beside it; {mend}")
    return index_from_table(table, shards, url.rsplit("/", 1)[-1], metadata)


def index_from_table(table: pa.Table, files: Sequence[Path | RemoteShard], name: str, metadata: IndexMetadata) -> Index:
    def flat(column: str) -> Array:
        return _numbers(table[column])

    def values(column: str) -> Array:
        return _numbers(pc.list_flatten(table[column]))

    def starts(column: str) -> Array:
        return _starts(_numbers(pc.list_value_length(table[column])))

    rows = len(table)
    pair_start = starts("pair_chosen")
    pair_sample = np.repeat(np.arange(rows, dtype=np.int32), np.diff(pair_start))
    source, source_names = coded(table["source"])
    return Index(
        shard_files=tuple(files),
        keys=Texts.from_arrow(table["key"]),
        key_hash=flat("key_hash"),
        source=source,
        source_names=source_names,
        shard=flat("shard"),
        json_offset=flat("json_offset"),
        json_length=flat("json_length"),
        json_crc=flat("json_crc"),
        image_start=starts("image_offsets"),
        image_offset=values("image_offsets"),
        image_length=values("image_lengths"),
        image_crc=values("image_crcs"),
        image_digest=values("image_hashes"),
        n_responses=flat("n_responses"),
        text_chars=flat("text_chars"),
        image_pixels=flat("image_pixels"),
        pair_start=pair_start,
        pair_sample=pair_sample,
        pair_number=(np.arange(len(pair_sample)) - pair_start[pair_sample]).astype(np.int16),
        pair_chosen=values("pair_chosen"),
        pair_rejected=values("pair_rejected"),
        pair_strength=values("pair_strength"),
        dataset=np.zeros(rows, np.int16),
        dataset_names=(name,),
        fingerprint=metadata.fingerprint,
    )


def _numbers(column: pa.ChunkedArray) -> Array:
    """A column of numbers; NaN where there is none."""
    return column.to_numpy()


def _starts(counts: Array) -> Array:
    """int64 [N + 1]: where each row's values start, from how many it has."""
    start = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    return start
