"""What the stages' files hold, put together: records with their responses, scorings, decisions and pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mrm.construction.agreement import PairDecision, Scored
from mrm.construction.judging import scored
from mrm.construction.pairing import Pairs, agreed
from mrm.construction.recipe import Recipe
from mrm.construction.records import PromptRecord
from mrm.construction.rewriting import settled, with_texts
from mrm.construction.stage_files import StageFile


class StageData:
    """Reads the files of a construction, a record at a time, always in the input's order.

    Args:
        work: the construction's folder.
        recipe: what is done.
    """

    def __init__(self, work: Path, recipe: Recipe) -> None:
        self._work, self._recipe = work, recipe

    def file(self, name: str) -> StageFile:
        """A stage's output."""
        return StageFile(self._work, name)

    def prompts(self) -> Iterator[PromptRecord]:
        """The input's records."""
        return map(PromptRecord.from_json, self.file("prompts").read())

    def records(self) -> Iterator[PromptRecord]:
        """The records with their responses, as they are judged."""
        return map(PromptRecord.from_json, self.file("respond").read())

    def scorings(self) -> Iterator[tuple[PromptRecord, list[Scored]]]:
        """Each record that was judged, with its `Scored`."""
        listwise, pointwise = (
            by_key(() if name in self._recipe.skipped else self.file(name).read()) for name in ("listwise", "pointwise")
        )
        for record in self.records():
            lines = [line for line in (listwise(record.key), pointwise(record.key)) if line is not None]
            yield record, scored(*lines)

    def flags(self) -> dict[tuple[str, str], Counter[str]]:
        """What was conspicuous about the answers, by judge and mode."""
        found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for stage in {"listwise", "pointwise"} - set(self._recipe.skipped):
            for line in self.file(stage).read():
                for scoring in line["scorings"]:
                    found[scoring["judge"], scoring["mode"]].update(scoring["flags"])
        return found

    def decisions(self) -> Iterator[tuple[PromptRecord, list[PairDecision]]]:
        """Each record with what is decided about its pairs."""
        judges = [judge.name for judge in self._recipe.judges]
        for record, scorings in self.scorings():
            yield record, agreed(record, scorings, judges, self._recipe.rule)

    def pairs(self, after: str) -> Iterator[tuple[PromptRecord, Pairs]]:
        """Each record with the pairs that it had after the stage "agree", "verify" (its texts rewritten) or "style"."""
        line = by_key(self.file("style" if after == "style" else "agree").read())
        is_rewritten = self._recipe.rewriter is not None and after != "agree"
        rewritten = by_key(self.file("verify").read() if is_rewritten else ())
        for record in self.records():
            found, new = line(record.key), rewritten(record.key)
            if found is not None:
                yield (record if new is None else with_texts(record, new)), found["pairs"]

    def rewritten(self) -> Iterator[tuple[PromptRecord, Pairs, list[str]]]:
        """Each record with its texts after rewriting, the pairs agreed on, and why each goes ("" for those that stay)."""
        verdict = by_key(self.file("verify").read() if self._recipe.rewriter is not None else ())
        for record, pairs in self.pairs("agree"):
            line = verdict(record.key)
            if line is None:
                yield record, pairs, [""] * len(pairs)
            else:
                yield with_texts(record, line), pairs, settled(record, pairs, line)


def by_key(lines: Iterable[dict[str, Any]]) -> Callable[[str], dict[str, Any] | None]:
    """Finds a record's line, asked for in the lines' order; None for a record that has none."""
    left = iter(lines)
    held: list[dict[str, Any]] = []

    def find(key: str) -> dict[str, Any] | None:
        if not held:
            held.extend([line] if (line := next(left, None)) is not None else [])
        return held.pop() if held and held[0]["key"] == key else None

    return find
