"""Text-to-image preferences as text-response pairs.

A T2I preference (caption, preferred image, other image) becomes a sample whose prompt shows both images and
whose responses are the two verdicts, so that one reward model over responses learns from both kinds of data.
Which image stands first is decided by `balanced_sides`: a model that only likes "Image 1" learns nothing. Where several
wordings of the prompt are used, `placements.py` balances the sides within each.

Pure: reading files and decoding images are left to others. Source: DT2IT-MRM (arXiv 2604.19544), section on T2I data.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mrm.errors import ConfigError, RecordError
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample

FIRST_IS_BETTER = "Image 1 is better than Image 2."
SECOND_IS_BETTER = "Image 2 is better than Image 1."
VERDICTS = (FIRST_IS_BETTER, SECOND_IS_BETTER)
BOTH_ARE_EQUAL = "Image 1 and Image 2 are equally good."

VERDICT_REQUEST = "State which image is better."
TIE_REQUEST = "State which image is better, or that both are equally good."
T2I_PROMPT = (
    "Image 1: <image>\nImage 2: <image>\n"
    "Both images were made from the text caption below. Compare them by two criteria:\n"
    "1. Alignment with the caption: are the objects, their attributes and their relations as the caption says?\n"
    "2. Overall image quality: clarity, detail, colour and composition.\n"
    f"{VERDICT_REQUEST}\n"
    "Caption: {caption}"
)
T2I_PROMPTS = (
    T2I_PROMPT,
    "Image 1: <image>\nImage 2: <image>\n"
    "A model was asked to draw this: {caption}\n"
    "Look first at how faithful each image is to the request (every object, attribute, number and relation), then at how "
    f"well it is made (sharpness, detail, colour, composition). {VERDICT_REQUEST}",
    "Here are two images for one caption.\nCaption: {caption}\n"
    "Image 1: <image>\nImage 2: <image>\n"
    "Which of them shows what the caption says, and which has the better quality as an image? Weigh both questions. "
    f"{VERDICT_REQUEST}",
)


@dataclass(frozen=True, slots=True)
class T2IPreference:
    """A text-to-image preference before anyone has decided which image is shown first.

    Args:
        key: unique name, the key of the sample that it becomes.
        source: the dataset it comes from.
        caption: the text both images were made from.
        preferred: encoded bytes of the better image.
        other: encoded bytes of the worse one; of the second one for a tie.
        strength: how much better, in [0, 1]; None where nobody knows.
        meta: JSON-able extras, handed on to the sample.
        tie: whether neither is better; then nothing is stronger than anything, and strength is None.

    Raises:
        RecordError: for an empty caption, a caption with an image marker, or the same image twice, or a tie with a strength.
    """

    key: str
    source: str
    caption: str
    preferred: bytes
    other: bytes
    strength: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    tie: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.caption, str) or not self.caption.strip():
            raise RecordError("empty caption", f"preference {self.key!r}: the caption must be a non-empty string.")
        if IMAGE_MARKER in self.caption:
            raise RecordError("image count", f"preference {self.key!r}: the caption holds `{IMAGE_MARKER}`; remove it.")
        if self.preferred == self.other:
            raise RecordError(
                "equal images", f"preference {self.key!r}: both images are the same file; such a pair says nothing."
            )
        if self.tie and self.strength is not None:
            raise RecordError("bad strength", f"preference {self.key!r}: is a tie; its strength must be None.")


def reformulate(
    preference: T2IPreference, *, preferred_first: bool, template: str = T2I_PROMPT, ties: bool = False
) -> PreferenceSample:
    """One T2I preference as a text-response pair.

    The responses stand in a fixed order, so that only the pair tells which verdict is right.

    With ties there is a third verdict, that both are equally good, in every sample, and the prompt asks for it. For a tie it
    is chosen over both others, with unknown strength. For any other preference the right verdict is chosen over the
    contrary, with the preference's strength, and over the third, with half of it: equality lies half-way.

    Args:
        preference: what is preferred to what.
        preferred_first: whether the preferred image is shown as Image 1; from `balanced_sides` or `Placements`.
        template: the prompt with two `<image>` markers and `{caption}`.
        ties: whether there is a third verdict.

    Raises:
        RecordError: where the result breaks a rule of the record, or for a tie where there is no verdict for it.
        ConfigError: with ties, for a template without VERDICT_REQUEST, which TIE_REQUEST takes the place of.
    """
    if preference.tie and not ties:
        raise RecordError("tie", f"preference {preference.key!r}: is a tie, and ties are not asked for; leave it out.")
    images = (preference.preferred, preference.other) if preferred_first else (preference.other, preference.preferred)
    prompt = (asking_for_ties(template) if ties else template).replace("{caption}", preference.caption.strip())
    meta = {**preference.meta, "kind": "t2i", "caption": preference.caption, "preferred_first": preferred_first}
    return PreferenceSample(
        key=preference.key,
        source=preference.source,
        prompt=(Message("user", prompt),),
        images=images,
        responses=(*VERDICTS, BOTH_ARE_EQUAL) if ties else VERDICTS,
        pairs=_verdict_pairs(preference, 0 if preferred_first else 1, ties),
        meta={**meta, "tie": True} if preference.tie else meta,
    )


def asking_for_ties(template: str) -> str:
    """The prompt with the third verdict among those asked for.

    Raises:
        ConfigError: for a template without VERDICT_REQUEST.
    """
    if VERDICT_REQUEST not in template:
        raise ConfigError(
            f"template {template!r}: with ties it must hold {VERDICT_REQUEST!r}, which {TIE_REQUEST!r} takes the place of."
        )
    return template.replace(VERDICT_REQUEST, TIE_REQUEST)


def check_templates(templates: Sequence[str]) -> None:
    """Raises ConfigError for no or repeated wordings, or one without two image markers and the caption; names all problems."""
    problems = [] if templates else ["no wording of the text-to-image prompt is given; give at least one."]
    for number, template in enumerate(templates):
        if (found := template.count(IMAGE_MARKER)) != 2:
            problems.append(f"wording {number}: holds {found} `{IMAGE_MARKER}`; it must show both images.")
        if (found := template.count("{caption}")) != 1:
            problems.append(f"wording {number}: holds `{{caption}}` {found} times; the caption goes there, once.")
    if len(set(templates)) != len(templates):
        problems.append("a wording is given twice; give each once.")
    if problems:
        raise ConfigError("\n".join(problems))


def _verdict_pairs(preference: T2IPreference, chosen: int, ties: bool) -> tuple[Pair, ...]:
    if preference.tie:
        return Pair(2, 0), Pair(2, 1)
    strength = preference.strength
    decided = Pair(chosen, 1 - chosen, strength)
    return (decided, Pair(chosen, 2, None if strength is None else strength / 2)) if ties else (decided,)


def sides(seed: int | str) -> Iterator[bool]:
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
