"""Speed of packing, as ratios in one run: `python -m mrm.bench`.

Compares, on the packaged backbone and ShapeWorld, this project's packed batches with the usual way: a row a response, prompt
and images computed again for each. Both are timed in turns, so that a machine that drifts drifts for both. Prints a table
and writes `bench.json`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from datamodules.shapeworld import generate_split
from mrm.cli import settings_command
from mrm.model.backbones import resolve
from mrm.model.encoding import EncodedSample, Encoder
from mrm.model.packing import NO_EDGES, RewardBatch, collate
from mrm.model.reward_model import RewardModel

@dataclass
class BenchConfig:
    """Settings of `python -m mrm.bench`, all `key=value`."""

    output: str = "bench.json"
    backbone: str = "tiny"
    samples: int = 32
    rounds: int = 5
    row_tokens: int = 256
    threads: int = 2
    seed: int = 0

def separate_rows(sample: EncodedSample) -> list[EncodedSample]:
    """The usual layout: each response behind its own copy of the prompt and the images."""
    return [replace(sample, response_ids=(ids,)) for ids in sample.response_ids]

def paired_times(a: Callable[[], None], b: Callable[[], None], rounds: int) -> list[tuple[float, float]]:
    """Seconds of a and b, in turns, after one uncounted turn each."""
    times = []
    for number in range(rounds + 1):
        pair = []
        for run in (a, b):
            start = time.perf_counter()
            run()
            pair.append(time.perf_counter() - start)
        if number:
            times.append((pair[0], pair[1]))
    return times

def bench(config: BenchConfig) -> dict[str, float]:
    """Median ratios usual / packed of the time for the same samples, and the packed samples per second."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    encoder = Encoder.from_pretrained(resolve(config.backbone))
    model = RewardModel.from_pretrained(config.backbone)
    figures: dict[str, float] = {}
    for name, split in (("text", "trusted"), ("t2i", "t2i")):
        samples = [encoder.encode(sample) for sample in generate_split(split, config.samples, config.seed)]
        usual = [row for sample in samples for row in separate_rows(sample)]

        def batch(items: list[EncodedSample], row_tokens: int | None) -> RewardBatch:
            return collate([(item, NO_EDGES) for item in items], row_tokens=row_tokens, pad_id=encoder.pad_id)

        packed_batch, usual_batch = batch(samples, config.row_tokens), batch(usual, None)

        def train(which: RewardBatch) -> None:
            model.zero_grad()
            model(which).sum().backward()

        def score(which: RewardBatch) -> None:
            with torch.inference_mode():
                model(which)

        for what, run in (("train", train), ("score", score)):
            times = paired_times(lambda: run(usual_batch), lambda: run(packed_batch), config.rounds)  # noqa: B023
            figures[f"{what}_{name}_ratio"] = statistics.median(a / b for a, b in times)
            figures[f"{what}_{name}_samples_per_second"] = config.samples / statistics.median(b for _, b in times)

        figures[f"padding_{name}"] = packed_batch.padding
    return figures

def run(config: BenchConfig) -> None:
    """Measures, shows the figures as a table, and writes them."""
    figures = bench(config)
    console = Console()
    table = Table("figure", "value", title=f"{config.backbone}, {config.samples} samples, {config.threads} threads")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3g}")
    console.print(table)
    Path(config.output).write_text(json.dumps(figures, indent=2) + "\n")
    console.print(f"written to {config.output}; a ratio is usual time / packed time, above 1 packing is faster")

if __name__ == "__main__":
    settings_command(BenchConfig, run, __doc__)
