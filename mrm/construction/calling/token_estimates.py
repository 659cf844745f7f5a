"""How many tokens a call will take, before anyone has counted them. A rule, within about a factor of two of any tokenizer.

Text: four characters a token in ASCII, one in Chinese, Japanese and Korean, two in every other script. Images: one token for
each 28 x 28 pixels (Qwen2.5-VL's), 4 to 16,384 an image, after scaling down. Each turn has 4 more.
"""

from __future__ import annotations

import io
import math
import re

from PIL import Image

from mrm.construction.calling.calls import ChatRequest
from mrm.construction.calling.server_requests import fitting_size
from mrm.images import FORMATS

PATCH = 28  # pixels a side
IMAGE_TOKENS = (4, 16_384)
TURN_TOKENS = 4
# Where no answer of a kind is known yet: a scoring has six analyses a response.
OUTPUT_TOKENS = {"respond": 300, "listwise": 1500, "pointwise": 700, "rewrite": 300}
_OTHER_KIND = 500
_CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_OTHER = re.compile(r"[^\x00-\x7f]")


def text_tokens(text: str) -> int:
    """Estimated tokens of a text."""
    if text.isascii():
        return math.ceil(len(text) / 4)
    cjk = len(_CJK.findall(text))
    other = len(_OTHER.findall(text)) - cjk
    return math.ceil(cjk + other / 2 + (len(text) - cjk - other) / 4)


def image_tokens(data: bytes, max_pixels: int | None = None) -> int:
    """Estimated tokens of an encoded image; the least for one that does not decode, which is never sent."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Exception:  # Pillow raises whatever it likes
        return IMAGE_TOKENS[0]
    if max_pixels is not None:
        width, height = fitting_size(width, height, max_pixels)
    least, most = IMAGE_TOKENS
    return min(most, max(least, math.ceil(width / PATCH) * math.ceil(height / PATCH)))


def input_tokens(chat: ChatRequest, max_image_pixels: int | None = None) -> int:
    """Estimated input tokens of a chat, its images included."""
    parts = [part for turn in chat.messages for part in turn.parts]
    texts = sum(text_tokens(part) for part in parts if isinstance(part, str))
    images = sum(image_tokens(part, max_image_pixels) for part in parts if isinstance(part, bytes))
    return texts + images + TURN_TOKENS * len(chat.messages)


def output_tokens(kind: str, mean: float | None = None, most: int | None = None) -> int:
    """Estimated output tokens of a call.

    Args:
        kind: of the call.
        mean: of the answers so far; None where there are none.
        most: the model's limit; None where it has none.
    """
    guess = OUTPUT_TOKENS.get(kind, _OTHER_KIND) if mean is None else math.ceil(mean)
    return guess if most is None else min(guess, most)
