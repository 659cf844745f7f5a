"""The stages of a construction, one after the other: each reads the files of those before it and writes its own.

A stage is done again only if what goes into it changed: its digest is made of its settings and the digest of the stage before.
Calls are in the log whatever becomes of their stage, so that nothing is asked twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrm.construction.agreement import AgreementRule, PairDecision, Scored
from mrm.construction.asking import Asker
from mrm.construction.balance import balance_style
from mrm.construction.call_account import CallAccount
from mrm.construction.calls import Model
from mrm.construction.judging import Rubrics, judge_listwise, judge_pointwise, scored
from mrm.construction.pairing import Pairs, PairTable, agreed, pair_table, sample_of, split
from mrm.construction.records import PromptRecord
from mrm.construction.responding import Responder, respond
from mrm.construction.rewriting import rewrite, with_texts
from mrm.construction.stage_files import Left, StageAccount, StageFile, digest_of
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample

FORMAT = 1  # raise it when the same settings would give another output
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a construction's outcome but the input.

    Args:
        responders, judges: who is asked; `rewriter` None rewrites nothing.
        rubrics: by language.
        rule: of agreement.
        seed: of orders and sub-sampling.
        listwise_repeats: orders that each judge sees.
        keep_responses: see `responding.respond`.
        rewrite_tolerance: see `rewriting.rewrite`.
        style_mode, style_target: see `balance.balance_style`; mode "none" keeps all pairs.
    """

    responders: Sequence[Responder]
    judges: Sequence[Model]
    rubrics: Rubrics
    rule: AgreementRule
    rewriter: Model | None = None
    seed: int = 0
    listwise_repeats: int = 1
    keep_responses: int | None = None
    rewrite_tolerance: float = 0.5
    style_mode: str = "subsample"
    style_target: float = 0.55


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
        retry_failed: whether a stage in which calls failed is done again.
    """

    work: Path
    recipe: Recipe
    asker: Asker
    source: Mapping[str, Any]
    read_prompts: Callable[[], Iterable[PromptRecord | Left]]
    write_samples: Callable[[Iterable[PreferenceSample | Left]], Iterator[dict[str, Any] | Left]]
    retry_failed: bool = True
    accounts: dict[str, StageAccount] = field(default_factory=dict)

    def run(self, stages: Sequence[str]) -> dict[str, StageAccount]:
        """Does the stages asked for, in their order; those done already are left as they are.

        Returns:
            The account of each stage that there is by now.

        Raises:
            ResumableError: if the budget ended first.
            ConfigError: if a stage before the first one asked for was never done, or a model cannot be asked at all.
        """
        known = {
            "prompts": self._prompts,
            "respond": self._respond,
            "listwise": self._listwise,
            "pointwise": self._pointwise,
            "agree": self._agree,
            "rewrite": self._rewrite,
            "style": self._style,
            "write": self._write,
        }
        digest = digest_of(FORMAT)
        for name, do in known.items():
            if name == "rewrite" and self.recipe.rewriter is None:
                continue
            digest = digest_of(name, digest, self._settings(name))
            account = self.file(name).account()
            done = account is not None and account.digest == digest and (account.complete or not self.retry_failed)
            if name in stages and not done:
                log.info("%s ...", name)
                account = do(digest)
            elif account is None and any(other in stages for other in list(known)[list(known).index(name) :]):
                raise ConfigError(f"stages: {name!r} was not done yet, and a later one needs it; add it to stages.")
            if account is not None:
                self.accounts[name] = account
                digest = account.digest  # of a stage that is not asked for, what there is goes on
        return self.accounts

    def file(self, name: str) -> StageFile:
        """A stage's output."""
        return StageFile(self.work, name)

    def records(self) -> Iterator[PromptRecord]:
        """The records with their responses, as they are judged."""
        return map(PromptRecord.from_json, self.file("respond").read())

    def scorings(self) -> Iterator[tuple[PromptRecord, list[Scored]]]:
        """Each record that was judged, with its `Scored`."""
        listwise, pointwise = (_by_key(self.file(name).read()) for name in ("listwise", "pointwise"))
        for record in self.records():
            lines = [line for line in (listwise(record.key), pointwise(record.key)) if line is not None]
            yield record, scored(*lines)

    def decisions(self) -> Iterator[tuple[PromptRecord, list[PairDecision]]]:
        """Each record with what is decided about its pairs."""
        judges = [judge.name for judge in self.recipe.judges]
        for record, scorings in self.scorings():
            yield record, agreed(record, scorings, judges, self.recipe.rule)

    def pairs(self, after: str) -> Iterator[tuple[PromptRecord, Pairs]]:
        """Each record with the pairs that it had after the stage "agree", "rewrite" (its texts rewritten) or "style"."""
        line = _by_key(self.file("style" if after == "style" else "agree").read())
        is_rewritten = self.recipe.rewriter is not None and after != "agree"
        rewritten = _by_key(self.file("rewrite").read() if is_rewritten else ())
        for record in self.records():
            found, new = line(record.key), rewritten(record.key)
            if found is not None:
                yield (record if new is None else with_texts(record, new)), found["pairs"]

    def _settings(self, name: str) -> Any:
        """What of the recipe decides a stage."""
        r = self.recipe
        judges = [{**judge.identity, "name": judge.name} for judge in r.judges]
        rubrics = {language: rubric.digest for language, rubric in r.rubrics.items()}
        return {
            "prompts": dict(self.source),
            "respond": [[each.model.identity, each.samples] for each in r.responders] + [r.keep_responses],
            "listwise": [judges, rubrics, r.seed, r.listwise_repeats],
            "pointwise": [judges, rubrics],
            "agree": asdict(r.rule),
            "rewrite": [r.rewriter and r.rewriter.identity, r.rewrite_tolerance],
            "style": [r.style_mode, r.style_target, r.seed],
            "write": [],
        }[name]

    def _prompts(self, digest: str) -> StageAccount:
        items = (item if isinstance(item, Left) else item.to_json() for item in self.read_prompts())
        return self.file("prompts").write(StageAccount(digest), items)

    def _respond(self, digest: str) -> StageAccount:
        def records() -> Iterator[PromptRecord]:
            return map(PromptRecord.from_json, self.file("prompts").read())

        calls, items = respond(self.asker, records, self.recipe.responders, keep=self.recipe.keep_responses)
        lines = (item if isinstance(item, Left) else item.to_json() for item in items)
        return self.file("respond").write(_account(digest, calls), lines)

    def _listwise(self, digest: str) -> StageAccount:
        r = self.recipe
        calls, items = judge_listwise(
            self.asker, self.records, r.judges, r.rubrics, seed=r.seed, repeats=r.listwise_repeats
        )
        return self.file("listwise").write(_account(digest, calls), items)

    def _pointwise(self, digest: str) -> StageAccount:
        calls, items = judge_pointwise(self.asker, self.records, self.recipe.judges, self.recipe.rubrics)
        return self.file("pointwise").write(_account(digest, calls), items)

    def _agree(self, digest: str) -> StageAccount:
        account = StageAccount(digest, unit="pairs")

        def lines() -> Iterator[dict[str, Any] | Left]:
            for record, decisions in self.decisions():
                pairs, left = split(record.key, decisions)
                account.read += len(pairs) + len(left)
                account.written += len(pairs)
                yield from left
                yield {"key": record.key, "pairs": pairs}

        return self.file("agree").write(account, lines())

    def _rewrite(self, digest: str) -> StageAccount:
        assert self.recipe.rewriter is not None, "the stage is not done without one"

        def needed() -> Iterator[tuple[PromptRecord, frozenset[int]]]:
            for record, pairs in self.pairs("agree"):
                yield record, frozenset(pair[side] for pair in pairs for side in ("chosen", "rejected"))

        r = self.recipe
        calls, items = rewrite(
            self.asker, needed, self.recipe.rewriter, r.judges, r.rubrics, tolerance=r.rewrite_tolerance
        )
        account = _account(digest, *calls)
        fates: dict[str, int] = {}

        def lines() -> Iterator[dict[str, Any] | Left]:
            for item in items:
                for fate in item["fates"] if isinstance(item, dict) else ():
                    fates[fate["fate"]] = fates.get(fate["fate"], 0) + 1
                yield item
            account.extra["responses"] = fates

        return self.file("rewrite").write(account, lines())

    def _style(self, digest: str) -> StageAccount:
        account = StageAccount(digest, unit="pairs")
        table = pair_table((record, _distinct(record, pairs)) for record, pairs in self.pairs("rewrite"))
        keep, reasons = self._balanced(table)

        def lines() -> Iterator[dict[str, Any] | Left]:
            place = 0
            for record, pairs in self.pairs("rewrite"):
                distinct, stays = _distinct(record, pairs), []
                for pair in pairs:
                    name = f"{record.key} {pair['chosen']}-{pair['rejected']}"
                    account.read += 1
                    if pair not in distinct:
                        yield Left(name, "equal after rewriting", "")
                        continue
                    if keep[place]:
                        stays.append(pair)
                    else:
                        yield Left(name, reasons[place] or "style", "")
                    place += 1
                account.written += len(stays)
                yield {"key": record.key, "pairs": stays}

        return self.file("style").write(account, lines())

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
            log.warning("style: the probe's accuracy is still %.3f, above %.3f", found.after.highest, r.style_target)
        return found.keep, found.reasons

    def _write(self, digest: str) -> StageAccount:
        def samples() -> Iterator[PreferenceSample | Left]:
            for record, pairs in self.pairs("style"):
                if not pairs:
                    yield Left(record.key, "no pair left", "")
                    continue
                try:
                    yield sample_of(record, pairs, self.asker.images)
                except RecordError as error:
                    yield Left(record.key, error.reason, str(error))

        return self.file("write").write(StageAccount(digest), self.write_samples(samples()))


def _account(digest: str, *calls: CallAccount) -> StageAccount:
    """An account that says what became of the stage's calls."""
    return StageAccount(
        digest,
        complete=not any(each.failed.total() for each in calls),
        extra={"calls": [asdict(each) for each in calls]},
    )


def _distinct(record: PromptRecord, pairs: Pairs) -> Pairs:
    """The pairs whose two texts differ."""
    texts = [response.text for response in record.responses]
    return [pair for pair in pairs if texts[pair["chosen"]] != texts[pair["rejected"]]]


def _by_key(lines: Iterable[dict[str, Any]]) -> Callable[[str], dict[str, Any] | None]:
    """Finds a record's line, asked for in the lines' order; None for a record that has none."""
    left = iter(lines)
    held: list[dict[str, Any]] = []

    def find(key: str) -> dict[str, Any] | None:
        if not held:
            held.extend([line] if (line := next(left, None)) is not None else [])
        return held.pop() if held and held[0]["key"] == key else None

    return find
