"""A benchmark opened for evaluation: its pairs as the figures need them, and the samples that a model scores.

To add one: a reader in `datamodules.sources` with `records_of`, `describe`, `parse_record` and `key_of`, a line in `READERS`, and a `Definition` in
`mrm.evaluation.benchmarks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.sources import (
    mm_rlhf_rewardbench,
    mmrb2,
    multimodal_rewardbench,
    omni_rewardbench,
    vl_rewardbench,
)
from datamodules.sources.base import TIE, Records, Skipped
from datamodules.sources.benchmark_records import folder_of_file
from datamodules.sources.images import Images
from datamodules.sources.location import Location
from datamodules.sources.mm_rlhf import check_frames
from mrm.errors import ConfigError, RecordError, suggest
from mrm.evaluation.benchmarks import DEFINITIONS, BenchmarkPair, Definition
from mrm.preference import PreferenceSample

NAMED = 5  # faulty records that an error names


@dataclass(frozen=True)
class Reader:
    """How a benchmark's files are read.

    Args:
        records: input and options to records; `with_images` says whether image columns are read.
        describe: a record to its pair; RecordError "tie" for one that the benchmark leaves out.
        samples: a record, key, images and options to what a model scores, a sample an order.
        key_of: a record's key, by its number and itself.
        folder: where the paths of images start.
        record_options, sample_options: names of the options that each of the two takes.
    """

    records: Callable[..., Records]
    describe: Callable[[dict[str, Any]], BenchmarkPair]
    samples: Callable[..., Sequence[PreferenceSample]]
    key_of: Callable[[int, dict[str, Any]], str]
    folder: Callable[[str | Path], Location] = folder_of_file
    record_options: tuple[str, ...] = ()
    sample_options: tuple[str, ...] = ()


def _one(parse: Callable[..., PreferenceSample]) -> Callable[..., tuple[PreferenceSample]]:
    """For benchmarks that are judged once a pair."""

    def samples(record: dict[str, Any], **rest: Any) -> tuple[PreferenceSample]:
        return (parse(record, **rest),)

    return samples


READERS = {
    "vl_rewardbench": Reader(
        vl_rewardbench.records_of, vl_rewardbench.describe, _one(vl_rewardbench.parse_record), vl_rewardbench.key_of
    ),
    "multimodal_rewardbench": Reader(
        multimodal_rewardbench.records_of,
        multimodal_rewardbench.describe,
        _one(multimodal_rewardbench.parse_record),
        multimodal_rewardbench.key_of,
        folder=multimodal_rewardbench.image_folder,
    ),
    "mm_rlhf_rewardbench": Reader(
        mm_rlhf_rewardbench.records_of,
        mm_rlhf_rewardbench.describe,
        _one(mm_rlhf_rewardbench.parse_record),
        mm_rlhf_rewardbench.key_of,
        sample_options=("frames",),
    ),
    "mmrb2": Reader(mmrb2.records_of, mmrb2.describe, mmrb2.samples_of, mmrb2.key_of, record_options=("tasks",)),
    "omni_rewardbench": Reader(
        omni_rewardbench.records_of,
        omni_rewardbench.describe,
        _one(omni_rewardbench.parse_record),
        omni_rewardbench.key_of,
    ),
}
DEFAULTS: dict[str, Any] = {"frames": 8, "tasks": mmrb2.IMAGE_TASKS}


def get_reader(name: str) -> tuple[str, Reader]:
    """(the benchmark's name as it is known here, its reader); `-` and capitals are taken for what they mean.

    Raises:
        ConfigError: for an unknown name; lists the known ones.
    """
    known = name.strip().lower().replace("-", "_")
    if known not in READERS:
        raise ConfigError(
            f"benchmark={name!r}: there is no such benchmark; known: {', '.join(READERS)}.{suggest(known, READERS)}"
        )
    return known, READERS[known]


def options_of(name: str) -> tuple[str, ...]:
    """The options that a benchmark takes."""
    reader = READERS[name]
    return (*reader.record_options, *reader.sample_options)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's pairs, and where they lie.

    Args:
        name: a key of READERS.
        data: the file or folder.
        pairs: [N], those that the figures are drawn from, in the published order.
        rows: [N], each one's number among all records, from 0.
        keys: [N], each one's key.
        left_out: records that the benchmark's own figures leave out, by number.
        media_dir: where images lie, if not beside the file.
        options: what `options_of` names.
    """

    name: str
    data: str
    pairs: tuple[BenchmarkPair, ...] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    left_out: dict[int, Skipped] = field(repr=False)
    media_dir: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def definition(self) -> Definition:
        return DEFINITIONS[self.name]

    def samples(self) -> Iterator[tuple[int, Sequence[PreferenceSample] | Skipped]]:
        """(number of the pair in `pairs`, its samples, one an order), or why it has none; in order."""
        reader = READERS[self.name]
        images = Images(reader.folder(self.data), self.media_dir)
        options = {name: self.options[name] for name in reader.sample_options}
        number = 0
        for row, (place, record) in enumerate(_records(reader, self.data, self.options, with_images=True)):
            if row in self.left_out:
                continue
            key = self.keys[number]
            if isinstance(record, Skipped):  # damaged behind the columns that were read before
                yield number, Skipped(key, record.reason, record.detail)
            else:
                try:
                    yield number, reader.samples(record, key=key, images=images, **options)
                except RecordError as error:
                    yield number, Skipped(key, error.reason, f"{place}: {error}")
            number += 1


def open_benchmark(
    name: str, data: str | Path, *, media_dir: str | None = None, options: dict[str, Any] | None = None
) -> Benchmark:
    """Reads a benchmark's pairs, without images.

    Args:
        name: of READERS.
        data: the published file, a folder with it, or a copy of its texts.
        media_dir: a folder or zip file of images; beside the file by default.
        options: values for what `options_of` names; the rest has DEFAULTS.

    Raises:
        ConfigError: for an unknown name, nothing there, or records that cannot be read: no pair may be missing unsaid.
    """
    name, reader = get_reader(name)
    chosen = {option: (options or {}).get(option, DEFAULTS[option]) for option in options_of(name)}
    if "frames" in chosen:
        check_frames(chosen["frames"])
    pairs, rows, keys, left_out, faults = [], [], [], {}, []
    try:
        for row, (place, record) in enumerate(_records(reader, data, chosen, with_images=False)):
            if isinstance(record, Skipped):
                faults.append(record.detail)
                continue
            try:
                pair = reader.describe(record)
            except RecordError as error:
                if error.reason == TIE:
                    left_out[row] = Skipped(reader.key_of(row, record), TIE, f"{place}: {error}")
                else:
                    faults.append(f"{place}: {error}")
                continue
            pairs.append(pair)
            rows.append(row)
            keys.append(reader.key_of(row, record))
    except ConfigError as error:
        raise ConfigError(str(error).replace("input: ", "data: ", 1)) from error
    if faults:
        more = f"\n- and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        told = "\n- ".join(faults[:NAMED])
        raise ConfigError(
            f"data={str(data)!r}: {len(faults)} record(s) cannot be read as {name}; is it that benchmark's file, and whole?\n- {told}{more}"
        )
    if not pairs:
        raise ConfigError(f"data={str(data)!r}: holds no pair of {name}.")
    return Benchmark(name, str(data), tuple(pairs), tuple(rows), tuple(keys), left_out, media_dir, chosen)


def _records(reader: Reader, data: str | Path, options: dict[str, Any], *, with_images: bool) -> Records:
    return reader.records(data, with_images=with_images, **{name: options[name] for name in reader.record_options})
