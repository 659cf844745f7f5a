"""Speed and memory against the usual way, as ratios in one run: `python -m mrm.bench`.

The usual way: the causal language model with a row a response, padded to the longest, the prompt and its images computed
again for each, logits and all hidden states computed. This project: one row a sample, prompt and images once, no logits.
Both run on the same random weights and are timed in turns, so that a machine that drifts drifts for both. Prints a table
and writes `bench.json`.

`model=small` is a Qwen3-VL whose parts have the shares of the 2B model's in the work for a token; a folder or hub id
gives the configuration of another. `image_tokens=... prompt=... answer=... responses=...` measure a shape of your own,
`memory_gb=... epoch_pairs=...` say whether it fits and how long an epoch takes.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.scale_bench import MILLION, scale_figures
from mrm.cli import settings_command
from mrm.curation_bench import round_figures
from mrm.data_bench import data_bench
from mrm.data_bench_ways import DataBenchConfig
from mrm.devices import device_problems, pick_device
from mrm.errors import ConfigError
from mrm.logging_bench import PAIRS as LOGGED_PAIRS
from mrm.logging_bench import logging_figures
from mrm.model.attention import by_part_of, plan_attention
from mrm.model.backbones import DTYPES, freeze
from mrm.model.costs import PeakMemory, attended, dense_rate, language_flops, state_bytes, vision_flops, wait
from mrm.model.encoding import EncodedSample
from mrm.model.families import Family, get_family
from mrm.model.packing import NO_EDGES, PADDING, collate
from mrm.model.reward_model import RewardHead, RewardModel
from mrm.pool_bench import POOL_PAIRS, pool_figures

SMALL = {  # a Qwen3-VL; of the 2B model it has the shares of vision tower, layers and LM head in the work for a token
    "text_config": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
    },
    "vision_config": {
        "depth": 6,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_heads": 4,
        "patch_size": 16,
        "out_hidden_size": 256,
        "num_position_embeddings": 1024,
        "deepstack_visual_indexes": [1, 3],
    },
    "image_token_id": 10,
    "video_token_id": 11,
    "vision_start_token_id": 12,
    "vision_end_token_id": 13,
}


@dataclass(frozen=True)
class Shape:
    """A sample's tokens: `images` images of `image_tokens` each, `prompt`, and `responses` answers of `answer`."""

    images: int
    image_tokens: int
    prompt: int
    answer: int
    responses: int


STANDARD = {
    "256x120_k2": Shape(1, 256, 40, 120, 2),
    "t2i_k2": Shape(2, 256, 40, 10, 2),
    "256x120_k4": Shape(1, 256, 40, 120, 4),
}


@dataclass
class BenchConfig:
    """Settings of `python -m mrm.bench`, all `key=value`."""

    output: str = "bench.json"
    model: str = "small"  # small, or a folder or hub id whose config.json is taken; the weights are random
    images: int = 1
    image_tokens: int | None = None  # this and the next three, all or none: a shape of your own
    prompt: int | None = None
    answer: int | None = None
    responses: int | None = None
    samples: int = 2  # a step
    rounds: int = 7
    threads: int = 2
    device: str = "auto"  # auto | cpu | cuda
    dtype: str = "auto"  # auto (bfloat16 on cuda, float32 elsewhere) | float32 | bfloat16
    attention: str = "auto"
    freeze_vision: bool = True  # and the projector
    gradient_checkpointing: bool = False
    memory_gb: float | None = None  # of a device: does a step fit?
    gpus: int = 1  # over which weights, gradients and moments are sliced (trainer=fsdp2), for the same question
    epoch_pairs: int | None = None  # how long does an epoch of so many take?
    data_pairs: int = MILLION  # of the figures of index, ledger and plan; 0 leaves them out
    data: bool = True  # whether reading is measured, too (`python -m mrm.data_bench`)
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """One case: seconds a step and bytes of (a) the usual way and (b) this project, in turns."""

    seconds: list[tuple[float, float]]
    peak: tuple[int, int]
    pairs: int
    tokens: int
    flops: float

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in self.seconds)

    def time(self, which: int) -> float:
        return statistics.median(pair[which] for pair in self.seconds)


