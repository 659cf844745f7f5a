"""What `mrm.construct` begins with: prompts, which may bring a reference answer and responses.

A line of the plain form, of which only `prompt` is required:

    {"key": "q-17", "prompt": "<image>What is it?", "images": ["cat.jpg"], "reference": "A cat.", "responses": ["A cat.", {"text": "A dog.", "model": "m7"}]}

`prompt` is a string or messages that end in a user turn; `question` is another name for it, and where it has no `<image>` at all, the
images go before it. Other inputs: a folder of prepared shards, whose responses are judged anew and whose preferences are not looked
at; and the embedded world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.index import Index
from datamodules.prepare_result import PrepareResult, UnreadableRecords, check_usable
from datamodules.reading import read_sample
from datamodules.recipe import input_digest
from datamodules.shapeworld_prompts import generate_prompts
from datamodules.shard_tars import members_of
from datamodules.sources.base import Skipped, get_field, parse_each
from datamodules.sources.images import read_image
from datamodules.sources.jsonl import key_by
from datamodules.sources.location import Location
from datamodules.sources.records import find_file, read_records
from mrm.construct_config import ConstructConfig
from mrm.construction.pairing import ADDED
from mrm.construction.records import ImageRef, ImageStore, PromptRecord, Response, distinct, refer
from mrm.construction.stage_files import Left
from mrm.errors import RecordError, ShardError, suggest
from mrm.images import decode_image
from mrm.preference import IMAGE_MARKER, PreferenceSample

SHAPEWORLD = "shapeworld"
FIELDS = ("key", "source", "prompt", "question", "images", "reference", "responses", "meta")
GIVEN = "given"  # the model of a response that the input brings


def source_of(config: ConstructConfig) -> dict[str, Any]:
    """All that decides which prompts there are.

    Raises:
        ConfigError: if the input is not there.
    """
    if config.input == SHAPEWORLD:
        return {"input": SHAPEWORLD, **vars(config.shapeworld)}
    return {"input": input_digest(config.input)}


def read_prompts(config: ConstructConfig, images: ImageStore) -> Iterator[PromptRecord | Left]:
    """The records, and those that cannot be used.

    Raises:
        ConfigError: for an input that is none, or no record of which can be used.
        UnreadableSamplesError: at the end, where more than `max_unreadable` of the records could not be read.
    """
    seen: set[str] = set()
    result, unreadable = PrepareResult(Path(config.input)), UnreadableRecords()
    for item in _items(config, images):
        result.read += 1
        if isinstance(item, PromptRecord) and item.key not in seen:
            seen.add(item.key)
            result.written += 1
            yield item
            continue
        if isinstance(item, PromptRecord):
            told = f"record {item.key!r}: an earlier one has its key; give each its own."
            item = Skipped(item.key, "duplicate key", told)
        result.skip(item.reason, [item.key])
        unreadable.note(item.key, RecordError(item.reason, item.detail))
        yield Left(item.key, item.reason, item.detail)
    check_usable(result, unreadable, config.max_unreadable, is_part=False)


def _items(config: ConstructConfig, images: ImageStore) -> Iterator[PromptRecord | Skipped]:
    if config.input == SHAPEWORLD:
        world = config.shapeworld
        return generate_prompts(world.count, world.seed, images, wrong_references=world.wrong_references)
    path = Path(config.input)
    if path.is_dir() and any(path.glob("*.tar")):
        return _from_shards(path, images)
    file = find_file(path)
    return parse_each(
        read_records(file), key_by(file.stem), _parse, source=file.stem, folder=file.parent, images=images
    )


def _parse(
    record: dict[str, Any], *, key: str, source: str, folder: Location | Path, images: ImageStore
) -> PromptRecord:
    if unknown := sorted(set(record) - set(FIELDS)):
        raise RecordError(
            "unknown field",
            f"record {key!r}: unknown field {', '.join(unknown)}; allowed are {', '.join(FIELDS)}.{suggest(unknown[0], FIELDS)}",
        )
    names = get_field(record, "images", list) if record.get("images") is not None else []
    data = [read_image(name, folder) for name in names]
    for name, one in zip(names, data, strict=True):
        decode_image(one, name=f"image {name!r}")  # before anyone is paid for looking at it
    prompt = _prompt(record, len(names))
    responses = (
        [_response(key, entry) for entry in get_field(record, "responses", list)] if record.get("responses") else []
    )
    reference = record.get("reference")
    if reference is not None and not isinstance(reference, str):
        raise RecordError(
            "malformed field", f"record {key!r}: `reference` is {type(reference).__name__}, not a string."
        )
    if isinstance(record.get("meta"), dict) and ADDED in record["meta"]:
        raise RecordError(
            "reserved field",
            f"record {key!r}: `meta.{ADDED}` is written by the construction itself; call yours otherwise.",
        )
    checked = _checked(record.get("key", key), record.get("source", source), prompt, data, record.get("meta"))
    told = {"reference": reference, "models": [response.model for response in responses]}
    members_of(replace(checked, meta={**checked.meta, ADDED: told}))  # what could not be written is paid for by nobody
    kept = [_keep(name, one, folder, images) for name, one in zip(names, data, strict=True)]
    return PromptRecord(
        checked.key, checked.source, checked.prompt, tuple(kept), reference, distinct(responses), dict(checked.meta)
    )


def _prompt(record: dict[str, Any], n_images: int) -> Any:
    if ("prompt" in record) == ("question" in record):
        raise RecordError("missing field", "give `prompt` or `question`, and not both.")
    if "prompt" in record:
        prompt = get_field(record, "prompt", (str, list))
        return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    question = get_field(record, "question", str)
    if IMAGE_MARKER not in question:
        question = IMAGE_MARKER * n_images + question
    return [{"role": "user", "content": question}]


def _response(key: str, entry: object) -> Response:
    if isinstance(entry, dict) and set(entry) <= {"text", "model"} and isinstance(entry.get("text"), str):
        return Response(entry["text"], str(entry.get("model", GIVEN)))
    if not isinstance(entry, str):
        raise RecordError(
            "malformed field", f'record {key!r}: a response must be a string or {{"text": ..., "model": ...}}.'
        )
    return Response(entry, GIVEN)


def _checked(key: Any, source: Any, prompt: Any, images: list[bytes], meta: Any) -> PreferenceSample:
    """The record's rules hold for a sample: it is made one, with two responses of no meaning."""
    made_up = {"responses": ["a", "b"], "pairs": [{"chosen": 0, "rejected": 1}]}
    return PreferenceSample.from_json({"key": key, "source": source, "prompt": prompt, "meta": meta, **made_up}, images)


def _keep(name: object, data: bytes, folder: Location | Path, images: ImageStore) -> ImageRef:
    """A file is left where it is; what came within the record, or from elsewhere, is kept in the work folder."""
    path = Path(str(folder)) / name if isinstance(name, str) and len(name) < 4096 else None
    return refer(path, data) if path is not None and path.is_file() else images.keep(data)


def _from_shards(folder: Path, images: ImageStore) -> Iterator[PromptRecord | Skipped]:
    index = Index.load(folder)
    for row in range(len(index)):
        try:
            sample = read_sample(index, row)
        except (RecordError, ShardError) as error:
            yield Skipped(index.keys[row], getattr(error, "reason", "unreadable sample"), str(error))
            continue
        responses = [Response(text, GIVEN) for text in sample.responses]
        kept = tuple(images.keep(data) for data in sample.images)
        meta = dict(sample.meta)
        added = meta.pop(ADDED, None)  # by an earlier construction
        reference = added.get("reference") if isinstance(added, dict) else None
        yield PromptRecord(sample.key, sample.source, sample.prompt, kept, reference, distinct(responses), meta)
