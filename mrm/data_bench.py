"""How fast samples are read, as ratios in one run: `python -m mrm.data_bench`.

Three questions. Reading records and images by index in the order of a shuffled plan and decoding every image: how near
is it to Pillow decoding the same bytes from memory, with nothing else to do? Is it as near where nine of ten pairs were
dropped? And what is reading the bytes alone beside `webdataset` reading them in order?
All ways are timed in turns, in one process and in two workers; a figure is that of the worse setting.
`litdata` and `streaming` (mosaicml-streaming) are measured on the same samples where they are installed.
"""

from __future__ import annotations

import functools
import importlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from datamodules.reading import read_members
from mrm.cli import settings_command
from mrm.data_bench_peers import PEERS
from mrm.data_bench_ways import SIZES, SMALL, DataBenchConfig, Reading
from mrm.errors import ConfigError

KEPT = 0.1  # of the pool, where most of it was dropped
PIECES = 5  # of a pass in one process that are timed each for itself
Pieces = Sequence[tuple[Callable[[], object], int]]  # what to run, and the samples that it reads


def rates(ways: dict[str, Pieces], rounds: int) -> dict[str, float]:
    """Samples per second of each way, taken in turns: of each piece of its work the best of all rounds.

    What else a machine does only ever slows a piece down, so that the best is nearest to what the way itself takes.

    Args:
        ways: name -> pieces.
        rounds: how often each piece is timed; a round before them warms up.
    """
    best = {name: [float("inf")] * len(pieces) for name, pieces in ways.items()}
    for number in range(rounds + 1):
        for place in range(max(map(len, ways.values()))):
            for name, pieces in ways.items():
                if place < len(pieces):
                    start = time.perf_counter()
                    pieces[place][0]()
                    if number:
                        best[name][place] = min(best[name][place], time.perf_counter() - start)
    return {name: sum(samples for _, samples in pieces) / sum(best[name]) for name, pieces in ways.items()}


def _measure(reading: Reading, by_workers: bool) -> dict[str, float]:
    ways: dict[str, Pieces] = {}
    for label, share in (("", 1.0), ("_at_10pct", KEPT)):
        orders = reading.orders(share, 1 if by_workers else PIECES)
        for name in ("bare", "first") if share < 1 else ("bare", "decoded", "first", "members", "samples"):
            one = functools.partial(reading.by_workers, name) if by_workers else getattr(reading, name)
            ways[name + label] = [(functools.partial(one, rows), len(rows)) for rows in orders]
    ways["webdataset"] = [(reading.in_order_by_workers if by_workers else reading.in_order, len(reading.index))]
    return rates(ways, reading.config.rounds)


def data_bench(config: DataBenchConfig, console: Console) -> dict[str, Any]:
    """Measures reading and shows a table.

    Returns:
        `data_decode_vs_pil` and, with nine of ten pairs dropped, `data_decode_vs_pil_at_10pct`: each sample read for the first time
        by its process, with every checksum looked at; `data_decode_vs_pil_again`: read before by it; `data_bytes_vs_webdataset`,
        `data_decode_vs_pil_small` (images of 64 to 448 pixels a side), and `data_details`.
    """
    _check(config)
    settings = {"one process": False, f"{config.workers} workers": True}
    details: dict[str, Any] = {}
    for about, sizes in (("", SIZES), ("small images, ", SMALL)):
        with tempfile.TemporaryDirectory(prefix="mrm-bench-") as folder:
            reading = Reading(Path(folder), config, sizes)
            try:
                for name, by_workers in settings.items():
                    details[about + name] = _ratios(_measure(reading, by_workers))
                if not about:
                    peers = _peers(reading)
            finally:
                reading.close()
    usual = [details[name] for name in settings]
    small = [details[f"small images, {name}"] for name in settings]
    console.print(_table(details, peers))
    return {
        "data_decode_vs_pil": min(found["decode_vs_pil_first"] for found in usual),
        "data_decode_vs_pil_again": min(found["decode_vs_pil"] for found in usual),
        "data_decode_vs_pil_at_10pct": min(found["decode_vs_pil_at_10pct"] for found in usual),
        "data_bytes_vs_webdataset": min(found["bytes_vs_webdataset"] for found in usual),
        "data_decode_vs_pil_small": min(found["decode_vs_pil_first"] for found in small),
        "data_details": {**details, "peers": peers},
    }


