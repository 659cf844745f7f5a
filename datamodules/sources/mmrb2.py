"""Multimodal RewardBench 2: two responses that hold images, for tests; `tasks=t2i,edit` are its image tasks.

github.com/facebookresearch/MMRB2: `benchmark/build_from_hf.py` writes `t2i.json`, `edit.json`, `interleaved.json` and `reasoning.json`, each
`{"pairs": [...]}` with `id`, `prompt_content` and two responses' `response_content` (lists of ["text", text] and ["image", path]) and `chosen` ("A" or
"B"), beside `images/` and `input_images/`. In git lie the same files without prompts, `TASK_response_only.json`: figures can be computed from them, a
model cannot score them. The Parquet files of `rl-research/multimodal-rewardbench-2` (a folder a task, `<image_N>` in the texts) are read too.

A reward model over texts cannot score an image as a response: a pair becomes two statements about both (see `mrm.evaluation.statements`),
judged in both orders. Pairs whose responses are text alone (some of reasoning) are scored as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import (
    Card,
    Counted,
    Item,
    Records,
    Skipped,
    get_field,
    numbered_key,
    parse_each,
    surprise,
)
from datamodules.sources.benchmark_records import folder_of_file, joined, picture_of
from datamodules.sources.images import Images
from datamodules.sources.location import Location, existing
from datamodules.sources.records import as_record
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept, pair_sample
from mrm.construction.reformulation import sides
from mrm.errors import ConfigError, RecordError, suggest
from mrm.evaluation.benchmarks import MMRB2_IMAGE_TASKS, MMRB2_TASKS, BenchmarkPair
from mrm.evaluation.statements import Content, holds_images, marked, statement_sample
from mrm.preference import PreferenceSample

NAME = "mmrb2"
CARD = Card(
    "github.com/facebookresearch/MMRB2",
    "CC BY-NC 4.0",
    "1,000 pairs in each of four tasks, a benchmark",
    "text-to-image",
)
IMAGE_TASKS = ",".join(MMRB2_IMAGE_TASKS)
COLUMNS = ("pair_id", "response_a_text", "response_b_text", "chosen")
TEXTS = ("prompt_text", "prompt_source", "human_annotations")
PICTURES = ("prompt_images", "response_a_images", "response_b_images")
SIDES = ("A", "B")
EXTRAS = ("id", "pair_id", "prompt_source", "human_annotations")
TASK = "task"  # the field that a record gets here
_PLACE = re.compile(r"<image_\d+>")
Part = tuple[str, Any]  # ("text", text) or ("image", path or column)
key_of = numbered_key(NAME, "id", "pair_id")


def read(input: str | Path, *, tasks: str = IMAGE_TASKS, media_dir: str | None = None, seed: int = 0) -> Iterator[Item]:
    """Reads the tasks' JSON or Parquet files.

    Args:
        input: the folder that holds them, or one task's file.
        tasks: which of t2i, edit, interleaved and reasoning, with commas between.
        media_dir: the folder or zip file that the images' paths start in; that of the files by default.
        seed: of the order in which the two responses are shown, which is balanced.
    """
    records = records_of(input, tasks=tasks)
    images = Images(folder_of_file(input), media_dir)
    order = sides(seed)
    return Counted(parse_each(records, key_of, parse_record, images=images, order=order), length_hint(records))


def records_of(input: str | Path, *, tasks: str = IMAGE_TASKS, with_images: bool = True) -> Records:
    """The published records, task by task in the order that they are named in, each with its `task`.

    Args:
        input, tasks: as of `read`; a file's own task counts, where its name or folder tells it.
        with_images: whether the images of Parquet files are read where the figures do not need them.

    Raises:
        ConfigError: for an unknown task, or one whose file is not there.
    """
    wanted = [task.strip() for task in tasks.removeprefix("[").removesuffix("]").split(",") if task.strip()]
    unknown = [task for task in wanted if task not in MMRB2_TASKS]
    if unknown or not wanted:
        named = unknown[0] if unknown else tasks
        raise ConfigError(f"tasks: {named!r} is none of {', '.join(MMRB2_TASKS)}.{suggest(named, MMRB2_TASKS)}")
    if len(set(wanted)) < len(wanted):
        raise ConfigError(
            f"tasks={tasks}: names a task twice; name each once, in the order that their pairs are wanted in."
        )
    place = existing(input)
    if place.is_file():
        own = _task_of(place, wanted)
        if own not in wanted and tasks != IMAGE_TASKS:  # else they were not asked for by name
            raise ConfigError(f"tasks={tasks}: {place} holds the task {own}; leave tasks out, or name that one.")
        wanted = [own]
    found = [(task, _files_of(place, task)) for task in wanted]
    parts = []
    for task, files in found:
        pictured = with_images or task not in MMRB2_IMAGE_TASKS
        columns = (*TEXTS, *(PICTURES if pictured else ()))
        parts.append(_with_task(files, task, columns))
    return joined(parts)


def describe(record: dict[str, Any]) -> BenchmarkPair:
    """A record as the figures need it.

    Raises:
        RecordError: for a missing field, or one of another form.
    """
    better, worse = _responses(record)
    texts = [_text(record, side) for side in (better, worse)]
    told = all(text is not None for text in texts)
    id = record.get("id", record.get("pair_id"))
    if not isinstance(id, str):
        raise surprise("id", id, "a text")
    task = get_field(record, TASK, str)
    return BenchmarkPair(
        id,
        task,
        texts[0] if told else None,
        texts[1] if told else None,
        source=str(record.get("prompt_source") or ""),
        orders=2 if task in MMRB2_IMAGE_TASKS or any(_has_images(record, side) for side in SIDES) else 1,
    )


def parse_record(record: dict[str, Any], *, key: str, images: Images, order: Iterator[bool]) -> PreferenceSample:
    """One record as a pair, in the next order.

    Raises:
        RecordError: for a missing field or image, or a broken rule of the record.
    """
    samples = samples_of(record, key=key, images=images)
    return samples[0] if len(samples) == 1 or next(order) else samples[1]


def samples_of(record: dict[str, Any], *, key: str, images: Images) -> tuple[PreferenceSample, ...]:
    """One record in both orders, the chosen response first and second; once, where the responses are text alone.

    Raises:
        RecordError: for a missing field or image, or a broken rule of the record.
    """
    request = _content(_parts(record, "prompt"), images)
    if not request:
        raise RecordError(
            "prompt missing", "the request is lacking, as in the files of git; run the benchmark's build_from_hf.py."
        )
    chosen, rejected = (_content(_parts(record, side), images) for side in _responses(record))
    meta = kept(record, *EXTRAS, TASK)
    if not holds_images(chosen) and not holds_images(rejected):
        pictures = [part for part in request if isinstance(part, bytes)]
        better, worse = ("".join(map(str, side)) for side in (chosen, rejected))
        return (pair_sample(key, NAME, marked(request), pictures, better, worse, meta=meta),)
    both = (
        statement_sample(key, NAME, request, chosen, rejected, chosen_first=first, meta=meta) for first in (True, False)
    )
    return tuple(both)


def _task_of(file: Location, wanted: Sequence[str]) -> str:
    """The task of one file, by its name, its folder's, or by what was asked for."""
    for name in (file.stem, file.parent.name):
        for task in MMRB2_TASKS:
            if re.match(rf"{task}(?![A-Za-z0-9])", name):
                return task
    if len(wanted) != 1:
        raise ConfigError(f"tasks: the name of {file} tells no task; give the one that it holds, such as tasks=t2i.")
    return wanted[0]


