"""The stage `rewrite`: responses told again in one common style, where the judges' scores show that nothing else changed.

The responses of the pairs that were agreed on are rewritten; every judge scores each rewrite alone, as it scored the original. A
rewrite is taken if the judges' mean overall score moved by no more than a tolerance, else the original stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mrm.construction.asking import Asked, Asker, make_call, subject_of
from mrm.construction.call_account import CallAccount
from mrm.construction.calls import Answer, Call, ChatMessage, ChatRequest, Model, UnusableAnswer
from mrm.construction.judging import Rubrics, acceptor, overall_of, pointwise_call
from mrm.construction.records import PromptRecord, Response
from mrm.construction.stage_files import Left
from mrm.preference import language_of

INSTRUCTIONS = {
    "en": (
        "Rewrite the answer below in a plain, neutral style: short declarative sentences, no headings, lists, bold or code marks, no"
        " greeting, no talk of yourself, no closing remark. Keep every statement, number and name, and add none; keep what is wrong"
        " wrong. Answer with the rewritten text alone."
    ),
    "zh": (
        "请把下面的回答改写成朴素、中性的文风：用简短的陈述句，不用标题、列表、加粗或代码标记，不寒暄，不谈自己，不加结束语。"
        "保留每一个陈述、数字和名称，不添加任何内容；错误之处保持原样。只输出改写后的文本。"
    ),
}

Keyed = tuple[PromptRecord, frozenset[int]]  # a record, and the numbers of its responses that pairs need


def rewrite(
    asker: Asker,
    records: Callable[[], Iterable[Keyed]],
    rewriter: Model,
    judges: Sequence[Model],
    rubrics: Rubrics,
    *,
    tolerance: float,
) -> tuple[list[CallAccount], Iterator[dict[str, Any] | Left]]:
    """Rewrites what the pairs need.

    Args:
        asker: asks.
        records: gives the records with the numbers of the responses to rewrite.
        rewriter: who rewrites.
        judges: who scores the rewrites.
        rubrics: one for each language.
        tolerance: of the mean overall score, on the scale of 0 to 10.

    Returns:
        What became of the calls, and a line a record: its key, its texts after rewriting, and for each response what became of
        it ("rewritten", "score moved", "no rewrite", "not judged", "not needed") with the scores before and after.
    """
    needed = {record.key: numbers for record, numbers in records()}
    plain: Callable[[], Iterable[PromptRecord]] = lambda: (record for record, _ in records())  # noqa: E731

    def plan_rewrites(record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        for number in sorted(needed[record.key]):
            yield _rewrite_call(record, images, record.responses[number].text, rewriter)

    first, asked = asker.ask("rewrite", plain, plan_rewrites, _accept_rewrite)
    rewrites = {
        item.record.key: [answer.answer.text.strip() if answer else None for answer in item.answers]
        for item in asked
        if isinstance(item, Asked)
    }

    def plan_scores(record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        for number, text in zip(sorted(needed[record.key]), rewrites.get(record.key, ()), strict=False):
            for told in (record.responses[number].text, text):
                for judge in judges:
                    if told:
                        yield pointwise_call(record, images, told, judge, rubrics)

    second, asked = asker.ask("rewrite-judge", plain, plan_scores, acceptor(rubrics))

    def line(item: Asked) -> dict[str, Any]:
        record, answers = item.record, iter(item.answers)
        texts, fates = [response.text for response in record.responses], []
        for number, text in zip(sorted(needed[record.key]), rewrites.get(record.key, ()), strict=False):
            before = _mean(overall_of(next(answers), rubrics, record) for _ in judges)
            after = _mean(overall_of(next(answers), rubrics, record) for _ in judges) if text else None
            fate = _fate(text, before, after, tolerance)
            fates.append({"response": number, "fate": fate, "before": before, "after": after})
            if text and fate == "rewritten":
                texts[number] = text
        return {"key": record.key, "texts": texts, "fates": fates}

    return [first, second], (item if isinstance(item, Left) else line(item) for item in asked)


def with_texts(record: PromptRecord, line: dict[str, Any]) -> PromptRecord:
    """The record with the texts of its line."""
    responses = [Response(text, old.model) for text, old in zip(line["texts"], record.responses, strict=True)]
    return replace(record, responses=tuple(responses))


def _rewrite_call(record: PromptRecord, images: tuple[bytes, ...], text: str, rewriter: Model) -> Call:
    # The rewriter sees neither images nor question: it could not resist to mend the answer.
    said = ChatMessage("user", (text,))
    chat = ChatRequest((ChatMessage("system", (INSTRUCTIONS[language_of(record.prompt)],)), said))
    return make_call("rewrite", record, rewriter, chat, subject_of(record, images, [text]))


def _accept_rewrite(call: Call, answer: Answer) -> None:
    if not answer.text.strip():
        raise UnusableAnswer(
            "empty rewrite", f"model {call.model!r}: rewrote a response of {call.record!r} as nothing."
        )


def _mean(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known and len(known) == len(found) else None


def _fate(text: str | None, before: float | None, after: float | None, tolerance: float) -> str:
    if not text:
        return "no rewrite"
    if before is None or after is None:
        return "not judged"
    return "rewritten" if abs(after - before) <= tolerance else "score moved"
