"""The parts of a run, each built from its group of the configuration; and the checks that need to know all parts.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar

from callbacks.annotating import Annotators
from callbacks.best_weights import BestWeights
from callbacks.checkpoints import ResumeCheckpoint
from callbacks.curation_schedule import RoundSpec, round_spec
from callbacks.iterative_curation import IterativeCuration
from callbacks.periodic_evaluation import PeriodicEvaluation
from callbacks.score_passes import FROM_TRAINING, ScorePass
from callbacks.score_recorder import ScoreRecorder
from callbacks.system_metrics import SystemMetrics
from callbacks.throughput import Throughput
from callbacks.training_scores import TrainingScores
from datamodules import prepare_config
from datamodules.preference_datamodule import DatasetSpec, PreferenceDataModule
from datamodules.remote import make_cache
from datamodules.sources import SOURCES, get_source
from mrm.config import DatasetConfig, RoundConfig, RunConfig
from mrm.config_checks import CONSTRUCT, check_config
from mrm.construct_config import run_settings, used
from mrm.construct_models import build_model
from mrm.construction.rubrics import load_rubrics
from mrm.datasets import check_construction
from mrm.devices import pick_device
from mrm.errors import ConfigError, suggest
from mrm.evaluation.course import EarlyStopping
from mrm.evaluation_checks import evaluated_sets, first_counting_epoch
from mrm.history import HistoryLogger
from mrm.launch import check_launch, is_main
from mrm.model.attention import AttentionPlan, plan_attention
from mrm.model.backbones import Lora, check_backbone, model_type, resolve
from mrm.model.encoding import Encoder
from mrm.model.families import get_family
from mrm.model.losses import LOSSES, TEXT_ONLY
from mrm.model.reward_model import RewardModel
from mrm.model.reward_module import RewardModule
from mrm.model.sharded_checkpoints import ShardedStrategy
from mrm.model.zero import Zero2Strategy, check_zero
from mrm.sweeps.membership import Membership
from mrm.tracking import start_mlflow

ANNOTATIONS = "annotations"  # in a run's folder: what its judges answered
BEST = "best"  # and the weights of its best evaluations
EXPECTED_WARNINGS = (  # Lightning's, on what is meant here
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*LeafSpec.*",
    ".*exists and is not empty.*",  # a resumed run
)


def check(config: RunConfig, *, launched: bool = True) -> None:
    """Checks the configuration as a whole, with what each part knows of its own.

    Args:
        config: what will be run.
        launched: whether this process is one of the run's, so that their number can be checked.

    Raises:
        ConfigError: one message with every problem.
    """
    parts: dict[str, Callable[[], object]] = {
        f"data.datasets.{name}.options": functools.partial(_check_options, dataset)
        for name, dataset in config.data.datasets.items()
        if dataset.use and dataset.source in SOURCES
    }
    parts |= {
        f"data.datasets.{name}.options": functools.partial(check_construction, dataset)
        for name, dataset in config.data.datasets.items()
        if dataset.use and dataset.source == CONSTRUCT
    }
    if config.curation.enabled:
        parts["curation"] = functools.partial(build_curation, config, Path(config.output_root))
    if launched:
        parts["trainer.devices"] = functools.partial(check_launch, config.trainer.devices, config.trainer.num_nodes)
    parts["trainer.accelerator"] = functools.partial(_check_accelerator, config.trainer.accelerator)
    if config.trainer.strategy == "deepspeed":
        parts["trainer.strategy"] = functools.partial(check_zero, config.trainer.accelerator)
    parts["model.backbone"] = functools.partial(check_backbone, config.model.backbone)
    check_config(config, parts=parts)


def build_encoder(config: RunConfig) -> Encoder:
    """The encoder at training resolution."""
    model = config.model
    return Encoder.from_pretrained(
        resolve(model.backbone),
        max_pixels=model.max_pixels_train,
        max_prompt_tokens=model.max_prompt_tokens,
        max_response_tokens=model.max_response_tokens,
    )


def device_type(config: RunConfig) -> str:
    """`cuda` or `cpu`: where the model will run."""
    return "cpu" if config.trainer.accelerator == "cpu" else pick_device().type


def _plan(config: RunConfig) -> AttentionPlan:
    family = get_family(model_type(config.model.backbone))
    device, row_tokens = device_type(config), config.data.row_tokens
    return plan_attention(config.model.attention, family, device=device, row_tokens=row_tokens)


def build_datamodule(
    config: RunConfig, datasets: list[DatasetSpec], encoder: Encoder, folder: Path
) -> PreferenceDataModule:
    data = config.data
    return PreferenceDataModule(
        datasets,
        encoder,
        score_encoder=encoder.with_resolution(config.model.max_pixels_score),
        ledger_dir=folder / "ledger",
        batch_size=data.batch_size,
        score_batch_size=data.score_batch_size,
        row_tokens=data.row_tokens,
        layout=_plan(config).layout,
        num_workers=data.workers,
        seed=config.seed,
        length_window=data.length_window,
        batch_tokens=data.batch_tokens,
        order=data.order,
        admit_open=config.curation.open_pool == "raw",
        use_strength=config.loss.margin != "none",
        max_unreadable=data.max_unreadable,
        text_only=config.loss.name in TEXT_ONLY,
        cache=make_cache(data.cache_dir, data.cache_gb),
    )


def build_reward_model(config: RunConfig, *, device: str) -> RewardModel:
    """Backbone and a new head, as configured; `device` is the type of the one that it will run on."""
    model = config.model
    lora = Lora(rank=model.lora.rank, alpha=model.lora.alpha, dropout=model.lora.dropout, targets=model.lora.targets)
    return RewardModel.from_pretrained(
        model.backbone,
        head=model.head,
        dtype=model.dtype,
        attention=model.attention,
        device=device,
        row_tokens=config.data.row_tokens,
        freeze_vision=model.freeze_vision,
        freeze_projector=model.freeze_projector,
        freeze_language=model.freeze_language,
        gradient_checkpointing=model.gradient_checkpointing,
        lora=lora if model.lora.enabled else None,
        text_twin=config.loss.name in TEXT_ONLY,
    )


def build_module(config: RunConfig, datamodule: PreferenceDataModule) -> RewardModule:
    optim = config.optim
    reward_model = build_reward_model(config, device=device_type(config))
    by_stage = optim.cycle == "stage" or config.curation.restart in ("cold", "head")
    reward_model.train()  # `from_pretrained` leaves a backbone in eval mode, where it would not recompute activations
    return RewardModule(
        reward_model,
        loss=functools.partial(
            LOSSES[config.loss.name],
            margin=config.loss.margin,
            margin_scale=config.loss.margin_scale or 0.0,  # without a margin it is not used
            label_smoothing=config.loss.label_smoothing,
        ),
        lr=optim.lr,
        head_lr=optim.head_lr,
        weight_decay=optim.weight_decay,
        betas=(optim.betas[0], optim.betas[1]),
        schedule=optim.schedule,
        warmup=optim.warmup,
        cycle_starts=[spec.after_epoch + 1 for spec in config.curation.schedule] if by_stage else (),
        cycle_peaks=optim.cycle_peaks,
        seed=config.seed,
        test_names=datamodule.test_names,
    )


def build_curation(config: RunConfig, folder: Path) -> IterativeCuration:
    """The rounds and their judges; without rounds the callback does nothing. `folder` is the run's."""
    curation = config.curation
    passes = [ScorePass(spec.kind, spec.count, spec.path, spec.fresh_share) for spec in curation.passes]
    return IterativeCuration(
        [_round_spec(spec) for spec in curation.schedule],
        annotators=build_annotators(config, folder),
        restart=curation.restart,
        passes=passes,
        recorded=TrainingScores(enabled=any(spec.kind in FROM_TRAINING for spec in passes)),
        min_active_share=curation.min_active_share,
    )


