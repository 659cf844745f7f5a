"""A run as the comparison sees it, and its configuration as flat text that is the same wherever it was read.

A configuration comes from a run's folder, from the artifact that MLflow has, or from MLflow's parameters, which are text; so
values are compared by their text.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mrm.config import RunConfig, flatten
from mrm.run_dirs import NOT_IDENTIFYING, NOT_IDENTIFYING_OF_JUDGES

FINISHED = "FINISHED"
SEED = "seed"
# Beside what does not change an outcome by `mrm.run_dirs`: where things lie, how they are told, and the seed, over which runs are averaged.
NOT_COMPARED = (
    *NOT_IDENTIFYING,
    *(f"curation.annotators.*.{key}" for key in NOT_IDENTIFYING_OF_JUDGES),
    *("sweep.*", "logger.*", "report.*", "data_root", "prepared_root", "data.cache_dir", "data.cache_gb"),
    SEED,
)

CHOOSING = ("evaluation.early_stopping.metric", "evaluation.best.use")


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Args:
        run_id: MLflow's. name: its folder's name.
        experiment, scale, seed: by its tags.
        status: FINISHED, or what MLflow says else.
        started: milliseconds since 1970.
        config: dotted key -> text, without what is not compared.
        metrics: name -> the newest value.
        sweep: the sweep that it is a member of; empty where of none.
        commit, data: git commit and digest of the training data; empty where not logged.
        folder: of the run, where it is on this machine.
        cut: keys whose values MLflow holds only the beginning of.
    """

    run_id: str
    name: str
    experiment: str
    seed: int
    scale: str = ""
    status: str = FINISHED
    started: int = 0
    config: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    sweep: str = ""
    commit: str = ""
    data: str = ""
    folder: Path | None = None
    cut: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """How it is named to a person."""
        return f"{self.name} ({self.run_id[:8]})"


def comparable(flat: Mapping[str, Any]) -> dict[str, str]:
    """A flat configuration as it is compared: lists of mappings spread out, values as text, what does not count left out.

    Of a data set or a judge that is not used, nothing but that counts; of what is evaluated while training, nothing, unless weights or the
    end of the training are chosen by it.

    Args:
        flat: dotted key -> value, or -> its text as MLflow has it.
    """
    spread: dict[str, str] = {}
    for key, value in flat.items():
        _spread(key, _parsed(value) if isinstance(value, str) else value, spread)
    unused = [
        key.removesuffix("use")
        for key, text in spread.items()
        if key.startswith(("data.datasets.", "curation.annotators.")) and key.endswith(".use") and text == "False"
    ]
    if not any(spread.get(key, "None") not in ("None", "False") for key in CHOOSING):  # then they only look on
        unused += [key.removesuffix("role") for key, text in spread.items() if key.endswith(".role") and text == "val"]
        spread = {key: text for key, text in spread.items() if not key.startswith("evaluation.")}
    return {
        key: text
        for key, text in spread.items()
        if not any(fnmatchcase(key, one) for one in NOT_COMPARED)
        and not any(key.startswith(part) and not (key == f"{part}use" and text == "False") for part in unused)
    }


def with_defaults(config: Mapping[str, str]) -> dict[str, str]:
    """A comparable configuration with the defaults of keys that it lacks: it may be older than they are.

    Args:
        config: of `comparable`.
    """
    known = {key: text for key, text in comparable(flatten(RunConfig())).items() if key != "experiment"}
    return {
        **{
            key: text
            for key, text in known.items()
            if key not in config and not any(one.startswith(f"{key}.") for one in config)
        },
        **config,
    }


def flattened(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of a configuration file, as `mrm.config.flatten` does it."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update((f"{key}.{inner}", found) for inner, found in flattened(value).items())
        else:
            flat[str(key)] = value
    return flat


def _parsed(text: str) -> Any:
    """A list of mappings from its text; any other text stays what it is."""
    if not text.startswith("[{"):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # cut
        return text


def _spread(key: str, value: Any, into: dict[str, str]) -> None:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            _spread(f"{key}.{number}", item, into)
    elif isinstance(value, Mapping):
        for inner, found in value.items():
            _spread(f"{key}.{inner}", found, into)
    else:
        into[key] = str(value)
