"""In which wording, and on which side, a text-to-image preference is shown: random, and balanced within each wording.

The wording goes by the preference's key, so that it does not depend on what comes before; the side by what was shown in that
wording so far, so that each wording alone has the preferred image first exactly as often as second (or one more often).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mrm.construction.reformulation import sides


@dataclass(frozen=True)
class Placement:
    """How one preference is shown.

    Args:
        wording: number of the template.
        preferred_first: whether the preferred image is Image 1.
    """

    wording: int
    preferred_first: bool


class Placements:
    """Deals out wordings and sides. With one wording, the sides are those of `sides(seed)`.

    Args:
        wordings: how many, at least 1.
        seed: of both.
        used: how many sides each wording has used up already, to go on behind an earlier run.
    """

    def __init__(self, wordings: int, seed: int, used: Sequence[int] | None = None) -> None:
        if wordings < 1 or (used is not None and len(used) != wordings):
            raise ValueError(f"wordings={wordings}, used={used}: at least one wording, and one count for each.")
        self._seed = seed
        self._used = list(used) if used is not None else [0] * wordings
        self._sides = [_dealt(seed, number, count) for number, count in enumerate(self._used)]
        self._next = [next(dealt) for dealt in self._sides]

    @property
    def used(self) -> tuple[int, ...]:
        """How many sides each wording has used up."""
        return tuple(self._used)

    def look(self, key: str) -> Placement:
        """How the preference is shown if it comes next; changes nothing."""
        digest = hashlib.blake2b(f"{self._seed}/{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        wording = int.from_bytes(digest, "little") % len(self._used)
        return Placement(wording, self._next[wording])

    def take(self, key: str) -> Placement:
        """The same, used up: only what is written counts for the balance."""
        placement = self.look(key)
        self._used[placement.wording] += 1
        self._next[placement.wording] = next(self._sides[placement.wording])
        return placement


def _dealt(seed: int, wording: int, used: int) -> Iterator[bool]:
    return islice(sides(f"{seed}-wording-{wording}" if wording else seed), used, None)