def _round_spec(spec: RoundConfig) -> RoundSpec:
    """The round; a key that is null has the round's own default."""
    values = {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec)}
    return round_spec({name: value for name, value in values.items() if value is not None})


def build_evaluation(config: RunConfig, folder: Path) -> PeriodicEvaluation:
    """The evaluation while training; without sets the callback does nothing. `folder` is the run's."""
    evaluation, (sets, shown) = config.evaluation, evaluated_sets(config)
    any_set = bool(sets or shown)
    stopping, best = evaluation.early_stopping, evaluation.best
    return PeriodicEvaluation(
        sets,
        shown=shown,
        every_n_steps=evaluation.every_n_steps if any_set else None,
        every_n_epochs=evaluation.every_n_epochs if any_set else None,
        stopping=None
        if stopping.metric is None
        else EarlyStopping(stopping.metric, stopping.patience, stopping.min_delta, first_counting_epoch(config)),
        best=None if best.metric is None else BestWeights(folder / BEST, metric=best.metric, keep=best.keep),
    )


def build_annotators(config: RunConfig, folder: Path) -> Annotators | None:
    """The judges, with their answers in the run's folder unless runs share them; None where there are none."""
    judges, annotation = used(config.curation.annotators), config.curation.annotation
    if not judges:
        return None
    shared = annotation.cache_dir
    return Annotators(
        [build_model("judge", name, spec, config.seed) for name, spec in judges.items()],
        load_rubrics(annotation.language, annotation.rubrics),
        folder / ANNOTATIONS if shared is None else Path(shared).expanduser().resolve(),
        settings=run_settings(annotation),
        mode=annotation.mode,
    )


