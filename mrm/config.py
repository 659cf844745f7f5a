"""The typed schema under every yaml in experiments/, and the ways from there to a `RunConfig` that is fit to run.

A key that is not here is an error wherever it is written: on the command line, in a group file or in an experiment.
What a type cannot say (ranges, allowed names, keys that only make sense together) stands in `mrm.config_checks`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from mrm.construct_config import CallingConfig, ModelSpec
from mrm.errors import ConfigError, suggest

PACKAGE = Path(__file__).resolve().parent


@dataclass
class DatasetConfig:
    """One dataset. `path` is read under `data_root`; `options` go to the source as keyword arguments."""

    source: str = MISSING  # a name from datamodules.sources, or "shards" for a folder that `datamodules.prepare` wrote
    role: str = MISSING  # trusted | open | val | test
    path: str | None = None  # with source shards also a URL: s3://... | gs://... | https://... | hf://...
    options: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0  # times a sample is seen in an epoch
    # source -> factor on the weight; on the command line +data.datasets.NAME.source_weights.SOURCE=2
    source_weights: dict[str, float] = field(default_factory=dict)
    use: bool = True


@dataclass
class DataConfig:
    datasets: dict[str, DatasetConfig] = field(default_factory=dict)
    batch_size: int = 16  # samples a step and device
    score_batch_size: int = 32  # samples a batch where nothing is learnt: scoring and tests
    row_tokens: int | None = None  # tokens a packed row holds at most; null = a row a sample
    workers: int = 0  # processes that read and encode, a device
    length_window: int = 0  # steps whose samples are sorted by length together; 0 = off
    batch_tokens: int | None = None  # samples x longest a batch, by estimate; null = batch_size whatever their length
    order: str = "shuffled"  # shuffled | easy_first: from strong preferences to close ones
    cache_dir: str | None = None  # where shards from a URL are kept; null = ~/.cache/mrm/shards
    cache_gb: float = 100.0  # that they may take there
    max_unreadable: float = 0.01  # share of a dataset's samples that may be unreadable before the run stops


@dataclass
class LoraConfig:
    """Low-rank adaptation of the language model; see `mrm.model.backbones.Lora`."""

    enabled: bool = False
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    save: str = (
        "merged"  # merged: into the backbone's weights; adapter: the matrices alone, which need the backbone to score
    )
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


@dataclass
class ModelConfig:
    backbone: str = "tiny"  # "tiny" (in the package), a folder, or a name on the Hugging Face hub
    head: str = "linear"  # linear | mlp
    freeze_vision: bool = True
    freeze_projector: bool = True  # what leads from the vision tower to the language model
    freeze_language: bool = False
    dtype: str = "float32"  # float32 | bfloat16, of the backbone; head and loss are float32 always
    attention: str = "auto"  # auto | tree | sdpa | flex_attention | flash_attention_2 | flash_attention_3 | eager
    lora: LoraConfig = field(default_factory=LoraConfig)
    gradient_checkpointing: bool = False
    max_pixels_train: int = 268_324
    max_pixels_score: int = 1_310_720
    max_prompt_tokens: int = 4096
    max_response_tokens: int = 3072


@dataclass
class LossConfig:
    name: str = "bradley_terry"
    margin: str = "none"  # none | shift | scale; none leaves strengths unused
    margin_scale: float | None = None  # only with a margin
    label_smoothing: float = 0.0


@dataclass
class OptimConfig:
    lr: float = 1e-5
    head_lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"  # cosine | constant
    cycle: str = "run"  # run | stage: what the schedule spans; a stage ends with a round. Cold restarts: by stage
    warmup: float = 0.1  # share of the cycle
    # factor on both rates in each cycle, the last one for all further; only with cycle stage
    cycle_peaks: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])


@dataclass
class RoundConfig:
    """One round of curation at the end of an epoch."""

    after_epoch: int = MISSING  # counted from 0
    steps: list[str] = MISSING  # of score, correct, filter, annotate, in this order
    correct_mode: str = "flip"  # flip | drop | weight: what becomes of the distrusted pairs
    down_weight: float | None = None  # with correct_mode weight, and only there
    admit_weight: float | None = (
        None  # weight of corrected pairs until a filter confirms them; only with the step correct
    )
    # Below, null is the default that is named; each needs the step that it has an effect on.
    distrust_share: Any = None  # auto | a number: share of the negatives; auto = by the estimated noise. Default 0.5
    dead_zone: float | None = None  # score differences up to this are no agreement for the filter. Default 0
    agreement: str | None = None  # mean | unanimous: of several score passes. Default mean
    missing: str | None = None  # wait | drop: queued pairs that not all votes arrived for. Default wait
    max_flipped: float | None = None  # a round that turns more of the open pool's labels stops the run. Default 0.5
    max_dropped: float | None = None  # the same for the pairs that it drops. Default 0.5
    # source -> any of correct_mode, distrust_share, down_weight, admit_weight, dead_zone, agreement: its own instead; and
    # max_flipped, max_dropped: of its own pairs, besides the pool's
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class AnnotationConfig(CallingConfig):
    """How the judges of the curation are asked; their answers are kept in the run's folder, or where runs share them."""

    mode: str = (
        "sync"  # sync: at the boundary | async: beside the training, the next boundary that annotates takes the answers
    )
    cache_dir: str | None = (
        None  # of the answers; null = annotations/ in the run's folder. Runs that share one take turns
    )
    language: str = "auto"  # of the rubric; auto = the question's
    rubrics: dict[str, str] = field(default_factory=dict)  # language -> a file of one's own
    probe: bool = True  # before the training each judge is asked about a sample of each open set


