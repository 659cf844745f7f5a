"""The output of `mrm.evaluate`: a line a judgement, which `scores=` takes again.

    {"row": 0, "id": "...", "category": "...", "key": "...", "pair": 0, "chosen": 1.5, "rejected": -0.25, "correct": true}

`row` is the record's number in the benchmark, from 0; `pair` is 1 for the second line of a pair that is judged in two orders. What
has no score says why instead: "unreadable".

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from datamodules.benchmarks import Benchmark
from mrm.errors import ConfigError


class Lines:
    """Where judgements are written, in the benchmark's order; nowhere without a file."""

    def __init__(self, benchmark: Benchmark, file: TextIO | None) -> None:
        self._benchmark = benchmark
        self._file = file

    def write(self, pair: int, order: int, chosen: float, rejected: float) -> None:
        """One judgement of a pair, by its number in the benchmark."""
        self._write(pair, order, {"chosen": chosen, "rejected": rejected, "correct": chosen > rejected})

    def write_missing(self, pair: int, order: int, why: str) -> None:
        """A judgement that there is not."""
        self._write(pair, order, {"unreadable": why})

    def _write(self, pair: int, order: int, found: dict[str, Any]) -> None:
        if self._file is None:
            return
        about = self._benchmark.pairs[pair]
        line = {
            "row": self._benchmark.rows[pair],
            "id": about.id,
            "category": about.category,
            "key": self._benchmark.keys[pair],
            "pair": order,
            **found,
        }
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def lines_to(benchmark: Benchmark, output: str | None) -> Iterator[Lines]:
    """Lines to a file, under its name only when it is whole; until then, and where it is given up, it is OUTPUT.partial.

    Raises:
        ConfigError: where the file cannot be written.
    """
    if output is None:
        yield Lines(benchmark, None)
        return
    partial = Path(f"{output}.partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output={output!r}: cannot be written: {error}.") from error
    try:
        with file:
            yield Lines(benchmark, file)
        partial.replace(output)
    finally:
        if partial.is_file() and not partial.stat().st_size:
            partial.unlink()