def make_sample(shape: Shape, family: Family, settings: Any, rng: np.random.Generator) -> EncodedSample:
    """Random tokens and patches of a shape, for a model of these settings; an image is as square as its tokens allow."""
    text, vision = settings.get_text_config(), settings.vision_config
    rows = max((n for n in range(1, int(shape.image_tokens**0.5) + 1) if shape.image_tokens % n == 0), default=0)
    grid = [[1, 2 * rows, 2 * shape.image_tokens // max(1, rows)]] * shape.images
    grids = np.asarray(grid, dtype=np.int64).reshape(-1, 3)
    patches = (int(grids.prod(axis=1).sum()), 3 * vision.temporal_patch_size * vision.patch_size**2)

    def words(count: int) -> np.ndarray:
        ids = rng.integers(0, text.vocab_size, count)
        return np.where(np.isin(ids, marks), plain, ids)

    marks = [
        number for name, number in vars(settings).items() if name.endswith("_token_id") and isinstance(number, int)
    ]
    plain = next(number for number in range(text.vocab_size) if number not in marks)
    pieces = [words(4)]
    for _ in range(shape.images):
        pieces += [np.full(shape.image_tokens, settings.image_token_id), words(1)]
    prefix = np.concatenate([*pieces, words(shape.prompt - 4 - shape.images)])
    positions, start = family.positions(prefix == settings.image_token_id, grids, 2)
    answers = tuple(words(shape.answer) for _ in range(shape.responses))
    pixels = rng.standard_normal(patches, dtype=np.float32) if shape.images else None
    return EncodedSample("sample", prefix, positions, answers, start, pixels, grids, 0)


def usual_inputs(samples: Sequence[EncodedSample], image_token: int) -> tuple[dict[str, Tensor], Tensor]:
    """Padded rows as a causal language model takes them, and where each response ends."""
    rows = [np.concatenate([s.prefix_ids, ids]) for s in samples for ids in s.response_ids]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row)
        mask[number, : len(row)] = 1
    grids = [s.image_grid_thw for s in samples for _ in s.response_ids]
    inputs = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": (ids == image_token).int()}
    if sum(map(len, grids)):
        pixels = [s.pixel_values for s in samples for _ in s.response_ids if s.pixel_values is not None]
        inputs |= {"pixel_values": torch.from_numpy(np.concatenate(pixels))}
        inputs |= {"image_grid_thw": torch.from_numpy(np.concatenate(grids))}
    return inputs, torch.tensor([len(row) - 1 for row in rows])


def pair_loss(rewards: Tensor, responses: int) -> Tensor:
    """Bradley-Terry over the first response against each other."""
    table = rewards.view(-1, responses)
    return -torch.nn.functional.logsigmoid(table[:, :1] - table[:, 1:]).mean()


class Bench:
    """A model with random weights on a device, and both ways to train and to score with it."""

    def __init__(self, config: BenchConfig) -> None:
        self.config = config
        self.device = pick_device(config.device)
        default = "bfloat16" if self.device.type == "cuda" else "float32"
        self.dtype = DTYPES[default if config.dtype == "auto" else config.dtype]
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        settings = _model_config(config.model)
        self.family = get_family(settings.model_type)
        self.plan = plan_attention(config.attention, self.family, device=self.device.type)
        self.causal = _causal_model(settings, self.dtype, self.device, self.plan.implementation)
        backbone = self.causal.model
        freeze(backbone, self.family, vision=config.freeze_vision, projector=config.freeze_vision, language=False)
        self.causal.lm_head.requires_grad_(False)
        if config.gradient_checkpointing:
            self.causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.settings = settings
        head = RewardHead(settings.get_text_config().hidden_size)
        self.model = RewardModel(backbone, head.to(self.device), self.plan.layout)

    @property
    def gradient_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)

    def samples(self, shape: Shape) -> list[EncodedSample]:
        rng = np.random.default_rng(self.config.seed)
        return [make_sample(shape, self.family, self.settings, rng) for _ in range(self.config.samples)]

    def measure(self, shape: Shape, train: bool) -> Measured:
        """Times and peaks of one case."""
        samples = self.samples(shape)
        inputs, ends = usual_inputs(samples, self.settings.image_token_id)
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        ends = ends.to(self.device)
        items = [(sample, NO_EDGES) for sample in samples]
        packed = collate(items, row_tokens=None, pad_id=0, layout=self.plan.layout).to(self.device)
        if packed.pixel_values is not None:
            packed.pixel_values = packed.pixel_values.to(self.dtype)

        def usual() -> Tensor:
            self._attend("sdpa")
            out = self.causal(**inputs, output_hidden_states=True, use_cache=False)
            rows = torch.arange(len(ends), device=self.device)
            return self.model.head(out.hidden_states[-1][rows, ends])

        def ours() -> Tensor:
            self._attend(self.plan.implementation)
            return self.model(packed)

        self.causal.train(train)

        def step(rewards: Callable[[], Tensor]) -> Callable[[], None]:
            def training() -> None:
                self.causal.zero_grad()
                pair_loss(rewards(), shape.responses).backward()

            def scoring() -> None:
                with torch.inference_mode():
                    rewards()

            return training if train else scoring

        ways = step(usual), step(ours)
        peaks = [self._peak(way) for way in ways]
        seconds = [tuple(self._seconds(way) for way in ways) for _ in range(self.config.rounds + 1)][1:]
        pairs = self.config.samples * (shape.responses - 1)  # as `pair_loss` makes them
        tokens = int((packed.sequence_ids != PADDING).sum())
        return Measured(seconds, (peaks[0], peaks[1]), pairs, tokens, self._flops(samples, train))  # type: ignore[arg-type]

    def _attend(self, implementation: str) -> None:
        self.causal.config.get_text_config()._attn_implementation = implementation

    def _seconds(self, way: Callable[[], None]) -> float:
        wait(self.device)
        start = time.perf_counter()
        way()
        wait(self.device)
        return time.perf_counter() - start

    def _peak(self, way: Callable[[], None]) -> int:
        """Bytes at most beside the weights, gradients included."""
        self.causal.zero_grad()
        if self.device.type == "cuda":
            way()  # compiles what is to be compiled
            self.causal.zero_grad()
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            way()
            wait(self.device)
            return torch.cuda.max_memory_allocated(self.device) - before
        with PeakMemory() as memory:
            way()
        return memory.peak

    def _flops(self, samples: Sequence[EncodedSample], train: bool) -> float:
        looks = sum(attended(len(s.prefix_ids), [len(ids) for ids in s.response_ids]) for s in samples)
        tokens = sum(s.tokens for s in samples)
        grids = np.concatenate([s.image_grid_thw for s in samples])
        patches = grids.prod(axis=1)
        language = language_flops(self.model.backbone.get_submodule(self.family.language), tokens, looks)
        vision = vision_flops(
            self.model.backbone, self.family, int(patches.sum()), int((patches**2).sum()), int(patches.sum()) // 4
        )
        if not train:
            return language + vision
        return 3 * language + (1 if self.config.freeze_vision else 3) * vision


