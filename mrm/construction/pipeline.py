"""The stages of a construction, one after the other: each reads the files of those before it and writes its own.

A stage is done again only if what goes into it changed: its digest is made of its settings and of what the stages before it wrote.
Calls are in the log whatever becomes of their stage, so that nothing is asked twice.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrm.construction.asking import Asker
from mrm.construction.balance import balance_style
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.judging import judge, scored
from mrm.construction.pairing import Pairs, PairTable, pair_table, sample_of, split
from mrm.construction.recipe import Recipe
from mrm.construction.records import PromptRecord
from mrm.construction.responding import respond
from mrm.construction.rewriting import before_and_after, rewrite, verdicts
from mrm.construction.stage_data import StageData, by_key
from mrm.construction.stage_files import Left, StageAccount, digest_of
from mrm.errors import ConfigError, RecordError
from mrm.images import UNDECODABLE
from mrm.preference import PreferenceSample

LOST = ("image missing", UNDECODABLE)  # images that may be there the next time
FORMAT = 1  # raise it when the same settings would give another output
log = logging.getLogger(__name__)


@dataclass
class Construction:
    """One construction in its folder.

    Args:
        work: the folder.
        recipe: what is done.
        asker: asks the models.
        source: all that decides the input, JSON-able.
        read_prompts: gives the input's records.
        write_samples: writes the samples that it is given, and gives a line for each.
        accounts: of the stages that are done by now.
        done: names of those that the last `run` did.
        retry_failed: whether a stage in which calls failed is done again.
        output: all that decides how samples are written, JSON-able.
    """

    work: Path
    recipe: Recipe
    asker: Asker
    source: Mapping[str, Any]
    read_prompts: Callable[[], Iterable[PromptRecord | Left]]
    write_samples: Callable[[Iterable[PreferenceSample | Left]], Iterator[dict[str, Any] | Left]]
    retry_failed: bool = True
    output: Any = None
    accounts: dict[str, StageAccount] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    @functools.cached_property
    def data(self) -> StageData:
        """What the stages' files hold."""
        return StageData(self.work, self.recipe)

    def run(self, stages: Sequence[str]) -> dict[str, StageAccount]:
        """Does the stages asked for, in their order; those done already are left as they are.

        Returns:
            The account of each stage that is done by now, up to the first one that is not.

        Raises:
            ResumableError: if the budget ended first.
            ConfigError: if a stage before one asked for was never done, or with other settings or inputs, or a model cannot be
                asked at all.
        """
        known = {
            "prompts": self._prompts,
            "respond": self._respond,
            "listwise": self._listwise,
            "pointwise": self._pointwise,
            "agree": self._agree,
            "rewrite": self._rewrite,
            "verify": self._verify,
            "style": self._style,
            "write": self._write,
        }
        self.accounts, self.done, before = {}, [], digest_of(FORMAT)
        last = max((place for place, name in enumerate(known) if name in stages), default=-1)
        for place, (name, do) in enumerate(known.items()):
            if name in self.recipe.skipped:
                continue
            digest = digest_of(name, before, self._settings(name))
            account = self.data.file(name).account()
            told = "was not done yet" if account is None else "was done with other settings or inputs"
            if account is not None and account.digest != digest:
                account = None
            is_done = account is not None and (account.complete or not self.retry_failed)
            if name in stages and not is_done:
                log.info("%s ...", name)
                account = do(digest)
                self.done.append(name)
            if account is None and place < last:
                raise ConfigError(f"stages: {name!r} {told}, and a later one needs it; add it to stages.")
            if account is None:
                break  # nor can be what comes after it
            self.accounts[name] = account
            before = digest_of(before, account.output)  # not its settings: what came out is what counts
        return self.accounts

    def _settings(self, name: str) -> Any:
        """What of the recipe decides a stage."""
        r = self.recipe
        judges = [{**judge.identity, "name": judge.name} for judge in r.judges]
        rubrics = {language: rubric.digest for language, rubric in r.rubrics.items()}
        return {
            "prompts": dict(self.source),
            "respond": [[each.model.name, each.model.identity, each.samples] for each in r.responders]
            + [r.keep_responses, r.keep_responses and r.embedder],
            "listwise": [judges, rubrics, r.seed, r.listwise_repeats],
            "pointwise": [judges, rubrics],
            "agree": asdict(r.rule),
            "rewrite": [r.rewriter and r.rewriter.identity],
            "verify": [r.rewrite_tolerance],
            "style": [r.style_mode, r.style_target, r.seed],
            "write": self.output,
        }[name]

    def _prompts(self, digest: str) -> StageAccount:
        items = (item if isinstance(item, Left) else item.to_json() for item in self.read_prompts())
        return self.data.file("prompts").write(StageAccount(digest), items, passing=LOST)

    def _respond(self, digest: str) -> StageAccount:
        r = self.recipe
        calls, items = respond(self.asker, self.data.prompts, r.responders, keep=r.keep_responses, embed=r.embed)
        lines = (item if isinstance(item, Left) else item.to_json() for item in items)
        return self.data.file("respond").write(_account(digest, calls), lines)

    def _listwise(self, digest: str) -> StageAccount:
        calls, items = judge(self.asker, "listwise", self.data.records, self.recipe.listwise)
        return self.data.file("listwise").write(_account(digest, calls), items)

    def _pointwise(self, digest: str) -> StageAccount:
        calls, items = judge(self.asker, "pointwise", self.data.records, self.recipe.pointwise)
        return self.data.file("pointwise").write(_account(digest, calls), items)

    def _agree(self, digest: str) -> StageAccount:
        account = StageAccount(digest, unit="pairs")

        def lines() -> Iterator[dict[str, Any] | Left]:
            for record, decisions in self.data.decisions():
                pairs, left = split(record.key, decisions)
                account.read += len(pairs) + len(left)
                account.written += len(pairs)
                yield from left
                yield {"key": record.key, "pairs": pairs}

        return self.data.file("agree").write(account, lines())

    def _rewrite(self, digest: str) -> StageAccount:
        assert self.recipe.rewriter is not None, "the stage is not done without one"
        calls, items = rewrite(self.asker, self._to_rewrite, self.recipe.rewriter)
        return self.data.file("rewrite").write(_account(digest, calls), items)

    def _to_rewrite(self) -> Iterator[PromptRecord]:
        """The records that have a pair, with the responses of their pairs."""
        for record, pairs in self.data.pairs("agree"):
            needed = sorted({pair[side] for pair in pairs for side in ("chosen", "rejected")})
            if needed:
                yield replace(record, responses=tuple(record.responses[number] for number in needed))

    def _verify(self, digest: str) -> StageAccount:
        def records() -> Iterator[PromptRecord]:
            line = by_key(self.data.file("rewrite").read())
            for record in self._to_rewrite():
                if (found := line(record.key)) is not None:
                    yield before_and_after(record, found)

        calls, items = judge(self.asker, "verify", records, self.recipe.pointwise)
        account = _account(digest, calls)
        fates: dict[str, int] = {}  # no Counter: the account is made JSON by dataclasses.asdict
        account.extra["responses"] = fates

        def lines() -> Iterator[dict[str, Any] | Left]:
            line = by_key(self.data.file("rewrite").read())
            for item in items:
                rewritten = line(item.key if isinstance(item, Left) else item["key"])
                if isinstance(item, Left):
                    yield item
                    continue
                assert rewritten is not None, "the records come from these lines"
                told = verdicts(rewritten, scored(item), self.recipe.rewrite_tolerance)
                for fate in told["fates"]:
                    fates[fate["fate"]] = fates.get(fate["fate"], 0) + 1
                yield told

        return self.data.file("verify").write(account, lines())

    def _style(self, digest: str) -> StageAccount:
        account = StageAccount(digest, unit="pairs")
        table = pair_table((record, _staying(pairs, reasons)) for record, pairs, reasons in self.data.rewritten())
        keep, why = self._balanced(table)

        def lines() -> Iterator[dict[str, Any] | Left]:
            place = 0
            for record, pairs, reasons in self.data.rewritten():
                stays = []
                for pair, reason in zip(pairs, reasons, strict=True):
                    account.read += 1
                    if not reason:
                        reason = "" if keep[place] else why[place] or "style"
                        place += 1
                    if reason:
                        yield Left(f"{record.key} {pair['chosen']}-{pair['rejected']}", reason, "")
                    else:
                        stays.append(pair)
                account.written += len(stays)
                yield {"key": record.key, "pairs": stays}

        return self.data.file("style").write(account, lines())

    def _balanced(self, table: PairTable) -> tuple[np.ndarray, Sequence[str | None]]:
        """bool [P] of the pairs that stay, and why the others go."""
        r = self.recipe
        if r.style_mode == "none":
            return np.ones(len(table.key), bool), [None] * len(table.key)
        found = balance_style(
            table.chosen,
            table.rejected,
            table.group,
            table.key,
            target=r.style_target,
            mode=r.style_mode,
            seed=r.seed,
        )
        if found.reached is False:
            log.warning(
                "style: not balanced as asked: of the %d pairs left, style tells the winner of %.3f (target %.3f), and the style that won before"
                " wins %.3f (0.5 is chance); more prompts leave more room.",
                found.keep.sum(),
                found.after.highest,
                r.style_target,
                found.after.former,
            )
        return found.keep, found.reasons

    def _write(self, digest: str) -> StageAccount:
        def samples() -> Iterator[PreferenceSample | Left]:
            for record, pairs in self.data.pairs("style"):
                if not pairs:
                    yield Left(record.key, "no pair left", "")
                    continue
                try:
                    yield sample_of(record, pairs, self.asker.images)
                except RecordError as error:
                    yield Left(record.key, error.reason, str(error))

        return self.data.file("write").write(StageAccount(digest), self.write_samples(samples()))


def _account(digest: str, *calls: CallAccount) -> StageAccount:
    """An account that says what became of the stage's calls."""
    return StageAccount(
        digest,
        complete=not any(each.failed.total() for each in calls),
        extra={"calls": [each.to_json() for each in calls]},
    )


def _staying(pairs: Pairs, reasons: Sequence[str]) -> Pairs:
    return [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
