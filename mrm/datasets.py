"""The datasets of a run, as shards: prepared from what is published, constructed, or there already.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from datamodules.dataset_spec import DatasetSpec
from datamodules.prepare import PrepareResult, locked, prepare, read_result, recipe_digest
from datamodules.sources.location import join
from mrm.cli import compose_config, explain
from mrm.config import DatasetConfig, RunConfig
from mrm.config_checks import CONSTRUCT, SHARDS
from mrm.construct import construct
from mrm.construct_config import ConstructConfig, check_construct, to_construct_config
from mrm.construct_input import source_of
from mrm.construction.stage_files import digest_of
from mrm.errors import ConfigError
from mrm.summary import print_data

NOT_IDENTIFYING = ("output", "show_progress", "running", "dry_run")


def prepare_datasets(config: RunConfig) -> list[DatasetSpec]:
    """Shards of every dataset in use, made where they do not exist yet; prints what became of the records."""
    specs = []
    results: dict[str, PrepareResult | None] = {}
    for name, dataset in config.data.datasets.items():
        if dataset.use:
            place, results[name] = _shards(config, name, dataset)
            specs.append(DatasetSpec(name, place, dataset.role, dataset.weight, dataset.source_weights))
    print_data(results)
    return specs


def check_construction(dataset: DatasetConfig) -> None:
    """Checks the options of a dataset of source construct.

    Raises:
        ConfigError: one message with what is wrong.
    """
    if unused := {"output", "dry_run", "stages"} & dataset.options.keys():
        raise ConfigError(
            f"{', '.join(sorted(unused))}: a data set that is constructed has all stages, in a folder of its own."
        )
    check_construct(_construction(dataset.options, "-"))


def _shards(config: RunConfig, name: str, dataset: DatasetConfig) -> tuple[Path | str, PrepareResult | None]:
    """Where a dataset's shards are, and what became of its records."""
    root = Path(config.prepared_root).expanduser().resolve()
    if dataset.source == CONSTRUCT:
        return _constructed(root, name, dataset.options, config.trainer.progress)
    source = None if dataset.path is None else join(config.data_root, dataset.path)
    source = source.resolve() if isinstance(source, Path) else source
    if dataset.source == SHARDS:
        assert source is not None, "checked before"
        return source, _account(source) if isinstance(source, Path) else None
    digest = recipe_digest(dataset.source, source, **dataset.options)
    target = root / f"{name}-{digest}"
    common = {"max_unreadable": config.data.max_unreadable, "show_progress": config.trainer.progress}
    return target, prepare(dataset.source, source, target, **common, **dataset.options)


def _account(shards: Path) -> PrepareResult | None:
    """What was told when a folder of shards was prepared; None where it was written by something else."""
    try:
        return read_result(shards)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _constructed(root: Path, name: str, options: Mapping[str, Any], progress: bool) -> tuple[Path, PrepareResult]:
    config = _construction(options, "-")
    told = {key: value for key, value in asdict(config).items() if key not in NOT_IDENTIFYING}
    work = root / f"{name}-{digest_of(told, source_of(config))[:16]}"
    with locked(work):  # runs that start together share it
        result = construct(replace(config, output=str(work), show_progress=progress))
    return result.shards, result.in_records()


def _construction(options: Mapping[str, Any], output: str) -> ConstructConfig:
    """The configuration that a dataset's options mean: `construction` names the file, the rest are changes to it."""
    changes = {key: value for key, value in options.items() if key != "construction"}
    words = [f"construction={options['construction']}"] if "construction" in options else []
    try:
        return compose_config(
            words, root="construct", convert=lambda cfg: to_construct_config(cfg, {"output": output, **changes})
        )
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
