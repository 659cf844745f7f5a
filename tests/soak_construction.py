"""Kills a run of calls again and again, and checks that nothing is lost or paid twice:

    python -m tests.soak_construction calls=5000 concurrency=64 faults=0.2 kills=5

A server on loopback answers a share of the calls badly (see `tests/construction/fault_server.py`). A child process asks it, is
killed with SIGKILL on the way, and is started again. In the end every call is answered or listed with its reason, none that
was in the log at a kill has been asked again, and the outcome is that of a run that nobody killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mrm.construction.answer_log import ANSWERS, AnswerLog
from mrm.construction.run_settings import RunSettings
from tests.construction.calling import make_call, outcome, run, server_model
from tests.construction.fault_server import FaultServer, fault_plan

ACCOUNT = "account.json"
TIMEOUT_S, SLOW_S = 2.0, 3.0
CHILD = "import json, sys; from tests.soak_construction import child; child(**json.loads(sys.argv[1]))"


@dataclass
class SoakConfig:
    """Settings of `python -m tests.soak_construction`."""

    calls: int = 5000
    concurrency: int = 64
    faults: float = 0.2
    kills: int = 5
    seed: int = 0
    api: str = "chat"
    latency_s: float = 0.05


@dataclass(frozen=True)
class SoakResult:
    """What a soak met.

    Args:
        answered, failed: calls.
        requests: that the server got in the run that was killed.
        repeated: requests for calls that were in the log when a kill came; must be 0.
        torn: lines that kills cut off.
        server: what the server did -> times.
        reasons: of failed calls.
        whole_s, killed_s: seconds of the uninterrupted run and of the killed one.
    """

    answered: int
    failed: int
    requests: int
    repeated: int
    torn: int
    server: Counter[str]
    reasons: Counter[str]
    whole_s: float
    killed_s: float


def child(url: str, folder: str, calls: int, concurrency: int, api: str) -> None:
    """One process: asks what the log does not answer, and writes its account when it comes to its end."""
    settings = RunSettings(base_s=0.05, longest_s=0.5, timeout_s=TIMEOUT_S, ahead=concurrency)
    model = server_model(url, concurrency=concurrency, api=api)
    account = run((make_call(f"r{number}") for number in range(calls)), model, Path(folder), settings=settings)
    assert account.balanced, account
    Path(folder, ACCOUNT).write_text(json.dumps({"complete": account.complete, "retried": account.retried}))


def start(server: FaultServer, folder: Path, config: SoakConfig) -> subprocess.Popen[bytes]:
    told = {"url": server.url, "folder": str(folder), "calls": config.calls}
    told |= {"concurrency": config.concurrency, "api": config.api}
    return subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(told)])


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait() or not json.loads((folder / ACCOUNT).read_text())["complete"]:
        raise AssertionError(f"the child ended with {process.returncode}, or left calls out")


def kill_at(process: subprocess.Popen[bytes], folder: Path, answers: int) -> None:
    """Kills the child when its log has a number of lines."""
    path = folder / ANSWERS
    while not path.exists() or path.read_bytes().count(b"\n") < answers:
        if process.poll() is not None:
            raise AssertionError(f"the child ended with {process.returncode} before it was killed")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def soak(config: SoakConfig, folder: Path) -> SoakResult:
    """Runs it once undisturbed and once with kills, and compares.

    Raises:
        AssertionError: if anything is lost, asked twice, or other than undisturbed.
    """
    plan = fault_plan(config.faults, config.seed)
    began = time.perf_counter()
    with FaultServer(plan, latency_s=config.latency_s, slow_s=SLOW_S) as server:
        finish(start(server, folder / "whole", config), folder / "whole")
    whole_s, began, killed = time.perf_counter() - began, time.perf_counter(), folder / "killed"
    asked_at_kill: dict[str, int] = {}
    torn = 0
    with FaultServer(plan, latency_s=config.latency_s, slow_s=SLOW_S) as server:
        for number in range(1, config.kills + 1):
            kill_at(start(server, killed, config), killed, number * config.calls // (config.kills + 2))
            with AnswerLog(killed, write=False) as log:
                torn += log.torn
                known = {logged.record for logged in log.answers()}
            for record in known - asked_at_kill.keys():
                asked_at_kill[record] = server.asked[record]
        finish(start(server, killed, config), killed)
        repeated = sum(server.asked[record] - count for record, count in asked_at_kill.items())
        requests, kinds = server.asked.total(), server.kinds
    killed_s = time.perf_counter() - began
    answered, failed = outcome(killed)
    keys = {make_call(f"r{number}").key for number in range(config.calls)}
    assert answered.keys() | failed.keys() == keys, "calls are neither answered nor listed"
    assert not repeated, f"{repeated} requests for calls that were answered before"
    assert (answered, failed) == outcome(folder / "whole"), "the outcome is not that of an undisturbed run"
    lines = (killed / ANSWERS).read_bytes().count(b"\n")
    assert lines == len(answered), f"{lines} lines for {len(answered)} answers"
    return SoakResult(
        len(answered), len(failed), requests, repeated, torn, kinds, Counter(failed.values()), whole_s, killed_s
    )


def main(config: SoakConfig) -> None:
    """Runs the soak and tells what it met."""
    with tempfile.TemporaryDirectory() as folder:
        result = soak(config, Path(folder))
    print(
        f"{config.calls:,} calls, {config.concurrency} at once, {config.kills} kills: {result.answered:,} answered, "
        f"{result.failed:,} listed, {result.repeated} asked again, {result.requests:,} requests, {result.torn} torn lines"
    )
    print("listed: " + ", ".join(f"{reason} {count}" for reason, count in result.reasons.most_common()))
    print("the server: " + ", ".join(f"{kind} {count}" for kind, count in result.server.most_common()))
    print(f"{result.whole_s:.0f} s undisturbed, {result.killed_s:.0f} s with kills; the outcomes are equal")


if __name__ == "__main__":
    from mrm.cli import settings_command  # here: a child is to start fast

    settings_command(SoakConfig, main, __doc__)
