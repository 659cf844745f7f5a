"""What a run has finished, shard by shard, so that a killed one goes on behind its last finished shard.

Everything stands in a staging folder beside the output: the recipe, the shards, what was skipped, keys and pairs, and the
journal, a line a finished shard. A line is written when the shard and all that belongs to it is on the disk, and tells how
long each file was then: whatever a killed run wrote after its last whole line is cut off.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.prepare_result import SKIPPED
from datamodules.seen import KEYS, PAIRS, SeenSamples
from datamodules.shard_tars import ShardInfo

RECIPE, JOURNAL, SHARDS = "recipe.json", "journal.jsonl", "shards"


@dataclass(frozen=True)
class Checkpoint:
    """The state behind a finished shard.

    Args:
        position: records of the source that are dealt with.
        last_key: the last one's.
        placed: sides of text-to-image pairs that are used up, of each wording.
        result: counts, see `PrepareResult.to_json`.
        unreadable: fields of `UnreadableRecords`.
        lengths: bytes of the files beside the journal.
        shard: the shard that was finished; None where nothing was written since the last.
        complete: whether the source had ended.
    """

    position: int
    last_key: str
    placed: list[int]
    result: dict[str, Any]
    unreadable: dict[str, Any]
    lengths: dict[str, int]
    shard: dict[str, Any] | None
    complete: bool


class Staging:
    """A run's folder, new or taken over from a killed run of the same recipe.

    Args:
        path: the folder.
        recipe: what is written there; a folder of another is cleared.
        resume: whether to take over.

    Attributes:
        last: the last checkpoint of a run that is taken over; None in a new one.
        shards: the finished shards.
        skipped: the open list of skipped records.
        seen: keys and pairs that are written.
    """

    def __init__(self, path: Path, recipe: dict[str, Any], *, resume: bool = True) -> None:
        self.path = path
        self.last: Checkpoint | None = None
        self.shards: list[ShardInfo] = []
        if not (resume and self._take_over(recipe)):
            self._begin(recipe)
        self.skipped = (path / SKIPPED).open("ab")
        self._journal = (path / JOURNAL).open("ab")
        self.seen = SeenSamples(path)

    @property
    def directory(self) -> Path:
        """Where the shards are."""
        return self.path / SHARDS

    def commit(self, shard: ShardInfo | None, **state: Any) -> None:
        """Enters a finished shard, with the state behind it as in `Checkpoint`."""
        lengths = {name: _flush(file) for name, file in self._files().items()}
        self.last = Checkpoint(shard=None if shard is None else asdict(shard), lengths=lengths, **state)
        _sync_folder(self.directory)
        self._journal.write(json.dumps(asdict(self.last)).encode() + b"\n")
        _flush(self._journal)
        if shard is not None:
            self.shards.append(shard)

    def close(self) -> None:
        """Closes the files; what is there stays."""
        for file in (*self._files().values(), self._journal):
            with contextlib.suppress(OSError):  # of a full disk: what was not entered is cut off when the run goes on
                file.close()

    def _files(self) -> dict[str, BinaryIO]:
        return {SKIPPED: self.skipped, **self.seen.files()}

    def _begin(self, recipe: dict[str, Any]) -> None:
        if self.path.exists():  # left by a killed run: the output's lock is ours, so nobody writes there now
            shutil.rmtree(self.path)
        self.directory.mkdir(parents=True)
        (self.path / RECIPE).write_text(json.dumps(recipe))
        self.last, self.shards = None, []

    def _take_over(self, recipe: dict[str, Any]) -> bool:
        """Finds the last checkpoint whose files are all there, and cuts off what came behind it."""
        try:
            if json.loads((self.path / RECIPE).read_text()) != recipe:
                return False
            lines = (self.path / JOURNAL).read_bytes().splitlines(keepends=True)
        except (OSError, ValueError):
            return False
        end = 0
        for line in lines:
            checkpoint = self._checkpoint(line)
            if checkpoint is None:
                break
            self.last = checkpoint
            if checkpoint.shard is not None:
                self.shards.append(ShardInfo(**checkpoint.shard))
            end += len(line)
        if self.last is None:
            return False
        for name, length in ((JOURNAL, end), *self.last.lengths.items()):
            os.truncate(self.path / name, length)
        finished = {shard.name for shard in self.shards}
        for file in self.directory.iterdir():
            if file.name not in finished:
                file.unlink()
        return True

    def _checkpoint(self, line: bytes) -> Checkpoint | None:
        """The checkpoint of a journal's line; None where it, its shard or a file beside it is not whole."""
        try:
            checkpoint = Checkpoint(**json.loads(line))
            shard = checkpoint.shard
            if not line.endswith(b"\n") or set(checkpoint.lengths) != {SKIPPED, KEYS, PAIRS}:
                return None
            if shard is not None and (self.directory / shard["name"]).stat().st_size != shard["bytes"]:
                return None
            if any((self.path / name).stat().st_size < length for name, length in checkpoint.lengths.items()):
                return None
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return checkpoint


def _flush(file: BinaryIO) -> int:
    """Sees to it that a file is on the disk, and gives its length."""
    file.flush()
    os.fsync(file.fileno())
    return os.fstat(file.fileno()).st_size


def _sync_folder(path: Path) -> None:
    """New names in a folder are only safe once the folder is written, too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
