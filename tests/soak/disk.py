"""A full disk: a ledger, a checkpoint, an answer or the model cannot be written; with room again the run ends as one left alone."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from callbacks.checkpoints import whole_checkpoints
from mrm.errors import EXIT_RESUMABLE
from tests.soak.places import BEFORE_LEDGER, FULL_DISK, WITHIN_LEDGER, Place, of_round
from tests.soak.runs import Runs, Started, check_ledgers, compare, remove

DISK_MB = 128
MOUNT = ("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none")
_FILLER = "filler"


@dataclass(frozen=True)
class Write:
    """A write that meets the full disk.

    Args:
        name: what is written.
        before: where the disk is filled.
        within: where the write fails if no small disk can be had; None if it needs a true one.
        file: part of the path that the message must name.
    """

    name: str
    before: Place
    within: Place | None
    file: str


WRITES = (
    Write(
        "ledger",
        Place(of_round(BEFORE_LEDGER, 2)),
        Place(of_round(WITHIN_LEDGER, 2)),
        "round_0002.parquet",
    ),
    Write("checkpoint", Place("before a checkpoint is written", 3), Place("in the middle of a checkpoint", 3), ".ckpt"),
    Write("answers", Place("before an answer is kept", 5), Place("in the middle of an answer", 5), "answers.jsonl"),
    Write("model", Place("before the model is saved"), None, "/model"),
)


@dataclass(frozen=True)
class DiskResult:
    """What came of it.

    Args:
        disk: which disk was full.
        writes: that failed, were told, and done again.
        left_out: that need a true small disk.
        seconds: all in all.
    """

    disk: str
    writes: list[str]
    left_out: list[str]
    seconds: float

    def __str__(self) -> str:
        left_out = f"; not tried: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.disk} full while writing {', '.join(self.writes)}: each told with its file in one message, none half there; "
            f"with room again all ledgers and weights are those of a run left alone{left_out}; {self.seconds:.0f} s"
        )


def full_disk(runs: Runs, writes: list[str]) -> DiskResult:
    """Has each of these writes fail for want of room, makes room, and goes on.

    Args:
        runs: starts them.
        writes: names from WRITES.

    Raises:
        AssertionError: if a message is unclear, a file is half there, or the run ends as another one.
    """
    began, done, left_out = time.monotonic(), [], []
    reference = runs.reference()
    with small_disk(runs.folder / "small") as (disk, why_not):
        for write in (write for write in WRITES if write.name in writes):
            if why_not and write.within is None:
                left_out.append(write.name)
                continue
            root = (disk if not why_not else runs.folder) / f"full-{write.name}"
            started = runs.start(root, place=write.before if not why_not else write.within)
            assert started.wait_held(), f"the run ended before {write}:\n{started.printed[-3000:]}"
            if why_not:
                started.go_on(told=FULL_DISK)
                codes = started.end()
            else:
                fill(disk)
                started.go_on()
                codes = started.end()
                (disk / _FILLER).unlink()
            try:
                check_failure(started, codes, write)
                last = runs.run(root)
                compare(reference.run_dir, last.run_dir)
            except AssertionError as error:
                raise AssertionError(f"disk full while writing {write.name}: {error}") from error
            remove(last)
            done.append(write.name)
    told = f"a write that fails as on a full disk (no small one: {why_not})" if why_not else f"a tmpfs of {DISK_MB} MiB"
    return DiskResult(told, done, left_out, time.monotonic() - began)


def check_failure(started: Started, codes: list[int | None], write: Write) -> None:
    """One message that names the file, and nothing half under its own name."""
    printed = started.printed
    assert codes == [EXIT_RESUMABLE], f"it ended with {codes}, not with one message:\n{printed[-4000:]}"
    assert "Traceback" not in printed, printed[-4000:]
    told = printed[printed.rindex("Error:") :]
    for words in (("No space left", "disk full"), (write.file,), ("resume=auto",)):
        assert any(word in told for word in words), f"the message lacks {words[0]!r}: {told}"
    check_ledgers(started.run_dir)
    for path in whole_checkpoints(started.run_dir / "checkpoints"):
        torch.load(path, map_location="cpu", weights_only=True)
    left = [str(path) for folder in ("ledger", "checkpoints") for path in (started.run_dir / folder).glob(".*")]
    assert not left, f"half files keep their room: {left}"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file system of its own, and "", or why there can be none."""
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run([*MOUNT, str(folder)], capture_output=True, text=True)
    except OSError as error:
        yield folder, str(error)
        return
    if done.returncode:
        yield folder, done.stderr.strip() or f"{MOUNT[0]} ended with {done.returncode}"
        return
    try:
        yield folder, ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leaves no room on a disk."""
    with contextlib.suppress(FileNotFoundError):
        (disk / _FILLER).unlink()
    with (disk / _FILLER).open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
