"""What is left of damaged shards: `python -m datamodules.salvage shards=DIR`.

Builds the index anew from every sample that is whole, and names all others in DIR/faults.jsonl. Where the old index can
still be read, a sample is whole only if its bytes are those that were indexed, and all samples of the old index are
accounted for: kept or named. Without one, a sample is whole if it breaks no rule. The shards stay as they are.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from omegaconf import MISSING

from datamodules.index import INDEX_NAME
from datamodules.index_build import build_index
from datamodules.index_table import FormatError, hex_digest, read_index
from datamodules.tarscan import ScannedSample, local_directory
from datamodules.tarwalk import Fault
from mrm.cli import settings_command

FAULTS_NAME = "faults.jsonl"
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
    """Keeps what the old index knows, byte for byte."""

    known: Known
    faults: list[Fault]
    seen: set[str] = field(default_factory=set)

    def __call__(self, scanned: ScannedSample) -> bool:
        key = scanned.sample.key
        self.seen.add(key)
        _, record, images = self.known.get(key, ("", "", []))
        if scanned.json_digest == record and [image.digest for image in scanned.images] == images:
            return True
        reason = "altered sample" if key in self.known else "unknown sample"
        message = f"sample {key!r} has other bytes than were indexed, or was not indexed at all."
        self.faults.append(Fault("", key, reason, message))
        return False


def salvage(directory: str | os.PathLike[str]) -> Salvaged:
    """Builds a directory's index anew from what is whole, and names the rest in `faults.jsonl`.

    Raises:
        ShardError: if nothing is left; then the old index stays.
    """
    root = local_directory(directory)
    known = _known(root)
    faults: list[Fault] = []
    if known is None:
        index = build_index(root, faults=faults)
    else:
        judge = _Judge(known, faults)
        index = build_index(root, faults=faults, keep=judge)
        named = judge.seen | {fault.what for fault in faults}
        for key in sorted(known.keys() - named):
            message = f"sample {key!r} of {known[key][0]} was indexed and is not there any more."
            faults.append(Fault(str(root / known[key][0]), key, "missing sample", message))
    with (root / FAULTS_NAME).open("w") as file:
        file.writelines(json.dumps(asdict(fault)) + "\n" for fault in faults)
    return Salvaged([str(key) for key in index.keys], faults, known is not None)


def _known(root: Path) -> Known | None:
    """The old index's digests; None where there is none that can be read."""
    try:
        table, metadata = read_index(root / INDEX_NAME)
    except (FormatError, pa.ArrowException, OSError, ValueError, KeyError):
        return None
    names = list(metadata.shards)
    columns = (table[name].to_pylist() for name in ("key", "shard", "json_hash", "image_hashes"))
    return {
        key: (names[shard], hex_digest(record), [hex_digest(image) for image in images])
        for key, shard, record, images in zip(*columns, strict=True)
    }


def run(config: SalvageConfig) -> None:
    """Salvages, and tells what was kept and what not."""
    found = salvage(config.shards)
    against = "held against the old index" if found.indexed else "no old index to hold them against"
    print(f"{len(found.kept)} samples kept ({against}), {len(found.faults)} faults in {FAULTS_NAME}:")
    for reason, count in found.reasons.items():
        print(f"  {reason}: {count}")


if __name__ == "__main__":
    settings_command(SalvageConfig, run, __doc__)
