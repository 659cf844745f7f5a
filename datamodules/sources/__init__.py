"""Readers of published formats, one file each, and the table that names them.

To add one: write `read(input, *, options...)` in a new file (see `base.py`) and name it here.
"""

from __future__ import annotations

import difflib

from datamodules.sources import jsonl, llama_factory, math_v, mj_bench, shapeworld
from datamodules.sources.base import Source
from mrm.errors import ConfigError

SOURCES: dict[str, Source] = {
    "jsonl": jsonl.read,
    "llama_factory": llama_factory.read,
    "math_v": math_v.read,
    "mj_bench": mj_bench.read,
    "shapeworld": shapeworld.read,
}


def get_source(name: str) -> Source:
    """The reader of that name.

    Raises:
        ConfigError: for an unknown name; lists the known ones.
    """
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"source: unknown source {name!r}; known are {', '.join(SOURCES)}.{hint}")
    return SOURCES[name]
