"""Whether the files that a command is to write leave those alone that it reads, and each other."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from os import PathLike
from pathlib import Path

PARTIAL = ".partial"  # ending of a file that is half done


def output_problems(
    read: Iterable[tuple[str, str | PathLike[str]]],
    written: Iterable[tuple[str, str | None]],
    *,
    partial: Collection[str] = (),
) -> list[str]:
    """What is wrong with the names of outputs: a folder, a file that is read, or written by another key, or a place where nothing can be written.

    Args:
        read: key and path of each file that is read.
        written: key and path of each that is written; None is none.
        partial: keys whose file has another name with `PARTIAL` until it is done.
    """
    taken = {Path(path).resolve(): key for key, path in read}
    problems = []
    for key, given in written:
        if given is None:
            continue
        path = Path(given).resolve()
        if not given or path.is_dir():
            problems.append(f"{key}={given!r}: is a folder; name a file in it.")
            continue
        above = next(parent for parent in path.parents if parent.exists())  # what lies between is made
        if not above.is_dir() or not os.access(above, os.W_OK):
            problems.append(f"{key}={given!r}: cannot be written, {above} takes no files; choose another place.")
        for name in (path, *([Path(f"{path}{PARTIAL}")] if key in partial else [])):
            if name in taken:
                problems.append(f"{key}={given!r}: would write over the file of {taken[name]}; choose another name.")
            taken[name] = key
    return problems
