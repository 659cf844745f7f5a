"""Kills a construction again and again, and checks that nothing is lost or paid twice:

    python -m tests.soak_construction calls=5000 concurrency=64 faults=0.2 kills=5

A server on loopback answers a share of the calls badly (see `tests/construction/fault_server.py`). `python -m mrm.construct` asks it
as three responders and two judges over both APIs, is killed with SIGKILL on the way, and is started again. In the end every record is
judged or listed with its reason, no call that was answered before a kill has been asked again, and all stages' files and
shards are those of a run that nobody killed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datamodules.index import Index
from mrm.construction.calling.answer_log import ANSWERS, AnswerLog
from tests.construction.fault_server import FaultServer, fault_plan

RESPONDERS, JUDGES = 3, 2
CALLS_A_PROMPT = RESPONDERS + JUDGES + RESPONDERS * JUDGES
KEY_ENV, KEY = "SOAK_KEY", "sk-soak-5e1f0c9b"
APIS = ("chat", "responses")
_FLAGS = re.compile(rb'"flags": \[.*?\]')


@dataclass
class SoakConfig:
    """Settings of `python -m tests.soak_construction`."""

    calls: int = 5000
    concurrency: int = 64
    faults: float = 0.2
    kills: int = 5
    seed: int = 0
    latency_s: float = 0.05
    timeout_s: float = 2.0
    backoff_s: float = 1.0

    @property
    def prompts(self) -> int:
        return max(1, self.calls // CALLS_A_PROMPT)


@dataclass(frozen=True)
class SoakResult:
    """What a soak met.

    Args:
        calls: of the uninterrupted run, as its stages' accounts have them.
        answered: answers in the log of the killed run.
        failed: reason -> calls that never got an answer.
        records: prompts; `left_out` of them got too few responses, `pairs` came of the others.
        requests: that the server got in the run that was killed.
        repeated: requests for calls that were in the log when a kill came; must be 0.
        torn: lines that kills cut off.
        server: what the server did in it -> times.
        whole_s, killed_s: seconds of the uninterrupted run and of the killed one.
    """

    calls: int
    answered: int
    failed: Counter[str]
    records: int
    left_out: int
    pairs: int
    requests: int
    repeated: int
    torn: int
    server: Counter[str]
    whole_s: float
    killed_s: float


def start(server: FaultServer, folder: Path, config: SoakConfig) -> subprocess.Popen[bytes]:
    """`python -m mrm.construct` in a process of its own; goes on where there is something in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "construction").mkdir(exist_ok=True)
    content = "# @package _global_\n" + yaml.safe_dump(settings(server.url, config))
    (folder / "construction" / "soak.yaml").write_text(content)
    words = ["--config-dir", str(folder), "construction=soak", f"output={folder / 'work'}"]
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "mrm.construct", *words],
            env={**os.environ, KEY_ENV: KEY},
            stdout=printed,
            stderr=subprocess.STDOUT,
        )


def settings(url: str, config: SoakConfig) -> dict[str, object]:
    """A construction that asks the server; temperatures make each model another one."""

    def model(number: int) -> dict[str, object]:
        told = {
            "model": "judge",
            "base_url": url,
            "api": APIS[number % 2],
            "key_env": KEY_ENV,
            "timeout_s": config.timeout_s,
        }
        return {
            **told,
            "concurrency": config.concurrency,
            "temperature": number / 10,
            "price_input": 1,
            "price_output": 2,
        }

    return {
        "construction": "soak",
        "input": "shapeworld",
        "shapeworld": {"count": config.prompts},
        "responders": {f"responder_{number}": model(number) for number in range(RESPONDERS)},
        "judges": {f"judge_{number}": model(RESPONDERS + number) for number in range(JUDGES)},
        "style": {"mode": "none"},  # it is deterministic, and takes longer than all else
        "running": {"concurrency": config.concurrency, "backoff_s": config.backoff_s},
        "show_progress": False,
    }


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait():
        raise AssertionError(
            f"the construction ended with {process.returncode}:\n{(folder / 'printed.txt').read_text()}"
        )


