"""The typed schema under experiments/construct.yaml and the files of experiments/construction/, and what types cannot say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from mrm.construction.agreement import JUDGE_RULES, MODE_RULES
from mrm.construction.balance import BALANCE_MODES
from mrm.construction.calling.budget import Budget
from mrm.construction.calling.key_names import KEY_ENV_RULE, is_key_env, names_secret
from mrm.construction.calling.run_settings import RunSettings
from mrm.errors import ConfigError, suggest

STAGES = ("prompts", "respond", "listwise", "pointwise", "agree", "rewrite", "verify", "style", "write")
KINDS = ("openai", "shapeworld", "callable")
LANGUAGES = ("auto", "en", "zh")
NOBODY = "none"  # the kind of a rewriter where none is wanted
REWRITER = "rewriter"  # the name of the model that rewrites
STYLE_MODES = (*BALANCE_MODES, "none")
COMMON = ("kind", "use", "samples")
MEANT_FOR = {  # what each kind understands beside
    "shapeworld": ("options",),
    "callable": ("target", "options", "concurrency", "price_input", "price_output"),
    "none": (),
}


@dataclass
class ModelSpec:
    """One model. Keys are read from the environment, never from a file."""

    kind: str = "openai"  # openai: any OpenAI-compatible server | shapeworld: the embedded world's | callable
    use: bool = True
    samples: int = 1  # responses to a prompt; for responders
    # of kind openai
    model: str | None = None  # as the server calls it
    base_url: str | None = None  # null = OpenAI's
    api: str = "chat"  # chat: Chat Completions | responses: Responses
    key_env: str | None = (
        "auto"  # environment variable with the key; auto = OPENAI_API_KEY at OpenAI's, else none; null = none
    )
    json_schema: str = "auto"  # auto | on | off: whether judges are asked for JSON by schema
    temperature: float | None = None  # null = the server's default, as for all that follow
    top_p: float | None = None
    max_tokens: int | None = 4096
    timeout_s: float = 180.0
    concurrency: int = 16  # calls at once
    max_image_pixels: int | None = None  # larger images are sent at this size
    image_detail: str | None = None  # low | high | auto
    price_input: float | None = None  # money a million tokens; 0 for one's own server
    price_output: float | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)  # for servers with settings of their own
    # of kind callable
    target: str | None = None  # package.module:function, which takes a Call and gives its text
    # of kind shapeworld, and arguments of its model
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ShapeWorldConfig:
    """Prompts of the embedded world, where `input` is shapeworld."""

    count: int = 1000
    seed: int = 0
    wrong_references: float = 0.1


@dataclass
class AgreementConfig:
    modes: str = "both"  # both: listwise and pointwise must agree | either: what there is | listwise | pointwise
    judges: str = (
        "all"  # all | majority | any: how many judges must name the winner; one that contradicts itself names none
    )
    least_difference: float = 0.0  # of overall scores, 0 to 10; closer pairs are dropped


@dataclass
class StyleConfig:
    mode: str = "subsample"  # subsample | match: pairs of like style first | none
    target: float = 0.55  # accuracy of the style probe at most


@dataclass
class CallingConfig:
    """How calls are run."""

    concurrency: int = 64  # calls at once, all models together
    tries: int = 6  # a call at most, where the server failed
    unusable_tries: int = 3  # a call at most, where the answer could not be used
    longest_wait_s: float = 600.0  # a server that asks for a longer wait is asked again after this one
    backoff_s: float = 1.0  # wait after a fault at most; twice as long after each further one, up to a minute
    budget_money: float | None = None  # in the prices' currency, all runs into one folder of answers together
    budget_tokens: int | None = None


@dataclass
class RunningConfig(CallingConfig):
    """How the calls of a construction are run."""

    retry_failed: bool = True  # whether a later run asks again what got no answer


@dataclass
class ConstructConfig:
    construction: str = "own"
    input: str = MISSING  # a .jsonl or .json file, a folder of shards, or shapeworld
    output: str = MISSING  # the construction's folder; its shards are in output/shards
    stages: list[str] = field(
        default_factory=lambda: list(STAGES)
    )  # rewrite and verify are skipped where there is no rewriter
    seed: int = 0
    language: str = "auto"  # of the rubric; auto = the question's
    rubrics: dict[str, str] = field(default_factory=lambda: {"en": "en", "zh": "zh"})  # or a file of one's own
    responders: dict[str, ModelSpec] = field(default_factory=dict)
    judges: dict[str, ModelSpec] = field(default_factory=dict)
    rewriter: ModelSpec = field(default_factory=lambda: ModelSpec(kind=NOBODY))  # rewriter.kind=openai ... has it done
    rewrite_tolerance: float = 0.5  # of the mean overall score, 0 to 10
    max_unreadable: float = 0.01  # share of the input's records that may be unreadable before the run stops
    keep_responses: int | None = None  # the most different ones of a prompt's; null = all
    embedder: str | None = (
        None  # package.module:function, texts -> [texts, numbers]: diversity of meaning; null = words alone
    )
    listwise_repeats: int = 1  # 2: each judge sees another order too
    agreement: AgreementConfig = field(default_factory=AgreementConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    running: RunningConfig = field(default_factory=RunningConfig)
    shapeworld: ShapeWorldConfig = field(default_factory=ShapeWorldConfig)
    shard_samples: int = 1000  # samples a shard at most
    dry_run: bool = False  # estimate calls, tokens and cost, and ask nobody
    show_progress: bool = True


def register_construct_schema() -> None:
    """Puts the schema under the name that experiments/construct.yaml asks for."""
    ConfigStore.instance().store(name="construct_schema", node=ConstructConfig)


def to_construct_config(cfg: DictConfig | ConstructConfig, changes: Mapping[str, Any] | None = None) -> ConstructConfig:
    """The composed configuration, with `changes` merged in, as plain dataclasses.

    Raises:
        ConfigError: naming every key without a value, and every problem.
        OmegaConfBaseException: for a key that the schema does not have; `mrm.cli` explains it.
    """
    if isinstance(cfg, ConstructConfig):
        cfg = OmegaConf.structured(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True)
    checked = OmegaConf.merge(OmegaConf.structured(ConstructConfig), plain, dict(changes or {}))
    missing = sorted(OmegaConf.missing_keys(checked))
    if missing:
        lines = "\n".join(f"  - {key}=..." for key in missing)
        raise ConfigError(f"the configuration has keys without a value; set:\n{lines}")
    config = OmegaConf.to_object(checked)
    assert isinstance(config, ConstructConfig)
    return config


def check_construct(config: ConstructConfig) -> None:
    """Checks the whole configuration.

    Raises:
        ConfigError: one message with every problem, each with its dotted path and what is allowed.
    """
    problems: list[str] = []
    for stage in config.stages:
        if stage not in STAGES:
            problems.append(f"stages: {stage!r} must be one of {', '.join(STAGES)}.{suggest(stage, STAGES)}")
    _one_of(problems, "agreement.modes", config.agreement.modes, MODE_RULES)
    _one_of(problems, "agreement.judges", config.agreement.judges, JUDGE_RULES)
    _one_of(problems, "style.mode", config.style.mode, STYLE_MODES)
    if not 0.5 < config.style.target < 1:
        problems.append(f"style.target={config.style.target}: must be above 0.5, which is chance, and below 1.")
    _within(problems, "agreement.least_difference", config.agreement.least_difference, 0, 10)
    _within(problems, "max_unreadable", config.max_unreadable, 0, 1)
    _within(problems, "rewrite_tolerance", config.rewrite_tolerance, 0, 10)
    _within(problems, "listwise_repeats", config.listwise_repeats, 1, 2)
    _within(problems, "keep_responses", config.keep_responses, 2, 1000)
    check_calling("running", config.running, problems)
    _within(problems, "shard_samples", config.shard_samples, 1, float("inf"))
    check_rubrics("", config.language, config.rubrics, problems)
    if config.embedder is not None and ":" not in config.embedder:
        problems.append(f"embedder={config.embedder!r}: must be of the form package.module:function.")
    _check_models(config, problems)
    if problems:
        heading = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{heading} in the configuration:\n" + "\n".join(f"  - {p}" for p in problems))


def check_calling(path: str, calling: CallingConfig, problems: list[str]) -> None:
    """Adds what is wrong with how calls are run."""
    for name in ("concurrency", "tries", "unusable_tries", "budget_money", "budget_tokens"):
        _within(problems, f"{path}.{name}", getattr(calling, name), 0 if "budget" in name else 1, float("inf"))
    _within(problems, f"{path}.backoff_s", calling.backoff_s, 0, 60)
    _within(problems, f"{path}.longest_wait_s", calling.longest_wait_s, 0, 86_400)


def check_rubrics(prefix: str, language: str, rubrics: Mapping[str, str], problems: list[str]) -> None:
    """Adds what is wrong with the choice of rubrics; their files are looked at when they are read."""
    _one_of(problems, f"{prefix}language", language, LANGUAGES)
    for each in rubrics:
        _one_of(problems, f"{prefix}rubrics", each, LANGUAGES[1:])


def run_settings(calling: CallingConfig) -> RunSettings:
    """The settings of a run of calls."""
    return RunSettings(
        concurrency=calling.concurrency,
        fault_tries=calling.tries,
        unusable_tries=calling.unusable_tries,
        base_s=calling.backoff_s,
        longest_wait_s=calling.longest_wait_s,
        budget=Budget(calling.budget_money, calling.budget_tokens),
    )


def rewriter_of(config: ConstructConfig) -> ModelSpec | None:
    """Who rewrites; None where nobody does."""
    return config.rewriter if config.rewriter.use and config.rewriter.kind != NOBODY else None


def used(specs: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """Those that are not switched off."""
    return {name: spec for name, spec in specs.items() if spec.use}


def _check_models(config: ConstructConfig, problems: list[str]) -> None:
    responders, judges = used(config.responders), used(config.judges)
    if not judges and {"listwise", "pointwise"} & set(config.stages):
        problems.append("judges: there is none; name at least one, of two families better two.")
    for role, names in (("responders", responders), ("judges", judges)):
        if REWRITER in names and rewriter_of(config) is not None:
            problems.append(f"{role}.{REWRITER}: is the name of the model that rewrites; rename it.")
    for name in sorted(responders.keys() & judges.keys()):
        problems.append(
            f"judges.{name}: a responder has this name too; answers are kept under their model's name, so rename one."
        )
    named = {f"responders.{name}": spec for name, spec in responders.items()}
    named |= {f"judges.{name}": spec for name, spec in judges.items()}
    if config.rewriter.use:
        named[REWRITER] = config.rewriter
    for path, spec in named.items():
        check_model(path, spec, problems)


def check_model(path: str, spec: ModelSpec, problems: list[str]) -> None:
    """Adds what is wrong with a model's specification."""
    _one_of(problems, f"{path}.kind", spec.kind, (*KINDS, NOBODY) if path == REWRITER else KINDS)
    _within(problems, f"{path}.samples", spec.samples, 1, 1000)
    _within(problems, f"{path}.concurrency", spec.concurrency, 1, 100_000)
    if spec.kind == "openai":
        if spec.key_env is not None and not is_key_env(spec.key_env):
            problems.append(f"{path}.key_env: {KEY_ENV_RULE}.")
        if names_secret(spec.extra_body):
            problems.append(f"{path}.extra_body: holds a key; keys come from the environment, see key_env.")
        _one_of(problems, f"{path}.api", spec.api, ("chat", "responses"))
        _one_of(problems, f"{path}.json_schema", spec.json_schema, ("auto", "on", "off"))
        if spec.price_output is not None and spec.price_input is None:
            problems.append(f"{path}.price_input: is missing beside price_output; 0 for one's own server.")
        if not spec.model:
            problems.append(f"{path}.model: is missing; give the name by which the server knows the model.")
    if spec.kind == "callable" and ":" not in (spec.target or ""):
        problems.append(f"{path}.target={spec.target!r}: must be of the form package.module:function.")
    if idle := _idle(spec):
        problems.append(f"{path}: {', '.join(idle)} mean nothing to kind={spec.kind}; leave them out.")


def _idle(spec: ModelSpec) -> list[str]:
    """Keys that were set and have no effect on a model of this kind."""
    names = [each.name for each in dataclasses.fields(ModelSpec)]
    others = {name for kind in MEANT_FOR.values() for name in kind} - {"concurrency", "price_input", "price_output"}
    meant = MEANT_FOR.get(spec.kind, [name for name in names if name not in others])
    return [n for n in names if n not in (*COMMON, *meant) and getattr(spec, n) != getattr(ModelSpec(), n)]


def _one_of(problems: list[str], path: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        problems.append(f"{path}={value!r}: must be one of {', '.join(allowed)}.{suggest(value, allowed)}")


def _within(problems: list[str], path: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        problems.append(f"{path}={value}: must be in [{low:g}, {high:g}].")
