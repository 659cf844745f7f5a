"""What `mrm.compare` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrm.comparing.drawing import check_format
from mrm.errors import ConfigError


@dataclass
class CompareConfig:
    """What the command takes. Lists are written [A,B]."""

    experiment: Any = None  # one or several, as in experiment= of the runs; * stands for anything; null, as of the next two, picks all
    sweep: Any = None  # the members of a sweep, or of several
    runs: Any = None  # ids of MLflow, names or folders of runs
    store: Any = "runs"  # an output_root with its mlflow.db, an address (http://HOST:5000), an archive; or several
    experiment_name: str = "mrm"  # MLflow's own, as logger.experiment_name of the runs
    reference: str | None = None  # label of a group or an experiment; null takes the first, none has no differences
    unfinished: bool = False  # take runs too that have not finished
    measures: Any = None  # only these figures: names of test sets, mean, noise_after, seconds, ...; null shows all
    x: str | None = None  # a key of the configuration with numbers, to draw `metric` over
    metric: Any = "mean"  # one or several figures to draw
    level: float = 0.95  # of all intervals
    output: str | None = None  # FILE.html: a page with everything
    markdown: str | None = None  # FILE.md: the tables
    json: str | None = None  # FILE.json: all figures
    archive: str | None = None  # FILE.jsonl.gz: the runs themselves, to compare again without their store
    figure: str | None = None  # FILE.svg, .png or .pdf: a drawing of `metric`: of all groups, or over x


def names(value: Any) -> list[str]:
    """One or several names, each once: A, or [A,B]."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(dict.fromkeys(str(item) for item in value))
    text = str(value).strip()
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return list(dict.fromkeys(part.strip().strip("'\"") for part in inner.split(",") if part.strip()))


def check(config: CompareConfig) -> None:
    """Raises a ConfigError that names all problems."""
    problems = [] if names(config.store) else ["store=[]: name where the runs are."]
    if not 0.5 <= config.level < 1:
        problems.append(f"level={config.level:g}: must be in [0.5, 1), such as 0.95.")
    if config.figure is not None:
        try:
            check_format(Path(config.figure))
        except ConfigError as error:
            problems.append(str(error))
    if config.x is None and config.figure is None and config.metric != CompareConfig.metric:
        problems.append(
            f"metric={config.metric!r}: has an effect only with figure= or x=KEY, which draw it; measures= picks the tables' figures."
        )
    if config.x is not None and not any((config.output, config.json, config.figure)):
        problems.append(f"x={config.x!r}: has an effect only with figure=, output= or json=.")
    if config.experiment_name != CompareConfig.experiment_name and all(
        one.endswith(".jsonl.gz") for one in names(config.store)
    ):
        problems.append("experiment_name: has an effect only on a store of MLflow; an archive has none.")
    problems += _endings(config)
    if config.archive is not None and Path(config.archive).resolve() in {
        Path(one).resolve() for one in names(config.store)
    }:
        problems.append(f"archive={config.archive!r}: would write over the file of store; choose another name.")
    if problems:
        raise ConfigError("\n".join(problems))


def _endings(config: CompareConfig) -> Sequence[str]:
    wanted = {"output": ".html", "markdown": ".md", "json": ".json", "archive": ".jsonl.gz"}
    given = {key: getattr(config, key) for key in wanted if getattr(config, key) is not None}
    return [
        f"{key}={value!r}: must be a file that ends in {wanted[key]}."
        for key, value in given.items()
        if not value.endswith(wanted[key]) or Path(value).is_dir()
    ]
