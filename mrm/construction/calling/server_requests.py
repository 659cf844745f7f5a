"""What an OpenAI-compatible server is sent, and what its reply says: the two APIs' forms, and images as data URIs.

Pure functions of a `ChatRequest` and of a reply's JSON. Sending is left to `servers.py`, whether an answer can be used
to `runner.py`.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from mrm.construction.calling.calls import Answer, CallError, ChatMessage
from mrm.errors import RecordError
from mrm.images import FORMATS, decode_image

APIS = ("chat", "responses")
# Taken by every server as they are; MPO is a JPEG with more behind it.
SENT_AS_IS = {"PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
REFUSAL, CUT_OFF, FILTERED = "refusal", "length", "content_filter"
_ORIENTATION = 0x0112
_SCHEMA_NAME = "answer"
MOST_TOKENS = 10**9  # of one call; more is no count
_RESPONSES_FINISH = {"completed": "stop", "max_output_tokens": CUT_OFF}


def chat_messages(
    messages: Sequence[ChatMessage], *, max_image_pixels: int | None = None, image_detail: str | None = None
) -> list[dict[str, Any]]:
    """The turns as Chat Completions takes them: plain text where there is no image, else parts.

    Args:
        messages: the turns.
        max_image_pixels: larger images are scaled down to it; None sends them as they are.
        image_detail: "low", "high" or "auto", for servers that know it; None says nothing.

    Raises:
        CallError: for an image that does not decode; not worth a retry.
    """
    extra = {} if image_detail is None else {"detail": image_detail}

    def part(part: str | bytes) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        return {"type": "image_url", "image_url": {"url": data_uri(part, max_image_pixels), **extra}}

    return [{"role": turn.role, "content": _plain(turn) or [part(one) for one in turn.parts]} for turn in messages]


def responses_input(
    messages: Sequence[ChatMessage], *, max_image_pixels: int | None = None, image_detail: str | None = None
) -> list[dict[str, Any]]:
    """The turns as Responses takes them. Arguments and errors as for `chat_messages`."""

    def part(part: str | bytes, role: str) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part}
        return {"type": "input_image", "image_url": data_uri(part, max_image_pixels), "detail": image_detail or "auto"}

    return [
        {"role": turn.role, "content": _plain(turn) or [part(one, turn.role) for one in turn.parts]}
        for turn in messages
    ]


def _plain(turn: ChatMessage) -> str | None:
    """The text of a turn without images: some servers take nothing else in a system turn."""
    texts = [part for part in turn.parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(turn.parts) else None


def schema_setting(api: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The argument that asks for an answer by JSON schema."""
    form = {"name": _SCHEMA_NAME, "schema": dict(schema), "strict": True}
    if api == "chat":
        return {"response_format": {"type": "json_schema", "json_schema": form}}
    return {"text": {"format": {"type": "json_schema", **form}}}


def data_uri(data: bytes, max_pixels: int | None = None) -> str:
    """An encoded image as a base64 data URI.

    PNG, JPEG, WebP and GIF pass as they are. Re-encoded are: what servers do not read (BMP, TIFF), what is larger than
    `max_pixels`, and what they would show otherwise than this project's models see it (turned by EXIF, animated).

    Raises:
        CallError: for an image that does not decode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            kind, (width, height) = str(image.format), image.size
            turned = image.getexif().get(_ORIENTATION, 1) != 1
            animated = kind not in ("MPO", "TIFF") and getattr(image, "n_frames", 1) > 1
    except Exception as error:  # Pillow raises whatever it likes; the message may hold an address in memory
        raise _bad_image("image does not decode", f"{type(error).__name__}, {len(data)} bytes") from error
    too_large = max_pixels is not None and width * height > max_pixels
    if kind in SENT_AS_IS and not (turned or animated or too_large):
        return _uri(SENT_AS_IS[kind], data)
    return _uri(*_encoded_again(data, "JPEG" if kind in ("JPEG", "MPO") else "PNG", max_pixels))


def _encoded_again(data: bytes, form: str, max_pixels: int | None) -> tuple[str, bytes]:
    try:
        image = decode_image(data, name="an image of this call")
    except RecordError as error:
        raise _bad_image(error.reason, str(error)) from error
    if max_pixels is not None and image.width * image.height > max_pixels:
        image = image.resize(fitting_size(image.width, image.height, max_pixels), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 95} if form == "JPEG" else {}))
    return SENT_AS_IS[form], buffer.getvalue()


def fitting_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The largest (width, height) in pixels of the same shape with at most `max_pixels`; each side at least 1."""
    if width * height <= max_pixels:
        return width, height
    scale = math.sqrt(max_pixels / (width * height))
    return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _bad_image(reason: str, detail: str) -> CallError:
    return CallError(reason, f"An image of this call cannot be sent: {detail}.", retry=False)


def read_reply(api: str, reply: Any, scrub: Callable[[str], str] = str) -> Answer:
    """The answer in a reply's JSON. A refusal is its text with finish "refusal"; tokens are 0 where it counts none.

    Args:
        api: whose reply it is.
        reply: its JSON.
        scrub: takes the key out of an error's text.

    Raises:
        CallError: where it is no reply of this API; worth a retry, gateways answer so when they are overloaded.
    """
    try:
        return _read_chat(reply) if api == "chat" else _read_responses(reply, scrub)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        shown = scrub(str(reply))[:200]
        cause = scrub(f"{type(error).__name__}: {error}")[:200]
        message = f"The server's reply is no {api} reply ({cause}): {shown}"
        raise CallError("unreadable reply", message, retry=True) from error


def _read_chat(reply: Mapping[str, Any]) -> Answer:
    choice = reply["choices"][0]
    message = choice["message"]
    text, refusal = _text_of(message.get("content")), message.get("refusal")
    finish = REFUSAL if refusal and not text else str(choice.get("finish_reason") or "")
    tokens = _count(reply, "prompt_tokens"), _count(reply, "completion_tokens")
    return Answer(text or str(refusal or ""), *tokens, model=str(reply.get("model") or ""), finish=finish)


def _count(reply: Mapping[str, Any], name: str) -> int:
    """A count of tokens; 0 where the reply has none that can be."""
    usage = reply.get("usage")
    count = usage.get(name) if isinstance(usage, Mapping) else None
    if isinstance(count, bool) or not isinstance(count, (int, float)):
        return 0
    return int(count) if 0 < count <= MOST_TOKENS else 0


def _text_of(content: Any) -> str:
    """A message's text; some servers answer in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or "" for part in content)


def _read_responses(reply: Mapping[str, Any], scrub: Callable[[str], str]) -> Answer:
    parts = [part for item in reply["output"] if item.get("type") == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    refusal = "".join(part["refusal"] for part in parts if part.get("type") == "refusal")
    status = reply.get("status") or ""
    if status == "failed":
        message = scrub(str((reply.get("error") or {}).get("message") or "without a reason"))[:300]
        raise CallError("server error", f"The server gave the response up: {message}", retry=True)
    ended = ((reply.get("incomplete_details") or {}).get("reason") if status == "incomplete" else None) or status
    finish = REFUSAL if refusal and not text else _RESPONSES_FINISH.get(str(ended), str(ended))
    tokens = _count(reply, "input_tokens"), _count(reply, "output_tokens")
    return Answer(text or refusal, *tokens, model=str(reply.get("model") or ""), finish=finish)
