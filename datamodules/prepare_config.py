"""Settings of `datamodules.prepare`: the common ones, those of each source, and clear errors for the rest.

A source's options are the keyword-only parameters of its `read`; together with `PrepareConfig` they make a dataclass
that OmegaConf checks and converts, so that a reader is all that a new source needs.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.sources import CARDS, SOURCES, get_source
from datamodules.sources.location import is_url
from mrm.construction.reformulation import T2I_PROMPTS
from mrm.errors import ConfigError
from mrm.images import MAX_IMAGE_PIXELS


@dataclass
class PrepareConfig:
    """What every source understands.

    Args:
        source: name of the reader.
        input: file or folder to read, or an fsspec URL of one; not for a source that makes its own data.
        output: directory of shards to write.
        overwrite: whether to replace an earlier output.
        max_unreadable: share of records, in [0, 1], that may be unreadable (damaged, or an image missing or not decoding)
            before the run stops.
        max_image_pixels: width x height at most; larger images are skipped.
        max_pixels: width x height above which an image is written at the size that the backbone's image processor would
            bring it to at that budget; None writes all images as published. Training and scoring never see more of them.
        backbone: whose image processor; "tiny", a folder or a hub id.
        deduplicate: whether to leave out preference pairs that an earlier sample has: the same images, prompt and responses.
        decontaminate: benchmark files and folders of this machine, with commas between; samples with their images or questions are left out.
        contaminated_distance: bits, of 64, in which perceptual hashes of two images may differ; -1 looks at exact copies only.
        contaminated_question_chars: characters that a normalised question must have to be compared.
        t2i_wordings: how many of the prepared wordings of the text-to-image prompt are used, each for as many pairs; sides are
            balanced within each.
        shard_mb: MiB a shard at most; a larger sample gets a shard of its own.
        part: "3/16" prepares the third of sixteen parts, for jobs side by side, which `datamodules.merge` joins.
        workers: processes that decode; None for as many as this one has processors.
        resume: whether to go on behind the last shard of a run that was killed.
        seed: of the sides of text-to-image pairs and of what the source draws.
        show_progress: whether to show progress.
    """

    source: str = MISSING
    input: str | None = None
    output: str = MISSING
    overwrite: bool = False
    max_unreadable: float = 0.01
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_pixels: int | None = None
    backbone: str = "tiny"
    deduplicate: bool = True
    decontaminate: str | None = None
    contaminated_distance: int = 4
    contaminated_question_chars: int = 40
    t2i_wordings: int = 1
    shard_mb: float = 256.0
    part: str | None = None
    workers: int | None = None
    resume: bool = True
    seed: int = 0
    show_progress: bool = True


COMMON = tuple(f.name for f in dataclasses.fields(PrepareConfig))
RULES = (  # what decides, beside the source and its options, which samples are written and how
    "max_image_pixels",
    "max_pixels",
    "backbone",
    "deduplicate",
    "decontaminate",
    "contaminated_distance",
    "contaminated_question_chars",
    "t2i_wordings",
    "shard_mb",
    "seed",
)
NEEDS = {  # settings that do nothing without another
    "backbone": "max_pixels",
    "contaminated_distance": "decontaminate",
    "contaminated_question_chars": "decontaminate",
}


def option_parameters(source: str) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a source's reader, by name."""
    parameters = inspect.signature(get_source(source)).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def needs_input(source: str) -> bool:
    """Whether the source reads something."""
    return inspect.signature(get_source(source)).parameters["input"].default is inspect.Parameter.empty


def schema_of(source: str) -> type:
    """`PrepareConfig` with the source's own options added."""
    types = typing.get_type_hints(get_source(source))
    own = [
        (n, types[n], dataclasses.field(default=p.default))
        for n, p in option_parameters(source).items()
        if n not in COMMON
    ]
    return dataclasses.make_dataclass(f"PrepareConfig_{source}", own, bases=(PrepareConfig,))


def parse_arguments(arguments: Sequence[str]) -> dict[str, str | None]:
    """`key=value` words as a mapping; the values are converted by `resolve`.

    Raises:
        ConfigError: for a word without `=` or a key given twice; names all of them.
    """
    settings: dict[str, str | None] = {}
    problems = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            problems.append(f"{argument!r} is not of the form key=value")
        elif key in settings:
            problems.append(f"{key} is given twice")
        settings[key] = None if value == "null" else value
    if problems:
        raise ConfigError("; ".join(problems) + ".")
    return settings


