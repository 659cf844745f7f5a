"""Text-to-image preferences as text-response pairs.

A T2I preference (caption, preferred image, other image) becomes a sample whose prompt shows both images and
whose responses are the two verdicts, so that one reward model over responses learns from both kinds of data.
Which image stands first is decided by `balanced_sides`: a model that only likes "Image 1" learns nothing.

Pure: reading files and decoding images are left to others. Source: DT2IT-MRM (arXiv 2604.19544), section on T2I data.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mrm.errors import RecordError
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample

FIRST_IS_BETTER = "Image 1 is better than Image 2."
SECOND_IS_BETTER = "Image 2 is better than Image 1."
VERDICTS = (FIRST_IS_BETTER, SECOND_IS_BETTER)

T2I_PROMPT = (
    "Image 1: <image>\nImage 2: <image>\n"
    "Both images were made from the text caption below. Compare them by two criteria:\n"
    "1. Alignment with the caption: are the objects, their attributes and their relations as the caption says?\n"
    "2. Overall image quality: clarity, detail, colour and composition.\n"
    "State which image is better.\n"
    "Caption: {caption}"
)


@dataclass(frozen=True, slots=True)
class T2IPreference:
    """A text-to-image preference before anyone has decided which image is shown first.

    Args:
        key: unique name, the key of the sample that it becomes.
        source: the dataset it comes from.
        caption: the text both images were made from.
        preferred: encoded bytes of the better image.
        other: encoded bytes of the worse one.
        strength: how much better, in [0, 1]; None where nobody knows.
        meta: JSON-able extras, handed on to the sample.

    Raises:
        RecordError: for an empty caption, a caption with an image marker, or the same image twice.
    """

    key: str
    source: str
    caption: str
    preferred: bytes
    other: bytes
    strength: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.caption, str) or not self.caption.strip():
            raise RecordError("empty caption", f"preference {self.key!r}: the caption must be a non-empty string.")
        if IMAGE_MARKER in self.caption:
            raise RecordError("image count", f"preference {self.key!r}: the caption holds `{IMAGE_MARKER}`; remove it.")
        if self.preferred == self.other:
            raise RecordError(
                "equal images", f"preference {self.key!r}: both images are the same file; such a pair says nothing."
            )


def reformulate(preference: T2IPreference, *, preferred_first: bool, template: str = T2I_PROMPT) -> PreferenceSample:
    """One T2I preference as a text-response pair.

    The responses stand in a fixed order, so that only the pair tells which verdict is right.

    Args:
        preference: what is preferred to what.
        preferred_first: whether the preferred image is shown as Image 1; from `balanced_sides`.
        template: the prompt with two `<image>` markers and `{caption}`.

    Raises:
        RecordError: where the result breaks a rule of the record.
    """
    images = (preference.preferred, preference.other) if preferred_first else (preference.other, preference.preferred)
    chosen = 0 if preferred_first else 1
    return PreferenceSample(
        key=preference.key,
        source=preference.source,
        prompt=(Message("user", template.replace("{caption}", preference.caption.strip())),),
        images=images,
        responses=VERDICTS,
        pairs=(Pair(chosen, 1 - chosen, preference.strength),),
        meta={**preference.meta, "kind": "t2i", "caption": preference.caption, "preferred_first": preferred_first},
    )


def sides(seed: int) -> Iterator[bool]:
    """An endless stream of sides: True where the preferred image stands first.

    It comes in blocks of two, one of each in random order: every even-length beginning is exactly balanced, and
    the last of an odd number is random. So a reader need not know how many pairs will pass its checks.
    """
    rng = random.Random(f"t2i-sides-{seed}")
    while True:
        first = rng.random() < 0.5
        yield first
        yield not first


def balanced_sides(n: int, seed: int) -> list[bool]:
    """The sides of n pairs: True n // 2 times and False n // 2 times, an odd one at random by seed."""
    return list(itertools.islice(sides(seed), n))
