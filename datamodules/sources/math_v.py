"""MATH-V answers: questions with a picture, and what 13 model runs answered, each marked right or wrong.

Layout: `questions.jsonl`, `images/ID.jpg`, `outputs/RUN.jsonl` joined on `id` (github.com/mathllm/MATH-V, MIT).
Chosen is a right answer, rejected a wrong one to the same question. The labels are binary, so strength is unknown,
and noisy: many a right letter is a lucky guess.
"""

from __future__ import annotations

import logging
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, Skipped, get_field, safe_key
from datamodules.sources.images import Images
from datamodules.sources.location import Location
from datamodules.sources.records import read_records
from mrm.errors import ConfigError, RecordError
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample

NAME = "math_v"
CARD = Card("github.com/mathllm/MATH-V", "MIT", "3,040 questions, 13 runs", "image-text")
MARKER = re.compile(r"<image\d+>")
FAILED_CALL = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")  # a Python object printed in an answer's place: 6 of them

log = logging.getLogger(__name__)


@dataclass
class Answer:
    """A distinct answer text, the runs that gave it and the verdicts on it."""

    text: str
    models: list[str] = field(default_factory=list)
    verdicts: set[bool] = field(default_factory=set)


def read(
    input: str | Path, *, max_pairs_per_question: int | None = 4, plain_pairs: bool = False, seed: int = 0
) -> Iterator[Item]:
    """Reads the folder of questions, images and outputs.

    Args:
        input: the folder.
        max_pairs_per_question: of all right-wrong pairs of a question that many are drawn; None for all.
        plain_pairs: False gives a sample a question with K answers and several pairs (one pass over the picture
            serves all), True a sample a pair.
        seed: picks the pairs and the order of the answers.
    """
    folder = Location.of(input)
    runs = folder / "outputs"
    outputs = [file for file in runs.children() if file.suffix == ".jsonl"] if runs.is_dir() else []
    if not (folder / "questions.jsonl").is_file() or not outputs:
        raise ConfigError(
            f"input: {folder} is no MATH-V folder; it must hold questions.jsonl, images/ and outputs/*.jsonl."
        )
    if max_pairs_per_question is not None and max_pairs_per_question < 1:
        raise ConfigError(
            f"max_pairs_per_question: must be at least 1, or null for all pairs, not {max_pairs_per_question}."
        )
    questions = list(read_records(folder / "questions.jsonl"))
    return Counted(_items(folder, questions, outputs, max_pairs_per_question, plain_pairs, seed), len(questions))


def _items(
    folder: Location, questions: list[tuple[str, Any]], outputs: list[Location], cap: int | None, plain: bool, seed: int
) -> Iterator[Item]:
    answers: dict[str, dict[str, Answer]] = defaultdict(dict)
    known = {str(question.get("id")) for _, question in questions if isinstance(question, dict)}
    for path in outputs:
        for place, row in read_records(path):
            error = row if isinstance(row, Skipped) else _add_answer(answers, known, row, place, model=path.stem)
            if error is not None:
                yield error
    images = Images(folder)
    for place, question in questions:
        if isinstance(question, Skipped):
            yield question
            continue
        identity = str(question.get("id", place))
        try:
            yield from _question_samples(images, question, identity, list(answers[identity].values()), cap, plain, seed)
        except RecordError as error:
            yield Skipped(safe_key(NAME, identity), error.reason, f"{place}: {error}")


def _add_answer(
    answers: dict[str, dict[str, Answer]], known: set[str], row: dict[str, Any], place: str, model: str
) -> Skipped | None:
    try:
        identity, correct = str(get_field(row, "id", (str, int))), get_field(row, "correct", bool)
        text = get_field(row, "response", str).strip()
    except RecordError as error:
        return Skipped(place, error.reason, f"{place}: {error}")
    if identity not in known:
        return Skipped(place, "no such question", f"{place}: questions.jsonl has no id {identity!r}.")
    if not text or FAILED_CALL.fullmatch(text):  # the run gave no answer: there is nothing to compare
        log.info("%s: no answer (%r), left out.", place, text)
        return None
    answer = answers[identity].setdefault(text, Answer(text))
    answer.models.append(model)
    answer.verdicts.add(correct)
    return None


def _question_samples(
    images: Images,
    question: dict[str, Any],
    identity: str,
    answers: list[Answer],
    cap: int | None,
    plain: bool,
    seed: int,
) -> Iterator[Item]:
    right = [answer for answer in answers if answer.verdicts == {True}]
    wrong = [answer for answer in answers if answer.verdicts == {False}]  # a text judged both ways is in neither
    if not right or not wrong:
        raise RecordError(
            "no right answer" if not right else "no wrong answer",
            f"question {identity}: {len(right)} right and {len(wrong)} wrong answers.",
        )
    prompt = (Message("user", format_question(question)),)
    pictures = (images.read(get_field(question, "image", str)),)
    meta = {
        "id": identity,
        "subject": question.get("subject"),
        "level": question.get("level"),
        "answer": question.get("answer"),
    }

    rng = random.Random(f"{NAME}-{seed}-{identity}")  # by question, so that other questions don't change the draw
    edges = [(chosen, rejected) for chosen in right for rejected in wrong]
    edges = rng.sample(edges, min(cap or len(edges), len(edges)))
    groups = [[edge] for edge in edges] if plain else [edges]
    for number, group in enumerate(groups):
        key = safe_key(NAME, f"{identity}-{number}" if plain else identity)
        try:
            yield _sample(key, prompt, pictures, group, rng, meta)
        except RecordError as error:
            yield Skipped(key, error.reason, str(error))


def _sample(
    key: str,
    prompt: tuple[Message, ...],
    images: tuple[bytes, ...],
    edges: list[tuple[Answer, Answer]],
    rng: random.Random,
    meta: dict[str, Any],
) -> PreferenceSample:
    used = list({answer.text: answer for edge in edges for answer in edge}.values())
    rng.shuffle(used)  # a response's number must not tell that it is right
    number = {answer.text: i for i, answer in enumerate(used)}
    return PreferenceSample(
        key=key,
        source=NAME,
        prompt=prompt,
        images=images,
        responses=tuple(answer.text for answer in used),
        pairs=tuple(Pair(number[chosen.text], number[rejected.text]) for chosen, rejected in edges),
        meta={
            **meta,
            "models": [answer.models for answer in used],
            "correct": [answer.verdicts == {True} for answer in used],
        },
    )


def format_question(question: dict[str, Any]) -> str:
    """The question's text with `<image>` for `<image1>`, its choices below it as (A), (B), ...

    Raises:
        RecordError: for a missing or malformed field.
    """
    text = MARKER.sub(IMAGE_MARKER, get_field(question, "question", str)).strip()
    options = get_field(question, "options", list) if question.get("options") else []
    choices = [f"({chr(ord('A') + i)}) {option}" for i, option in enumerate(options)]
    return "\n".join([text, "Choices:", *choices]) if choices else text
