"""The one record of the project: a prompt, its images, K responses and the preferences among them.

Everything that is trained on, scored or curated passes through `PreferenceSample`. It is frozen and
validated when made: code that holds one may rely on it. Decoding images, reading files and turning text
into tokens are left to others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mrm.errors import RecordError, suggest

IMAGE_MARKER = "<image>"
MOST_RESPONSES = 2**15 - 1  # the index counts them in 16 bits
ROLES = ("system", "user", "assistant")
MESSAGE_FIELDS = ("role", "content")
PAIR_FIELDS = ("chosen", "rejected", "strength")
KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,200}")
_HAN = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `content` holds `<image>` where an image goes."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference between two responses of one sample.

    Args:
        chosen: index of the better response.
        rejected: index of the worse one.
        strength: how much better, in [0, 1]; None where nobody knows.
    """

    chosen: int
    rejected: int
    strength: float | None = None


@dataclass(frozen=True)
class PreferenceSample:
    """One prompt, K >= 2 responses, and the preferences among them.

    Args:
        key: unique name, of `[A-Za-z0-9_-]` only: WebDataset splits names at the first dot.
        source: the dataset it comes from.
        prompt: messages that end in a user turn; `<image>` marks each image's place, in order.
        images: encoded bytes as published, untouched; may be empty.
        responses: K >= 2 texts, distinct within a pair.
        pairs: at least one preference; each pair of responses at most once.
        meta: JSON-able extras (scores, model names, provenance). Never read by training or the policy.

    Raises:
        RecordError: with `reason` a short name for counting and a message that names key and mend.
    """

    key: str
    source: str
    prompt: tuple[Message, ...]
    images: tuple[bytes, ...] = field(repr=False)
    responses: tuple[str, ...]
    pairs: tuple[Pair, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("prompt", "images", "responses", "pairs"):
            object.__setattr__(self, name, _as_tuple(self.key, name, getattr(self, name)))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        _check_key(self.key)
        if not isinstance(self.source, str) or not self.source:
            raise RecordError("missing source", f"sample {self.key!r}: `source` must be a non-empty string.")
        _check_text(self.key, "source", self.source)
        _check_prompt(self.key, self.prompt, len(self.images))
        _check_responses(self.key, self.responses)
        _check_pairs(self.key, self.pairs, self.responses)

    def __reduce__(self):  # MappingProxyType cannot be pickled, and samples cross worker boundaries
        return type(self), (
            self.key,
            self.source,
            self.prompt,
            self.images,
            self.responses,
            self.pairs,
            dict(self.meta),
        )

    def to_json(self) -> dict[str, Any]:
        """The record without its image bytes, as written to `KEY.json` in a shard."""
        return {
            "key": self.key,
            "source": self.source,
            "prompt": [{"role": m.role, "content": m.content} for m in self.prompt],
            "responses": list(self.responses),
            "pairs": [{"chosen": p.chosen, "rejected": p.rejected, "strength": p.strength} for p in self.pairs],
            "meta": dict(self.meta),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], images: Sequence[bytes]) -> PreferenceSample:
        """Builds a sample from its JSON form and the images beside it.

        Raises:
            RecordError: for a missing field, a field of the wrong type, an unknown field of a message or pair, or a broken
                rule.
        """
        if not isinstance(record, Mapping):
            raise RecordError("not a record", f"a sample must be a JSON object, found {type(record).__name__}.")
        key = record.get("key", "?")
        missing = [name for name in ("key", "source", "prompt", "responses", "pairs") if name not in record]
        if missing:
            raise RecordError(
                "missing field", f"sample {key!r}: no field {', '.join(missing)}; found {sorted(record)}."
            )
        try:
            turns, edges, responses = (_as_tuple(key, name, record[name]) for name in ("prompt", "pairs", "responses"))
            for name, entries, known in (("prompt", turns, MESSAGE_FIELDS), ("pairs", edges, PAIR_FIELDS)):
                _check_fields(key, name, entries, known)
            prompt = tuple(Message(role=m["role"], content=m["content"]) for m in turns)
            pairs = tuple(Pair(p["chosen"], p["rejected"], p.get("strength")) for p in edges)
        except KeyError as error:
            raise RecordError(
                "malformed field", f"sample {key!r}: an entry of `prompt` or `pairs` has no field {error}."
            ) from error
        meta = record.get("meta")
        if meta is None:
            meta = {}
        if not isinstance(meta, Mapping):
            raise RecordError(
                "malformed field", f"sample {key!r}: `meta` is {type(meta).__name__}, it must be a JSON object."
            )
        return cls(key, record["source"], prompt, _as_tuple(key, "images", images), responses, pairs, meta)

    @classmethod
    def from_checked_json(cls, record: Mapping[str, Any], images: Sequence[bytes]) -> PreferenceSample:
        """`from_json` for what passed it before, byte for byte; breaks no rule only if the caller made sure of that."""
        sample = object.__new__(cls)
        fields = {
            "key": record["key"],
            "source": record["source"],
            "prompt": tuple([Message(m["role"], m["content"]) for m in record["prompt"]]),
            "images": tuple(images),
            "responses": tuple(record["responses"]),
            "pairs": tuple([Pair(p["chosen"], p["rejected"], p.get("strength")) for p in record["pairs"]]),
            "meta": MappingProxyType(record.get("meta") or {}),
        }
        sample.__dict__.update(fields)  # frozen: no attribute of it can be set
        return sample


