"""What `mrm.curate` takes, and the round that it means.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING

from callbacks.curation_schedule import RoundSpec, check_settings, round_spec
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS
from mrm.curation.rules import STEPS_OF, without_effect
from mrm.devices import device_problems
from mrm.errors import ConfigError, suggest
from mrm.scoring_model import without_model

RULES = {
    "correct": ("score", "correct"),
    "filter": ("score", "filter"),
    "correct_filter": ("score", "correct", "filter"),
}
LEDGER_FORM = "ledger"
FORMS = (LEDGER_FORM, SHARDS, LLAMA_FACTORY)
MODE_OF = {
    "down_weight": "weight",
    "max_flipped": "flip",
    "max_dropped": "drop",
}  # setting -> what it has an effect with
ROUND_SETTINGS = (
    *("correct_mode", "distrust_share", "down_weight", "dead_zone", "agreement"),
    *("max_flipped", "max_dropped"),
)


@dataclass
class CurateConfig:
    """What the command takes. Settings of the round that are null have the defaults of a round in training."""

    output: str = MISSING  # a new folder
    shards: str | None = None  # the pool: a folder or URL of shards
    input: str | None = None  # a file in LLaMA-Factory's form; one of both must be given
    model: str | None = None  # the `model` folder of a run
    scores: Any = None  # FILE, or several: [FILE,FILE]; one of both must be given
    rule: str = "correct"  # correct | filter | correct_filter
    form: str | None = None  # ledger | shards | llama_factory; null takes the input's
    correct_mode: str | None = None  # flip | drop | weight
    distrust_share: Any = None  # share of the negatives that is distrusted, or auto
    down_weight: float | None = None  # of what is distrusted, where correct_mode is weight
    dead_zone: float | None = None  # of the filter: differences of reward up to this do not agree
    agreement: str | None = None  # mean | unanimous, of several passes
    max_flipped: float | None = None  # share of the pool; a round that would turn more stops
    max_dropped: float | None = None  # the same of what would be dropped
    min_active_share: float = 0.25  # a round that would leave less of the pool in use writes nothing
    sources: Any = None  # {SOURCE: {setting: value}}
    media_dir: str | None = None  # where the file's image paths start; null takes its folder
    max_bad: float = 0.01  # share of unreadable samples that stops the curation; 1 never does
    batch_size: int = 16  # samples a forward pass
    row_tokens: int | None = None  # of a packed row; null takes the model's own
    max_pixels: int | None = None  # null takes the model's own resolution
    device: str = "auto"  # auto | cpu | cuda
    dtype: str = "float32"  # float32 | bfloat16
    attention: str = "auto"  # auto | tree | sdpa | flex_attention | eager | flash_attention_2 | flash_attention_3
    workers: int = 0  # processes that read shards
    cache_dir: str | None = None  # where shards from a URL are kept
    cache_gb: float = 100.0  # that they may take there
    progress: bool = True  # a bar


def check_curate(config: CurateConfig) -> tuple[RoundSpec, list[Path]]:
    """The round and the files of scores.

    Raises:
        ConfigError: one message with every problem.
    """
    problems = []
    for first, second in (("shards", "input"), ("model", "scores")):
        values = [getattr(config, name) for name in (first, second)]
        if sum(value is not None for value in values) != 1:
            problems.append(
                f"{first}, {second}: give one of both; found {first}={values[0]!r} and {second}={values[1]!r}."
            )
    for name in ("shards", "input", "output"):
        if getattr(config, name) == "":
            problems.append(f"{name}=: is empty; give a name.")  # it would be the current folder
    given = file_names(config.scores)
    if "" in given:
        problems.append(f"scores={config.scores!r}: a name in it is empty; name a file.")
    files = [Path(name) for name in given if name]
    problems += [f"scores={str(file)!r}: there is no such file." for file in files if not file.is_file()]
    twice = sorted({str(file) for file in files if sum(file.resolve() == other.resolve() for other in files) > 1})
    if twice:
        problems.append(f"scores: {', '.join(twice)} stand for one file; give each pass once.")
    if config.model is not None and not (config.model and Path(config.model).is_dir()):
        problems.append(f"model={config.model!r}: there is no such folder; give the `model` folder of a finished run.")
    if config.form not in (None, *FORMS):
        problems.append(f"form={config.form!r}: must be one of {', '.join(FORMS)}.{suggest(str(config.form), FORMS)}")
    for name in ("batch_size", "row_tokens", "max_pixels"):
        value = getattr(config, name)
        if value is not None and value < 1:
            problems.append(f"{name}={value}: must be at least 1.")
    if config.workers < 0:
        problems.append(f"workers={config.workers}: must be at least 0.")
    if not 0 <= config.max_bad <= 1:
        problems.append(f"max_bad={config.max_bad}: must be in [0, 1].")
    problems += device_problems(config.device)
    problems += without_model(config)
    spec, found = _round(config)
    problems += found
    try:
        if spec is not None:
            check_settings([spec], None, "warm", config.min_active_share, passes=max(len(files), 1))
    except ConfigError as error:
        problems += [line.removeprefix("- ").removeprefix("round 1: ") for line in str(error).splitlines()[1:]]
    if problems:
        raise ConfigError("\n".join(problems))
    assert spec is not None
    return spec, files


def file_names(given: Any) -> list[str]:
    """The files that `scores` names: one, a list, or a list as it is written on a command line."""
    if given is None:
        return []
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        if Path(text).is_file():
            return [text]
        given = text.removeprefix("[").removesuffix("]").split(",")
    return [os.fspath(name).strip() for name in given]


def _round(config: CurateConfig) -> tuple[RoundSpec | None, list[str]]:
    """The round that the settings mean, and what is wrong with them."""
    problems = []
    steps = RULES.get(config.rule.replace(",", "_").replace("+", "_"))
    if steps is None:
        problems.append(f"rule={config.rule!r}: must be one of {', '.join(RULES)}.{suggest(config.rule, RULES)}")
    given = {name: getattr(config, name) for name in ROUND_SETTINGS if getattr(config, name) is not None}
    if isinstance(share := given.get("distrust_share"), str) and share != "auto":
        try:
            given["distrust_share"] = float(share)
        except ValueError:
            problems.append(f"distrust_share={share!r}: must be a number in [0, 1], or auto.")
            del given["distrust_share"]
    sources, problem = _sources(config.sources)
    problems += problem
    modes = [given.get("correct_mode", "flip")]
    modes += [str(rules.get("correct_mode", modes[0])) for rules in sources.values() if isinstance(rules, dict)]
    needs = without_effect([name for name in given if name in STEPS_OF], steps, modes) if steps else {}
    problems += [
        f"{name}={given[name]}: "
        + (
            f"has an effect only with {need}."
            if "=" in need
            else f"has no effect with rule={config.rule}; leave it out."
        )
        for name, need in needs.items()
    ]
    if steps is None:
        return None, problems
    return round_spec({"after_epoch": 0, "steps": steps, "sources": sources, **given}), problems


def _sources(given: Any) -> tuple[dict[str, Any], list[str]]:
    """The sources' own settings, of a mapping or of its text."""
    told = "must be a mapping such as {NAME: {dead_zone: 0.1}}"
    try:
        found = yaml.safe_load(given) if isinstance(given, str) else given
    except yaml.YAMLError as error:
        return {}, [f"sources={given!r}: {told}: {error}."]
    if found is None:
        return {}, []
    if not isinstance(found, dict):
        return {}, [f"sources={given!r}: {told}."]
    return {str(name): rules for name, rules in found.items()}, []
