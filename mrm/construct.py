"""`python -m mrm.construct construction=NAME input=... output=FOLDER [key=value ...]`: preference pairs from prompts, judged and free of style.

Models answer, judges score side by side and one by one, pairs on which they agree stay, and of these so many that style does not tell
the winner. `construct` is the same as a function. FOLDER/shards is a data set to train on; FOLDER/report.html says what became of every record.
"""

from __future__ import annotations

import contextlib
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
    ConstructConfig,
    check_construct,
    rewriter_of,
    run_settings,
    to_construct_config,
    used,
)
from mrm.construct_input import read_prompts, source_of
from mrm.construct_models import build_recipe, models_asked
from mrm.construct_output import print_accounts, print_estimate, print_outcome
from mrm.construction.asking import Asker
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.construction_report import PAGE_NAME, write_construction_report
from mrm.construction.dry_run import estimate_construction
from mrm.construction.pipeline import Construction
from mrm.construction.records import ImageStore
from mrm.construction.stage_files import Left, StageAccount
from mrm.construction.summarising import summarise
from mrm.errors import MrmError, RecordError
from mrm.preference import PreferenceSample

SHARDS = "shards"
REPORT_DUE = (
    ".report.due"  # is there while stages were done that the report does not tell of: a kill may come before it
)
RECORD_STAGES = ("prompts", "respond", "write")  # where records are left out; the stages between leave out pairs
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
        asker = Asker(
            work,
            models_asked(recipe, config.stages),
            answers,
            run_settings(config.running),
            config.show_progress,
        )
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
        due = work / REPORT_DUE
        was_due = due.exists()
        due.touch()
        try:
            accounts = construction.run(config.stages)
        finally:
            if construction.done:
                print_accounts(construction.accounts)
        if not construction.done:
            log.info("Nothing to do: %s is what these settings give.", work)
        is_whole = "write" in accounts
        if is_whole and (construction.done or was_due or not (work / PAGE_NAME).is_file()):
            summary = summarise(construction, _facts(config))
            write_construction_report(work, summary)
            print_outcome(summary, work)
        result = ConstructResult(work / SHARDS, accounts)
        if is_whole and accounts["write"].written and ("write" in construction.done or was_due):
            told = {"source": "construct", "digest": accounts["write"].digest}
            write_marker(result.shards, told, result.in_records())
        if is_whole:
            due.unlink()
    if is_whole and not accounts["write"].written:
        raise MrmError(
            f"{work}: no pair is left, so there are no shards. {_why_nothing(accounts)}; {PAGE_NAME} tells all."
        )
    return result


def _why_nothing(accounts: Mapping[str, StageAccount]) -> str:
    """Where records and pairs were left out, and why."""
    told = [
        f"{name}: {', '.join(f'{number:,} {reason}' for reason, number in account.left.items())}"
        for name, account in accounts.items()
        if account.left
    ]
    return "Left out, " + "; ".join(told)


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