def build_loggers(config: RunConfig, folder: Path, sweep: Membership | None) -> list[Any]:
    """The history file and, unless it is switched off, MLflow; on rank 0 only."""
    if not is_main():
        return []
    mlflow = [start_mlflow(config, folder, sweep)] if config.logger.enabled else []
    return [HistoryLogger(folder), *mlflow]


def build_strategy(name: str, processes: int, precision: str = "32-true") -> Any:
    """The strategy that Lightning takes: its name, or for `fsdp2` and `deepspeed` what slices over all processes."""
    if name == "deepspeed":
        return Zero2Strategy(precision)
    if name != "fsdp2":
        return name
    return ShardedStrategy(processes)


def build_trainer(
    config: RunConfig, folder: Path, curation: IterativeCuration, evaluation: PeriodicEvaluation, loggers: list[Any]
) -> pl.Trainer:
    trainer = config.trainer
    callbacks: list[Callback] = [
        evaluation,  # before a round, which may give the model other weights
        curation.recorded,
        curation,
        Throughput(trainer.log_every_n_steps, idle=lambda: evaluation.seconds),
        ResumeCheckpoint(folder / "checkpoints", every_n_steps=trainer.checkpoint_every_n_steps),
        ScoreRecorder(folder),
    ]
    if config.logger.enabled and config.logger.system_metrics:
        callbacks.append(SystemMetrics(folder))
    if trainer.progress:
        callbacks.append(RichProgressBar())
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    return pl.Trainer(
        max_epochs=trainer.max_epochs,
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=build_strategy(trainer.strategy, trainer.devices * trainer.num_nodes, trainer.precision),
        precision=trainer.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=trainer.accumulate,
        gradient_clip_val=trainer.clip,
        log_every_n_steps=trainer.log_every_n_steps,
        limit_train_batches=trainer.limit_train_batches,
        limit_test_batches=trainer.limit_test_batches,
        default_root_dir=folder,
        logger=loggers or False,
        callbacks=callbacks,
        enable_progress_bar=trainer.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # each epoch's plan reads the newest ledger
        use_distributed_sampler=False,  # the plan divides the work
    )


def _check_options(dataset: DatasetConfig) -> None:
    known = [*dict.fromkeys((*prepare_config.option_parameters(dataset.source), *prepare_config.RULES))]
    if unknown := [str(name) for name in dataset.options if name not in known]:
        raise ConfigError(
            f"source {dataset.source} has no option {', '.join(unknown)}; known: {', '.join(known)}.{suggest(unknown[0], known)}"
        )
    reads = prepare_config.needs_input(dataset.source)
    paths = {"source": dataset.source, "input": "-" if reads else None, "output": "-"}
    settings = prepare_config.resolve({**paths, **dataset.options})
    if not reads:  # nothing to open: the source checks the values of its options at once
        get_source(dataset.source)(None, **prepare_config.source_options(settings))


def _check_accelerator(accelerator: str) -> None:
    mps = torch.backends.mps.is_available()
    if (accelerator == "gpu" and not (mps or torch.cuda.is_available())) or (accelerator == "mps" and not mps):
        raise ConfigError(f"{accelerator}: PyTorch finds none on this machine; use trainer.accelerator=auto or cpu.")