def language_of(prompt: Sequence[Message]) -> str:
    """The question's language: "zh" where the last turn holds Chinese characters, else "en"."""
    return "zh" if _HAN.search(prompt[-1].content) else "en"


def make_key(*parts: object) -> str:
    """A valid key from any parts: characters outside `[A-Za-z0-9_-]` become `_`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(str(part) for part in parts))[:200]


def _as_tuple(key: object, name: str, value: object) -> tuple[Any, ...]:
    """The list as a tuple; a string, which is a sequence too, must not become its characters."""
    if not isinstance(value, (list, tuple)):
        raise RecordError("malformed field", f"sample {key!r}: `{name}` is {type(value).__name__}, it must be a list.")
    return tuple(value)


def _check_fields(key: object, name: str, entries: tuple[Any, ...], known: tuple[str, ...]) -> None:
    """Every entry of a list is an object without unknown fields: a misspelt `strength` must not be lost."""
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise RecordError(
                "malformed field",
                f"sample {key!r}: `{name}[{number}]` is {type(entry).__name__}, it must be a JSON object.",
            )
        if unknown := [field for field in entry if field not in known]:
            raise RecordError(
                "unknown field",
                f"sample {key!r}: `{name}[{number}]` has an unknown field {unknown[0]!r}; allowed are"
                f" {', '.join(known)}.{suggest(unknown[0], known)}",
            )


def _check_text(key: str, name: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, as an escape in JSON can leave behind
        raise RecordError(
            "bad text",
            f"sample {key!r}: {name} cannot be written as UTF-8 (a lone surrogate at character {error.start}); mend the text.",
        ) from error


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not KEY_PATTERN.fullmatch(key):
        raise RecordError(
            "bad key",
            f"key {key!r} is not allowed: use 1 to 200 characters of [A-Za-z0-9_-] (a dot would split the sample in a shard).",
        )


def _check_prompt(key: str, prompt: tuple[Message, ...], images: int) -> None:
    if not prompt:
        raise RecordError(
            "empty prompt", f"sample {key!r}: the prompt has no message; it needs at least one user turn."
        )
    for message in prompt:
        if message.role not in ROLES:
            raise RecordError("bad role", f"sample {key!r}: role {message.role!r} is none of {', '.join(ROLES)}.")
        if not isinstance(message.content, str):
            raise RecordError("bad content", f"sample {key!r}: a message's content must be a string.")
        _check_text(key, "the prompt", message.content)
        if message.role != "user" and IMAGE_MARKER in message.content:  # where chat templates place no images
            raise RecordError(
                "image place",
                f"sample {key!r}: `{IMAGE_MARKER}` in a {message.role} turn; images belong in user turns.",
            )
    if prompt[-1].role != "user":
        raise RecordError(
            "no final user turn",
            f"sample {key!r}: the prompt ends in a {prompt[-1].role} turn; it must end in a user turn.",
        )
    markers = sum(message.content.count(IMAGE_MARKER) for message in prompt)
    if markers != images:
        raise RecordError(
            "image count",
            f"sample {key!r}: {markers} `{IMAGE_MARKER}` marker(s) in the prompt but {images} image(s); the counts must match.",
        )


def _check_responses(key: str, responses: tuple[str, ...]) -> None:
    if len(responses) > MOST_RESPONSES:
        raise RecordError(
            "too many responses", f"sample {key!r}: {len(responses)} responses, at most {MOST_RESPONSES}."
        )
    if len(responses) < 2:
        raise RecordError(
            "too few responses", f"sample {key!r}: {len(responses)} response(s); a preference needs at least two."
        )
    for i, response in enumerate(responses):
        if not isinstance(response, str):
            raise RecordError(
                "bad response", f"sample {key!r}: response {i} is {type(response).__name__}, not a string."
            )
        if not response.strip():
            raise RecordError("empty response", f"sample {key!r}: response {i} is empty.")
        _check_text(key, f"response {i}", response)


def _check_pairs(key: str, pairs: tuple[Pair, ...], responses: tuple[str, ...]) -> None:
    if not pairs:
        raise RecordError("no pair", f"sample {key!r}: no preference pair; it needs at least one.")
    seen: set[frozenset[int]] = set()
    for pair in pairs:
        for name, index in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(responses):
                raise RecordError(
                    "pair out of range",
                    f"sample {key!r}: {name}={index!r} is not an index of its {len(responses)} responses.",
                )
        if pair.chosen == pair.rejected or responses[pair.chosen] == responses[pair.rejected]:
            raise RecordError(
                "equal responses", f"sample {key!r}: chosen and rejected are the same text; such a pair says nothing."
            )
        edge = frozenset((pair.chosen, pair.rejected))
        if edge in seen:
            raise RecordError("duplicate pair", f"sample {key!r}: responses {sorted(edge)} are compared twice.")
        seen.add(edge)
        _check_strength(key, pair.strength)


def _check_strength(key: str, strength: object) -> None:
    if strength is None:
        return
    if (
        isinstance(strength, bool)
        or not isinstance(strength, (int, float))
        or not 0 <= strength <= 1  # NaN is not; an int may be too large for math.isfinite
    ):
        raise RecordError(
            "bad strength",
            f"sample {key!r}: strength {strength!r} is not a number in [0, 1]; use null where it is unknown.",
        )
