"""Parts to one data set: `python -m datamodules.merge output=DIR [parts=16] [remove_parts=true] [overwrite=true]`.

Joins what `datamodules.prepare ... output=DIR part=1/16` to `16/16` wrote beside DIR. Shards are linked, not copied, where the
file system can; the indexes are joined without reading the shards again; accounts are added up. Records of the same prompt and
images always come into the same part, so that duplicates were found there. A key that stands in two parts is kept in the first and
counted as skipped in the other, whose shard is written anew without it. The result is used again by `prepare` without `part`.
`merge` is the same as a function.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from omegaconf import MISSING
from rich.console import Console

from datamodules.index import INDEX_NAME, Index
from datamodules.index_build import write_index
from datamodules.index_table import SCHEMA, shard_rows
from datamodules.prepare import check_replaceable, locked, staging_of, take_name, target_of, write_marker
from datamodules.prepare_config import part_suffix
from datamodules.prepare_result import SKIPPED, PrepareResult, read_result, result_table
from datamodules.recipe import MARKER, changed_names
from datamodules.shard_tars import ShardInfo, ShardTars, duplicate_key, members_of, write_manifest
from datamodules.tarscan import MANIFEST_NAME, scan_shard, verify_shards
from mrm.cli import settings_command
from mrm.errors import ConfigError, ShardError

_SUFFIX = re.compile(r"\.part-\d+-of-(\d+)")


@dataclass
class MergeConfig:
    """Settings of `python -m datamodules.merge`, see `merge`."""

    output: str = MISSING
    parts: int | None = None
    remove_parts: bool = False
    overwrite: bool = False


def merge(
    output: str | os.PathLike[str], *, parts: int | None = None, remove_parts: bool = False, overwrite: bool = False
) -> PrepareResult:
    """Joins the parts of an output.

    Args:
        output: the directory to write, as it was given to `prepare`.
        parts: how many there are; None finds it from the folders beside the output.
        remove_parts: whether to delete them once they are joined.
        overwrite: whether to replace an earlier output.

    Raises:
        ConfigError: where parts are missing or were prepared otherwise than the first, all of them named, or where there
            is an output already.
        ShardError: where a part's shards or index are damaged.
    """
    if not os.fspath(output):
        raise ConfigError("output: is empty; give the directory that the parts were prepared for.")
    if parts is not None and parts < 1:
        raise ConfigError(f"parts: {parts} is not a number of parts.")
    target = target_of(output)
    with locked(target):
        folders = _folders(target, parts)
        recipe = _common_recipe(folders)
        check_replaceable(target)
        if target.exists() and any(target.iterdir()) and not overwrite:
            raise ConfigError(f"output: {target} exists; remove that folder or give overwrite=true.")
        result = _join(folders, target, recipe)
    if remove_parts:
        for folder in folders:
            shutil.rmtree(folder)
    return result


def _folders(target: Path, parts: int | None) -> list[Path]:
    """The folders of all parts, in order.

    Raises:
        ConfigError: where there are none, some are missing, or parts of several numbers stand side by side.
    """
    beside = target.parent.iterdir() if target.parent.is_dir() else iter(())
    suffixes = [p.name.removeprefix(target.name) for p in beside if p.name.startswith(target.name)]
    numbers = {int(match[1]) for suffix in suffixes if (match := _SUFFIX.fullmatch(suffix))}
    if parts is None and len(numbers) != 1:
        found = f"parts of {', '.join(map(str, sorted(numbers)))}: give parts=" if numbers else "no parts: prepare them"
        raise ConfigError(f"output: beside {target} there are {found}.")
    count = parts or numbers.pop()
    folders = [target.with_name(target.name + part_suffix(number, count)) for number in range(1, count + 1)]
    if missing := [folder.name for folder in folders if not (folder / MARKER).is_file()]:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise ConfigError(
            f"output: {len(missing)} of {count} parts are missing or not complete: {', '.join(missing[:10])}{more}; prepare "
            "them with the same settings."
        )
    return folders


def _common_recipe(folders: list[Path]) -> dict[str, Any]:
    """The recipe that all parts have.

    Raises:
        ConfigError: naming the first part that was prepared otherwise, and how.
    """
    recipes = []
    for folder in folders:
        try:
            recipes.append(json.loads((folder / MARKER).read_text())["recipe"])
            read_result(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder / MARKER} is damaged ({error!r}); prepare that part again.") from error
        if changed := changed_names(recipes[0], recipes[-1]):
            raise ConfigError(
                f"{folder.name} was prepared otherwise than {folders[0].name} ({'; '.join(changed)}); prepare it again."
            )
    return recipes[0]


@dataclass
class _Joined:
    """What is joined so far."""

    shards: list[ShardInfo] = field(default_factory=list)
    rows: list[tuple[Path, pa.Table | ShardError]] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)  # key -> the part that has it
    results: list[PrepareResult] = field(default_factory=list)


def _join(folders: list[Path], target: Path, recipe: dict[str, Any]) -> PrepareResult:
    staging = staging_of(target)
    shutil.rmtree(staging, ignore_errors=True)  # of a killed merge, or of a run that the parts took the place of
    made = staging / "shards"
    made.mkdir(parents=True)
    try:
        joined = _Joined()
        with (made / SKIPPED).open("w", encoding="utf-8") as skipped:
            for folder in folders:
                skipped.write((folder / SKIPPED).read_text(encoding="utf-8"))
                for line in _add(joined, folder, made):
                    skipped.write(json.dumps(line) + "\n")
        result = PrepareResult.total(target, joined.results)
        if not result.written:
            raise ConfigError(f"output: none of the {result.read} records of {len(folders)} parts could be used.")
        write_manifest(made, joined.shards)
        write_index(made, joined.rows)
        write_marker(made, recipe, result, parts=len(folders))
        take_name(staging, made, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return result


def _add(joined: _Joined, folder: Path, made: Path) -> list[dict[str, str]]:
    """Adds a part's shards, rows and counts; gives the lines of `SKIPPED` for what is there already."""
    result = read_result(folder)
    joined.results.append(result)
    if not result.written:
        return []
    verify_shards(folder)
    Index.load(folder)  # refuses an index that does not fit its shards
    table = pq.read_table(folder / INDEX_NAME).replace_schema_metadata(None).cast(SCHEMA)
    infos = [ShardInfo(**entry) for entry in json.loads((folder / MANIFEST_NAME).read_text())["shards"]]
    number = {name: place for place, name in enumerate(sorted(info.name for info in infos))}
    lines = []
    for info in infos:
        rows = table.filter(pc.equal(table["shard"], number[info.name]))
        keys = rows["key"].to_pylist()
        twice = {key for key in keys if key in joined.keys}
        lines += [_skip(result, key, joined.keys[key]) for key in keys if key in twice]
        joined.keys.update((key, folder.name) for key in keys if key not in twice)
        if len(twice) < len(keys):
            _add_shard(joined, folder / info.name, info, rows, made, twice, result)
        else:
            _count_out(result, rows)
    return lines


