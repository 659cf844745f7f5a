"""What the types of `mrm.config` cannot say: allowed names, ranges, and keys that only make sense together.

All problems are found in one go and told in one message. Whether files exist is asked here too, since a run that finds a
missing folder after ten minutes of preparation is a nuisance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from callbacks.annotating import MODES
from datamodules.dataset_spec import ROLES, TRAINED
from datamodules.orders import ORDERS
from datamodules.prepare_config import needs_input
from datamodules.remote import check_url
from datamodules.sources import SOURCES
from datamodules.sources.location import join
from mrm.config import (
    AnnotationConfig,
    CurationConfig,
    DataConfig,
    LoggerConfig,
    LoraConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RoundConfig,
    RunConfig,
    SweepConfig,
    TrainerConfig,
)
from mrm.construct_config import check_calling, check_model, check_rubrics, used
from mrm.curation.rules import AUTO, STEPS_OF, Rules, source_problems, without_effect
from mrm.errors import ConfigError, ShardError, suggest
from mrm.evaluation_checks import evaluation_problems
from mrm.model.attention import ATTENTION
from mrm.model.backbones import DTYPES
from mrm.model.losses import LOSSES
from mrm.model.margins import MARGINS
from mrm.model.reward_model import HEADS
from mrm.model.saving import FORMS
from mrm.model.schedules import CYCLES, SCHEDULES

OPEN_POOL = ("held", "raw")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp2", "deepspeed")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # head and optimizer stay float32
MLFLOW_STORES = ("http", "https", "sqlite", "file", "postgresql", "mysql", "mssql", "databricks")
MAX_SEED = 2**32 - 1  # NumPy's largest
SHARDS = "shards"  # the source of a folder that is prepared already
CONSTRUCT = "construct"  # the source of what `mrm.construct` makes

Problems = list[str]


def check_config(config: RunConfig, *, parts: Mapping[str, Callable[[], object]] | None = None) -> None:
    """Checks the whole configuration.

    Args:
        config: what will be run.
        parts: further checks by dotted path, for what belongs to other rooms; each raises a ConfigError.

    Raises:
        ConfigError: one message with every problem, each with its dotted path and what is allowed.
    """
    problems: Problems = []
    _within(problems, "seed", config.seed, 0, MAX_SEED)
    _check_data(config, problems)
    _check_model(config.model, problems)
    _check_loss(config.loss, problems)
    _check_optim(config.optim, problems)
    _check_curation(config.curation, config.trainer, problems)
    by_stage = config.optim.cycle == "stage" or config.curation.restart in ("cold", "head")
    if config.optim.cycle_peaks and not (by_stage and config.curation.enabled):
        problems.append(
            f"optim.cycle_peaks={config.optim.cycle_peaks}: has an effect only with optim.cycle=stage (or a cold or head restart) and"
            " rounds of curation."
        )
    _check_pool(config, problems)
    _check_judges(config, problems)
    problems += evaluation_problems(config)
    _check_trainer(config.trainer, problems)
    _check_logger(config.logger, problems)
    problems += sweep_problems(config.sweep)
    if config.report.gallery < 0:
        problems.append(f"report.gallery={config.report.gallery}: must be at least 0.")
    for path, check in (parts or {}).items():
        try:
            check()
        except ConfigError as error:
            problems.append(f"{path}: {error}")
    if problems:
        heading = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{heading} in the configuration:\n" + "\n".join(f"  - {p}" for p in problems))


def _one_of(problems: Problems, path: str, value: str, allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    if value not in allowed:
        problems.append(f"{path}={value!r}: must be one of {', '.join(allowed)}.{suggest(value, allowed)}")


def _within(
    problems: Problems, path: str, value: float | None, low: float, high: float, *, open_end: bool = False
) -> None:
    if value is None or (low <= value < high if open_end else low <= value <= high):
        return
    end = f"at least {low:g}" if high == float("inf") else f"in [{low:g}, {high:g}{')' if open_end else ']'}"
    problems.append(f"{path}={value}: must be {end}.")


def _positive(problems: Problems, path: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        problems.append(f"{path}={value}: must be more than 0.")


def _at_least(problems: Problems, section: str, part: Any, low: int, *names: str) -> None:
    for name in names:
        _within(problems, f"{section}.{name}", getattr(part, name), low, float("inf"))


def _check_path(problems: Problems, path: str, full: str | Path, data_root: str, source: str) -> None:
    if isinstance(full, Path):
        if not full.exists():
            problems.append(f"{path}: there is no {full}; set data_root=... (it is {data_root!r}) or {path}=...")
    elif source == SHARDS:
        _check_url(problems, path, full)


def _check_data(config: RunConfig, problems: Problems) -> None:
    data: DataConfig = config.data
    for name, dataset in data.datasets.items():
        path = f"data.datasets.{name}"
        if not dataset.use:
            continue
        _one_of(problems, f"{path}.role", dataset.role, ROLES)
        _one_of(problems, f"{path}.source", dataset.source, [*SOURCES, SHARDS, CONSTRUCT])
        _positive(problems, f"{path}.weight", dataset.weight)
        for source, weight in dataset.source_weights.items():
            _within(problems, f"{path}.source_weights.{source}", weight, 0, float("inf"), open_end=True)
        if dataset.role not in TRAINED and dataset.source_weights:
            problems.append(f"{path}.source_weights: have no effect on a {dataset.role} set; leave them out.")
        if dataset.role not in TRAINED and dataset.weight != 1:
            problems.append(f"{path}.weight={dataset.weight}: has no effect on a {dataset.role} set; leave it at 1.")
        if dataset.source == CONSTRUCT or (dataset.source in SOURCES and not needs_input(dataset.source)):
            if dataset.path is not None:
                problems.append(f"{path}.path={dataset.path!r}: {dataset.source} makes its data; leave the path null.")
        elif dataset.path is None:
            problems.append(f"{path}.path: {dataset.source} needs the file or folder to read; set {path}.path=...")
        else:
            _check_path(
                problems, f"{path}.path", join(config.data_root, dataset.path), config.data_root, dataset.source
            )
        if dataset.source == SHARDS and dataset.options:
            problems.append(f"{path}.options: a folder of shards takes none, found {', '.join(dataset.options)}.")
    _at_least(problems, "data", data, 1, "batch_size", "score_batch_size", "row_tokens", "batch_tokens")
    _at_least(problems, "data", data, 0, "workers", "length_window")
    if data.batch_tokens is not None and data.length_window == 0:
        problems.append(
            f"data.batch_tokens={data.batch_tokens}: needs samples sorted by length; set data.length_window, 50 is usual."
        )
    _one_of(problems, "data.order", data.order, ORDERS)
    _within(problems, "data.max_unreadable", data.max_unreadable, 0, 1)
    _positive(problems, "data.cache_gb", data.cache_gb)


def _check_url(problems: Problems, path: str, url: str) -> None:
    try:
        check_url(url)
    except ShardError as error:
        problems.append(f"{path}: {error}")


def _check_model(model: ModelConfig, problems: Problems) -> None:
    _one_of(problems, "model.head", model.head, HEADS)
    _one_of(problems, "model.dtype", model.dtype, DTYPES)
    _one_of(problems, "model.attention", model.attention, ATTENTION)
    _at_least(
        problems, "model", model, 1, "max_pixels_train", "max_pixels_score", "max_prompt_tokens", "max_response_tokens"
    )
    if model.freeze_language and model.lora.enabled:
        problems.append(
            "model.freeze_language: low-rank matrices adapt the language model; set one of the two to false."
        )
    for part in ("vision", "projector"):
        if model.lora.enabled and not getattr(model, f"freeze_{part}"):
            problems.append(
                f"model.freeze_{part}=false: has no effect with model.lora.enabled=true, which adapts the language model."
            )
    if not model.lora.enabled:
        if model.lora != LoraConfig():
            problems.append("model.lora: has no effect with model.lora.enabled=false; set model.lora.enabled=true.")
    else:
        _at_least(problems, "model.lora", model.lora, 1, "rank", "alpha")
        _within(problems, "model.lora.dropout", model.lora.dropout, 0, 1, open_end=True)
        _one_of(problems, "model.lora.save", model.lora.save, FORMS)
        if not model.lora.targets:
            problems.append("model.lora.targets: must name at least one layer.")


def _check_loss(loss: LossConfig, problems: Problems) -> None:
    _one_of(problems, "loss.name", loss.name, LOSSES)
    _one_of(problems, "loss.margin", loss.margin, MARGINS)
    _within(problems, "loss.label_smoothing", loss.label_smoothing, 0, 0.5, open_end=True)
    if loss.margin == "none" and loss.margin_scale is not None:
        problems.append(f"loss.margin_scale={loss.margin_scale}: has no effect with loss.margin=none; set it to null.")
    elif loss.margin in MARGINS and loss.margin != "none" and loss.margin_scale is None:
        problems.append(f"loss.margin_scale: loss.margin={loss.margin} needs a number; 1.0 is usual.")
    elif loss.margin == "scale":
        _within(problems, "loss.margin_scale", loss.margin_scale, 0, 2)
    elif loss.margin == "shift":
        _positive(problems, "loss.margin_scale", loss.margin_scale)


def _check_optim(optim: OptimConfig, problems: Problems) -> None:
    _positive(problems, "optim.lr", optim.lr)
    _positive(problems, "optim.head_lr", optim.head_lr)
    _within(problems, "optim.weight_decay", optim.weight_decay, 0, float("inf"))
    _one_of(problems, "optim.schedule", optim.schedule, SCHEDULES)
    _one_of(problems, "optim.cycle", optim.cycle, CYCLES)
    _within(problems, "optim.warmup", optim.warmup, 0, 1, open_end=True)
    for number, peak in enumerate(optim.cycle_peaks):
        _positive(problems, f"optim.cycle_peaks[{number}]", peak)
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        problems.append(f"optim.betas={optim.betas}: must be two numbers in [0, 1).")


def _check_curation(curation: CurationConfig, trainer: TrainerConfig, problems: Problems) -> None:
    _one_of(problems, "curation.open_pool", curation.open_pool, OPEN_POOL)
    if not curation.enabled:
        for name in ("schedule", "annotators", "annotation"):
            if getattr(curation, name) != getattr(CurationConfig(), name):
                problems.append(f"curation.{name}: has no effect with curation.enabled=false; choose curation=none.")
        return
    if not curation.schedule:
        problems.append("curation.schedule: is empty; give at least one round, or choose curation=none.")
        return
    for number, spec in enumerate(curation.schedule):
        _check_round(f"curation.schedule[{number}]", spec, problems)
    last = max(spec.after_epoch for spec in curation.schedule)
    if last > trainer.max_epochs - 2:
        problems.append(
            f"trainer.max_epochs={trainer.max_epochs}: too few; the round after epoch {last} (counted from 0) needs an "
            f"epoch that trains on its outcome, so at least {last + 2}."
        )
    _check_annotation(curation, problems)


def _check_annotation(curation: CurationConfig, problems: Problems) -> None:
    judges, annotation = used(curation.annotators), curation.annotation
    for name, spec in judges.items():
        check_model(f"curation.annotators.{name}", spec, problems)
        if spec.samples != 1:
            problems.append(
                f"curation.annotators.{name}.samples={spec.samples}: means nothing to a judge; leave it out."
            )
    if not any("annotate" in spec.steps for spec in curation.schedule):
        for name, given in (("annotators", bool(judges)), ("annotation", annotation != AnnotationConfig())):
            if given:
                problems.append(f"curation.{name}: has no effect, no round of the schedule annotates.")
        return
    _one_of(problems, "curation.annotation.mode", annotation.mode, MODES)
    check_rubrics("curation.annotation.", annotation.language, annotation.rubrics, problems)
    check_calling("curation.annotation", annotation, problems)
    unpriced = [name for name, spec in judges.items() if spec.kind == "openai" and spec.price_input is None]
    if annotation.budget_money is not None and unpriced:
        problems.append(
            f"curation.annotation.budget_money={annotation.budget_money:g}: needs the price of each judge, and there is none for"
            f" {', '.join(unpriced)}; give price_input and price_output, or budget_tokens."
        )


def _check_round(path: str, spec: RoundConfig, problems: Problems) -> None:
    """Is every key that is set one that the round's steps heed? What the values may be is the round's to say."""
    given = [name for name in STEPS_OF if getattr(spec, name) not in (None, RoundConfig.correct_mode)]
    needs = without_effect(given, spec.steps, _modes(spec))
    needs |= {"missing": "`annotate`"} if spec.missing is not None and "annotate" not in spec.steps else {}
    problems += [
        f"{path}.{name}={getattr(spec, name)}: has an effect only with {need}." for name, need in needs.items()
    ]
    share = spec.distrust_share
    if not (share is None or share == AUTO or (isinstance(share, (int, float)) and not isinstance(share, bool))):
        problems.append(f"{path}.distrust_share={share!r}: must be {AUTO} or a number in [0, 1].")
    if spec.correct_mode == "weight" and spec.down_weight is None:
        problems.append(f"{path}.down_weight: is needed with correct_mode=weight.")
    problems += [f"{path}.{problem}" for problem in source_problems(Rules(), spec.sources, None)]
    for source, rules in spec.sources.items():
        mode = rules.get("correct_mode", spec.correct_mode)
        if mode == "weight" and spec.down_weight is None and "down_weight" not in rules:
            problems.append(f"{path}.sources.{source}.down_weight: is needed with correct_mode=weight.")
        needs = without_effect([name for name in rules if name in STEPS_OF], spec.steps, [str(mode)])
        problems += [f"{path}.sources.{source}.{name}: has an effect only with {need}." for name, need in needs.items()]


def _modes(spec: RoundConfig) -> set[str]:
    """What `correct` does to distrusted pairs, in any source."""
    return {spec.correct_mode, *(str(rules.get("correct_mode", spec.correct_mode)) for rules in spec.sources.values())}


def _check_pool(config: RunConfig, problems: Problems) -> None:
    """Is there something to train on from the first epoch, and is everything named used?"""
    roles = [dataset.role for dataset in config.data.datasets.values() if dataset.use]
    curation = config.curation
    if "trusted" not in roles and (curation.enabled or curation.open_pool != "raw" or "open" not in roles):
        problems.append(
            "data.datasets: none has role=trusted and use=true, so the first epoch would train on nothing and no model could "
            "judge the open pool; give one, or choose curation=none to train on the open pool unseen."
        )
    if curation.enabled and "open" not in roles:
        problems.append(
            "data.datasets: curation has no open pool to work on; give a dataset role=open, or choose curation=none."
        )
    if not curation.enabled and curation.open_pool == "held" and "open" in roles:
        problems.append(
            "curation.open_pool=held: with curation.enabled=false the open datasets would never be trained on; set "
            "curation.open_pool=raw or their use=false."
        )


def _check_judges(config: RunConfig, problems: Problems) -> None:
    """ShapeWorld's judges read the truth, which other data does not have; what a folder of shards holds is not known here."""
    judges = used(config.curation.annotators)
    if not config.curation.enabled or not any(judge.kind == "shapeworld" for judge in judges.values()):
        return
    for name, dataset in config.data.datasets.items():
        if dataset.use and dataset.role == "open" and dataset.source not in ("shapeworld", SHARDS):
            problems.append(
                f"curation.annotators: judges of kind shapeworld know ShapeWorld only, but data.datasets.{name} has "
                f"source={dataset.source}; choose curation=no_judges."
            )


