"""A curated pool, written for training: new shards, or a file in LLaMA-Factory's ranking format.

What is written is what a ledger has in use: of a sample only its active pairs, flipped ones with chosen and rejected in each
other's place. A sample without an active pair is left out and counted. In shards `meta["curation"]` says of every pair what was
decided and why; a flipped pair has no strength, since the published gap says nothing once its direction is distrusted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.ledger import Array, Ledger
from datamodules.pair_files import PairFile, Record, swapped, write_records
from datamodules.pair_pools import SHARDS, PairPool
from datamodules.shards import ShardWriter, sniff_extension
from datamodules.sources.llama_factory import to_llama_factory
from mrm.errors import MrmError, RecordError
from mrm.preference import Pair, PreferenceSample

CURATION = "curation"  # the field of meta
PAIRS_FILE, IMAGES = "pairs.json", "images"
SHARDS_FOLDER = "shards"
_TOLD = ("decision", "flipped", "weight", "decided", "reason", "chosen_score", "rejected_score", "vote_share")

log = logging.getLogger(__name__)


@dataclass
class Written:
    """What was written.

    Args:
        form: SHARDS or LLAMA_FACTORY.
        path: the folder of shards, or the file.
        samples: samples, or records. pairs: pairs in them. flipped: of these, those with chosen and rejected changed.
        without_pairs: samples left out because none of their pairs is in use.
        strengths_lost, weights_lost: of the pairs written, those whose known strength, or weight other than 1, the form has no place
            for, or that were flipped.
        unreadable: key -> why, of the samples that could not be read or not be written in this form.
    """

    form: str
    path: Path
    samples: int = 0
    pairs: int = 0
    flipped: int = 0
    without_pairs: int = 0
    strengths_lost: int = 0
    weights_lost: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        names = ("form", "samples", "pairs", "flipped", "without_pairs", "strengths_lost", "weights_lost")
        return {"path": self.path.name, **{name: getattr(self, name) for name in names}}


def write_pool(
    pool: PairPool,
    ledger: Ledger,
    form: str,
    target: Path,
    *,
    chosen_rows: Array | None = None,
    images: Path | None = None,
) -> Written:
    """Writes the pairs that a ledger has in use.

    Args:
        pool: where they lie.
        ledger: a row a pair, in the pool's order.
        form: SHARDS or LLAMA_FACTORY.
        target: the folder of shards to make, or the file.
        chosen_rows: bool [P], which pairs of those in use; None for all.
        images: where images of shards go for LLaMA-Factory, a new folder beside the file; None takes `images`. Those of a file stay
            where they are.

    Raises:
        ShardError: if nothing is left to write to shards.
    """
    rows = ledger.active & (ledger.weight > 0)
    rows = rows if chosen_rows is None else rows & chosen_rows
    wanted = np.zeros(len(pool), bool)
    wanted[pool.pair_sample[rows]] = True
    written = Written(form, target, without_pairs=int((~wanted).sum()))
    done = np.zeros(len(pool), bool)  # samples that were written: some cannot be
    if form == SHARDS:
        _write_shards(target, _samples(pool, ledger, rows, wanted, written), done, written)
    elif isinstance(pool, PairFile):
        write_records(target, _records(pool, ledger, wanted, done))
    else:
        some = _samples(pool, ledger, rows, wanted, written)
        write_records(target, _extracted(some, images or target.parent / IMAGES, done, written))
    rows = rows & done[pool.pair_sample]
    known, flipped = rows & ~np.isnan(ledger.strength), rows & ledger.flipped
    written.samples, written.pairs, written.flipped = int(done.sum()), int(rows.sum()), int(flipped.sum())
    if form == SHARDS:
        written.strengths_lost = int((known & flipped).sum())
    else:
        written.weights_lost, written.strengths_lost = int((rows & (ledger.weight != 1)).sum()), int(known.sum())
    return written


def _records(pool: PairFile, ledger: Ledger, wanted: Array, done: Array) -> Iterator[Record]:
    for number, _, record in pool.records(wanted):
        done[number] = True
        yield swapped(record) if ledger.flipped[number] else record


def _samples(
    pool: PairPool, ledger: Ledger, rows: Array, wanted: Array, written: Written
) -> Iterator[tuple[int, PreferenceSample]]:
    """Number and curated sample of each; what cannot be read is noted."""
    for number, sample in pool.samples(wanted):
        if isinstance(sample, MrmError):
            written.unreadable[pool.keys[number]] = str(sample)
            continue
        first = int(pool.pair_start[number])
        used = first + np.flatnonzero(rows[first : int(pool.pair_start[number + 1])])
        yield number, curated_sample(sample, ledger, used, used - first)


def _write_shards(folder: Path, samples: Iterable[tuple[int, PreferenceSample]], done: Array, written: Written) -> None:
    with ShardWriter(folder) as writer:
        for number, sample in samples:
            try:
                writer.write(sample)
            except RecordError as error:
                written.unreadable[sample.key] = str(error)
            else:
                done[number] = True


def _extracted(
    samples: Iterable[tuple[int, PreferenceSample]], folder: Path, done: Array, written: Written
) -> Iterator[Record]:
    """Records of samples from shards, a record a pair; their images are written to the folder."""
    for row, sample in samples:
        names = [f"{sample.key}.{number}.{sniff_extension(data)}" for number, data in enumerate(sample.images)]
        try:
            records = to_llama_factory(sample, [f"{folder.name}/{name}" for name in names])
        except RecordError as error:
            written.unreadable[sample.key] = f"cannot be told in LLaMA-Factory's form: {error}"
            continue
        for name, data in zip(names, sample.images, strict=True):
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        done[row] = True
        yield from records


def curated_sample(sample: PreferenceSample, ledger: Ledger, rows: Array, numbers: Array) -> PreferenceSample:
    """A sample with its pairs in use, as they are trained on.

    Args:
        sample: as published.
        ledger: has the decisions.
        rows: int [n], the ledger's rows of the pairs in use.
        numbers: int [n], their numbers in the sample.
    """
    pairs, told, before = [], [], sample.meta.get(CURATION)
    for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
        pair, flipped = sample.pairs[number], bool(ledger.flipped[row])
        pairs.append(Pair(pair.rejected, pair.chosen) if flipped else pair)
        told.append({"pair": number, **_told(ledger, row)})
        if isinstance(before, list) and len(before) == len(sample.pairs):
            told[-1]["before"] = before[number]
    meta = {**sample.meta, CURATION: told}
    truth = sample.meta.get("truth")
    flips = truth.get("flipped") if isinstance(truth, Mapping) else None
    if isinstance(flips, list) and len(flips) == len(
        sample.pairs
    ):  # whether a published label is wrong, a value a pair
        turned = [bool(flips[n]) != bool(ledger.flipped[row]) for row, n in zip(rows, numbers, strict=True)]
        meta["truth"] = {**truth, "flipped": turned}
    return replace(sample, pairs=tuple(pairs), meta=meta)


def _told(ledger: Ledger, row: int) -> dict[str, Any]:
    """What the ledger says of a pair, in JSON's terms."""
    values = {name: getattr(ledger, name)[row] for name in _TOLD}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    plain["round"] = plain.pop("decided")
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in plain.items()}
