"""`python -m mrm.construct construction=NAME input=... output=FOLDER [key=value ...]`: preference pairs from prompts, judged and free of style.

Models answer, judges score side by side and one by one, pairs on which they agree stay, and of these so many that style does not tell
the winner. `construct` is the same as a function. FOLDER/shards is a data set to train on; FOLDER/report.html says what became of every record.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.prepare import write_marker
from datamodules.prepare_result import PrepareResult
from datamodules.shards import ShardWriter
from mrm.cli import hydra_command
from mrm.construct_config import (
    REWRITER,
    ConstructConfig,
    ModelSpec,
    check_construct,
    rewriter_of,
    to_construct_config,
    used,
)
from mrm.construct_input import read_prompts, source_of
from mrm.construct_output import print_accounts, print_estimate, print_outcome
from mrm.construction.agreement import AgreementRule
from mrm.construction.asking import Asker
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.budget import Budget, Price
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Model
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.calling.servers import OpenAIServer
from mrm.construction.construction_report import PAGE_NAME, write_construction_report
from mrm.construction.dry_run import estimate_construction
from mrm.construction.embedded import ShapeWorldResponder, ShapeWorldRewriter, ShapeWorldScorer
from mrm.construction.pipeline import Construction
from mrm.construction.recipe import Recipe
from mrm.construction.records import ImageStore
from mrm.construction.responding import Responder
from mrm.construction.rubrics import load_rubric
from mrm.construction.stage_files import Left, StageAccount
from mrm.construction.summarising import summarise
from mrm.errors import ConfigError, MrmError, RecordError
from mrm.preference import PreferenceSample

SHARDS = "shards"
RECORD_STAGES = ("prompts", "respond", "write")  # where records are left out; the stages between leave out pairs
OPENAI_URL = "https://api.openai.com/v1"
EMBEDDED = {"responder": ShapeWorldResponder, "judge": ShapeWorldScorer, "rewriter": ShapeWorldRewriter}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConstructResult:
    """What came out: the folder of shards, and each stage's account."""

    shards: Path
    accounts: Mapping[str, StageAccount]

    def in_records(self) -> PrepareResult:
        """The stages' accounts as one, as `prepare` has it: records read = written + left out, by reason."""
        result = PrepareResult(self.shards, self.accounts["prompts"].read, self.accounts["write"].written)
        result.pairs = self.accounts["style"].written
        for account in (self.accounts[stage] for stage in RECORD_STAGES):
            for reason, number in account.left.items():
                result.skip(reason, account.named.get(reason, ()), number)
        return result


