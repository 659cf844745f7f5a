"""Published data to shards: `python -m datamodules.prepare source=NAME input=PATH output=DIR [option=value ...]`.

Reads a source, checks every record and decodes every image once, and writes shards with their index. Each record read
is either written or skipped for a reason; OUTPUT/skipped.jsonl lists the skipped, OUTPUT/prepared.json what was done.
The output appears under its name only when it is whole, and is used again where the same is asked for.
`prepare` is the same as a function.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import length_hint
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from datamodules.prepare_config import parse_arguments, resolve, source_options, usage
from datamodules.shards import ShardWriter, verify_shards
from datamodules.sources import get_source
from datamodules.sources.base import DAMAGED, IMAGE_MISSING, Item, Skipped
from datamodules.sources.images import UNSAFE
from datamodules.sources.location import Location, existing, is_url
from mrm.construction.reformulation import T2IPreference, reformulate, sides
from mrm.errors import ConfigError, MrmError, RecordError, UnreadableSamplesError
from mrm.images import UNDECODABLE, decode_image
from mrm.preference import PreferenceSample

MARKER = "prepared.json"
SKIPPED = "skipped.jsonl"
OWN_FILES = (MARKER, SKIPPED, "manifest.json", "index.parquet")
FORMAT = 3  # raise it when the same input would give other samples
LOST = (IMAGE_MISSING, UNDECODABLE)  # images that may be there the next time
# What a broken file or a wrong setting looks like: counted towards max_unreadable. All other reasons are left to the data:
# published sets have ties, empty answers, questions that nobody got wrong and images that some copies lack.
UNREADABLE = (
    *LOST,
    "remote image",
    "unknown image format",
    "image too large",
    "image too narrow",
    "image range unknown",
    "not JSON",
    "not a record",
    "unknown field",
    "missing field",
    "malformed field",
    DAMAGED,
    UNSAFE,
)
NAMED = 5  # skipped keys kept by name for each reason; skipped.jsonl has them all

log = logging.getLogger(__name__)


@dataclass
class PrepareResult:
    """What became of the records: read = written + all skipped.

    Args:
        path: the directory of shards.
        read: records that the source offered.
        written: samples in the shards.
        pairs: preference pairs among them.
        skipped: number of records by reason.
        named: the first few skipped keys of each reason.
        reused: whether an earlier output was used as it stood.
    """

    path: Path
    read: int = 0
    written: int = 0
    pairs: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    reused: bool = False


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
        output: the directory to write.
        **options: other settings of `PrepareConfig`, and options of the source.

    Raises:
        ConfigError: for unknown or wrong settings, an input of another form, an output that isn't what is asked for,
            or when no record could be used.
        UnreadableSamplesError: when more than `max_unreadable` of the records cannot be read: broken JSON, wrong fields,
            images that are missing, don't decode or are refused.
        ShardError: when the shards of an earlier output are damaged.
    """
    given = None if input is None else os.fspath(input)
    settings = resolve({"source": source, "input": given, "output": os.fspath(output), **options})
    target = Path(settings["output"]).absolute()
    with _locked(target):
        recipe = _recipe(settings)
        if not settings["overwrite"] and (earlier := _earlier(target, recipe)) is not None:
            return earlier
        return _build(settings, target, recipe)


def recipe_digest(source: str, input: str | os.PathLike[str] | None, **options: Any) -> str:
    """A short name for what would be prepared: changes with the source, its options and the input's content.

    Raises:
        ConfigError: for unknown or wrong settings, or an input that isn't there.
    """
    given = None if input is None else os.fspath(input)
    settings = resolve({"source": source, "input": given, "output": "-", **options})
    return hashlib.sha256(json.dumps(_recipe(settings), sort_keys=True).encode()).hexdigest()[:10]


def read_result(path: Path) -> PrepareResult:
    """What was told when the folder was prepared.

    Raises:
        OSError, ValueError, KeyError, TypeError: where it holds no sound account.
    """
    counts = json.loads((path / MARKER).read_text())["result"]
    return PrepareResult(path, **{**counts, "skipped": Counter(counts["skipped"])}, reused=True)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
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
        yield


