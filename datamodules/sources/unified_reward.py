"""UnifiedReward's data: a folder a set with `train_data.json` and its media, in four forms of record.

`CodeGoat24/...` (HPD, OIP, EvalMuse, LLaVA-Critic-113k, ImageGen-CoT-Reward-5K, ...):
- for a judge's training, {"conversations", "images"}, or {"problem", "solution", "images"}: the prompt ends in `Text Caption: [...]` with two
  images, or shows a question and two responses; the verdict is parsed. Two images of a caption become a text-to-image preference.
- for DPO, {"prompt", "chosen", "rejected", "image"}.
- for DPO of image generators, {"caption", "jpg_0", "jpg_1", "label_0"}: label_0 is 1 where jpg_0 is the better one.
Ties are skipped as "tie", scores of one candidate and videos by name. No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import TIE, Card, Counted, Item, get_field, numbered_key, parse_each, surprise
from datamodules.sources.comparisons import parse_caption, parse_comparison, parse_verdict
from datamodules.sources.images import Images
from datamodules.sources.llava_critic import pictures_of
from datamodules.sources.location import folder_of
from datamodules.sources.records import find_named, read_records
from datamodules.sources.turns import kept, messages_of, pair_sample, until_answer
from mrm.construction.reformulation import T2IPreference
from mrm.errors import RecordError
from mrm.preference import PreferenceSample

NAME = "unified_reward"
CARD = Card(
    "CodeGoat24/HPD, OIP, EvalMuse, ImageGen-CoT-Reward-5K, ...",
    "by set, mostly MIT",
    "by set",
    "image-text and text-to-image",
)


def read(input: str | Path, *, name: str | None = None, media_dir: str | None = None) -> Iterator[Item]:
    """Reads a set's `train_data.json`.

    Args:
        input: the set's folder, or the file.
        name: beginning of the keys; the folder's name by default.
        media_dir: a folder or zip file of images; beside the file by default.
    """
    path = find_named(input, "train_data.json")
    records = read_records(path)
    images = Images(folder_of(path), media_dir)
    key_of = numbered_key(f"{NAME}-{name or path.parent.name}", "id")
    return Counted(parse_each(records, key_of, parse_record, images=images), length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample | T2IPreference:
    """One record of any of the forms.

    Raises:
        RecordError: "tie", "video"; for a record of another form, a missing field, a prompt or verdict that can't be parsed, or a broken
            rule of the record.
    """
    if any(record.get(field) for field in ("video", "videos")):
        raise RecordError("video", f"record {key!r} is about videos.")
    if "jpg_0" in record:
        return _generator_pair(record, key, images)
    if "chosen" in record:
        answers = [get_field(record, field, str) for field in ("chosen", "rejected")]
        question, pictures = get_field(record, "prompt", str), pictures_of(record, images)
        return pair_sample(key, NAME, question, pictures, *answers, meta=kept(record, "id", "image"))
    if "problem" in record:
        return _judged(get_field(record, "problem", str), get_field(record, "solution", str), record, key, images)
    turns, verdict = until_answer(messages_of(record, "conversations"), "conversations")
    prompt = "\n".join(turn.content for turn in turns if turn.role == "user")
    return _judged(prompt, verdict, record, key, images)


def _judged(
    prompt: str, verdict: str, record: dict[str, Any], key: str, images: Images
) -> PreferenceSample | T2IPreference:
    if "<video>" in prompt:
        raise RecordError("video", f"record {key!r} is about videos.")
    preferred = parse_verdict(verdict)
    if preferred is None:
        raise RecordError(TIE, f"record {key!r}: the verdict prefers none.")
    meta = {**kept(record, "id"), "preferred": preferred + 1}
    try:
        question, *answers = parse_comparison(prompt)
    except RecordError:
        caption = parse_caption(prompt)
        pictures = pictures_of(record, images)
        if len(pictures) != 2:
            raise RecordError(
                "image count", f"record {key!r}: {len(pictures)} image(s) of a caption, not two."
            ) from None
        return T2IPreference(key, NAME, caption, pictures[preferred], pictures[1 - preferred], meta=meta)
    pictures = pictures_of(record, images)
    return pair_sample(key, NAME, question, pictures, answers[preferred], answers[1 - preferred], meta=meta)


def _generator_pair(record: dict[str, Any], key: str, images: Images) -> T2IPreference:
    label = get_field(record, "label_0", (int, float))
    if label not in (0, 1):
        raise (
            RecordError(TIE, f"record {key!r}: label_0 is 0.5.")
            if label == 0.5
            else surprise("label_0", label, "0 or 1")
        )
    pictures = [images.read(get_field(record, field, str)) for field in ("jpg_0", "jpg_1")]
    better, worse = pictures if label == 1 else pictures[::-1]
    return T2IPreference(key, NAME, get_field(record, "caption", str), better, worse, meta=kept(record, "id"))