def kill_at(process: subprocess.Popen[bytes], folder: Path, answers: int) -> None:
    """Kills the construction when its log has a number of lines."""
    path = folder / "work" / "answers" / ANSWERS
    while not path.exists() or path.read_bytes().count(b"\n") < answers:
        if process.poll() is not None:
            printed = (folder / "printed.txt").read_text()
            raise AssertionError(f"it ended with {process.returncode} before it was killed:\n{printed}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def soak(config: SoakConfig, folder: Path) -> SoakResult:
    """Runs it once undisturbed and once with kills, and compares.

    Raises:
        AssertionError: if anything is lost, asked twice, or other than undisturbed.
    """
    plan = fault_plan(config.faults, config.seed)
    began, whole = time.perf_counter(), folder / "whole"
    with FaultServer(plan, latency_s=config.latency_s, slow_s=1.5 * config.timeout_s, key=KEY) as server:
        finish(start(server, whole, config), whole)
    whole_s, began, killed = time.perf_counter() - began, time.perf_counter(), folder / "killed"
    asked_at_kill: dict[str, int] = {}
    torn = 0
    with FaultServer(plan, latency_s=config.latency_s, slow_s=1.5 * config.timeout_s, key=KEY) as server:
        for number in range(1, config.kills + 1):
            kill_at(start(server, killed, config), killed, number * config.calls // (config.kills + 2))
            with AnswerLog(killed / "work" / "answers", write=False) as log:
                torn += log.torn
                known = {logged.answer.model.removeprefix("judge-") for logged in log.answers()}
            for asked in known - asked_at_kill.keys():
                asked_at_kill[asked] = server.asked[asked]
        finish(start(server, killed, config), killed)
        repeated = sum(server.asked[asked] - count for asked, count in asked_at_kill.items())
        requests, kinds = server.asked.total(), server.kinds
    killed_s = time.perf_counter() - began
    assert not repeated, f"{repeated} requests for calls that were answered before"
    compare(whole / "work", killed / "work")
    check_listed(killed / "work")
    check_secret(folder)
    accounts = {name: account(killed / "work", name) for name in ("respond", "listwise", "pointwise", "write")}
    with AnswerLog(killed / "work" / "answers", write=False) as log:
        answered = len(log)
        failed = {line["key"]: line["reason"] for line in log.failures() if line["final"] and line["key"] not in log}
        lines = sum(1 for _ in log.answers())
    written = (killed / "work" / "answers" / ANSWERS).read_bytes().count(b"\n")
    assert written == lines == answered, f"{written} lines for {answered} answers"
    return SoakResult(
        sum(
            told["calls"] for name in ("respond", "listwise", "pointwise") for told in accounts[name]["extra"]["calls"]
        ),
        answered,
        Counter(failed.values()),
        config.prompts,
        accounts["respond"]["left"].get("too few responses", 0),
        len(Index.load(killed / "work" / "shards")),
        requests,
        repeated,
        torn,
        kinds,
        whole_s,
        killed_s,
    )


def account(work: Path, name: str) -> dict[str, Any]:
    return json.loads((work / f"{name}.account.json").read_text())


def compare(one: Path, other: Path) -> None:
    """Stages' files and shards are the same, byte by byte, but for flags: a call that a kill cut off may get a worse or better
    answer when it is asked again, with scores as strings or not."""
    names = sorted(path.name for path in one.glob("*.jsonl"))
    assert names and names == sorted(path.name for path in other.glob("*.jsonl")), names
    for name in names:
        found, wanted = (_FLAGS.sub(b"", (work / name).read_bytes()) for work in (one, other))
        assert found == wanted, f"{name} is not that of an undisturbed run"
    assert Index.load(one / "shards").fingerprint == Index.load(other / "shards").fingerprint


def check_listed(work: Path) -> None:
    """Every record is handed on or left out with a reason, and every score that is missing is that of a call listed as failed."""
    with AnswerLog(work / "answers", write=False) as log:
        failed = {(line["record"], line["kind"], line["model"]) for line in log.failures() if line["final"]}
    for stage, before in (("respond", "prompts"), ("listwise", "respond"), ("pointwise", "respond")):
        given, told = keys(work / f"{before}.jsonl"), keys(work / f"{stage}.jsonl")
        left = keys(work / f"{stage}.skipped.jsonl")
        assert sorted(told + left) == sorted(given), f"{stage}: records are neither handed on nor left out"
    for stage in ("listwise", "pointwise"):
        for line in map(json.loads, (work / f"{stage}.jsonl").open()):
            for scoring in line["scorings"]:
                asked = (line["key"], stage, scoring["judge"])
                assert None not in scoring["overalls"] or asked in failed, f"{asked} has no score and no reason"


def keys(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.open()]


def check_secret(folder: Path) -> None:
    """The key is in no file."""
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), f"{path} holds the key"


def main(config: SoakConfig) -> None:
    """Runs the soak and tells what it met."""
    with tempfile.TemporaryDirectory() as folder:
        result = soak(config, Path(folder))
    print(
        f"{result.records:,} prompts, {result.calls:,} calls, {config.concurrency} at once, {config.kills} kills: "
        f"{result.answered:,} answered, {result.failed.total():,} listed, {result.repeated} asked again, "
        f"{result.requests:,} requests, {result.torn} torn lines; {result.left_out:,} records with too few responses, "
        f"{result.pairs:,} samples written"
    )
    print("listed: " + ", ".join(f"{reason} {count}" for reason, count in result.failed.most_common()))
    print("the server: " + ", ".join(f"{kind} {count}" for kind, count in result.server.most_common()))
    print(f"{result.whole_s:.0f} s undisturbed, {result.killed_s:.0f} s with kills; stages' files and shards are equal")


if __name__ == "__main__":
    from mrm.cli import settings_command

    settings_command(SoakConfig, main, __doc__)