def _files_of(place: Location, task: str) -> list[Location]:
    """A task's JSON file, or its Parquet files."""
    if place.is_file():
        return [place]
    names = [f"{folder}{task}{end}" for folder in ("", "benchmark/") for end in (".json", "_response_only.json")]
    if file := next((place / name for name in names if (place / name).is_file()), None):
        return [file]
    own = [f for f in place.files() if f.suffix == ".parquet" and f"/{task}/" in f"/{place.relative(f)}"]
    if not own:
        raise ConfigError(
            f"input: {place} holds nothing of the task {task!r}: no {task}.json, no {task}_response_only.json and no folder {task} with .parquet files; give "
            f"tasks=, of {', '.join(MMRB2_TASKS)}, for those that it holds."
        )
    return find_tables(place, config=task)


def _with_task(files: Sequence[Location], task: str, columns: Sequence[str]) -> Records:
    """The records of a task's files, each with the field `task`."""
    records = read_rows(files, COLUMNS, columns) if files[0].suffix == ".parquet" else _json_pairs(files[0])
    told = ((place, one if isinstance(one, Skipped) else {**one, TASK: task}) for place, one in records)
    return Counted(told, length_hint(records))


def _json_pairs(file: Location) -> Records:
    """The pairs of `{"pairs": [...]}`."""
    try:
        with file.open() as stream:
            whole = json.loads(stream.read().decode("utf-8-sig"))
    except Exception as error:  # not JSON, not UTF-8, or a file system's own
        raise ConfigError(f"input: {file} is no readable JSON: {error}; fetch or build it again.") from error
    pairs = whole.get("pairs") if isinstance(whole, dict) else whole
    if not isinstance(pairs, list):
        raise ConfigError(f"input: {file} holds no list `pairs`.")
    places = (f"{file.name}:pairs[{number}]" for number in range(len(pairs)))
    return Counted(((place, as_record(place, pair)) for place, pair in zip(places, pairs, strict=True)), len(pairs))