def resolve(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings with their defaults, checked and converted.

    Raises:
        ConfigError: names every unknown key, wrong value and missing setting, with what is allowed.
    """
    if not settings.get("source"):
        raise ConfigError(f"source: is missing; known sources are {', '.join(SOURCES)}.")
    source = str(settings["source"])
    config = OmegaConf.structured(schema_of(source))
    known = (*COMMON, *(name for name in option_parameters(source) if name not in COMMON))
    problems = []
    for key, value in settings.items():
        if key not in known:  # `in config` is false for what has no value yet
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            problems.append(f"{key}: source {source} has no such setting; {hint}known are {', '.join(known)}")
            continue
        try:
            config[key] = value
        except OmegaConfBaseException as error:
            problems.append(f"{key}: {str(error).splitlines()[0]}")
    if OmegaConf.is_missing(config, "output") or not config.output:
        problems.append("output: is missing; give the directory to write")
    if needs_input(source) != (config.input is not None):
        problems.append(
            f"input: is missing; source {source} reads a file or folder"
            if needs_input(source)
            else f"input: source {source} makes its own data and reads nothing"
        )
    problems += _value_problems(config, settings)
    if problems:
        raise ConfigError("\n".join(f"{problem}." for problem in problems))
    return {name: config[name] for name in known}


def _value_problems(config: Any, given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the common settings' values."""
    ranges = (
        ("max_unreadable", 0, 1, "a share in [0, 1]"),
        ("max_image_pixels", 1, MAX_IMAGE_PIXELS, f"from 1 to {MAX_IMAGE_PIXELS}"),
        ("max_pixels", 1, MAX_IMAGE_PIXELS, f"from 1 to {MAX_IMAGE_PIXELS}"),
        ("contaminated_distance", -1, 32, "from -1 (exact copies only) to 32 bits"),
        ("contaminated_question_chars", 1, 10**9, "at least 1"),
        ("t2i_wordings", 1, len(T2I_PROMPTS), f"from 1 to {len(T2I_PROMPTS)}, the wordings that there are"),
        ("shard_mb", 1e-6, 1e6, "above 0 and at most 1,000,000 MiB"),
        ("workers", 1, 4096, "from 1 to 4096"),
    )
    problems = [
        f"{name}: {config[name]} is not {allowed}"
        for name, low, high, allowed in ranges
        if config[name] is not None and not low <= config[name] <= high
    ]
    problems += [
        f"{name}: is empty; leave it out or name something"  # as from a shell's variable that is not set
        for name in given
        if isinstance(given[name], str) and not given[name].strip(" ,") and name not in ("source", "output")
    ]
    try:
        parse_part(config.part)
    except ConfigError as error:
        problems.append(str(error).removesuffix("."))
    defaults = PrepareConfig()
    problems += [
        f"decontaminate: {name} is a URL; only files and folders of this machine are taken: download it"
        for name in named_benchmarks(config.decontaminate)
        if is_url(name)
    ]
    problems += [
        f"{name}: has no effect without {other}"
        for name, other in NEEDS.items()
        if name in given and config[name] != getattr(defaults, name) and config[other] is None
    ]
    return problems


def named_benchmarks(decontaminate: str | None) -> list[str]:
    """The files and folders that the setting names."""
    return [name.strip() for name in (decontaminate or "").split(",") if name.strip()]


def parse_part(part: str | None) -> tuple[int, int]:
    """(number from 1, of how many) of "3/16"; (1, 1) for the whole.

    Raises:
        ConfigError: for anything else.
    """
    if part is None:
        return 1, 1
    number, slash, parts = part.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts) <= 100_000):
        raise ConfigError(f"part: {part!r} is not of the form 3/16, the third of sixteen.")
    return int(number), int(parts)


def part_suffix(number: int, parts: int) -> str:
    """What follows an output's name in the name of a part's folder."""
    return f".part-{number:0{len(str(parts))}d}-of-{parts}"


def source_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the resolved settings that the source's reader takes."""
    return {name: settings[name] for name in option_parameters(settings["source"])}


def usage() -> str:
    """What to type, with the options and defaults of every source."""
    lines = ["python -m datamodules.prepare source=NAME input=PATH output=DIR [option=value ...]", "", "Every source:"]
    defaults = PrepareConfig()
    lines += [
        f"  {name}={_shown(getattr(defaults, name))}" for name in COMMON if name not in ("source", "input", "output")
    ]
    lines += ["", "Sources and their own options:"]
    for source in SOURCES:
        own = [
            f"{n}={'null' if p.default is None else p.default}"
            for n, p in option_parameters(source).items()
            if n not in COMMON
        ]
        card = CARDS[source]
        lines += [
            f"  {source:<18} {' '.join(own)}{'' if needs_input(source) else '  (no input)'}".rstrip(),
            f"      {card.kind}: {card.home}; {card.size}; licence: {card.licence}; strength: {card.strength}",
        ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """A default as it would be typed."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
