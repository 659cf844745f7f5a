"""Two responses that hold images, as statements about which is better: what a reward model over texts can judge.

Images cannot be scored as responses here. As with text-to-image preferences in training (see `mrm.construction.reformulation`), the
prompt shows the request and both responses, and the two statements are the responses of the sample: the right one is chosen.
Since a model may prefer the first place, benchmarks are judged in both orders. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrm.construction.reformulation import VERDICTS, T2IPreference, reformulate
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample

Content = Sequence[str | bytes]  # texts and encoded images, in order

EDIT_PROMPT = (
    "{sources}Image 1: <image>\nImage 2: <image>\n"
    "Both images were made from the source by the instruction below. Compare them by two criteria:\n"
    "1. Faithfulness: is the change as the instruction says, and is the rest as in the source?\n"
    "2. Overall image quality: clarity, detail, colour and composition.\n"
    "State which image is better.\n"
    "Instruction: {instruction}"
)
RESPONSES_PROMPT = (
    "Compare two responses to a request. Texts and images of each belong together.\n"
    "Request:\n{request}\n\nResponse 1:\n{first}\n\nResponse 2:\n{second}\n\n"
    "State which response is better."
)
RESPONSE_VERDICTS = ("Response 1 is better than Response 2.", "Response 2 is better than Response 1.")


def statement_sample(
    key: str,
    source: str,
    request: Content,
    chosen: Content,
    rejected: Content,
    *,
    chosen_first: bool,
    meta: Mapping[str, Any] | None = None,
) -> PreferenceSample:
    """A preference between two responses that hold images, as a pair of statements.

    Where both are one image each, the wording is that of text-to-image preferences; an image of the request is named as the
    source. `<image>` within a text is no image's place and is written as `(image)`.

    Args:
        key, source, meta: of the sample.
        request: what was asked.
        chosen, rejected: the responses.
        chosen_first: whether the chosen one is shown first.

    Raises:
        RecordError: where the sample breaks a rule of the record.
    """
    images = [part for part in request if isinstance(part, bytes)]
    told = _plain("\n".join(part for part in request if isinstance(part, str)))
    better, worse = _only_image(chosen), _only_image(rejected)
    if better is not None and worse is not None:
        preference = T2IPreference(key, source, told, better, worse, meta=meta or {})
        if not images:
            return reformulate(preference, preferred_first=chosen_first)
        names = ["Source: "] if len(images) == 1 else [f"Source {n}: " for n in range(1, len(images) + 1)]
        sources = "".join(f"{name}{IMAGE_MARKER}\n" for name in names)
        prompt = EDIT_PROMPT.replace("{sources}", sources).replace("{instruction}", told.strip())
        shown, verdicts = [*images, *((better, worse) if chosen_first else (worse, better))], VERDICTS
    else:
        first, second = (chosen, rejected) if chosen_first else (rejected, chosen)
        parts = {"request": request, "first": first, "second": second}
        prompt = _filled(RESPONSES_PROMPT, {name: marked(part) for name, part in parts.items()})
        shown = [each for part in parts.values() for each in part if isinstance(each, bytes)]
        verdicts = RESPONSE_VERDICTS
    return PreferenceSample(
        key=key,
        source=source,
        prompt=(Message("user", prompt),),
        images=tuple(shown),
        responses=verdicts,
        pairs=(Pair(0, 1) if chosen_first else Pair(1, 0),),
        meta={**(meta or {}), "chosen_first": chosen_first},
    )


def holds_images(content: Content) -> bool:
    """Whether a response holds an image, and must be judged by a statement."""
    return any(isinstance(part, bytes) for part in content)


def marked(content: Content) -> str:
    """The text with a mark at each image's place."""
    return "".join(IMAGE_MARKER if isinstance(part, bytes) else _plain(part) for part in content).strip()


def _only_image(content: Content) -> bytes | None:
    """The image, where the response is one image and nothing else."""
    said = [part for part in content if isinstance(part, bytes) or part.strip()]
    return said[0] if len(said) == 1 and isinstance(said[0], bytes) else None


def _plain(text: str) -> str:
    return text.replace(IMAGE_MARKER, "(image)")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each name replaced once; texts that hold braces stay as they are."""
    head, *rest = template.split("{")
    pieces = [head]
    for piece in rest:
        name, _, after = piece.partition("}")
        pieces += [values[name], after]
    return "".join(pieces)
