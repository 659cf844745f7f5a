"""Keys and preference pairs that are written already: few bytes each in memory, and on the disk for a run that goes on."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

from datamodules.digests import DIGEST_BYTES, DigestTable, digest

KEYS, PAIRS = "keys.txt", "pairs.bin"  # keys a line each; digest and the sample's number
_PAIR_BYTES = DIGEST_BYTES + 4


class SeenSamples:
    """The samples written so far, about 32 bytes each and 28 for each of their pairs.

    Args:
        folder: where its files stand; what they hold is taken over.
    """

    def __init__(self, folder: Path) -> None:
        self._key_table, self._pair_table = DigestTable(), DigestTable()
        self._starts = array("Q")  # of each key in its file
        self._samples = array("I")  # number of the sample that has each pair first
        (folder / KEYS).touch()
        (folder / PAIRS).touch()
        self._keys = (folder / KEYS).open("r+b")
        self._pairs = (folder / PAIRS).open("r+b")
        end = 0
        for line in self._keys:
            self._add_key(line.rstrip(b"\n"), end)
            end += len(line)
        while pair := self._pairs.read(_PAIR_BYTES):
            self._add_pair(pair[:DIGEST_BYTES], int.from_bytes(pair[DIGEST_BYTES:], "little"))

    def has_key(self, key: str) -> bool:
        """Whether a sample of that key is written."""
        return self._key_table.find(digest(key.encode())) is not None

    def first_with(self, pair: bytes) -> str | None:
        """The key of the first sample with a pair of that digest; None where there is none."""
        number = self._pair_table.find(pair)
        if number is None:
            return None
        self._keys.seek(self._starts[self._samples[number]])
        key = self._keys.readline().rstrip(b"\n").decode()
        self._keys.seek(0, 2)
        return key

    def add(self, key: str, pairs: Sequence[bytes]) -> None:
        """Adds a written sample with the digests of its pairs."""
        sample = len(self._key_table)
        self._add_key(key.encode(), self._keys.tell())
        self._keys.write(key.encode() + b"\n")
        for pair in pairs:
            if self._pair_table.find(pair) is None:
                self._add_pair(pair, sample)
                self._pairs.write(pair + sample.to_bytes(4, "little"))

    def files(self):
        """The open files, by name."""
        return {KEYS: self._keys, PAIRS: self._pairs}

    def _add_key(self, key: bytes, start: int) -> None:
        self._key_table.add(digest(key))
        self._starts.append(start)

    def _add_pair(self, pair: bytes, sample: int) -> None:
        self._pair_table.add(pair)
        self._samples.append(sample)
