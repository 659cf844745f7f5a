"""Published data to shards: `python -m datamodules.prepare source=NAME input=PATH output=DIR [option=value ...]`.

Reads a source, checks every record and decodes every image once, on all processors, and writes shards with their index.
Each record read is either written or skipped for a reason; OUTPUT/skipped.jsonl lists the skipped, OUTPUT/prepared.json
what was done. The output appears under its name only when it is whole, and is used again where the same is asked for.
A run that was killed goes on behind its last finished shard when the same is started again. `part=3/16` writes the third
of sixteen parts, which `python -m datamodules.merge` joins. `prepare` is the same as a function.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from datamodules.index_build import build_index
from datamodules.journal import Staging
from datamodules.ordered_pool import available_cpus
from datamodules.preparation import InputChangedError, Preparation
from datamodules.prepare_config import parse_arguments, parse_part, part_suffix, resolve, usage
from datamodules.prepare_result import (
    SKIPPED,
    PrepareResult,
    check_usable,
    read_result,
    result_table,
)
from datamodules.recipe import MARKER, changed_names, recipe_of
from datamodules.shard_tars import write_manifest
from datamodules.shards import verify_shards
from datamodules.sources.base import IMAGE_MISSING
from mrm.cli import words_command
from mrm.errors import ConfigError, MrmError, ResumableError

__all__ = ["PrepareResult", "main", "prepare", "read_result", "recipe_digest", "result_table"]

OWN_FILES = (MARKER, SKIPPED, "manifest.json", "index.parquet", "index.parquet.before-salvage", "faults.jsonl")
MOUNTS = Path("/proc/self/mountinfo")

log = logging.getLogger(__name__)


def prepare(
    source: str,
    input: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    **options: Any,
) -> PrepareResult:
    """Writes a source's records as shards, or finds that this was done before.

    Args:
        source: a name of `datamodules.sources.SOURCES`.
        input: the source's file or folder; None for a source that makes its own data.
        output: the directory to write; with `part`, the part's folder beside it.
        **options: other settings of `PrepareConfig`, and options of the source.

    Raises:
        ConfigError: for unknown or wrong settings, an input of another form, an output that isn't what is asked for,
            or when no record could be used.
        UnreadableSamplesError: when more than `max_unreadable` of the records cannot be read: broken JSON, wrong fields,
            images that are missing, don't decode or are refused.
        ResumableError: when a worker was killed or nothing can be written any more; the same call goes on.
        ShardError: when the shards of an earlier output are damaged.
    """
    given = None if input is None else os.fspath(input)
    settings = resolve({"source": source, "input": given, "output": os.fspath(output), **options})
    target = target_of(settings["output"])
    if settings["part"] is not None:
        target = target.with_name(target.name + part_suffix(*parse_part(settings["part"])))
    with locked(target):
        recipe = recipe_of(settings)
        if not settings["overwrite"] and (earlier := _earlier(target, recipe, settings["part"])) is not None:
            shutil.rmtree(staging_of(target), ignore_errors=True)  # where a run was killed while it cleared up
            return earlier
        return _build(settings, target, recipe)


def recipe_digest(source: str, input: str | os.PathLike[str] | None, **options: Any) -> str:
    """A short name for what would be prepared: changes with the source, its options and the input's content.

    Raises:
        ConfigError: for unknown or wrong settings, or an input that isn't there.
    """
    given = None if input is None else os.fspath(input)
    settings = resolve({"source": source, "input": given, "output": "-", **options})
    return hashlib.sha256(json.dumps(recipe_of(settings), sort_keys=True).encode()).hexdigest()[:10]


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """One process at a time: others that want the same output wait, and then find it done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = (target.parent / f".{target.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"output: {target.parent} cannot be written to ({error}); choose another output.") from error
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process is preparing %s; waiting until it is done.", target)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # some shared file systems know none; where jobs have an output each, none is needed
            log.warning("%s: no file locks there (%s): see to it that one process at a time writes it.", target, error)
        yield


def target_of(output: str | os.PathLike[str]) -> Path:
    """The folder that is written. A link stays, and what it leads to is written, on the disk that it was laid for."""
    target = Path(output).absolute()
    return target.resolve() if target.is_symlink() else target


def staging_of(target: Path) -> Path:
    """Where an output is written before it has its name."""
    return target.parent / f".{target.name}.preparing"


def _earlier(target: Path, recipe: dict[str, Any], part: str | None) -> PrepareResult | None:
    """The result of an earlier run with the same recipe; None where there is none, or images were not to be had then."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        result = read_result(target)
        marker = json.loads((target / MARKER).read_text())
        changed = changed_names({**marker["recipe"], "part": marker.get("part")}, {**recipe, "part": part})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refusal(target, f"exists but is not complete (no sound {MARKER})") from error
    if changed:
        raise _refusal(target, f"was prepared otherwise ({'; '.join(changed)})")
    if lost := result.skipped[IMAGE_MISSING]:  # a damaged one is found by the input's digest once it is another
        log.info("%s lacks %d records for their images: prepared again.", target, lost)
        return None
    if result.written:
        verify_shards(target)
    log.info("%s is complete and used again: %d samples.", target, result.written)
    return result


def _refusal(target: Path, problem: str) -> ConfigError:
    """The error for an output in the way; nobody is told to remove a folder that holds files of another kind.

    Raises:
        ConfigError: for such a folder.
    """
    check_replaceable(target)
    return ConfigError(f"output: {target} {problem}; remove that folder, choose another output or give overwrite=true.")


def _build(settings: dict[str, Any], target: Path, recipe: dict[str, Any]) -> PrepareResult:
    """Writes everything under a temporary name, or what a killed run left to do, and gives it its own at the very end."""
    check_replaceable(target)
    try:
        kept = {**recipe, "part": settings["part"]}
        staging = Staging(staging_of(target), kept, resume=settings["resume"])
        if staging.last is not None:
            log.info("%s: going on behind %d records.", target, staging.last.position)
        run = Preparation(settings, staging, target)
        try:
            run.run()
        except InputChangedError:
            raise
        except MrmError as error:  # a remote file that cannot be opened just now, for one
            if not staging.shards:
                raise
            raise ResumableError(
                f"{error} {len(staging.shards)} finished shard(s) are kept: give the same command again to go on behind them."
            ) from error
        finally:
            run.close()
            staging.close()
        check_usable(run.result, run.unreadable, settings["max_unreadable"], is_part=settings["part"] is not None)
        _finish(staging, run.result, settings)
        write_marker(staging.directory, recipe, run.result, part=settings["part"])
        take_name(staging.path, staging.directory, target)
        return run.result
    except ResumableError:
        raise
    except OSError as error:
        raise ResumableError(
            f"output: {staging_of(target)}: {error}; what is finished is kept: mend it, and give the same command again."
        ) from error
    except MrmError:  # another input or other settings are needed: what was written is of no use to them
        shutil.rmtree(staging_of(target), ignore_errors=True)
        raise


def _finish(staging: Staging, result: PrepareResult, settings: dict[str, Any]) -> None:
    """Puts manifest, index and the list of skipped records beside the shards."""
    write_manifest(staging.directory, staging.shards)
    shutil.copyfile(staging.path / SKIPPED, staging.directory / SKIPPED)
    if result.written:
        build_index(staging.directory, workers=settings["workers"] or available_cpus())


def write_marker(
    directory: Path, recipe: dict[str, Any], result: PrepareResult, *, part: str | None = None, parts: int | None = None
) -> None:
    """Writes what was done, and of which part or how many merged parts it is."""
    made = {"recipe": recipe, "part": part, "merged_parts": parts, "result": result.to_json()}
    (directory / MARKER).write_text(json.dumps(made, indent=1) + "\n")


def take_name(staging: Path, made: Path, target: Path) -> None:
    """Gives a finished folder its name, in the place of an earlier one, and clears up."""
    if target.exists():
        os.rename(target, staging / "replaced")
    os.rename(made, target)
    shutil.rmtree(staging)


def check_replaceable(target: Path) -> None:
    """Overwriting must not delete what was never prepared here, and the folder must be one that another can replace.

    Raises:
        ConfigError: for a folder with other files, and for a mount point.
    """
    if not target.exists():
        return
    if is_mount(target):
        raise ConfigError(
            f"output: {target} is a mount point, which no finished folder can take the name of; name a folder in it: "
            f"{target / 'shards'}."
        )
    names = [p.name for p in target.iterdir()] if target.is_dir() else [target.name]
    foreign = sorted(name for name in names if name not in OWN_FILES and not name.startswith("shard-"))
    if foreign:
        raise ConfigError(f"output: {target} holds other files ({', '.join(foreign[:5])}); choose another output.")


def is_mount(path: Path) -> bool:
    """Whether a file system begins there; a folder bound from elsewhere on the same disk counts, where Linux tells."""
    try:
        mounts = [line.split()[4] for line in MOUNTS.read_text().splitlines()]
    except (OSError, IndexError):
        mounts = []
    return os.path.ismount(path) or str(path.resolve()).replace(" ", "\\040") in mounts


def run(given: Mapping[str, Any]) -> None:
    """Prepares what the command's words say, and shows the account."""
    settings = dict(given)
    names = (settings.pop("source", None) or "", settings.pop("input", None), settings.pop("output", None) or "")
    try:
        result = prepare(*names, **settings)
    except KeyboardInterrupt:
        print("stopped; finished shards are kept: run the same again to go on behind them.", file=sys.stderr)
        sys.exit(130)
    Console().print(result_table(result))


def main(words: Sequence[str] | None = None) -> None:
    """The command, see `mrm.cli.settings_command`; its settings depend on the source."""
    words_command(parse_arguments, run, usage, words)


if __name__ == "__main__":
    main()
