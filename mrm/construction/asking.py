"""Asking models about records: plans the calls, has them run, and brings each record its answers in the records' order.

What a stage asks about a record is a pure function of the record, so that a run that was killed plans the same calls again and
finds those already answered in the log. The plan's keys are kept in a file: prompts are not put together twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Answer, Call, ChatMessage, ChatRequest, Model, Subject, call_key
from mrm.construction.calling.log_lines import LoggedAnswer
from mrm.construction.calling.loops import run_async
from mrm.construction.calling.run_progress import CallProgress
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.calling.runner import run_calls
from mrm.construction.records import ImageStore, PromptRecord
from mrm.construction.stage_files import Left
from mrm.errors import RecordError, ResumableError
from mrm.preference import IMAGE_MARKER, Message

Plan = Callable[[PromptRecord, tuple[bytes, ...]], Iterable[Call]]


@dataclass(frozen=True)
class Asked:
    """A record and what came of its calls, in the order in which they were planned; None where no answer came."""

    record: PromptRecord
    answers: tuple[LoggedAnswer | None, ...]


@dataclass(frozen=True)
class Asker:
    """Who is asked, and what is known already.

    Args:
        work: the construction's folder.
        models: name -> model, all that any stage asks.
        log: every answer so far.
        settings: how calls are run.
        show_progress: whether to show a bar.
    """

    work: Path
    models: Mapping[str, Model]
    log: AnswerLog
    settings: RunSettings
    show_progress: bool = True

    @property
    def images(self) -> ImageStore:
        """The images of the records."""
        return ImageStore(self.work)

    def ask(
        self,
        stage: str,
        records: Callable[[], Iterable[PromptRecord]],
        plan: Plan,
        accept: Callable[[Call, Answer], None],
        *,
        count: Callable[[PromptRecord], int],
    ) -> tuple[CallAccount, Iterator[Asked | Left]]:
        """Has every planned call answered, or listed with its reason.

        Args:
            stage: its name, for messages and the plan's file.
            records: gives the records, the same ones at each call.
            plan: a record's calls.
            accept: raises UnusableAnswer for an answer that has to be asked for again.
            count: how many calls a record's plan has, for the progress.

        Raises:
            ResumableError: if the budget ended first; what was answered is kept.
            ConfigError: if a model cannot be asked at all.
        """
        path = self.work / f".{stage}.plan.jsonl"
        with path.open("w", encoding="utf-8") as file:
            calls = self._planned(records(), plan, file)
            total = sum(map(count, records())) if self.show_progress else None
            with CallProgress(stage, total=total, show=self.show_progress) as progress:
                account = run_async(
                    lambda: run_calls(
                        calls, self.models, self.log, accept=accept, settings=self.settings, progress=progress
                    )
                )
        if not account.complete:
            told = "\n".join(account.lines())
            raise ResumableError(
                f"{stage}: not done.\n{told}\nThe same command goes on from here; nothing is asked twice."
            )
        return account, self._collect(records(), path)

    def _planned(self, records: Iterable[PromptRecord], plan: Plan, file: Any) -> Iterator[Call]:
        for record in records:
            try:
                calls = list(plan(record, tuple(self.images.read(image) for image in record.images)))
            except RecordError as error:
                file.write(json.dumps([record.key, None, error.reason, str(error)]) + "\n")
                continue
            file.write(json.dumps([record.key, [call.key for call in calls]]) + "\n")
            yield from calls

    def _collect(self, records: Iterable[PromptRecord], path: Path) -> Iterator[Asked | Left]:
        with path.open(encoding="utf-8") as file:
            for record, line in zip(records, file, strict=True):
                key, calls, *error = json.loads(line)
                assert key == record.key, "the records changed while they were asked about"
                if error:
                    yield Left(key, *error)
                else:
                    yield Asked(record, tuple(self.log.get(call) for call in calls))
        path.unlink()


def make_call(
    kind: str, record: PromptRecord, model: Model, chat: ChatRequest, subject: Subject, *, repeat: int = 0
) -> Call:
    """A call whose key is all that decides its answer."""
    key = call_key(kind, model.identity, repeat, chat, subject)
    return Call(key, record.key, kind, model.name, repeat, chat, subject)


def subject_of(record: PromptRecord, images: tuple[bytes, ...], responses: Sequence[str] = ()) -> Subject:
    """What a call about some responses to a record is about."""
    return Subject(record.prompt, images, tuple(responses), record.reference, record.meta)


def conversation(prompt: Sequence[Message], images: Sequence[bytes]) -> tuple[ChatMessage, ...]:
    """A prompt's turns with each image at its place."""
    left = iter(images)
    turns = []
    for message in prompt:
        texts = message.content.split(IMAGE_MARKER)
        parts: list[str | bytes] = [texts[0]]
        for text in texts[1:]:
            parts += [next(left), text]
        turns.append(ChatMessage(message.role, tuple(part for part in parts if part)))
    return tuple(turns)