def _recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """All that decides which samples are written; compared with an earlier output's."""
    options = {**source_options(settings), "seed": settings["seed"], "max_image_pixels": settings["max_image_pixels"]}
    digest = None if settings["input"] is None else _input_digest(settings["input"])
    return {"format": FORMAT, "source": settings["source"], "options": options, "input": digest}


def _input_digest(given: str) -> str:
    """A digest of the input: contents of JSON files, names and sizes of all others (times change with every copy).

    Prepared folders within it and hidden files are left out. Images beside a single input file are not looked at: one
    that was missing is found the next time, but change a sound one in place, and the output must be removed by hand.
    """
    if is_url(given):
        return _remote_digest(existing(given))
    path = Path(given)
    if not path.exists():
        raise ConfigError(f"input: there is no file or folder {path}.")
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    prepared = {marker.parent for marker in path.rglob(MARKER)}
    for file in files:
        inside = file.relative_to(path)
        if prepared.intersection(file.parents) or any(part.startswith(".") for part in inside.parts):
            continue
        digest.update(f"{inside}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        if file.suffix in (".json", ".jsonl"):
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()


def _remote_digest(place: Location) -> str:
    """A digest of names, sizes and what the file system tells of versions: contents are not fetched twice."""
    digest = hashlib.sha256()
    for file in [place] if place.is_file() else place.files():
        info = file.fs.info(file.path)
        version = next((info[name] for name in ("ETag", "etag", "sha256", "md5Hash", "blob_id") if info.get(name)), "")
        digest.update(f"{place.relative(file)}\0{info.get('size')}\0{version}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _earlier(target: Path, recipe: dict[str, Any]) -> PrepareResult | None:
    """The result of an earlier run with the same recipe; None where there is none, or images were not to be had then."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        result = read_result(target)
        earlier = json.loads((target / MARKER).read_text())["recipe"]
        then, now = ({**r, **r["options"], "options": None} for r in (earlier, recipe))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refusal(target, f"exists but is not complete (no sound {MARKER})") from error
    if changed := [name for name in {**now, **then} if then.get(name) != now.get(name)]:
        details = "; ".join(f"{name} was {then.get(name)}, now {now.get(name)}" for name in changed)
        raise _refusal(target, f"was prepared otherwise ({details})")
    if lost := sum(result.skipped[reason] for reason in LOST):
        log.info("%s lacks %d records for their images: prepared again.", target, lost)
        return None
    verify_shards(target)
    log.info("%s is complete and used again: %d samples.", target, result.written)
    return result


def _refusal(target: Path, problem: str) -> ConfigError:
    """The error for an output in the way; nobody is told to remove a folder that holds files of another kind.

    Raises:
        ConfigError: for such a folder.
    """
    _check_replaceable(target)
    return ConfigError(f"output: {target} {problem}; remove that folder, choose another output or give overwrite=true.")


def _build(settings: dict[str, Any], target: Path, recipe: dict[str, Any]) -> PrepareResult:
    """Writes everything under a temporary name and gives it its own at the very end."""
    _check_replaceable(target)
    staging = target.parent / f".{target.name}.preparing"
    if staging.exists():  # left by a killed run: we hold the lock, so nobody writes there now
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        result = _write(settings, target, staging)
        counts = {name: getattr(result, name) for name in ("read", "written", "pairs", "skipped", "named")}
        marker = json.dumps({"recipe": recipe, "result": counts}, indent=1)
        (staging / "shards" / MARKER).write_text(marker + "\n")
        os.replace(staging / SKIPPED, staging / "shards" / SKIPPED)
        if target.exists():
            os.rename(target, staging / "replaced")
        os.rename(staging / "shards", target)
        return result
    finally:
        shutil.rmtree(staging)


def _check_replaceable(target: Path) -> None:
    """Overwriting must not delete what was never prepared here."""
    if not target.exists():
        return
    names = [p.name for p in target.iterdir()] if target.is_dir() else [target.name]
    foreign = sorted(name for name in names if name not in OWN_FILES and not name.startswith("shard-"))
    if foreign:
        raise ConfigError(f"output: {target} holds other files ({', '.join(foreign[:5])}); choose another output.")


def _write(settings: dict[str, Any], target: Path, staging: Path) -> PrepareResult:
    """Reads, checks and writes all records into `staging`."""
    result = PrepareResult(target)
    unreadable: list[tuple[str, str]] = []  # key, what was wrong
    read = get_source(settings["source"])
    items = read(settings["input"], **source_options(settings))
    side_stream = sides(settings["seed"])
    preferred_first = next(side_stream)
    with (staging / SKIPPED).open("w", encoding="utf-8") as skipped, ShardWriter(staging / "shards") as writer:
        for item in _progress(items, f"prepare {settings['source']}", settings["show_progress"]):
            result.read += 1
            try:
                sample = _checked(item, preferred_first, settings["max_image_pixels"])
                writer.write(sample)
            except RecordError as error:
                key = str(item.key).encode("utf-8", "backslashreplace").decode()  # a key from data may not be printable
                _count_skipped(result, key, error.reason)
                skipped.write(json.dumps({"key": key, "reason": error.reason, "detail": str(error)}) + "\n")
                if error.reason in UNREADABLE:
                    unreadable.append((key, str(error)))
                continue
            result.written += 1
            result.pairs += len(sample.pairs)
            if isinstance(item, T2IPreference):  # only a written one uses its side up: the balance is exact
                preferred_first = next(side_stream)
        assert result.read == result.written + result.skipped.total()
        _check_usable(result, unreadable, settings["max_unreadable"])
    return result


def _checked(item: Item, preferred_first: bool, max_pixels: int) -> PreferenceSample:
    """The item as a sample whose images all decode.

    Raises:
        RecordError: for an item that was skipped, breaks a rule or has an image that can't be used.
    """
    if isinstance(item, Skipped):
        raise RecordError(item.reason, item.detail)
    sample = reformulate(item, preferred_first=preferred_first) if isinstance(item, T2IPreference) else item
    for number, data in enumerate(sample.images):
        decode_image(data, name=f"sample {sample.key!r}: image {number}", max_pixels=max_pixels)
    return sample


def _count_skipped(result: PrepareResult, key: str, reason: str) -> None:
    result.skipped[reason] += 1
    named = result.named.setdefault(reason, [])
    if len(named) < NAMED:
        named.append(key)


def _check_usable(result: PrepareResult, unreadable: list[tuple[str, str]], max_unreadable: float) -> None:
    if len(unreadable) > max_unreadable * result.read:
        more = f" and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
        reasons = ", ".join(f"{n} x {reason}" for reason, n in result.skipped.most_common() if reason in UNREADABLE)
        raise UnreadableSamplesError(
            f"{len(unreadable)} of {result.read} records cannot be read ({reasons}), more than max_unreadable={max_unreadable:g}: "
            f"{', '.join(key for key, _ in unreadable[:10])}{more}; the first: {unreadable[0][1]} "
            "Mend these records or fetch their files again, or raise max_unreadable to go on without them."
        )
    if not result.written:
        reasons = "; ".join(
            f"{n} x {reason} ({', '.join(result.named[reason])})" for reason, n in result.skipped.most_common()
        )
        raise ConfigError(f"input: none of the {result.read} records could be used: {reasons or 'the input is empty'}.")


def _progress(items: Iterator[Item], title: str, show: bool) -> Iterator[Item]:
    """The items, with a progress bar beside them; without a total where nobody knows it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(title, total=length_hint(items) or None)
        done = 0
        for item in items:
            yield item
            done += 1
            progress.update(task, completed=done)
        progress.update(task, total=done)


def result_table(result: PrepareResult) -> Table:
    """The table shown at the end: read, written, skipped by reason with the first few keys."""
    table = Table(
        title=escape(f"{result.path}{' (complete, used again)' if result.reused else ''}"), title_justify="left"
    )
    table.add_column("records")
    table.add_column("number", justify="right")
    table.add_column("which", overflow="fold")
    table.add_row("read", str(result.read), "")
    table.add_row("written", str(result.written), f"{result.pairs} preference pairs")
    for reason, number in result.skipped.most_common():
        keys = ", ".join(result.named[reason])
        more = f", ... (all in {SKIPPED})" if number > len(result.named[reason]) else ""
        table.add_row(escape(f"skipped: {reason}"), str(number), escape(keys + more))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    try:
        settings = parse_arguments(words)
        result = prepare(
            settings.pop("source", None) or "",
            settings.pop("input", None),
            settings.pop("output", None) or "",
            **settings,
        )
    except MrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console().print(result_table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