def _responses(record: dict[str, Any]) -> tuple[str, str]:
    """The better side and the worse one."""
    better = get_field(record, "chosen", str).upper()
    if better not in SIDES:
        raise surprise("chosen", record["chosen"], "A or B")
    return better, SIDES[1 - SIDES.index(better)]


def _parts(record: dict[str, Any], whose: str) -> list[Part]:
    """The texts and images of the prompt, or of side A or B, in order, of either form."""
    name = "prompt" if whose == "prompt" else f"response_{whose.lower()}"
    if f"{name}_text" in record:
        return _placed(get_field(record, f"{name}_text", (str, type(None))) or "", record.get(f"{name}_images") or [])
    if whose == "prompt":
        given = record.get("prompt_content") or []
    else:
        given = get_field(get_field(record, name, dict), "response_content", list)
    if not isinstance(given, list) or not all(
        isinstance(part, list) and len(part) == 2 and part[0] in ("text", "image") and isinstance(part[1], str)
        for part in given
    ):
        raise surprise(name, given, 'a list of ["text", text] and ["image", path]')
    return [(kind, value) for kind, value in given]


def _placed(text: str, images: Any) -> list[Part]:
    """A text with `<image_N>` and the images, which stand in the places' order; behind the text where it has no places."""
    if not isinstance(images, list):
        raise surprise("images", images, "a list of images")
    texts = _PLACE.split(text)
    if len(texts) == 1:
        return [*([("text", text)] if text.strip() else []), *(("image", image) for image in images)]
    if len(texts) != len(images) + 1:
        raise RecordError("image count", f"{len(texts) - 1} `<image_N>` in a text but {len(images)} image(s).")
    parts: list[Part] = []
    for piece, image in zip(texts, [*images, None], strict=True):
        parts += [("text", piece)] if piece.strip() else []
        parts += [("image", image)] if image is not None else []
    return parts


def _text(record: dict[str, Any], side: str) -> str | None:
    """The text of a response; None where it is images alone."""
    name = f"response_{side.lower()}_text"
    if name in record:  # of a Parquet file, perhaps without its images
        return _PLACE.sub("", get_field(record, name, (str, type(None))) or "").strip() or None
    return "".join(value for kind, value in _parts(record, side) if kind == "text").strip() or None


def _has_images(record: dict[str, Any], side: str) -> bool:
    return any(kind == "image" for kind, _ in _parts(record, side))


def _content(parts: Sequence[Part], images: Images) -> Content:
    return [value if kind == "text" else picture_of(value, images, "image") for kind, value in parts]