def _add_shard(
    joined: _Joined, file: Path, info: ShardInfo, rows: pa.Table, made: Path, twice: set[str], result: PrepareResult
) -> None:
    name = f"shard-{len(joined.shards):06d}.tar"
    if not twice:
        _link(file, made / name)
        joined.shards.append(ShardInfo(name, info.samples, info.bytes, info.sha256))
        joined.rows.append((made / name, rows))
        return
    tars = ShardTars(made, max_bytes=2**63, first=len(joined.shards))
    for scanned in scan_shard(file):
        sample = scanned.sample
        if sample.key not in twice:
            tars.write(sample.key, members_of(sample))
    again = tars.close()
    assert again is not None, "not all of its keys are taken"
    joined.shards.append(again)
    joined.rows.append((made / name, shard_rows((made / name, None))))
    _count_out(result, rows.filter(pc.is_in(rows["key"], pa.array(sorted(twice)))))


def _skip(result: PrepareResult, key: str, first: str) -> dict[str, str]:
    error = duplicate_key(key)
    result.skip(error.reason, [key])
    return {"key": key, "reason": error.reason, "detail": f"{error} It stands in {first}, too."}


def _count_out(result: PrepareResult, rows: pa.Table) -> None:
    """Takes samples that are not joined from a part's count of the written."""
    result.written -= len(rows)
    result.pairs -= len(pc.list_flatten(rows["pair_chosen"]))


def _link(file: Path, name: Path) -> None:
    """The same file under another name; a copy where the file system knows no links."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def run(config: MergeConfig) -> None:
    """Merges, and shows the account."""
    result = merge(config.output, parts=config.parts, remove_parts=config.remove_parts, overwrite=config.overwrite)
    Console().print(result_table(result))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(MergeConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
