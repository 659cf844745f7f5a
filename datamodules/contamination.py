"""Training samples that a benchmark holds too, found by image or by question.

An image occurs in a benchmark where its bytes or its decoded pixels are the same, or where perceptual hashes differ in at
most so many bits. A question occurs there where one of the sample's user turns, or its caption, is one of the benchmark's
questions once both are normalised: compatibility forms and case folded, image markers, punctuation and runs of white
space out. Two kinds of questions say nothing and are left alone: those shorter than a set number of normalised characters
("Describe this image."), and templates, which one benchmark file asks of five or more different images.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.benchmark_items import BenchmarkItem, questions_of, read_benchmark
from datamodules.fingerprints import Fingerprint, ImageMatcher, fingerprint
from datamodules.ordered_pool import OrderedPool
from datamodules.sources.base import Item, Skipped
from mrm.construction.reformulation import T2IPreference

IMAGE = "contaminated: image"
QUESTION = "contaminated: question"
# A question that one file asks of so many different images is a template, not an item. Not fewer: copies without images name
# them by row, and one item may stand in several rows.
TEMPLATE_IMAGES = 5
_MARKER = re.compile(r"<image[\s_]*\d*>|<ImageHere>", re.IGNORECASE)
_WORDS = re.compile(r"\w+")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Benchmarks:
    """What training data must not hold.

    Args:
        images: finds benchmark images.
        questions: normalised question -> the item that asks it.
        summary: how much of the files is looked for, as a sentence.
    """

    images: ImageMatcher
    questions: dict[str, str]
    summary: str

    def find_question(self, item: Item) -> str | None:
        """Which question of an item occurs in a benchmark, and where, as a sentence; None where none does."""
        if isinstance(item, Skipped):
            return None
        texts = (item.caption,) if isinstance(item, T2IPreference) else questions_of(item)
        for text in texts:
            if (name := self.questions.get(normalise(text))) is not None:
                return f"the question {text[:80]!r} is asked by {name}"
        return None


def normalise(text: str) -> str:
    """A question as it is compared: words in lower case, one space between them."""
    return " ".join(_WORDS.findall(_MARKER.sub(" ", unicodedata.normalize("NFKC", text)).casefold()))


def load_benchmarks(paths: Sequence[Path], *, distance: int, question_chars: int, workers: int = 1) -> Benchmarks:
    """Reads benchmark files and folders, see `benchmark_items`.

    Args:
        paths: files and folders.
        distance: bits in which perceptual hashes may differ; a negative number looks at bytes and pixels alone.
        question_chars: normalised characters that a question must have to be compared.
        workers: processes that decode images.

    Raises:
        ConfigError: for a file or folder that is missing, not whole, or holds neither questions nor images.
    """
    gathered = _Gathered(question_chars)
    images: list[tuple[str, Fingerprint]] = []
    with OrderedPool(fingerprint, workers) as pool:
        items = (item for path in paths for item in read_benchmark(path))
        found = pool.map(gathered.images(items), lambda image: image[1], size_of=len, name_of=lambda image: image[0])
        images.extend((name, made) for (name, _), made in found)
    undecodable = sum(made.pixels is None for _, made in images)
    summary = gathered.summary(len(images), undecodable)
    log.log(logging.WARNING if gathered.missing or undecodable else logging.INFO, "decontaminate: %s", summary)
    return Benchmarks(ImageMatcher.of(images, distance), gathered.usable(), summary)


class _Gathered:
    """Questions of the items that pass through, while their images go on to be decoded."""

    def __init__(self, question_chars: int) -> None:
        self._least = question_chars
        self._first: dict[str, str] = {}
        self._asked_of: dict[tuple[str, str], set[str]] = {}  # (question, file) -> images
        self._templates: set[str] = set()
        self._short: set[str] = set()
        self.items = 0
        self.missing = 0

    def images(self, items: Iterator[BenchmarkItem]) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of every image."""
        for item in items:
            self.items += 1
            self.missing += item.missing
            for question in map(normalise, item.questions):
                self._note(question, item)
            yield from ((item.name, data) for data in item.images)

    def usable(self) -> dict[str, str]:
        """Questions that are no template, each with the first item that asks it."""
        return {text: name for text, name in self._first.items() if text not in self._templates}

    def summary(self, images: int, undecodable: int) -> str:
        """What is looked for and what cannot be."""
        templates = len(self._templates)
        return (
            f"{self.items} benchmark items: {len(self._first) - templates} questions are compared, {len(self._short)} are "
            f"shorter than {self._least} characters and {templates} are templates of {TEMPLATE_IMAGES} or more images; "
            f"{images} images are compared ({undecodable} do not decode: by their bytes alone), {self.missing} are named "
            "but not there."
        )

    def _note(self, question: str, item: BenchmarkItem) -> None:
        if len(question) < self._least:
            self._short.add(question)
            return
        self._first.setdefault(question, item.name)
        asked_of = self._asked_of.setdefault((question, item.file), set())
        asked_of.update(item.image_names[:1])
        if len(asked_of) >= TEMPLATE_IMAGES:
            self._templates.add(question)
