"""Random numbers that depend on what they are for and on nothing else: no order of calls, no process, no machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def uniform(*parts: object) -> float:
    """A number in [0, 1) that is a hash of the (JSON-able) parts."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def choose(options: Sequence[T], *parts: object) -> T:
    """One of the options, each as likely, by the parts."""
    return options[int(uniform(*parts) * len(options))]
