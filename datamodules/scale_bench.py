"""How long a million pairs take: index, ledger and plan, and what they hold in memory. `mrm.bench` prints the figures.

The data sets are made up and have no bytes to read: shards of zeros beside an index in the true format. All is measured
in a process of its own, whose memory nothing else has touched, as training does it, through the data module.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datamodules.dataset_spec import DatasetSpec
from datamodules.index import INDEX_NAME, Index
from datamodules.index_seal import seal
from datamodules.index_table import SCHEMA, file_metadata, parquet_writer
from datamodules.ledger import Decision, Ledger
from datamodules.plan import epoch_plan, padding_share
from datamodules.preference_datamodule import PreferenceDataModule

MILLION = 1_000_000
SHARD_SAMPLES, SHARD_BYTES = 1000, 1024  # a stub's bytes: the index is checked against them
DATASETS = ("trusted", "t2i", "open_a", "open_b")  # a quarter of the pairs each
SETTINGS = {"batch_size": 8, "length_window": 50, "batch_tokens": 16_384}
WORLD_SIZE, ACCUMULATE = 8, 2


def make_shards(directory: Path, samples: int, name: str, seed: int = 0) -> None:
    """A directory of stub shards with an index of so many samples, each of one image, two responses and one pair."""
    directory.mkdir(parents=True)
    rng, row = np.random.default_rng(seed), np.arange(samples)
    one, two = np.arange(samples + 1), np.arange(samples + 1) * 2

    def listed(values: Any, start: np.ndarray, column: str) -> pa.Array:
        kind = SCHEMA.field(column).type.value_type
        return pa.ListArray.from_arrays(pa.array(start, pa.int32()), pa.array(values, kind))

    def hashes() -> np.ndarray:
        return rng.integers(0, 2**64, samples, dtype=np.uint64)

    width, height = rng.integers(200, 1200, (2, samples))
    prompt, responses = rng.integers(20, 400, samples), rng.lognormal(6, 0.8, 2 * samples).astype(np.int64)
    columns: dict[str, Any] = {
        "key": [f"{name}-{digest:08x}-{number:07d}" for number, digest in enumerate(rng.integers(0, 2**32, samples))],
        "key_hash": hashes(),
        "source": pa.DictionaryArray.from_arrays(pa.array(row % 3, pa.int32()), [f"{name}-{n}" for n in range(3)]),
        "shard": row // SHARD_SAMPLES,
        "json_offset": row % SHARD_SAMPLES * 200_000,
        "json_length": rng.integers(500, 3000, samples),
        "json_crc": rng.integers(0, 2**32, samples, dtype=np.uint32),
        "image_offsets": listed(row % SHARD_SAMPLES * 200_000 + 4096, one, "image_offsets"),
        "image_lengths": listed(rng.integers(20_000, 190_000, samples), one, "image_lengths"),
        "image_crcs": listed(rng.integers(0, 2**32, samples, dtype=np.uint32), one, "image_crcs"),
        "image_hashes": listed(hashes(), one, "image_hashes"),
        "n_responses": np.full(samples, 2),
        "pair_chosen": listed(np.zeros(samples, np.int64), one, "pair_chosen"),
        "pair_rejected": listed(np.ones(samples, np.int64), one, "pair_rejected"),
        "pair_strength": listed(rng.random(samples), one, "pair_strength"),
        "text_chars": prompt + responses.reshape(-1, 2).sum(axis=1),
        "image_pixels": width * height,
        "json_hash": hashes(),
        "image_exts": listed(np.full(samples, "jpg", object), one, "image_exts"),
        "image_widths": listed(width, one, "image_widths"),
        "image_heights": listed(height, one, "image_heights"),
        "prompt_chars": prompt,
        "response_chars": listed(responses, two, "response_chars"),
    }
    names = [f"shard-{number:06d}.tar" for number in range(-(-samples // SHARD_SAMPLES))]
    for shard in names:
        (directory / shard).write_bytes(bytes(SHARD_BYTES))
    with parquet_writer(directory / INDEX_NAME) as writer:
        arrays = [c if isinstance(c, pa.Array) else pa.array(c, SCHEMA.field(n).type) for n, c in columns.items()]
        writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        writer.add_key_value_metadata(file_metadata(dict.fromkeys(names, SHARD_BYTES), f"{seed:064x}"))
    seal(directory / INDEX_NAME)


class _NoEncoder:
    """Enough of an encoder to plan with."""

    pad_id, max_pixels, filler = 0, 268_324, None

    def encode(self, sample: Any) -> Any:
        raise AssertionError("nothing is read here")


def datamodule(root: Path) -> PreferenceDataModule:
    """The data module over the data sets that were made under `root`, its ledger beside them."""
    specs = [DatasetSpec(n, root / n, n if n == "trusted" else "open") for n in DATASETS]
    options: dict[str, Any] = {"score_batch_size": 8, "row_tokens": 8192, "num_workers": 0, "seed": 0, **SETTINGS}
    return PreferenceDataModule(specs, _NoEncoder(), ledger_dir=root / "ledger", admit_open=True, **options)


def curated(ledger: Ledger, seed: int = 0) -> Ledger:
    """The ledger as a round of curation leaves it: scores everywhere, a tenth flipped and a tenth dropped."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 10, len(ledger))
    decision = np.array([Decision.FLIP, Decision.DROP, *[Decision.KEEP] * 8], dtype=object)[kind]
    reason = np.array(["lower half of the negatives", "votes tied", *["chosen above rejected"] * 8], dtype=object)[kind]
    chosen, rejected = rng.standard_normal((2, len(ledger)))
    scores = {"chosen_score": chosen, "rejected_score": rejected}
    flags = {"flipped": kind == 0, "active": kind != 1}
    return dataclasses.replace(ledger, decision=decision, reason=reason, round=1, **scores, **flags)


