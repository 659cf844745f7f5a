"""Damages shards at random and checks that no sample is lost in silence: `python -m tests.fuzz_shards count=10000`.

Each case writes a few samples, harms the tar or its index (flips, cuts, insertions, repeats, fields of headers, with and
without a mended sum, members that are too much of something), and reads what is left in three ways:

1. as training does: the index is refused by name, or has every value that was written, and every sample is read
   unchanged or named;
2. as `salvage` does with the old index: every sample is kept unchanged or named, or nothing is left and that is said;
3. as `salvage` does without one: whatever is kept keeps the record's rules, and a sample that is not kept stands beside
   at least one fault. A tar that ends early in zeros is a whole, shorter tar to anyone; such cases are counted apart.

A crash, an answer that takes longer than SECONDS, or accounts that do not balance end the run with the case's number.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import random
import shutil
import signal
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

import datamodules.index
from datamodules.index import INDEX_NAME, Index
from datamodules.reading import read_sample
from datamodules.salvage import salvage
from datamodules.shards import ShardWriter
from datamodules.tarwalk import BLOCK
from mrm.cli import settings_command
from mrm.errors import ShardError
from mrm.preference import PreferenceSample
from tests.datamodules.making import make_image, make_sample

SECONDS = 20  # that a case may take


@dataclass
class FuzzConfig:
    """Settings of `python -m tests.fuzz_shards`."""

    count: int = 10_000
    seed: int = 0
    first: int = 0  # number of the first case, to see one again


def make_samples() -> list[PreferenceSample]:
    """Some of every kind: no image, one, three, a long key."""
    images = [make_image(number, kind) for number, kind in enumerate(("PNG", "JPEG", "GIF", "BMP"))]
    return [
        make_sample("text-only", images=()),
        make_sample("one", images=images[:1]),
        make_sample("three", images=images[1:]),
        make_sample("long-" + "x" * 150, images=images[1:2]),
        make_sample("ranked", images=(), responses=4, meta={"scores": [1, 2.5, None, "x"]}),
        make_sample("last", images=images[:2]),
    ]


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 4, 40))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice((rng.randrange(len(data)), rng.randrange(len(data)) // BLOCK * BLOCK)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    start, length = rng.randrange(len(data)), rng.choice((1, BLOCK, 3 * BLOCK, rng.randrange(5000)))
    start = rng.choice((start, start // BLOCK * BLOCK))
    del data[start : start + length]


def insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    start = rng.choice((start, start // BLOCK * BLOCK))
    data[start:start] = rng.choice((bytes(BLOCK), rng.randbytes(rng.randrange(1, 2000)), b"x", rng.randbytes(BLOCK)))


def repeat(data: bytearray, rng: random.Random) -> None:
    start, length = (rng.randrange(len(data)) // BLOCK * BLOCK, BLOCK * rng.randrange(1, 8))
    piece = bytes(data[start : start + length])
    place = rng.choice((start, rng.randrange(len(data)) // BLOCK * BLOCK))
    data[place:place] = piece


def overwrite(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    length = min(rng.randrange(1, 3000), len(data) - start)
    data[start : start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))


FIELDS = (
    (0, 100),
    (100, 8),
    (108, 8),
    (124, 12),
    (124, 12),
    (136, 12),
    (148, 8),
    (156, 1),
    (156, 1),
    (157, 100),
    (257, 8),
)
VALUES = (
    b"../../etc/passwd", b"/etc/passwd", b"a.pkl", b"a.pyd", b"one.0.png", b"one.json", b"pipe:ls", b"\xff\xfe", b"",
    b"00000000000", b"77777777777", b"00000000001", b"00000100000", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80" + bytes(10) + b"\x01",
    b"1", b"2", b"3", b"5", b"7", b"x", b"g", b"L", b"K", b"S", b"V",
)  # fmt: skip


def header(data: bytearray, rng: random.Random) -> None:
    """Another value in a header's field, mostly with the right sum."""
    places = headers(data)
    if not places:
        return flip(data, rng)
    at = rng.choice(places)
    start, length = rng.choice(FIELDS)
    value = rng.choice((*VALUES, rng.randbytes(length)))[:length]
    data[at + start : at + start + length] = value.ljust(length, b"\0")
    if rng.random() < 0.8:
        block = bytearray(data[at : at + BLOCK])
        block[148:156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(block)


def member(name: str, data: bytes) -> bytes:
    """One member as it stands in a tar, without the archive's end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


@functools.cache
def excessive() -> tuple[bytes, ...]:
    """Members that well-meant code falls over: numbers that Python or a column cannot hold."""
    record = make_sample("k", images=()).to_json()
    text = json.dumps(record | {"pairs": [{"chosen": 0, "rejected": 1, "strength": "STRENGTH"}]})
    many = [f"answer {number}" for number in range(2**15)]
    return (
        member(f"k.{'1' * 5000}.png", make_image()),
        member("k.json", text.replace('"STRENGTH"', "9" * 400).encode()),
        member("k.json", json.dumps(record | {"responses": many}).encode()),
        member("k.json", json.dumps(record | {"pairs": [{"chosen": 2**70, "rejected": 0}]}).encode()),
    )


def headers(data: bytearray) -> list[int]:
    """Where headers seem to begin."""
    return [at for at in range(0, len(data), BLOCK) if data[at + 257 : at + 262] == b"ustar"]


def exceed(data: bytearray, rng: random.Random) -> None:
    place = rng.choice(headers(data) or [0])
    data[place:place] = rng.choice(excessive())


HARMS = (flip, flip, cut, cut_out, insert, repeat, overwrite, header, header, header, exceed)


class Case:
    """One damaged data set."""

    def __init__(self, whole: Path, folder: Path, samples: list[PreferenceSample], number: int, seed: int) -> None:
        self.rng = random.Random(f"{seed}-{number}")
        self.whole = Index.load(whole)
        self.samples = {sample.key: sample for sample in samples}
        self.root = folder / "set"
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(whole, self.root)
        self.target = self.rng.choice(sorted(self.root.glob("*.tar")))
        if self.rng.random() < 0.15:
            self.target = self.root / INDEX_NAME
        data = bytearray(self.target.read_bytes())
        self.harms = []
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            kinds = (flip, cut, insert, overwrite) if self.target.name == INDEX_NAME else HARMS
            harm = self.rng.choice(kinds)
            if data:
                harm(data, self.rng)
                self.harms.append(harm.__name__)
        self.target.write_bytes(data)

    def read(self) -> str:
        """As training does."""
        try:
            index = Index.load(self.root)
        except ShardError as error:
            assert str(self.root) in str(error), f"the refusal names no file: {error}"
            return "refused"
        self._check_index(index)
        outcome = "whole"
        for row, key in enumerate(index.keys):
            try:
                assert read_sample(index, row) == self.samples[key], f"{key} was read altered"
            except ShardError as error:
                assert key in str(error) and ".tar" in str(error), f"the error names no sample: {error}"
                outcome = "some unreadable"
        return outcome

    def _check_index(self, index: Index) -> None:
        """An index that is read at all has every value that was written."""
        for field in dataclasses.fields(index):
            if field.name not in ("shard_files", "dataset_names"):  # which tell where it lies
                found, written = (np.asarray(getattr(of, field.name)) for of in (index, self.whole))
                np.testing.assert_array_equal(found, written, err_msg=f"{field.name} was read altered")

    def salvage(self) -> str:
        """As `salvage` does with the old index, or what was left of it."""
        try:
            found = salvage(self.root)
        except ShardError as error:
            assert str(self.root) in str(error), f"the refusal names no folder: {error}"
            return "nothing left"
        index = Index.load(self.root)
        self._check_kept(index, exact=found.indexed)
        named = {fault.what for fault in found.faults}
        lost = self.samples.keys() - set(found.kept)
        if found.indexed:
            assert lost <= named, f"neither kept nor named: {lost - named}"
        else:
            if (
                lost and not found.faults
            ):  # a shorter tar, as somebody might have written it: only an index or manifest knows
                assert self._ends_early(index), f"lost without a fault: {lost}"
                return "ends early"
        return "all kept" if not lost else "some named"

    def _ends_early(self, index: Index) -> bool:
        """Whether nothing but zeros stands behind the last member that was kept of the damaged shard."""
        rows = [row for row in range(len(index)) if index.shard_files[index.shard[row]] == self.target]
        ends = [int(index.json_offset[row] + index.json_length[row]) for row in rows]
        for row in rows:
            images = slice(index.image_start[row], index.image_start[row + 1])
            ends += (index.image_offset[images] + index.image_length[images]).tolist()
        return bool(ends) and not any(self.target.read_bytes()[max(ends) :])

    def _check_kept(self, index: Index, *, exact: bool) -> None:
        for row, key in enumerate(index.keys):
            sample = read_sample(index, row)  # keeps the record's rules, or raises
            assert not exact or sample == self.samples[key], f"{key} was kept altered"

    def rebuild(self) -> str:
        """As `salvage` does without an index and a manifest."""
        for name in (INDEX_NAME, "manifest.json"):
            (self.root / name).unlink()
        return self.salvage()


def fuzz(config: FuzzConfig) -> dict[str, Counter[str]]:
    """Runs the cases; gives how often each way ended how.

    Raises:
        AssertionError, TimeoutError, or whatever a crash raised: with the case's number in its notes.
    """
    samples = make_samples()
    outcomes: dict[str, Counter[str]] = {"read": Counter(), "salvage": Counter(), "rebuild": Counter()}
    datamodules.index.log.setLevel("ERROR")  # a line for every cut would hide the outcome
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        whole = Path(place) / "whole"
        with ShardWriter(whole, max_samples=3) as writer:
            for sample in samples:
                writer.write(sample)
        for number in range(config.first, config.first + config.count):
            case = Case(whole, Path(place), samples, number, config.seed)
            signal.alarm(SECONDS)
            try:
                for way, counter in outcomes.items():
                    counter[getattr(case, way)()] += 1
            except BaseException:
                print(f"case {number} of seed {config.seed}: {case.harms} on {case.target.name}", flush=True)
                raise
            finally:
                signal.alarm(0)
    return outcomes


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"a case took longer than {SECONDS} s")


def run(config: FuzzConfig) -> None:
    """Runs the cases and shows how they ended."""
    start = time.perf_counter()
    outcomes = fuzz(config)
    for way, counter in outcomes.items():
        print(f"{way}: " + ", ".join(f"{name} {count}" for name, count in counter.most_common()))
    print(
        f"{config.count} damaged data sets in {time.perf_counter() - start:.0f} s: no crash, no hang, accounts balance"
    )


if __name__ == "__main__":
    settings_command(FuzzConfig, run, __doc__)
