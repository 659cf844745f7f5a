"""VL-RewardBench: 1,250 pairs (1,247 in the newest file) of general questions, hallucination and reasoning. A benchmark, for tests.

`MMInstruction/VL-RewardBench`: one Parquet file (`data/test-00000-of-00001.parquet`; in older revisions one a source, `test/*.parquet`)
with `id`, `query`, `response` (two), `image`, `human_ranking` ([0, 1]: the first is better; [1, 0]: the second) and more. Two copies in public
repositories are read too: a JSON list with the same fields and image paths, and JSON Lines with `id`, `prompt`, `chosen`, `rejected`, `image`. Ids
repeat: a pair is told by its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, Records, get_field, numbered_key, parse_each, surprise
from datamodules.sources.benchmark_records import folder_of_file, open_records, picture_of
from datamodules.sources.images import Images
from datamodules.sources.turns import kept, pair_sample
from mrm.evaluation.benchmarks import BenchmarkPair, vl_rewardbench_category
from mrm.preference import PreferenceSample

NAME = "vl_rewardbench"
CARD = Card("MMInstruction/VL-RewardBench", "MIT", "1,250 or 1,247 pairs, a benchmark", "image-text")
NAMES = ("data.json", "data.jsonl", "vl_rewardbench_full.json", "vl_rewardbench_text.jsonl")
COLUMNS = ("id", "query", "response", "human_ranking")
EXTRAS = ("models", "judge", "query_source")
RANKINGS = ([0, 1], [1, 0])
key_of = numbered_key(NAME, "id")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the published Parquet file, or a copy as JSON.

    Args:
        input: the folder, or the file.
        media_dir: a folder or zip file of images, for the copies; beside the file by default.
    """
    records = records_of(input)
    images = Images(folder_of_file(input), media_dir)
    return Counted(parse_each(records, key_of, parse_record, images=images), length_hint(records))


def records_of(input: str | Path, *, with_images: bool = True) -> Records:
    """The published records; without images they are read faster."""
    optional = (*EXTRAS, "image") if with_images else EXTRAS
    return open_records(input, names=NAMES, required=COLUMNS, optional=optional, tables_first=True)


def describe(record: dict[str, Any]) -> BenchmarkPair:
    """A record as the figures need it.

    Raises:
        RecordError: for a missing field, or a ranking of another form.
    """
    id = get_field(record, "id", str)
    _, chosen, rejected = _texts(record)
    return BenchmarkPair(
        id, vl_rewardbench_category(id), chosen, rejected, source=str(record.get("query_source") or "")
    )


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One record as a pair.

    Raises:
        RecordError: for a missing field or image, a ranking of another form, or a broken rule of the record.
    """
    question, chosen, rejected = _texts(record)
    pictures = [picture_of(get_field(record, "image", object), images, "image")]
    return pair_sample(key, NAME, question, pictures, chosen, rejected, meta=kept(record, "id", *EXTRAS))


def _texts(record: dict[str, Any]) -> tuple[str, str, str]:
    """Question, chosen and rejected response, of either form."""
    if "human_ranking" not in record and "chosen" in record:
        if "video" in record:
            raise surprise("video", record["video"], "no field of VL-RewardBench, as it is of MM-RLHF-RewardBench")
        question, chosen, rejected = (get_field(record, name, str) for name in ("prompt", "chosen", "rejected"))
        return question, chosen, rejected
    responses = get_field(record, "response", list)
    if len(responses) != 2 or not all(isinstance(response, str) for response in responses):
        raise surprise("response", responses, "a list of two texts")
    ranking = get_field(record, "human_ranking", list)
    if ranking not in RANKINGS or any(isinstance(rank, bool) for rank in ranking):
        raise surprise("human_ranking", ranking, "[0, 1], the first is better, or [1, 0], the second is")
    better = ranking.index(0)
    return get_field(record, "query", str), responses[better], responses[1 - better]
