"""Runs of the prepare command on data with something of everything, and what they wrote."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from datamodules.prepare import PrepareResult, prepare
from tests.datamodules.sources.helpers import make_mj_bench, write_jsonl

SMALL_SHARDS = 30 / 1024  # MiB: a dozen samples or so


def status_of(main: Callable[[list[str]], None], words: list[str]) -> object:
    """A command's exit status; its log handlers would replace pytest's."""
    with mock.patch("mrm.cli.set_up_logging"):
        try:
            main(words)
        except SystemExit as ended:
            return ended.code
    return 0


def noise(folder: Path, name: str, seed: int, size: tuple[int, int] = (24, 16)) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return name


def make_pairs(folder: Path, count: int = 80) -> Path:
    """Pairs of which every tenth is broken, a duplicate, a repeated key or an empty answer."""
    folder.mkdir()
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    records: list = []
    for number in range(count):
        image = noise(folder, f"{number}.png", number)
        record = {
            "key": f"k{number}",
            "prompt": f"<image>Question {number}?",
            "images": [image],
            "chosen": "a",
            "rejected": "b",
        }
        match number % 10:
            case 3:
                record["images"] = ["cut.png"]
            case 5:
                record = {**records[number - 4], "key": f"k{number}"}
            case 7:
                record["key"] = records[number - 5]["key"]
            case 8:
                record["chosen"] = " "
        records.append(record)
    return write_jsonl(folder / "pairs.jsonl", records)


def make_t2i(folder: Path, count: int = 60) -> Path:
    """Text-to-image pairs of which every fifth has a broken image."""
    names = [name for n in range(count) for name in (f"{n}a.png", f"{n}b.png")]
    pairs = [
        {"caption": f"caption {n}", "label_0": n % 2, "image_0": f"{n}a.png", "image_1": f"{n}b.png"}
        for n in range(count)
    ]
    make_mj_bench(folder, pairs, names)
    for number in range(0, count, 5):
        (folder / "images" / f"{number}b.png").write_bytes(b"broken")
    return folder


SOURCES: dict[str, Callable[[Path], Path]] = {"jsonl": make_pairs, "mj_bench": make_t2i}


def run(source: str, data: Path, output: Path, **options: object) -> PrepareResult:
    settings = {"show_progress": False, "max_unreadable": 0.5, "shard_mb": SMALL_SHARDS, "workers": 1, **options}
    return prepare(source, data, output, **settings)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an output."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def listed(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def run_and_die(work: Callable[[], object]) -> None:
    """Runs something in a process that must be killed in it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(7)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it went on to its end"


def killer(function: Callable, call: int, *, after: bool) -> Callable:
    """The function, which at its n-th call kills the process, before or after its work."""
    left = [call]

    def killing(*args, **kwargs):
        left[0] -= 1
        if not left[0] and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return killing
