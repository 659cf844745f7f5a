"""Small constructions of the embedded world, and what their folders hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrm.cli import compose_config
from mrm.construct_config import ConstructConfig, to_construct_config
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.calls import Call

STAGE_NAMES = ("prompts", "respond", "listwise", "pointwise", "agree", "style", "write")


def small_config(work: Path, *words: str, changes: Mapping[str, Any] | None = None, count: int = 20) -> ConstructConfig:
    """A construction as the command line composes it; balancing is left out, of few pairs it would leave none."""
    told = [f"output={work}", f"shapeworld.count={count}", "style.mode=none", "show_progress=false", *words]
    return compose_config(
        told,
        root="construct",
        convert=lambda cfg: to_construct_config(cfg, {"running": {"backoff_s": 0.01}} | dict(changes or {})),
    )


def files(work: Path) -> dict[str, bytes]:
    """What the stages handed on and left out."""
    return {path.name: path.read_bytes() for path in sorted(work.glob("*.jsonl"))}


def lines(work: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / f"{name}.jsonl").read_text().splitlines()]


def asked(work: Path) -> Counter[tuple[str, str]]:
    """(model, kind) -> answers in the log."""
    with AnswerLog(work / "answers", write=False) as log:
        return Counter((logged.model, logged.kind) for logged in log.answers())


def done_at(work: Path) -> dict[str, int]:
    """Stage -> when its account was written, in nanoseconds."""
    return {name: (work / f"{name}.account.json").stat().st_mtime_ns for name in STAGE_NAMES}


SILENT: set[str] = set()  # records that `judge` gives no answer about


def judge(call: Call) -> str:
    """Scores a response by its number of "good"; a callable for `target`."""
    if call.record in SILENT:
        raise ValueError("no answer")
    names = ("accuracy", "helpfulness", "completeness", "language_quality", "creativity", "ethics")
    judged = []
    for number, text in enumerate(call.subject.responses, start=1):
        score = min(10, text.count("good"))
        criteria = {name: {"analysis": "Seen.", "score": score, "weight": 1 / 6} for name in names}
        judged.append({"response": number, "criteria": criteria, "overall": float(score)})
    return json.dumps({"reference": "So.", "responses": judged})


def systems_seen(call: Call) -> str:
    """`judge`, which remembers the system turns that it was sent."""
    SYSTEMS.append(str(call.chat.messages[0].parts[0]))
    return judge(call)


SYSTEMS: list[str] = []


def embed(texts: list[str]) -> list[list[float]]:
    """What a text means is whether it is good, and nothing else."""
    return [[1.0, 0.0] if "good" in text else [0.0, 1.0] for text in texts]


def embed_wrongly(texts: list[str]) -> list[float]:
    return [1.0] * len(texts)


def rewriter(call: Call) -> str:
    """Rewrites "fine good" as "good", loses the good of "lost", and says nothing about "mute"."""
    (text,) = call.subject.responses
    if "mute" in text:
        return " "
    return text.replace("good", "") + "." if "lost" in text else text.removeprefix("fine ")


def own_input(folder: Path, *responses: list[str], question: str = "Which?", **fields: Any) -> Path:
    """A file of prompts that bring their responses."""
    path = folder / "own.jsonl"
    told = [{"key": f"q{n}", "prompt": question, "responses": texts, **fields} for n, texts in enumerate(responses)]
    path.write_text("".join(json.dumps(each) + "\n" for each in told))
    return path


def own_config(work: Path, given: Path, *words: str, target: str = "judge", **changes: Any) -> ConstructConfig:
    """A construction of one's own file by a callable."""
    models = {"judges": {"caller": {"kind": "callable", "target": f"tests.construction.constructing:{target}"}}}
    told = ("construction=own", f"input={given}", *words)
    return small_config(work, *told, changes={**models, **changes})


def flattening(call: Call) -> str:
    """Rewrites everything as one text."""
    return "the same"
