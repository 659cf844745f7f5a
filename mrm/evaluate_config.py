"""What `mrm.evaluate` takes, and what is wrong with it.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from omegaconf import MISSING

from datamodules.benchmarks import READERS, get_reader, options_of
from mrm.devices import device_problems
from mrm.errors import ConfigError
from mrm.evaluation.bootstrap import SEED
from mrm.evaluation.intervals import DRAWS
from mrm.output_files import output_problems
from mrm.scoring_model import SCORING as MODEL_SCORING
from mrm.scoring_model import source_problems, without_model

# Settings without effect where scores are given; `max_pixels` then tells what they were computed at.
SCORING = ("media_dir", *(name for name in MODEL_SCORING if name != "max_pixels"))
OPTIONS = ("frames", "tasks")  # of single benchmarks


@dataclass
class EvaluateConfig:
    """What the command takes."""

    benchmark: str = MISSING  # vl_rewardbench | multimodal_rewardbench | mm_rlhf_rewardbench | mmrb2 | omni_rewardbench
    data: str = MISSING  # the published file, a folder with it, or a copy of its texts
    model: str | None = None  # the `model` folder of a run
    scores: str | None = None  # FILE with a line a pair, in the order of the benchmark; one of both must be given
    json: str | None = None  # where all figures are written
    output: str | None = None  # where a line a judgement is written
    tasks: str | None = None  # of mmrb2, in the order of their pairs: t2i,edit (the default), interleaved, reasoning
    frames: int | None = None  # mm_rlhf_rewardbench: of a video, 8 by default
    media_dir: str | None = None  # where images lie, if not beside the file
    batch_size: int = 16  # samples a forward pass
    row_tokens: int | None = None  # of a packed row; null takes the model's own
    max_pixels: int | None = None  # null takes the model's own; with scores: what they were computed at, to be told
    device: str = "auto"  # auto | cpu | cuda
    dtype: str = "float32"  # float32 | bfloat16
    attention: str = "auto"  # auto | tree | sdpa | flex_attention | eager | flash_attention_2 | flash_attention_3
    max_bad: float = 0.01  # share of pairs without scores that stops the evaluation; 1 never does
    draws: int = DRAWS  # of the bootstrap
    seed: int = SEED  # of the bootstrap
    progress: bool = True  # a bar


def check_evaluate(config: EvaluateConfig) -> str:
    """The benchmark's name as it is known here.

    Raises:
        ConfigError: one message with every problem.
    """
    problems = []
    name = None
    try:
        name, _ = get_reader(config.benchmark)
    except ConfigError as error:
        problems.append(str(error))
    problems += source_problems(config.model, config.scores)
    problems += _without_effect(config, name)
    for key, low in (("batch_size", 1), ("row_tokens", 1), ("max_pixels", 1), ("frames", 0), ("draws", 100)):
        value = getattr(config, key)
        if value is not None and value < low:
            problems.append(f"{key}={value}: must be at least {low}.")
    if config.seed < 0:
        problems.append(f"seed={config.seed}: must be at least 0.")
    if not 0 <= config.max_bad <= 1:
        problems.append(f"max_bad={config.max_bad}: must be in [0, 1].")
    problems += device_problems(config.device)
    read = [(key, path) for key in ("data", "scores") if (path := getattr(config, key)) is not None]
    problems += output_problems(read, [("json", config.json), ("output", config.output)], partial=("output",))
    if problems:
        raise ConfigError("\n".join(problems))
    assert name is not None
    return name


def _without_effect(config: EvaluateConfig, name: str | None) -> list[str]:
    """Settings that would do nothing."""
    defaults = {field.name: field.default for field in fields(EvaluateConfig)}
    given = [key for key in defaults if getattr(config, key) != defaults[key]]
    problems = without_model(config, SCORING) if config.scores is not None else []
    for key in OPTIONS if name else ():
        if key in given and key not in options_of(name or ""):
            takers = ", ".join(each for each in READERS if key in options_of(each))
            problems.append(f"{key}={getattr(config, key)}: has no effect on {name}, only on {takers}; leave it out.")
    return problems
