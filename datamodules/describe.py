"""A data set's card: `python -m datamodules.describe shards=DIR[,DIR2] [output=card.html] [json=card.json] [key=value ...]`.

Tells what prepared shards hold: counts by source, strengths, lengths and style of chosen and rejected responses, whether
style alone tells the winner, image sizes, duplicates, and what cannot be read; as a table, and as one HTML page with a
contact sheet, or JSON. `describe` is the same as a function.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datamodules.card import Card
from datamodules.card_page import choose_sheet, write_card_page
from datamodules.card_statistics import make_card
from datamodules.card_table import card_tables
from datamodules.index import DEFAULT_GB, Index
from datamodules.measuring import measure, plan_visits
from datamodules.prepare_progress import Rate
from datamodules.remote import make_cache
from mrm.cli import settings_command
from mrm.errors import ConfigError
from mrm.images import MAX_IMAGE_PIXELS


@dataclass
class DescribeConfig:
    """What to describe, and how.

    Args:
        shards: directories of prepared shards, or URLs of them, with commas between them.
        output: the HTML page to write; none by default.
        json: the JSON file to write; none by default.
        samples: how many samples the page shows.
        limit: samples whose texts and images are measured, drawn at random; null for all. Counts, strengths and
            duplicates are always those of all.
        folds: parts of the style probe's cross-validation, at least 2.
        seed: of all that is drawn.
        max_image_pixels: samples with a larger image count as unread.
        cache_dir: where shards of a URL are kept; null for the user's cache.
        cache_gb: that they may take there.
        show_progress: whether to show a progress bar.
    """

    shards: str = MISSING
    output: str | None = None
    json: str | None = None
    samples: int = 24
    limit: int | None = 20_000
    folds: int = 5
    seed: int = 0
    max_image_pixels: int = MAX_IMAGE_PIXELS
    cache_dir: str | None = None
    cache_gb: float = DEFAULT_GB
    show_progress: bool = True


def describe(config: DescribeConfig) -> Card:
    """Reads the shards and writes what was asked for.

    Raises:
        ConfigError: for no or repeated directories, settings out of range, or a file that cannot be written.
        ShardError: for a directory without shards or with a stale index.
    """
    _check(config)
    paths = dataset_paths(config.shards)
    cache = make_cache(config.cache_dir, config.cache_gb)
    indexes = {name: Index.load(path, cache) for name, path in paths.items()}
    parts = list(indexes.values())
    visits = plan_visits(parts, config.limit, config.seed)
    with _progress(config.show_progress) as progress:
        task = progress.add_task("describe", total=len(visits))
        found = measure(
            parts,
            visits,
            names=list(indexes),
            max_pixels=config.max_image_pixels,
            advance=lambda: progress.advance(task),
        )
    card = make_card(indexes, visits, found, paths=paths, folds=config.folds, seed=config.seed)
    try:
        if config.json is not None:
            _write_json(Path(config.json), card)
        if config.output is not None:
            sheet = choose_sheet(indexes, visits, card.unread, config.samples, config.seed)
            write_card_page(config.output, card, indexes, sheet, config.seed)
    except OSError as error:
        raise ConfigError(f"the card cannot be written ({error}); free some space or name other files.") from error
    return card


def dataset_paths(shards: str) -> dict[str, str]:
    """Name -> directory: the folder's own name, or the whole path where two folders are called the same.

    Raises:
        ConfigError: where nothing is named, or one directory twice.
    """
    given = [shards] if Path(shards).is_dir() else [part.strip() for part in shards.split(",") if part.strip()]
    if not given:
        raise ConfigError("shards: is empty; name directories of prepared shards, with commas between them.")
    resolved = [str(Path(path).resolve()) if "://" not in path else path for path in given]
    if twice := [path for path, whole in zip(given, resolved, strict=True) if resolved.count(whole) > 1]:
        raise ConfigError(f"shards: {' and '.join(twice)} are one directory; name it once.")
    bare = [Path(path).name for path in resolved]
    return {name if name and bare.count(name) == 1 else path: path for name, path in zip(bare, given, strict=True)}


def _check(config: DescribeConfig) -> None:
    problems = [
        f"{name}: {value} must be at least {least}."
        for name, value, least in (
            ("samples", config.samples, 0),
            ("limit", config.limit, 1),
            ("folds", config.folds, 2),
            ("seed", config.seed, 0),
            ("max_image_pixels", config.max_image_pixels, 1),
        )
        if value is not None and value < least
    ]
    targets = {"output": config.output, "json": config.json}
    problems += [problem for name, path in targets.items() if path for problem in _unwritable(name, Path(path))]
    if config.output and config.json and Path(config.output).resolve() == Path(config.json).resolve():
        problems.append(f"output and json are one file, {config.json}; name two.")
    if problems:
        raise ConfigError("\n".join(problems))


def _unwritable(name: str, path: Path) -> list[str]:
    """What is in the way of writing a file: better told before an hour of reading than after."""
    if path.is_dir():
        return [f"{name}: {path} is a directory; name a file."]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [f"{name}: {path.parent} cannot be made ({error}); name a file elsewhere."]
    return (
        []
        if os.access(path.parent, os.W_OK)
        else [f"{name}: {path.parent} cannot be written to; name a file elsewhere."]
    )


def _write_json(path: Path, card: Card) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(card.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    os.replace(temporary, path)


def _progress(show: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not show)


def run(config: DescribeConfig) -> None:
    """Describes, prints the tables and tells what was written."""
    card = describe(config)
    console = Console()
    for table in card_tables(card):
        console.print(table)
    written: Mapping[str, str | None] = {"page": config.output, "JSON": config.json}
    for kind, path in written.items():
        if path is not None:
            console.print(f"{kind}: {path}", markup=False, highlight=False, soft_wrap=True)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(DescribeConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