def measure(root: Path, repeats: int = 3) -> dict[str, float]:
    """Seconds (medians) and megabytes of this process; see `scale_figures`, which fills the size in for `{}`."""
    before = resident_mb()
    data = datamodule(root)
    data.setup("fit")
    loader = data.epoch_loader(0, world_size=WORLD_SIZE, accumulate=ACCUMULATE)
    gc.collect()
    resident = resident_mb() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
    hot = data.index.nbytes + sum(column.nbytes for column in (data.lengths, data.mixture)) + loader.nbytes

    def read() -> None:
        Index.concat({name: Index.load(root / name) for name in DATASETS})

    ledger = curated(data.ledger())
    options: dict[str, Any] = {"world_size": WORLD_SIZE, "accumulate": ACCUMULATE}
    rows, lengths = np.arange(len(data.index)), data.lengths
    plans = [
        epoch_plan(rows, lengths, np.ones(len(rows)), **{**SETTINGS, "seed": 0, "epoch": 0, **options, **change})
        for change in ({}, {"batch_tokens": None}, {"batch_tokens": None, "length_window": 0})
    ]
    names = ("plan_padding", "plan_padding_without_budget", "plan_padding_shuffled")
    return {
        "index_{}_read_s": _median(read, repeats),
        "ledger_{}_write_s": _median(lambda: ledger.write(root / "ledger"), repeats),
        "ledger_{}_read_s": _median(lambda: Ledger.latest(root / "ledger"), repeats),
        "plan_{}_s": _median(lambda: data.epoch_loader(1, **options), repeats),  # the newest ledger is read for it
        "hot_columns_{}_mb": resident,
        "hot_columns_{}_peak_mb": peak,
        "hot_columns_{}_arrays_mb": hot / 1e6,
        **{name: padding_share(plan, lengths) for name, plan in zip(names, plans, strict=True)},
    }


def scale_figures(pairs: int = MILLION) -> dict[str, float]:
    """Measures the data layer at a size, four data sets together.

    Returns:
        with `1m` (or the number of pairs) in their names: seconds to read the indexes and join them, to write and read
        a ledger, and to plan an epoch for 8 ranks, reading the newest ledger included; megabytes by which the process
        grows to be ready for training (`hot_columns`), at most on the way there (`peak`), and the sum of the
        arrays it keeps. `plan_padding` is the share of padding under a token budget, without it, and shuffled.
    """
    size = "1m" if pairs == MILLION else str(pairs)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(DATASETS):
            make_shards(Path(folder) / name, pairs // len(DATASETS), name, seed=number)
        command = [sys.executable, "-m", "datamodules.scale_bench", folder]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = json.loads(output.splitlines()[-1])
    return {name.format(size): value for name, value in figures.items()}


def _median(work: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def resident_mb() -> float:
    """What this process holds in memory, in megabytes."""
    status = Path("/proc/self/status")
    if not status.exists():  # no Linux: the peak stands in
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")) / 1e3


def _warm_up() -> None:
    """Imports and thread pools are there before the memory is measured."""
    with tempfile.TemporaryDirectory() as folder:
        for name in DATASETS:
            make_shards(Path(folder) / name, 100, name)
        data = datamodule(Path(folder))
        data.setup("fit")
        data.epoch_loader(0, world_size=WORLD_SIZE, accumulate=ACCUMULATE)


if __name__ == "__main__":
    _warm_up()
    print(json.dumps(measure(Path(sys.argv[1]))))
