"""Small records of the embedded world, and calls about them."""

from __future__ import annotations

from pathlib import Path

from datamodules.shapeworld_prompts import generate_prompts
from mrm.construction.asking import make_call, subject_of
from mrm.construction.calling.calls import Call, ChatMessage, ChatRequest, Model
from mrm.construction.records import ImageStore, PromptRecord


def shapeworld_records(folder: Path, count: int, seed: int = 0, **options: float) -> list[PromptRecord]:
    return list(generate_prompts(count, seed, ImageStore(folder), **options))


def answers_of(record: PromptRecord) -> dict[int, dict[str, str]]:
    return {int(errors): told for errors, told in record.meta["truth"]["answers"].items()}


def call_about(kind: str, record: PromptRecord, model: Model, *responses: str, repeat: int = 0) -> Call:
    chat = ChatRequest((ChatMessage("user", ("?",)),))
    return make_call(kind, record, model, chat, subject_of(record, (), responses), repeat=repeat)