@dataclass
class ScorePassConfig:
    """One pass of scoring the pool; a round goes by the mean of all. See `callbacks.score_passes`."""

    kind: str = "current"  # current | recorded | trajectory | dropout | model
    count: int = 1  # passes with dropout
    path: str | None = None  # of a saved model
    fresh_share: float = 0.25  # of recorded pairs, those nearest to zero, that are scored anew


@dataclass
class CurationConfig:
    enabled: bool = False
    open_pool: str = "held"  # held: trained on once a round admits it; raw: trained on unseen from the first epoch
    restart: str = "warm"  # warm | cold (all weights) | head: what starts again after a round
    passes: list[ScorePassConfig] = field(default_factory=lambda: [ScorePassConfig()])
    schedule: list[RoundConfig] = field(default_factory=list)
    annotators: dict[str, ModelSpec] = field(default_factory=dict)  # the judges of `annotate`, by name
    annotation: AnnotationConfig = field(default_factory=AnnotationConfig)
    min_active_share: float = 0.25  # a round that leaves less of the open pool in use stops the run


@dataclass
class EarlyStoppingConfig:
    metric: str | None = None  # val/accuracy | val/loss (means) | val/SET/accuracy | val/SET/loss; null = never stops
    patience: int = 3  # evaluations without improvement; those before the last round of curation do not count
    min_delta: float = 0.0


@dataclass
class BestConfig:
    metric: str | None = None  # as of early_stopping; null = no weights are kept
    keep: int = 1  # of the best evaluations, in the run's folder best/
    use: bool = False  # whether the best weights become the run's model, and are tested, in place of the last ones


@dataclass
class EvaluationConfig:
    """What is measured while training."""

    sets: list[str] | None = None  # null = all of role val; test sets may be named too, but nothing is chosen by them
    every_n_steps: int | None = None  # optimizer steps; null = none within an epoch
    every_n_epochs: int | None = 1
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    best: BestConfig = field(default_factory=BestConfig)


