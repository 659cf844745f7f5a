"""Rubrics: what a judge is told, read from a yaml file that a user can replace, and checked.

Two come with the package, `en` and `zh`. A file holds the criteria, the system and user texts of the listwise and the
pointwise call, and the names of the texts shown. Texts hold named placeholders like `{criteria}`; all other braces are
left as they are. Filling the placeholders is left to `judge_prompts.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mrm.errors import ConfigError, suggest

LANGUAGES = ("en", "zh")
FOLDER = Path(__file__).parents[1] / "assets" / "rubrics"
SYSTEM_PLACEHOLDERS = ("criteria", "format")
USER_PLACEHOLDERS = ("marker", "conversation", "reference", "responses")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Criterion:
    """What is scored from 0 to 10.

    Args:
        name: the key in the judge's JSON and in records: a-z, 0-9 and _.
        description: what the judge is told about it.
    """

    name: str
    description: str


@dataclass(frozen=True)
class Instructions:
    """The two turns of a call.

    Args:
        system: with `{criteria}` and `{format}`; the same for all calls with as many responses.
        user: with `{marker}`, `{conversation}`, `{reference}` and `{responses}`.
    """

    system: str = field(repr=False)
    user: str = field(repr=False)


@dataclass(frozen=True)
class Labels:
    """The names of the texts shown; `reference_note` introduces the reference answer where there is one."""

    system: str
    user: str
    assistant: str
    response: str
    reference: str
    reference_note: str


@dataclass(frozen=True)
class Rubric:
    """What a judge is told.

    Args:
        language: of the questions that it is for, "en" or "zh".
        criteria: at least one, of different names.
        listwise: the texts of a call that shows all responses.
        pointwise: the texts of a call that shows one.
        labels: names of the texts shown.
    """

    language: str
    criteria: tuple[Criterion, ...]
    listwise: Instructions
    pointwise: Instructions
    labels: Labels

    @cached_property
    def digest(self) -> str:
        """16 hex digits of all that it says: two rubrics with one digest ask the same."""
        content = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:16]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of its criteria."""
        return tuple(criterion.name for criterion in self.criteria)


def load_rubric(language_or_path: str | Path) -> Rubric:
    """Reads a rubric.

    Args:
        language_or_path: "en" or "zh" for those of the package, else a yaml file.

    Raises:
        ConfigError: naming the file and every key that is missing, unknown or of the wrong kind.
    """
    packaged = language_or_path in LANGUAGES
    path = FOLDER / f"{language_or_path}.yaml" if packaged else Path(language_or_path)
    content = _read(path)
    problems: list[str] = []
    content = _section(content, "", ("language", "criteria", "listwise", "pointwise", "labels"), problems)
    language = _text(content, "", "language", problems)
    if language and language not in LANGUAGES:
        problems.append(f"`language` is {language!r}; allowed are {', '.join(LANGUAGES)}.")
    criteria = _criteria(content.get("criteria"), problems)
    calls = {mode: _instructions(content.get(mode), mode, problems) for mode in ("listwise", "pointwise")}
    labels = _labels(content.get("labels"), problems)
    if problems:
        raise ConfigError(f"rubric {path}: " + " ".join(problems) + f" {FOLDER / 'en.yaml'} is an example to copy.")
    return Rubric(language, criteria, calls["listwise"], calls["pointwise"], labels)


def load_rubrics(language: str, files: Mapping[str, str | Path]) -> dict[str, Rubric]:
    """The rubric of each language that prompts may be in.

    Args:
        language: "auto" for the prompt's own, else the one language that all are judged in.
        files: language -> what `load_rubric` reads in place of the package's.

    Raises:
        ConfigError: as for `load_rubric`.
    """
    told = {asked: asked if language == "auto" else language for asked in LANGUAGES}
    return {asked: load_rubric(files.get(told[asked], told[asked])) for asked in LANGUAGES}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(
            f"rubric {str(path)!r} is not a file; give {' or '.join(LANGUAGES)}, or the path of a yaml file."
        )
    try:
        loaded = OmegaConf.load(path)
        # Unresolved: "${" in a text is a text.
        return OmegaConf.to_container(loaded, resolve=False) if isinstance(loaded, DictConfig) else loaded
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"rubric {path}: not readable as yaml in UTF-8: {error}") from error


def _section(value: Any, where: str, keys: tuple[str, ...], problems: list[str]) -> Mapping[str, Any]:
    """The mapping, its keys checked; empty where it is none."""
    if not isinstance(value, Mapping):
        problems.append(f"{f'`{where}`' if where else 'it'} must be a mapping with {', '.join(keys)}.")
        return {}
    prefix = f"{where}." if where else ""
    problems += [f"unknown key `{prefix}{key}`.{suggest(key, keys)}" for key in value if key not in keys]
    problems += [f"missing key `{prefix}{key}`." for key in keys if key not in value]
    return value


def _text(section: Mapping[str, Any], where: str, key: str, problems: list[str]) -> str:
    value = section.get(key, "")
    if key in section and not (isinstance(value, str) and value.strip()):
        problems.append(f"`{f'{where}.' if where else ''}{key}` must be a text that is not empty, found {value!r}.")
        return ""
    return value


def _criteria(value: Any, problems: list[str]) -> tuple[Criterion, ...]:
    if value is None:
        value = []
    if not isinstance(value, list) or not value:
        problems.append("`criteria` must be a list of at least one criterion.")
        return ()
    criteria: list[Criterion] = []
    for number, entry in enumerate(value):
        where = f"criteria[{number}]"
        section = _section(entry, where, ("name", "description"), problems)
        criterion = Criterion(*(_text(section, where, key, problems) for key in ("name", "description")))
        if criterion.name and not _NAME.fullmatch(criterion.name):
            problems.append(f"`{where}.name` is {criterion.name!r}; use a-z, 0-9 and _, a letter first.")
        if criterion.name and criterion.name in [known.name for known in criteria]:
            problems.append(f"`{where}.name` {criterion.name!r} is there twice.")
        criteria.append(criterion)
    return tuple(criteria)


def _instructions(value: Any, where: str, problems: list[str]) -> Instructions:
    section = _section(value, where, ("system", "user"), problems)
    texts = {}
    for key, placeholders in (("system", SYSTEM_PLACEHOLDERS), ("user", USER_PLACEHOLDERS)):
        texts[key] = text = _text(section, where, key, problems)
        if text:
            found = _PLACEHOLDER.findall(text)
            lacking = [name for name in placeholders if name not in found]
            problems += [f"`{where}.{key}` has no placeholder {{{name}}}." for name in lacking]
            # Shown twice, a text could be judged twice; the marker is only a code.
            twice = [name for name in placeholders if name != "marker" and found.count(name) > 1]
            problems += [f"`{where}.{key}` has the placeholder {{{name}}} twice." for name in twice]
    return Instructions(**texts)


def _labels(value: Any, problems: list[str]) -> Labels:
    keys = tuple(f.name for f in fields(Labels))
    section = _section(value, "labels", keys, problems)
    texts = {key: _text(section, "labels", key, problems) for key in keys}
    for key, text in texts.items():
        if "\n" in text.strip():
            problems.append(f"`labels.{key}` must be one line.")
    return Labels(**texts)
