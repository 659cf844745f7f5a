"""Builds the index of directories of shards: `python -m datamodules.reindex shards=DIR[,DIR...]`.

For tars that another tool wrote, and where an index is missing, damaged or of another version. Each tar holds `KEY.json`
(the record of `mrm.preference.PreferenceSample.to_json`) and its images `KEY.0.jpg`, `KEY.1.png`, ... (a single one may be
`KEY.jpg`), in any order. Nothing but `index.parquet` is written. The scan itself is `build_index`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datamodules.index_build import build_index
from datamodules.prepare_config import parse_arguments
from mrm.errors import ConfigError, MrmError

USAGE = "python -m datamodules.reindex shards=DIR[,DIR...]"


def reindex(directories: Sequence[str]) -> Table:
    """Builds the index of each directory anew, and gives a table of what is in them.

    Raises:
        ShardError: naming the shard that cannot be indexed; the directories before it are done.
    """
    table = Table("shards", "tars", "samples", "pairs", "images", "seconds")
    for directory in directories:
        start = time.perf_counter()
        index = build_index(directory)
        numbers = (len(index.shard_files), len(index), index.n_pairs, len(index.image_offset))
        table.add_row(escape(directory), *map(str, numbers), f"{time.perf_counter() - start:.1f}")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(f"{USAGE}\n\n{__doc__.partition(chr(10) * 2)[2]}")
        return 0 if words else 2
    try:
        table = reindex(_directories(words))
    except MrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console().print(table)
    return 0


def _directories(words: Sequence[str]) -> list[str]:
    settings = parse_arguments(words)
    if unknown := sorted(settings.keys() - {"shards"}):
        raise ConfigError(f"{', '.join(unknown)}: no such setting; usage: {USAGE}.")
    directories = [name for name in (settings["shards"] or "").split(",") if name]
    if not directories:
        raise ConfigError(f"shards: is missing; usage: {USAGE}.")
    return directories


if __name__ == "__main__":
    raise SystemExit(main())
