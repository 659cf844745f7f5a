"""What `mrm.diagnose` takes.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from datamodules.index import INDEX_NAME
from datamodules.sources.location import PREPARED
from mrm.curate_config import file_names
from mrm.devices import device_problems
from mrm.errors import ConfigError
from mrm.output_files import output_problems
from mrm.scoring_model import source_problems, without_model


@dataclass
class DiagnoseConfig:
    """What the command takes."""

    pairs: Any = MISSING  # a folder or URL of shards, or a file in LLaMA-Factory's form; several: [A,B]
    model: str | None = None  # the `model` folder of a run
    scores: str | None = None  # FILE, of all pairs in order; one of both must be given
    output: str | None = None  # PAGE.html
    json: str | None = None  # FILE, all figures
    lines: str | None = None  # FILE, a line a pair, which scores= takes
    images: bool = True  # whether to score without images, with other images, and with both images swapped
    media_dir: str | None = None  # where a file's image paths start; null takes its folder
    seed: int = 0  # of the dealing of images and of the intervals
    max_bad: float = 0.01  # share of unreadable samples that stops the command; 1 never does
    batch_size: int = 16  # samples a forward pass
    row_tokens: int | None = None  # of a packed row; null takes the model's own
    max_pixels: int | None = None  # null takes the model's own resolution
    device: str = "auto"  # auto | cpu | cuda
    dtype: str = "float32"  # float32 | bfloat16
    attention: str = "auto"  # auto | tree | sdpa | flex_attention | eager | flash_attention_2 | flash_attention_3
    cache_dir: str | None = None  # where shards from a URL are kept
    cache_gb: float = 100.0  # that they may take there
    progress: bool = True  # a bar


def check_diagnose(config: DiagnoseConfig) -> list[str]:
    """The pools that are named.

    Raises:
        ConfigError: one message with every problem.
    """
    problems = []
    names = file_names(config.pairs)
    if not names:
        problems.append("pairs=[]: name at least one folder of shards or file of pairs.")
    if "" in names:
        problems.append(f"pairs={config.pairs!r}: a name in it is empty; name a folder of shards or a file of pairs.")
    if len(set(names)) != len(names):
        problems.append(f"pairs={names}: the same one is named twice.")
    problems += source_problems(config.model, config.scores)
    problems += without_model(config)
    read: list[tuple[str, str | Path]] = [("pairs", path) for name in names if name for path in _files_of(name)]
    read += [("scores", config.scores)] if config.scores else []
    problems += output_problems(read, [(name, getattr(config, name)) for name in ("output", "json", "lines")])
    if config.output is not None and Path(config.output).suffix != ".html":
        problems.append(f"output={config.output!r}: is an HTML page; give it that ending.")
    for name in ("batch_size", "row_tokens", "max_pixels"):
        if (value := getattr(config, name)) is not None and value < 1:
            problems.append(f"{name}={value}: must be at least 1.")
    if config.seed < 0:
        problems.append(f"seed={config.seed}: must be at least 0.")
    if not 0 <= config.max_bad <= 1:
        problems.append(f"max_bad={config.max_bad}: must be in [0, 1].")
    problems += device_problems(config.device)
    if problems:
        raise ConfigError("\n".join(problems))
    return names


def _files_of(name: str) -> list[Path]:
    """The files that a local path of pairs is read from: itself, or those of its folder."""
    path = Path(name)
    if not path.is_dir():
        return [path]
    shards = [found for pattern in ("*.tar", INDEX_NAME, PREPARED) for found in path.glob(pattern)]
    return shards or [*path.glob("*.json"), *path.glob("*.jsonl")]
