"""What is left of damaged shards: `python -m datamodules.salvage shards=DIR`.

Builds the index anew from every sample that is whole, and names all others in DIR/faults.jsonl. Where the old index can
still be read, a sample is whole only if its bytes are those that were indexed, and all samples of the old index are
accounted for: kept or named. Without one, a sample is whole if it breaks no rule. The shards stay as they are.

The old index stays as DIR/index.parquet.before-salvage, and is what later runs hold the samples against: copy a damaged
shard again, give the command again, and its samples are back. It is empty where there was none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from omegaconf import MISSING

from datamodules.index import INDEX_NAME
from datamodules.index_build import build_index
from datamodules.index_table import BATCH_ROWS, FormatError, hex_digest, read_index
from datamodules.tarscan import ScannedSample, local_directory, shard_paths
from datamodules.tarwalk import Fault
from mrm.cli import settings_command

FAULTS_NAME, BEFORE_NAME = "faults.jsonl", f"{INDEX_NAME}.before-salvage"
REFUSED = "refused shard"
Known = dict[str, tuple[str, str, list[str]]]  # key -> (shard, digest of the record, digests of the images)


@dataclass
class SalvageConfig:
    """Settings of `python -m datamodules.salvage`."""

    shards: str = MISSING


@dataclass
class Salvaged:
    """What became of the samples.

    Args:
        kept: keys in the new index.
        faults: what could not be used; a refused shard is one fault, and with an old index so is each of its samples.
        indexed: whether there was an old index to hold the samples against.
    """

    kept: list[str]
    faults: list[Fault]
    indexed: bool

    @property
    def reasons(self) -> dict[str, int]:
        return dict(Counter(fault.reason for fault in self.faults))


@dataclass
class _Judge:
    """Keeps what the old index knows, byte for byte; all, where there is none."""

    known: Known | None
    faults: list[Fault]
    seen: set[str] = field(default_factory=set)

    def __call__(self, scanned: ScannedSample) -> bool:
        if self.known is None:
            return True
        key = scanned.sample.key
        self.seen.add(key)
        _, record, images = self.known.get(key, ("", "", []))
        if scanned.json_digest == record and [image.digest for image in scanned.images] == images:
            return True
        reason = "altered sample" if key in self.known else "unknown sample"
        message = f"sample {key!r} has other bytes than were indexed, or was not indexed at all."
        self.faults.append(Fault("", key, reason, message))
        return False

    def name_missing(self, root: Path) -> None:
        """Names what the old index knows and the scan found no trace of."""
        known = self.known or {}
        for key in sorted(known.keys() - self.seen - {fault.what for fault in self.faults}):
            message = f"sample {key!r} of {known[key][0]} was indexed and is not there any more."
            self.faults.append(Fault(str(root / known[key][0]), key, "missing sample", message))


def salvage(directory: str | os.PathLike[str]) -> Salvaged:
    """Builds a directory's index anew from what is whole, and names the rest in `faults.jsonl`.

    Raises:
        ShardError: if nothing is left; then the old index stays.
    """
    root = local_directory(directory)
    shard_paths(root)
    known = _old_index(root)
    faults: list[Fault] = []
    judge = _Judge(known, faults)
    kept: list[str] | None = None
    try:
        kept = [str(key) for key in build_index(root, faults=faults, keep=judge).keys]
        judge.name_missing(root)
    finally:  # what was found tells, too, why nothing is left
        _write_faults(root, faults, kept)
    return Salvaged(kept, faults, known is not None)


def _old_index(root: Path) -> Known | None:
    """The samples of the index before the first salvage, which is put aside; None where there is none that can be read."""
    before, current = root / BEFORE_NAME, root / INDEX_NAME
    if before.exists():
        known, now = _known(before), _known(current)
        if known is None or now is None or all(key in known and known[key][1:] == now[key][1:] for key in now):
            return known
        # else shards came in and were indexed since: the index is no salvage of the one put aside
    partial = root / f".{BEFORE_NAME}"
    if current.exists():
        shutil.copyfile(current, partial)
    else:
        partial.touch()
    os.replace(partial, before)
    return _known(before)


def _known(path: Path) -> Known | None:
    """An index's digests; None where it cannot be read."""
    try:
        table, metadata = read_index(path, ("key", "shard", "json_hash", "image_hashes"))
    except (FormatError, pa.ArrowException, OSError, ValueError, KeyError):
        return None
    names = list(metadata.shards)
    known: Known = {}
    for batch in table.select(["key", "shard", "json_hash", "image_hashes"]).to_batches(max_chunksize=BATCH_ROWS):
        for key, shard, record, images in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            known[key] = (names[shard], hex_digest(record), [hex_digest(image) for image in images])
    return known


def _write_faults(root: Path, faults: list[Fault], kept: Collection[str] | None) -> None:
    """Writes the faults, with those of earlier runs that are neither mended nor named again.

    Args:
        root: the directory.
        faults: of this run.
        kept: keys in the new index; None where the run did not come to its end, so that nothing counts as mended.
    """
    path = root / FAULTS_NAME
    named, whole = {fault.what for fault in faults}, set(kept or ())
    earlier = [
        fault
        for fault in _read_faults(path)
        if (fault not in faults if kept is None else fault.what not in (named | whole) and not _of_shard(root, fault))
    ]
    partial = root / f".{FAULTS_NAME}"
    with partial.open("w") as file:
        file.writelines(json.dumps(asdict(fault)) + "\n" for fault in (*faults, *earlier))
    os.replace(partial, path)


def _of_shard(root: Path, fault: Fault) -> bool:
    """Whether it is no sample's but that of a shard that is there, and so was looked at again."""
    of_bytes = fault.reason == REFUSED or fault.what.startswith("byte ")  # no key holds a space
    return of_bytes and (root / Path(fault.shard).name).exists()


def _read_faults(path: Path) -> list[Fault]:
    """The faults of earlier runs; lines that a full disk cut off are left out, the scan names them again."""
    faults = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            try:
                faults.append(Fault(**json.loads(line)))
            except (ValueError, TypeError):
                continue
    return faults


def run(config: SalvageConfig) -> None:
    """Salvages, and tells what was kept and what not."""
    found = salvage(config.shards)
    against = f"held against {BEFORE_NAME}" if found.indexed else f"{BEFORE_NAME} holds none to hold them against"
    print(f"{len(found.kept)} samples kept ({against}), {len(found.faults)} faults in {FAULTS_NAME}:")
    for reason, count in found.reasons.items():
        print(f"  {reason}: {count}")


if __name__ == "__main__":
    settings_command(SalvageConfig, run, __doc__)
