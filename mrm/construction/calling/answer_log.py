"""The answers that were paid for: a folder of append-only JSON lines that survives a kill at any moment.

`answers.jsonl` has a line an answer that was accepted, `failures.jsonl` a line for each unusable answer and for each call
that was given up, with the reason and the raw text. A line is written by one call of the system and ends in a checksum.
What was written survives the end of the process, however it ends; a power cut loses what came after the last `sync`,
which a run calls every second and at its end. A line that a kill or a full disk cut off is taken away at opening; damaged lines
stay where they are, are named and counted, and their calls are asked again. One process writes at a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mrm.construction.calling.budget import Spent
from mrm.construction.calling.calls import Answer, Call
from mrm.construction.calling.key_index import KeyIndex
from mrm.construction.calling.log_lines import (
    FAILED_CHARS,
    MESSAGE_CHARS,
    NAME_CHARS,
    LoggedAnswer,
    bounded,
    digest_of,
    head_of,
    is_sound,
    read_answer,
    read_head,
    sealed_line,
    sync_folder,
)
from mrm.errors import ConfigError, MrmError, ResumableError

ANSWERS, FAILURES, LOCK = "answers.jsonl", "failures.jsonl", "lock"
_NAMED = 5  # damaged lines told one by one
_READ = 16_384  # bytes, more than most answers take

log = logging.getLogger(__name__)


class LogInUseError(ConfigError):
    """Another process writes to the folder."""


class AnswerLog:
    """A folder of answers. Use as a context manager, or `close` it.

    Args:
        directory: made where it is missing.
        write: whether this process may append; one may at a time, any number may read beside it.

    Attributes:
        torn: lines that were cut off and taken away at opening.
        damaged: (file, line number from 1) of lines that cannot be read.

    Raises:
        LogInUseError: if another process has it.
        ConfigError: if the folder cannot be written to.
    """

    def __init__(self, directory: str | os.PathLike[str], *, write: bool = True) -> None:
        self.directory, self._write = Path(directory), write
        self.torn = 0
        self.damaged: list[tuple[str, int]] = []
        self._index = KeyIndex()
        self._taken: dict[tuple[str, str], Spent] = defaultdict(Spent)  # by accepted answers
        self._spent = Spent()
        self._files: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._syncing = threading.Lock()  # a file must not be closed under a sync
        self._lock = self._locked() if write else None
        try:
            for name in (ANSWERS, FAILURES):
                self._open(name)
            if write:
                sync_folder(self.directory)
        except BaseException:
            self.close()
            raise
        self._tell_damage()

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: str) -> bool:
        return self._index.find(digest_of(key)) is not None

    @property
    def spent(self) -> Spent:
        """What all runs into this log took, unusable answers included."""
        return self._spent

    def answered_by(self, model: str, kind: str) -> Spent:
        """What the accepted answers of a model to a kind of call took."""
        return self._taken.get((model, kind), Spent())

    def has_answers_of(self, model: str) -> bool:
        """Whether a model has answered anything."""
        return any(name == model for name, _ in self._taken)

    def get(self, key: str) -> LoggedAnswer | None:
        """The accepted answer to a call, read from the disk; None where there is none.

        Raises:
            ResumableError: if its line was damaged since the log was opened.
        """
        offset = self._index.find(digest_of(key))
        if offset is None:
            return None
        line = self._line_at(offset)
        if not is_sound(line):
            raise ResumableError(
                f"{self.directory / ANSWERS}: the line at byte {offset} was damaged since the log was opened; "
                "start again, and its call is asked again."
            )
        return read_answer(line)

    def answers(self) -> Iterator[LoggedAnswer]:
        """All accepted answers, in the order in which they came; one at a time in memory."""
        for offset, line in self._lines(ANSWERS):
            if is_sound(line) and self._index.find(digest_of(read_head(line)["key"])) == offset:
                yield read_answer(line)

    def failures(self) -> Iterator[dict[str, Any]]:
        """The lines of failures.jsonl: those with `final` true ended their call in that run."""
        for _, line in self._lines(FAILURES):
            if is_sound(line):
                yield json.loads(line)

    def append(self, call: Call, answer: Answer, *, seconds: float, attempts: int, cost: float | None) -> None:
        """Keeps an accepted answer.

        Raises:
            ResumableError: if it cannot be written; the log is as it was before.
        """
        answer = bounded(answer)
        told = {**head_of(call, answer, cost), "seconds": round(seconds, 3), "attempts": attempts}
        offset = self._append(ANSWERS, sealed_line(told, answer.text))
        self._index.add(digest_of(call.key), offset)
        self._count(ANSWERS, told)

    def append_failure(
        self, call: Call, *, reason: str, message: str, final: bool, attempts: int,
        answer: Answer | None = None, cost: float | None = None,
    ) -> None:  # fmt: skip
        """Keeps an unusable answer, or that a call was given up. Errors as for `append`."""
        answer = bounded(answer or Answer(""), FAILED_CHARS)
        told = {**head_of(call, answer, cost), "attempts": attempts}
        told |= {"final": final, "reason": reason[:NAME_CHARS], "message": message[:MESSAGE_CHARS]}
        self._append(FAILURES, sealed_line(told, answer.text))
        self._count(FAILURES, told)

    def sync(self) -> None:
        """Sees to it that what was appended survives a power cut. May be called from another thread."""
        with self._syncing:
            for name in list(self._dirty):
                self._dirty.discard(name)  # before: what is appended from now on is for the next sync
                try:
                    os.fsync(self._files[name])
                except BaseException:
                    self._dirty.add(name)
                    raise

    def close(self) -> None:
        """Syncs and gives the log back; may be called twice."""
        try:
            self.sync()
        finally:
            files, self._files = self._files, {}
            self._dirty.clear()
            lock, self._lock = self._lock, None
            for file in (*files.values(), *([] if lock is None else [lock])):
                os.close(file)

    def _locked(self) -> int:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"{self.directory} cannot be written to ({error}); choose another folder.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise LogInUseError(
                f"{self.directory} is in use by process {holder}; wait for it, or choose another folder."
            ) from None
        except OSError as error:
            log.warning("%s: the file system has no locks (%s); start one process at a time.", self.directory, error)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _open(self, name: str) -> None:
        """Opens a file, takes away a torn last line, and counts what is in it."""
        path = self.directory / name
        if not self._write and not path.exists():
            return
        try:
            self._files[name] = os.open(
                path, os.O_RDWR | os.O_APPEND | os.O_CREAT if self._write else os.O_RDONLY, 0o644
            )
            if not stat.S_ISREG(os.fstat(self._files[name]).st_mode):
                raise IsADirectoryError(errno.EISDIR, "is no file")
        except OSError as error:
            raise ConfigError(f"{path} cannot be opened ({error}); move it away, or choose another folder.") from error
        end = 0
        for number, (offset, line) in enumerate(self._lines(name), start=1):
            if not line.endswith(b"\n"):
                self.torn += 1
                break
            end = offset + len(line)
            self._take_in(name, number, offset, line)
        if self._write and os.fstat(self._files[name]).st_size > end:
            log.warning("%s: the last line was cut off by a kill or a full disk; it is taken away.", path)
            os.ftruncate(self._files[name], end)
            self._dirty.add(name)
        self._sizes[name] = end

    def _take_in(self, name: str, number: int, offset: int, line: bytes) -> None:
        try:
            if not is_sound(line):
                raise ValueError("checksum")
            head = read_head(line)
            if name == ANSWERS:
                self._index.add(digest_of(head["key"]), offset)
            self._count(name, head)
        except (KeyError, TypeError, ValueError):
            self.damaged.append((name, number))

    def _tell_damage(self) -> None:
        for name, number in self.damaged[:_NAMED]:
            log.warning("%s: line %d is damaged; an answer there is asked for again.", self.directory / name, number)
        if len(self.damaged) > _NAMED:
            log.warning("%s: %d lines are damaged in all.", self.directory, len(self.damaged))

    def _count(self, name: str, told: Mapping[str, Any]) -> None:
        tokens = told["input_tokens"], told["output_tokens"]
        spent = Spent(int(name == ANSWERS or any(tokens)), *tokens, told["cost"] or 0.0)
        self._spent += spent
        if name == ANSWERS:
            self._taken[told["model"], told["kind"]] += spent

    def _append(self, name: str, line: bytes) -> int:
        if not self._write:
            raise MrmError(f"{self.directory} was opened for reading only.")
        file, offset = self._files[name], self._sizes[name]
        try:
            written = os.write(file, line)
            problem = (
                None if written == len(line) else f"{written} of {len(line)} bytes were written; is the disk full?"
            )
        except OSError as error:
            problem = str(error)
        if problem:
            os.ftruncate(file, offset)  # else the next line would be glued to a torn one
            raise ResumableError(
                f"{self.directory / name} cannot be appended to: {problem}. What was answered before is kept: make room, or mend"
                " what is wrong with the disk, and start again (a run: with resume=auto)."
            )
        self._sizes[name] = offset + len(line)
        self._dirty.add(name)
        return offset

    def _line_at(self, offset: int) -> bytes:
        data = b""
        while b"\n" not in data:
            more = os.pread(self._files[ANSWERS], _READ, offset + len(data))
            if not more:
                break
            data += more
        return data[: data.find(b"\n") + 1]

    def _lines(self, name: str) -> Iterator[tuple[int, bytes]]:
        """(offset, line) of a file as it is when the reading reaches them."""
        if name not in self._files:
            return
        offset = 0
        with (self.directory / name).open("rb") as file:
            for line in file:
                yield offset, line
                offset += len(line)
