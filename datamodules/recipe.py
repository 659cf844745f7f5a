"""All that decides which samples are written, to tell whether an earlier output is what is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath
from typing import Any

from datamodules.prepare_config import NEEDS, RULES, named_benchmarks, source_options
from datamodules.sources.location import PREPARED, Location, existing, is_url
from mrm.errors import ConfigError

FORMAT = 4  # raise it when the same input would give other samples
MARKER = PREPARED


def recipe_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe of resolved settings.

    Raises:
        ConfigError: for an input or a benchmark that isn't there.
    """
    rules = {name: settings[name] for name in RULES}
    for name, other in NEEDS.items():
        if settings[other] is None:
            rules[name] = None
    if rules["t2i_wordings"] == 1:  # what outputs were made with before there were more
        del rules["t2i_wordings"]
    if settings["decontaminate"] is not None:
        rules["decontaminate"] = [input_digest(path, "decontaminate") for path in benchmark_paths(settings)]
    digest = None if settings["input"] is None else input_digest(settings["input"])
    options = {**source_options(settings), **rules}
    return {"format": FORMAT, "source": settings["source"], "options": options, "input": digest}


def changed_names(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two recipes, as `name was ..., now ...`."""
    before, after = ({**recipe, **recipe["options"], "options": None} for recipe in (then, now))
    return [
        f"{name} was {before.get(name)}, now {after.get(name)}"
        for name in {**after, **before}
        if before.get(name) != after.get(name)
    ]


def benchmark_paths(settings: dict[str, Any]) -> list[Path]:
    """The files and folders that `decontaminate` names."""
    return [Path(name) for name in named_benchmarks(settings["decontaminate"])]


def input_digest(given: str | Path, setting: str = "input") -> str:
    """A digest of the input: contents of JSON files, names and sizes of all others (times change with every copy).

    The files are those that readers see, `Location.files`: prepared folders within it and hidden files are left out. Images
    beside a single input file are not looked at: one that was missing is found the next time, but change a sound one in
    place, and the output must be removed by hand.

    Args:
        given: file, folder or URL.
        setting: what names it, for messages.
    """
    if not is_url(str(given)) and not Path(given).exists():
        raise ConfigError(f"{setting}: there is no file or folder {given}.")
    place = existing(given)
    files = [place] if place.is_file() else place.files()
    return _remote_digest(place, files) if is_url(str(given)) else _local_digest(place, files)


def _local_digest(place: Location, files: list[Location]) -> str:
    digest = hashlib.sha256()
    named = {PurePath(place.relative(file)): file for file in files}
    for name in sorted(named):  # folder by folder, as earlier outputs have it in their recipes
        file = Path(named[name].path)
        if not file.is_file():  # a link to nothing
            continue
        digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        if file.suffix in (".json", ".jsonl"):
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()


def _remote_digest(place: Location, files: list[Location]) -> str:
    """A digest of names, sizes and what the file system tells of versions: contents are not fetched twice."""
    digest = hashlib.sha256()
    infos = {place.path: place.fs.info(place.path)} if place.is_file() else place.fs.find(place.path, detail=True)
    for path in sorted(file.path for file in files):
        info = infos[path]
        version = next((info[name] for name in ("ETag", "etag", "sha256", "md5Hash", "blob_id") if info.get(name)), "")
        digest.update(f"{path}\0{info.get('size')}\0{version}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
