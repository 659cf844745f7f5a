"""Which samples are the same: digests of keys and of preference pairs, in a table that holds millions.

Two pairs are the same where images, prompt, chosen and rejected response are, byte by byte: strength, source and extras do
not count, and a pair the other way round is another pair. A text-to-image pair counts by its caption and both images,
whichever is shown first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence

from datamodules.sources.base import Item, Skipped
from mrm.construction.reformulation import T2IPreference
from mrm.preference import Message

DIGEST_BYTES = 16
_SAMPLED = 1024  # bytes of an image's ends that decide its part


class DigestTable:
    """Digests in the order of their adding, each once; about 24 bytes each. An open-addressing hash table."""

    def __init__(self, digests: bytes = b"") -> None:
        self._digests = bytearray()
        self._slots = array("I", bytes(4 * 1024))  # number of the digest + 1; 0 where free
        for start in range(0, len(digests), DIGEST_BYTES):
            self.add(digests[start : start + DIGEST_BYTES])

    def __len__(self) -> int:
        return len(self._digests) // DIGEST_BYTES

    def find(self, digest: bytes) -> int | None:
        """The number that the digest got when it was added; None where it was not."""
        number = self._slots[self._slot(digest)]
        return number - 1 if number else None

    def add(self, digest: bytes) -> int:
        """Adds a digest that is not there yet, and gives its number."""
        slot = self._slot(digest)
        assert not self._slots[slot], "added twice"
        self._digests += digest
        self._slots[slot] = len(self)
        if 3 * len(self) > 2 * len(self._slots):
            self._grow()
        return len(self) - 1

    def _slot(self, digest: bytes) -> int:
        """Where the digest is, or would go."""
        mask = len(self._slots) - 1
        slot = int.from_bytes(digest[:8], "little") & mask  # digests are evenly spread already
        while number := self._slots[slot]:
            if self._digests[(number - 1) * DIGEST_BYTES : number * DIGEST_BYTES] == digest:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        self._slots = array("I", bytes(4 * 2 * len(self._slots)))
        for number in range(len(self)):
            digest = bytes(self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
            self._slots[self._slot(digest)] = number + 1


def digest(*parts: bytes) -> bytes:
    """128 bits of BLAKE2b over the parts, each with its length."""
    made = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.digest()


def pair_digests(item: Item, images: Sequence[bytes]) -> list[bytes]:
    """One digest for each preference pair of an item.

    Args:
        item: a sample or a text-to-image preference.
        images: digests of its images as published; of the preferred one first.
    """
    assert not isinstance(item, Skipped)
    if isinstance(item, T2IPreference):
        return [digest(b"t2i", _bytes(item.caption.strip()), *images)]
    shared = digest(*images, *_turns(item.prompt))
    texts = [digest(_bytes(response)) for response in item.responses]
    return [digest(shared, texts[pair.chosen], texts[pair.rejected]) for pair in item.pairs]


def part_of(item: Item, parts: int) -> int:
    """Which of so many parts an item belongs to, from 0: records of the same prompt and images come into the same."""
    if isinstance(item, Skipped):
        made = digest(str(item.key).encode("utf-8", "backslashreplace"))
    elif isinstance(item, T2IPreference):
        made = digest(_bytes(item.caption.strip()), *_ends((item.preferred, item.other)))
    else:
        made = digest(*_ends(item.images), *_turns(item.prompt))
    return int.from_bytes(made[:8], "little") % parts


def _turns(prompt: Sequence[Message]) -> list[bytes]:
    return [_bytes(text) for message in prompt for text in (message.role, message.content)]


def _ends(images: Iterable[bytes]) -> list[bytes]:
    """Enough to keep the same images together; all bytes would be read twice by every part."""
    return [len(data).to_bytes(8, "little") + data[:_SAMPLED] + data[-_SAMPLED:] for data in images]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