@dataclass
class TrainerConfig:
    max_epochs: int = 3
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    clip: float | None = 1.0  # norm of the gradient
    log_every_n_steps: int = 10
    checkpoint_every_n_steps: int | None = 50  # beside the one at the end of each epoch; null = only that one
    limit_train_batches: int | None = None  # for a quick look only
    limit_test_batches: int | None = None
    progress: bool = True


@dataclass
class LoggerConfig:
    mlflow: str | None = None  # a tracking URI; null = SQLite in output_root
    experiment_name: str = "mrm"
    enabled: bool = True
    log_model: bool | None = None  # the saved model too, so that MLflow can load and score by it; null = up to 1 GB
    system_metrics: bool = True  # processor, memory, disk, network and GPU, every ten seconds


@dataclass
class ReportConfig:
    enabled: bool = True
    gallery: int = 24  # pairs shown for each decision


@dataclass
class SweepConfig:
    """How `-m` runs its members; none of it changes what a member computes."""

    jobs: int | None = None  # members at once; null = a set of GPUs each, else as many as cores / threads a member
    name: str | None = None  # of its folder and its MLflow run; a name given again goes on; null = the time
    retry_failed: bool = True  # members that failed in an earlier command begin anew; false = they stay failed


@dataclass
class RunConfig:
    experiment: str = "default"
    scale: str = "embedded"
    seed: int = 1
    output_root: str = "runs"
    data_root: str = "data"  # where published data lies; datasets' paths are read under it
    prepared_root: str = "data/prepared"  # where shards are written, a folder a dataset, and found again
    resume: str | None = (
        None  # null: a new run; auto: the newest unfinished run of this configuration; or a run's folder
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    curation: CurationConfig = field(default_factory=CurationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)


def register_schema() -> None:
    """Puts the schema under the name that experiments/config.yaml asks for, and the name that a sweep without one gets."""
    OmegaConf.register_new_resolver(
        "or_time", lambda name: name or time.strftime("%Y-%m-%d_%H-%M-%S"), use_cache=True, replace=True
    )
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


def experiments_dir() -> Path:
    """The Hydra root: beside the package in a checkout or an editable install, inside it in a wheel."""
    for folder in (PACKAGE / "experiments", PACKAGE.parent / "experiments"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no experiments/config.yaml beside or inside {PACKAGE}; install the project again.")


def to_run_config(cfg: DictConfig | RunConfig) -> RunConfig:
    """The composed configuration as plain dataclasses.

    Raises:
        ConfigError: naming every key that has no value yet.
        OmegaConfBaseException: for a key that the schema does not have; `mrm.cli` explains it.
    """
    if isinstance(cfg, RunConfig):
        return cfg
    # `+key=value` gets past the composed node's own check, so all is merged once more into a bare schema.
    checked = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.to_container(cfg, resolve=True))
    missing = sorted(OmegaConf.missing_keys(checked))
    if missing:
        lines = "\n".join(f"  - {key}=..." for key in missing)
        hint = _unknown_datasets(checked, missing)
        raise ConfigError(f"the configuration has keys without a value; set:\n{lines}{hint}")
    config = OmegaConf.to_object(checked)
    assert isinstance(config, RunConfig)
    return config


def _unknown_datasets(checked: Any, missing: list[str]) -> str:
    """What to say of datasets with neither source nor role: most likely their names are misspelt."""
    names = [str(name) for name in checked.data.datasets]
    bare = [n for n in names if {f"data.datasets.{n}.source", f"data.datasets.{n}.role"} <= set(missing)]
    known = [name for name in names if name not in bare]
    return "".join(
        f"\nOr is data.datasets.{name} misspelt? Datasets known here: {', '.join(known) or 'none'}.{suggest(name, known)}"
        for name in bare
    )


def to_yaml(config: RunConfig) -> str:
    """The whole configuration as yaml, in the schema's order."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def flatten(config: RunConfig) -> dict[str, Any]:
    """Dotted path -> value; lists are kept as one value, empty dicts are left out."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = node

    walk("", OmegaConf.to_container(OmegaConf.structured(config)))
    return flat