def _check_trainer(trainer: TrainerConfig, problems: Problems) -> None:
    _at_least(
        problems, "trainer", trainer, 1, "max_epochs", "devices", "num_nodes", "accumulate", "log_every_n_steps",
        "checkpoint_every_n_steps", "limit_train_batches", "limit_test_batches",
    )  # fmt: skip
    _one_of(problems, "trainer.accelerator", trainer.accelerator, ACCELERATORS)
    if trainer.strategy.startswith("deepspeed_"):
        problems.append(
            f"trainer.strategy={trainer.strategy!r}: is not supported; deepspeed is ZeRO's stage 2, and fsdp2 shards the weights "
            "too, as stage 3 does."
        )
    else:
        _one_of(problems, "trainer.strategy", trainer.strategy, STRATEGIES)
    if trainer.strategy in ("fsdp2", "deepspeed") and trainer.precision == "16-mixed":
        problems.append(
            "trainer.precision='16-mixed': its loss scaling does not know sharded gradients; use bf16-mixed."
        )
    if trainer.precision.endswith("-true") and trainer.precision not in PRECISIONS:
        problems.append(
            f"trainer.precision={trainer.precision!r}: head and optimizer must stay float32; use trainer.precision=bf16-mixed "
            "with model.dtype=float32."
        )
    else:
        _one_of(problems, "trainer.precision", trainer.precision, PRECISIONS)
    _positive(problems, "trainer.clip", trainer.clip)


def _check_logger(logger: LoggerConfig, problems: Problems) -> None:
    if not logger.enabled and logger.log_model:
        problems.append("logger.log_model=true: has no effect with logger.enabled=false; choose logger=mlflow.")
    if not logger.enabled or not logger.mlflow:
        return
    scheme = logger.mlflow.partition(":")[0].partition("+")[0]  # mysql+pymysql://... names the driver too
    if scheme not in MLFLOW_STORES:
        problems.append(
            f"logger.mlflow={logger.mlflow!r}: must be the address of an MLflow store, beginning with one of "
            f"{', '.join(MLFLOW_STORES)}, as http://host:5000 or sqlite:///folder/mlflow.db.{suggest(scheme, MLFLOW_STORES)}"
        )


def sweep_problems(sweep: SweepConfig) -> Problems:
    """What is wrong with a sweep's settings."""
    problems: Problems = []
    _at_least(problems, "sweep", sweep, 1, "jobs")
    if sweep.name is not None and not re.fullmatch(r"[\w-][\w.+=-]*", sweep.name):
        problems.append(
            f"sweep.name={sweep.name!r}: must be a folder's name, of letters, digits and _ - + = . (not first)."
        )
    return problems
