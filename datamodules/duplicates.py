"""What occurs twice: images by the index's digests, and pairs by images, prompt and the two responses.

Dimension letters: N samples, M images, C pairs compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mrm.preference import PreferenceSample

Array = npt.NDArray[Any]
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that nothing is lost modulo 2^64


@dataclass(frozen=True)
class PairDuplicates:
    """Pairs that say the same twice, or the opposite.

    Args:
        compared: pairs looked at.
        surplus: those among them whose images, prompt and two responses an earlier pair has, too.
        contradicting: groups of such pairs that disagree about the winner.
        groups: the first few groups, each the places of its pairs among those compared.
    """

    compared: int
    surplus: int
    contradicting: int
    groups: tuple[tuple[int, ...], ...]


def image_set_digests(image_digest: Array, image_start: Array) -> Array:
    """uint64 [N]: equal where samples have the same images in the same order; 0 without images.

    Args:
        image_digest: uint64 [M]. image_start: int64 [N + 1], where each sample's images begin.
    """
    counts = np.diff(image_start)
    place = np.arange(len(image_digest)) - np.repeat(image_start[:-1], counts)
    powers = _powers(int(counts.max(initial=0)))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(image_digest * powers[place], dtype=np.uint64)])
    return total[image_start[1:]] - total[image_start[:-1]]


def repeated(values: Array) -> Array:
    """bool, as `values`: whether the value occurs more than once."""
    _, code, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[code] > 1


def shared_counts(digests: Sequence[Array]) -> dict[tuple[int, int], int]:
    """How many different images two data sets have in common, for each two that have any.

    Args:
        digests: uint64 arrays, one a data set.
    """
    distinct = [np.unique(values) for values in digests]
    pairs = ((i, j) for i in range(len(distinct)) for j in range(i + 1, len(distinct)))
    found = {(i, j): len(np.intersect1d(distinct[i], distinct[j], assume_unique=True)) for i, j in pairs}
    return {pair: number for pair, number in found.items() if number}


def pair_digests(sample: PreferenceSample, image_digests: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """(64-bit digest that does not know the winner, which of the two won) of each pair of a sample.

    Args:
        sample: its images are not looked at.
        image_digests: of its images, in order.
    """
    shared = _context(sample, image_digests)
    for pair in sample.pairs:
        chosen, rejected = sample.responses[pair.chosen], sample.responses[pair.rejected]
        text = shared + json.dumps(sorted((chosen, rejected))).encode()
        yield _number(text), chosen < rejected


def prompt_digest(sample: PreferenceSample, image_digests: Sequence[int]) -> int:
    """A 64-bit digest of prompt and images."""
    return _number(_context(sample, image_digests))


def find_pair_duplicates(digests: Array, first_won: Array, *, named: int = 20) -> PairDuplicates:
    """Groups equal pairs.

    Args:
        digests: uint64 [C]. first_won: bool [C], both of `pair_digests`.
        named: groups to name.
    """
    values, code, counts = np.unique(digests, return_inverse=True, return_counts=True)
    wins = np.bincount(code, first_won, minlength=len(values))
    groups = [tuple(np.flatnonzero(code == g).tolist()) for g in np.flatnonzero(counts > 1)[:named]]
    return PairDuplicates(
        compared=len(digests),
        surplus=len(digests) - len(values),
        contradicting=int(((wins > 0) & (wins < counts)).sum()),
        groups=tuple(sorted(groups)),
    )


def _context(sample: PreferenceSample, image_digests: Sequence[int]) -> bytes:
    prompt = [[message.role, message.content] for message in sample.prompt]
    return json.dumps([list(map(int, image_digests)), prompt]).encode()


def _number(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _powers(n: int) -> Array:
    """uint64 [n]: 1, m, m^2, ... modulo 2^64."""
    return np.array([pow(_MULTIPLIER, i, 1 << 64) for i in range(max(n, 1))], np.uint64)