def construct(cfg: ConstructConfig | DictConfig) -> ConstructResult:
    """Does what a configuration asks for; goes on where an earlier call with the same `output` ended.

    Raises:
        MrmError: for anything in configuration or data that a person can mend; where no pair is left, after the report.
        ResumableError: if the budget ended first.
    """
    config = to_construct_config(cfg)
    check_construct(config)
    work = Path(config.output).expanduser().resolve()
    work.mkdir(parents=True, exist_ok=True)
    recipe = build_recipe(config)
    with AnswerLog(work / "answers") as answers:  # which keeps a second process out of the folder
        if not config.dry_run:
            (work / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
        asker = Asker(work, _models(recipe), answers, _run_settings(config), config.show_progress)
        construction = Construction(
            work,
            recipe,
            asker,
            source_of(config),
            read_prompts=lambda: read_prompts(config, ImageStore(work)),
            write_samples=lambda items: _to_shards(items, work / SHARDS, config.shard_samples),
            retry_failed=config.running.retry_failed,
            output={"shard_samples": config.shard_samples},
        )
        if not (work / SHARDS).is_dir():
            construction.data.file("write").forget()
        if config.dry_run:
            print_estimate(estimate_construction(construction, config.stages))
            return ConstructResult(work / SHARDS, construction.accounts)
        try:
            accounts = construction.run(config.stages)
        finally:
            if construction.done:
                print_accounts(construction.accounts)
        if not construction.done:
            log.info("Nothing to do: %s is what these settings give.", work)
        if "write" in accounts and (construction.done or not (work / PAGE_NAME).is_file()):
            summary = summarise(construction, _facts(config))
            write_construction_report(work, summary)
            print_outcome(summary, work)
    if "write" in accounts and not accounts["write"].written:
        raise MrmError(
            f"{work}: no pair is left, so there are no shards. {_why_nothing(accounts)}; {PAGE_NAME} tells all."
        )
    result = ConstructResult(work / SHARDS, accounts)
    if "write" in construction.done:
        write_marker(result.shards, {"source": "construct", "digest": accounts["write"].digest}, result.in_records())
    return result


def _why_nothing(accounts: Mapping[str, StageAccount]) -> str:
    """Where records and pairs were left out, and why."""
    told = [
        f"{name}: {', '.join(f'{number:,} {reason}' for reason, number in account.left.items())}"
        for name, account in accounts.items()
        if account.left and name != "write"
    ]
    return "Left out, " + "; ".join(told) if told else "Nothing was left out before"


def _facts(config: ConstructConfig) -> dict[str, object]:
    rewriter = rewriter_of(config)
    return {
        "construction": config.construction,
        "input": config.input,
        "responders": ", ".join(used(config.responders)) or "none, the input's own responses",
        "judges": ", ".join(used(config.judges)),
        "rewriter": "none" if rewriter is None else rewriter.model or rewriter.kind,
        "seed": config.seed,
    }


def build_recipe(config: ConstructConfig) -> Recipe:
    """The configuration's parts, built.

    Raises:
        ConfigError: for a model or rubric that cannot be.
    """
    responders, judges, rewriter = used(config.responders), used(config.judges), rewriter_of(config)
    rubrics = {
        language: load_rubric(config.rubrics.get(told, told))
        for language in ("en", "zh")
        for told in [language if config.language == "auto" else config.language]
    }
    rule = AgreementRule(
        modes=config.agreement.modes,
        judges=config.agreement.judges,
        least_difference=config.agreement.least_difference,
    )
    return Recipe(
        [Responder(build_model("responder", n, spec, config.seed), spec.samples) for n, spec in responders.items()],
        [build_model("judge", name, spec, config.seed) for name, spec in judges.items()],
        rubrics,
        rule,
        rewriter=None if rewriter is None else build_model("rewriter", REWRITER, rewriter, config.seed),
        seed=config.seed,
        listwise_repeats=config.listwise_repeats,
        keep_responses=config.keep_responses,
        rewrite_tolerance=config.rewrite_tolerance,
        style_mode=config.style.mode,
        style_target=config.style.target,
    )


def build_model(role: str, name: str, spec: ModelSpec, seed: int) -> Model:
    """A model by its specification.

    Args:
        role: responder, judge or rewriter.
        name: its name.
        spec: what it is.
        seed: of an embedded model's draws.

    Raises:
        ConfigError: if it cannot be built; names the key.
    """
    if spec.kind == "shapeworld":
        try:
            return EMBEDDED[role](name, seed=seed, **spec.options)
        except TypeError as error:
            raise ConfigError(f"{role} {name!r}, options: {error}.") from error
    if spec.kind == "callable":
        target = spec.target or ""
        function = functools.partial(_imported(name, target), **spec.options)
        price = Price(spec.price_input or 0.0, spec.price_output or 0.0)
        identity = {"target": target, **spec.options}
        return CallableModel(name, function, identity=identity, concurrency=spec.concurrency, price=price)
    standard = "OPENAI_API_KEY" if spec.base_url is None else None
    return OpenAIServer(
        name,
        model=spec.model or "",
        base_url=spec.base_url or OPENAI_URL,
        api=spec.api,
        key_env=standard if spec.key_env == "auto" else spec.key_env,
        json_schema=spec.json_schema,
        temperature=spec.temperature,
        top_p=spec.top_p,
        max_tokens=spec.max_tokens,
        timeout_s=spec.timeout_s,
        concurrency=spec.concurrency,
        max_image_pixels=spec.max_image_pixels,
        image_detail=spec.image_detail,
        price=None if spec.price_input is None else Price(spec.price_input, spec.price_output or 0.0),
        extra_body=spec.extra_body,
    )


def _imported(name: str, target: str) -> Any:
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model {name!r}, target={target!r}: {error}; it must be importable from here.") from error


def _models(recipe: Recipe) -> dict[str, Model]:
    responders, judges = [each.model for each in recipe.responders], list(recipe.judges)
    for role, models in (("responders", responders), ("judges", judges)):
        for first, second in itertools.combinations(models, 2):
            if first.identity == second.identity:
                raise ConfigError(
                    f"{role}: {first.name!r} and {second.name!r} are one model asked in one way, whose answers are the same; keep one"
                    + (", with more samples." if role == "responders" else ".")
                )
    return {model.name: model for model in [*responders, *judges, *([recipe.rewriter] if recipe.rewriter else [])]}


def _run_settings(config: ConstructConfig) -> RunSettings:
    running = config.running
    return RunSettings(
        concurrency=running.concurrency,
        fault_tries=running.tries,
        unusable_tries=running.unusable_tries,
        base_s=running.backoff_s,
        longest_wait_s=running.longest_wait_s,
        budget=Budget(running.budget_money, running.budget_tokens),
    )


def _to_shards(
    items: Iterable[PreferenceSample | Left], directory: Path, max_samples: int
) -> Iterator[dict[str, Any] | Left]:
    """Writes the samples to shards in place of an earlier output; gives a line for each."""
    if directory.exists():
        shutil.rmtree(directory)  # of an earlier outcome of this construction
    for left in directory.parent.glob(f".{directory.name}.partial-*"):  # by a kill; nobody else writes here
        shutil.rmtree(left)
    with contextlib.suppress(_NoSample), ShardWriter(directory, max_samples=max_samples) as writer:
        for item in items:
            if isinstance(item, Left):
                yield item
                continue
            try:
                writer.write(item)
            except RecordError as error:
                yield Left(item.key, error.reason, str(error))
            else:
                yield {"key": item.key, "pairs": len(item.pairs)}
        if not writer.samples:
            raise _NoSample  # no shards, but the stage's account, and the report, which say why


class _NoSample(Exception):
    """Every record was left out."""


def main() -> None:
    """The command."""
    hydra_command(construct, root="construct", convert=to_construct_config)


if __name__ == "__main__":
    main()