def packing_waste(seed: int = 0, samples: int = 256, row_tokens: int = 2048) -> float:
    """Share of padding where many short samples (60 to 250 tokens, two answers) share rows."""
    rng = random.Random(seed)
    made = []
    for number in range(samples):
        prefix, answers = rng.randint(20, 150), [rng.randint(20, 50) for _ in range(2)]
        ids = tuple(np.zeros(n, dtype=np.int64) for n in answers)
        positions, none = np.zeros((3, prefix), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
        made.append(EncodedSample(str(number), positions[0], positions, ids, prefix, None, none, 0))
    return collate([(sample, NO_EDGES) for sample in made], row_tokens=row_tokens, pad_id=0).padding


def _model_config(name: str) -> Any:
    from transformers import AutoConfig

    if name == "small":
        return AutoConfig.for_model("qwen3_vl", **SMALL)
    try:
        settings = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model={name!r}: its config.json cannot be loaded: {error}") from error
    if settings.model_type == "internvl":
        raise ConfigError(f"model={name!r}: the benchmark makes images of patches; give one of the Qwen-VL families.")
    return settings


def _causal_model(settings: Any, dtype: torch.dtype, device: torch.device, attention: str) -> Any:
    from transformers import AutoModelForImageTextToText

    with device:
        return AutoModelForImageTextToText.from_config(settings, dtype=dtype, attn_implementation=by_part_of(attention))


def _cases(config: BenchConfig) -> dict[str, Shape]:
    own = (config.image_tokens, config.prompt, config.answer, config.responses)
    if all(value is None for value in own):
        return STANDARD
    problems = []
    for name, least in (("image_tokens", 0), ("prompt", 5), ("answer", 1), ("responses", 2)):
        value = getattr(config, name)
        if value is None or value < least:
            problems.append(f"{name}={value}: a shape of your own needs all four; at least {least} here.")
    if problems:
        raise ConfigError("\n".join(problems))
    image_tokens, prompt, answer, responses = own
    images = config.images if image_tokens else 0
    if prompt < 5 + images:  # type: ignore[operator]
        raise ConfigError(
            f"prompt={prompt}: must be at least {5 + images} with {images} image(s), whose marks it holds."
        )
    return {f"{image_tokens}x{answer}_k{responses}": Shape(images, image_tokens, prompt, answer, responses)}  # type: ignore[arg-type]


def _check(config: BenchConfig) -> None:
    problems = [
        f"{name}={getattr(config, name)}: must be at least 1."
        for name in ("samples", "rounds", "threads", "images", "gpus")
        if getattr(config, name) < 1
    ]
    problems += device_problems(config.device)
    if config.dtype not in ("auto", *DTYPES):
        problems.append(f"dtype={config.dtype!r}: must be one of auto, {', '.join(DTYPES)}.")
    if config.epoch_pairs is not None and config.epoch_pairs < 1:
        problems.append(f"epoch_pairs={config.epoch_pairs}: must be at least 1.")
    if config.memory_gb is not None and config.memory_gb <= 0:
        problems.append(f"memory_gb={config.memory_gb}: must be a positive number.")
    if config.data_pairs and config.data_pairs < 100:
        problems.append(f"data_pairs={config.data_pairs}: must be at least 100, or 0 to leave these figures out.")
    if problems:
        raise ConfigError("\n".join(problems))


def bench(config: BenchConfig, console: Console) -> dict[str, Any]:
    """Measures all cases; gives the ratios (usual time / own time) by case, and the details."""
    _check(config)
    cases = _cases(config)
    made = Bench(config)
    rate = dense_rate(made.device, made.dtype)
    state = state_bytes(made.model, config.gpus)
    figures: dict[str, Any] = {}
    details: dict[str, Any] = {}
    table = Table("case", "ratio", "pairs/s: usual", "here", "tokens/s", "utilisation", "peak MB: usual", "here")
    for name, shape in cases.items():
        for what in ("train", "score"):
            found = _measure(made, shape, what)
            usual, own = found.time(0), found.time(1)
            case = f"{what}_{name}"
            figures[case] = found.ratio
            details[case] = {
                "shape": asdict(shape),
                "pairs_per_second_usual": found.pairs / usual,
                "pairs_per_second": found.pairs / own,
                "tokens_per_second": found.tokens / own,
                "utilisation": found.flops / own / rate,
                "peak_bytes_usual": found.peak[0],
                "peak_bytes": found.peak[1],
                "gradient_bytes": made.gradient_bytes if what == "train" else 0,
                "seconds": found.seconds,
            }
            table.add_row(
                case,
                f"{found.ratio:.2f}",
                f"{found.pairs / usual:.2f}",
                f"{found.pairs / own:.2f}",
                f"{found.tokens / own:.0f}",
                f"{found.flops / own / rate:.1%}",
                f"{found.peak[0] / 1e6:.0f}",
                f"{found.peak[1] / 1e6:.0f}",
            )
    if cases is STANDARD:
        figures["packing_waste"] = packing_waste(config.seed)
    weights = sum(p.numel() for p in made.model.parameters())
    about = (
        f"{config.model} ({made.causal.config.model_type}, {weights / 1e6:.1f}M parameters), {str(made.dtype)[6:]} on {_name(made.device)}, "
        f"{config.samples} samples a step, attention {made.plan.implementation}, dense rate {rate / 1e9:.0f} GFLOP/s"
    )
    table.title = about
    console.print(table)
    if "packing_waste" in figures:
        console.print(
            f"packing 256 short samples in rows of 2,048: {figures['packing_waste']:.1%} of the places are padding"
        )
    if cases is STANDARD and config.data_pairs:
        figures |= _data_figures(config.data_pairs, console)
    plans = {name: _recipe(config, details[f"train_{name}"], state) for name in cases}
    for name, plan in plans.items():
        for line in plan["lines"]:
            console.print(f"{name}: {line}")
    about_all = {"model": about, "state_bytes": state, "dense_flops_per_second": rate, "plans": plans}
    return {**figures, "details": details, **about_all}


def _measure(made: Bench, shape: Shape, what: str) -> Measured:
    try:
        return made.measure(shape, what == "train")
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"samples={made.config.samples}: the usual way or this one does not fit {_name(made.device)} where it is to {what} {shape}; "
            "give fewer samples, gradient_checkpointing=true or a smaller shape."
        ) from error