def _ratios(found: dict[str, float]) -> dict[str, Any]:
    return {
        "decode_vs_pil": found["decoded"] / found["bare"],
        "decode_vs_pil_first": found["first"] / found["bare"],
        "decode_vs_pil_at_10pct": found["first_at_10pct"] / found["bare_at_10pct"],
        "bytes_vs_webdataset": found["members"] / found["webdataset"],
        "checked_vs_webdataset": found["samples"] / found["webdataset"],
        "samples_per_second": found,
    }


def _peers(reading: Reading) -> dict[str, Any]:
    """Other readers of the same samples, in one process beside `webdataset` and Pillow."""
    found: dict[str, Any] = {}
    members = [(read_members(reading.index, row)[0], *images) for row, images in enumerate(reading.images)]
    rows = list(range(len(reading.index)))
    for package, make in PEERS.items():
        try:
            importlib.import_module(package)
        except ImportError as error:
            found[package] = f"not measured: {error}"
            continue
        read = make(reading.folder / package, members)

        def decoded(read: Callable[[], Iterable[Sequence[bytes]]] = read) -> None:
            for _, *images in read():
                for data in images:
                    Image.open(io.BytesIO(data)).convert("RGB")

        count = len(rows)
        ways: dict[str, Pieces] = {
            "webdataset": [(reading.in_order, count)],
            "bytes": [(functools.partial(_count, read), count)],
            "bare": [(functools.partial(reading.bare, rows), count)],
            "decoded": [(decoded, count)],
        }
        timed = rates(ways, reading.config.rounds)
        found[package] = {
            "decode_vs_pil": timed["decoded"] / timed["bare"],
            "bytes_vs_webdataset": timed["bytes"] / timed["webdataset"],
            "samples_per_second": timed,
        }
    return found


def _count(read: Callable[[], Iterable[object]]) -> int:
    return sum(1 for _ in read())


def _table(details: dict[str, Any], peers: dict[str, Any]) -> Table:
    table = Table(
        "setting",
        "decoded/s: Pillow alone",
        "here",
        "ratio",
        "first epoch",
        "at 10 %",
        "bytes/s: webdataset",
        "here",
        "ratio",
        "checked",
        title="reading by index, samples a second",
    )
    for name, found in details.items():
        speed = found["samples_per_second"]
        table.add_row(
            name,
            *(f"{speed[way]:.0f}" for way in ("bare", "decoded")),
            f"{found['decode_vs_pil']:.3f}",
            f"{found['decode_vs_pil_first']:.3f}",
            f"{found['decode_vs_pil_at_10pct']:.3f}",
            *(f"{speed[way]:.0f}" for way in ("webdataset", "members")),
            f"{found['bytes_vs_webdataset']:.2f}",
            f"{found['checked_vs_webdataset']:.2f}",
        )
    for name, found in peers.items():
        if isinstance(found, str):
            table.add_row(name, found)
            continue
        speed = found["samples_per_second"]
        table.add_row(
            f"{name}, one process",
            *(f"{speed[way]:.0f}" for way in ("bare", "decoded")),
            f"{found['decode_vs_pil']:.3f}",
            "",
            "",
            *(f"{speed[way]:.0f}" for way in ("webdataset", "bytes")),
            f"{found['bytes_vs_webdataset']:.2f}",
            "",
        )
    return table


def _check(config: DataBenchConfig) -> None:
    least = {"samples": 32, "rounds": 1, "workers": 1, "shard_samples": 1}
    problems = [
        f"{name}={getattr(config, name)}: must be at least {low}."
        for name, low in least.items()
        if getattr(config, name) < low
    ]
    if not problems and config.samples < config.workers * config.shard_samples:
        problems.append(f"shard_samples={config.shard_samples}: every worker needs a shard of its own; take fewer.")
    if problems:
        raise ConfigError("\n".join(problems))


def run(config: DataBenchConfig) -> None:
    """Measures and shows the figures."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    figures = data_bench(config, console)
    for name, value in figures.items():
        if isinstance(value, float):
            console.print(f"{name} {value:.3f}")


if __name__ == "__main__":
    settings_command(DataBenchConfig, run, __doc__)
