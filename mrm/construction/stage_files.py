"""The files of a construction's stages: each is there whole or not at all, and knows what it was made of.

A stage's output is `NAME.jsonl`, with `NAME.account.json` beside it: what went in, came out and was left out, by reason. What was left out
is named in `NAME.skipped.jsonl`. A stage whose settings and inputs are those of its file is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mrm.errors import ConfigError

NAMED = 5  # records named for each reason


@dataclass(frozen=True)
class Left:
    """A record, or a part of one, that goes no further.

    Args:
        key: of the record.
        reason: short and stable, fit for counting.
        detail: the full explanation.
    """

    key: str
    reason: str
    detail: str


@dataclass
class StageAccount:
    """What became of what a stage was given. It balances: `read` = `written` + those in `left`.

    Args:
        digest: of the settings and inputs.
        read: records or pairs given, as `unit` says.
        written: of them handed on.
        unit: "records" or "pairs".
        left: reason -> how many were left out.
        named: reason -> the first few keys.
        extra: figures of the stage's own.
        complete: whether doing it again would bring nothing more: no call failed.
        output: digest of what was written.
    """

    digest: str
    read: int = 0
    written: int = 0
    unit: str = "records"
    left: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    complete: bool = True
    output: str = ""


def digest_of(*parts: Any) -> str:
    """A digest of JSON-able settings and other digests."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class StageFile:
    """One stage's output.

    Args:
        work: the construction's folder.
        name: the stage's.
    """

    def __init__(self, work: Path, name: str) -> None:
        self.name = name
        self.path = work / f"{name}.jsonl"
        self.skipped = work / f"{name}.skipped.jsonl"
        self._account = work / f"{name}.account.json"

    def account(self) -> StageAccount | None:
        """What was told when it was written; None if it was not, was cut off, or its output was removed.

        The account is written last, and says nothing of an older output: its digest must be that of the inputs.
        """
        if not self.path.is_file():
            return None
        try:
            return StageAccount(**json.loads(self._account.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def is_done(self, digest: str) -> bool:
        """Whether it holds what these settings and inputs give."""
        account = self.account()
        return account is not None and account.digest == digest and account.complete

    def forget(self) -> None:
        """Takes back that it was done."""
        self._account.unlink(missing_ok=True)

    def read(self) -> Iterator[dict[str, Any]]:
        """Its lines.

        Raises:
            ConfigError: if there is no output yet, or it was damaged.
        """
        if not self.path.is_file():
            raise ConfigError(f"{self.path}: is not there; the stage {self.name!r} comes first.")
        with self.path.open(encoding="utf-8", errors="surrogatepass") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ConfigError(
                        f"{self.path}:{number}: {error}; remove the file, its stage is done again."
                    ) from error

    def write(
        self, account: StageAccount, items: Iterable[Mapping[str, Any] | Left], *, passing: Collection[str] = ()
    ) -> StageAccount:
        """Writes the lines, lists what was left out, and counts both into the account.

        Where the unit is not records, counting what was read and written is left to the stage: a line may hold several.
        `passing`: reasons that may be gone the next time; with one of them the stage is not complete.
        """
        self.forget()
        left: Counter[str] = Counter()
        lines, digest = 0, hashlib.sha256()
        with ExitStack() as stack:
            out, skipped = (stack.enter_context(_Replacing(path)) for path in (self.path, self.skipped))
            for item in items:
                if isinstance(item, Left):
                    left[item.reason] += 1
                    if left[item.reason] <= NAMED:
                        account.named.setdefault(item.reason, []).append(item.key)
                    skipped.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
                else:
                    lines += 1
                    line = json.dumps(item, ensure_ascii=False) + "\n"
                    digest.update(line.encode("utf-8", "surrogatepass"))
                    out.write(line)
        account.complete = account.complete and not left.keys() & set(passing)
        account.left, account.output = dict(left.most_common()), digest.hexdigest()[:32]
        if account.unit == "records":
            account.read, account.written = lines + left.total(), lines
        _write_whole(self._account, json.dumps(asdict(account), indent=1))
        return account


class _Replacing:
    """A text file that takes its name when the block ends well."""

    def __init__(self, path: Path) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.name}.partial")

    def __enter__(self) -> TextIO:
        self._file = self._temporary.open("w", encoding="utf-8", errors="surrogatepass")
        return self._file

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)


def _write_whole(path: Path, text: str) -> None:
    with _Replacing(path) as file:
        file.write(text)