def _data_figures(pairs: int, console: Console) -> dict[str, float]:
    """Index, ledger, plan and a round of curation at a size, and what scoring a small pool and logging cost: times, memory and shares in a table."""
    figures = scale_figures(pairs) | round_figures(pairs) | pool_figures(min(pairs, POOL_PAIRS))
    figures |= logging_figures(min(pairs, LOGGED_PAIRS))
    table = Table("figure", "value", title=f"data layer, curation and logging, {pairs:,} pairs")
    for name, value in figures.items():
        unit = {"s": "s", "mb": "MB"}.get(name.rpartition("_")[2])
        table.add_row(name, f"{value:.2f} {unit}" if unit else f"{value:.2%}")
    console.print(table)
    return figures


def _recipe(config: BenchConfig, case: dict[str, Any], state: dict[str, int]) -> dict[str, Any]:
    """Does a training step fit the memory, and how long does an epoch take?"""
    plan: dict[str, Any] = {"lines": []}
    # What the recipes hold in float32 takes the place of the benchmark's own gradients, which are part of the peak.
    activations = max(0, case["peak_bytes"] - case["gradient_bytes"])
    total = state["weights"] + state["gradients"] + state["moments"] + activations
    if config.memory_gb is not None:
        plan |= {"bytes": total, "fits": total <= config.memory_gb * 1e9}
        words = "fits" if plan["fits"] else "does not fit"
        plan["lines"].append(
            f"full fine-tuning by AdamW, float32 in slices over {config.gpus} GPU(s), takes {total / 1e9:.2f} GB a GPU at a "
            f"step's peak and {words} {config.memory_gb:g} GB."
        )
    if config.epoch_pairs is not None:
        plan["epoch_seconds"] = config.epoch_pairs / case["pairs_per_second"]
        hours = plan["epoch_seconds"] / 3600
        plan["lines"].append(
            f"an epoch of {config.epoch_pairs} pairs takes {hours:.2f} h on one device, reading and the optimizer's steps aside."
        )
    return plan


def _name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )


def run(config: BenchConfig) -> None:
    """Measures, shows the figures as a table, and writes them."""
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file's readers can scroll; a table cut at 80 columns cannot be read
    figures = bench(config, console)
    if config.data:
        figures |= data_bench(DataBenchConfig(seed=config.seed), console)
    Path(config.output).write_text(json.dumps(figures, indent=2) + "\n")
    console.print(f"written to {config.output}; a ratio is usual time / own time: above 1 this project is faster")


if __name__ == "__main__":
    settings_command(BenchConfig, run, __doc__)
