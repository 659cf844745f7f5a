"""A sweep as a whole, with members that are small scripts."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrm.config import SweepConfig
from mrm.errors import ConfigError, ResumableError
from mrm.run_dirs import write_json
from mrm.sweeps.members import Member
from mrm.sweeps.record import SweepRecord, lock_sweep
from mrm.sweeps.running import again
from tests.sweeps.fakes import fake_sweep, record, starts, states


@pytest.fixture(autouse=True)
def threads_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def signal_once_waiting(root: Path, number: int, *, runs: int, times: int = 1) -> threading.Thread:
    """Sends this process a signal as soon as so many members wait."""

    def send() -> None:
        for _ in range(300):
            if len(list(root.glob("run-*/waits"))) >= runs:
                break
            time.sleep(0.1)
        for _ in range(times):
            os.kill(os.getpid(), number)
            time.sleep(0.5)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_sweep_runs_several_members_at_once_and_records_them(tmp_path: Path, capsys) -> None:
    sweep = fake_sweep(tmp_path, [1, 2, 3], {1: "meet", 2: "meet"})
    assert sweep.run() == 0
    assert states(tmp_path) == {"seed=1": "finished", "seed=2": "finished", "seed=3": "finished"}
    told = record(tmp_path)
    assert (told["name"], told["state"], told["jobs"], told["threads"]) == ("s", "finished", 2, 1)
    entry = told["members"][0]
    assert entry["results"] == {"tests": {"t": 0.5}, "open_pairs": 3, "active_pairs": 2, "seconds": 1.0}
    assert entry["starts"] == 1 and entry["exit_status"] == 0 and entry["error"] is None
    assert Path(entry["run_dir"]).parent == tmp_path and "seed 1 meet" in Path(entry["log"]).read_text()
    ended = [next(tmp_path.glob(f"run-{seed}-*/results.json")).stat().st_mtime for seed in (1, 2)]
    assert starts(tmp_path, 3)[0][0]["began"] > min(ended) - 0.1  # the third waits until one has ended
    environment = starts(tmp_path, 1)[0][0]["environment"]
    assert environment == {"MRM_SWEEP": "s", "OMP_NUM_THREADS": "1"}
    shown = capsys.readouterr().out
    assert "seed=1" in shown and "experiment=e" not in shown.split("Record")[0]  # only what tells them apart
    lines = sweep.console.file.getvalue()  # type: ignore[attr-defined]
    assert "[1/3] begins     seed=1" in lines and "[1/3] finished   seed=1 after" in lines
    assert "Sweep: 3 of 3 finished" in lines


def test_sweep_goes_on_past_a_failed_member_and_says_why_and_where(tmp_path: Path, capsys) -> None:
    assert fake_sweep(tmp_path, [1, 2], {1: "fail"}, settings=SweepConfig(jobs=1)).run() == 1
    assert states(tmp_path) == {"seed=1": "failed", "seed=2": "finished"}
    assert record(tmp_path)["state"] == "failed"
    (failed,) = [entry for entry in record(tmp_path)["members"] if entry["state"] == "failed"]
    assert failed["error"] == "the loss is not finite" and failed["exit_status"] == 1
    shown = capsys.readouterr().out
    assert "failed  seed=1: the loss is not finite; log:" in shown and failed["label"] in shown
    assert "-m mrm.run -m experiment=e seed=1,2 sweep.name=s" in shown


def test_sweep_given_again_repeats_nothing_that_finished(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1, 2], {2: "fail"}).run() == 1
    assert fake_sweep(tmp_path, [1, 2, 3]).run() == 0
    assert [len(runs) for runs in starts(tmp_path, 1)] == [1]
    assert [len(runs) for runs in starts(tmp_path, 2)] == [1, 1]  # failed by itself: anew, in a folder of its own
    assert [len(runs) for runs in starts(tmp_path, 3)] == [1]
    assert [entry["starts"] for entry in record(tmp_path)["members"]] == [1, 2, 1]
    assert fake_sweep(tmp_path, [1]).run() == 0
    kept = record(tmp_path)["members"]
    assert [entry["number"] for entry in kept] == [1, None, None]  # members of earlier commands stay known


def test_sweep_without_retry_leaves_failed_members_failed(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1], {1: "fail"}).run() == 1
    assert fake_sweep(tmp_path, [1], settings=SweepConfig(retry_failed=False)).run() == 1
    assert len(starts(tmp_path, 1)) == 1
    assert record(tmp_path)["members"][0]["error"] == "the loss is not finite"


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("kill", "ended from outside by SIGKILL"),
        ("asked", "ended from outside by SIGTERM"),
        ("room", "no space left"),
        ("remembers", "no server"),
    ],
)
def test_sweep_member_that_did_not_fail_by_itself_resumes_in_its_folder(
    tmp_path: Path, behaviour: str, why: str
) -> None:
    assert fake_sweep(tmp_path, [1], {1: behaviour}).run() == 1
    assert record(tmp_path)["members"][0]["error"] == why
    assert states(tmp_path) == {"seed=1": "interrupted"}
    assert fake_sweep(tmp_path, [1]).run() == 0
    ((first, second),) = starts(tmp_path, 1)
    assert (
        "resume" not in first["words"]
        and second["words"]["resume"].strip("'") == record(tmp_path)["members"][0]["run_dir"]
    )


def test_sweep_member_that_stopped_and_then_fails_is_told_by_its_last_fault(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1], {1: "remembers"}).run() == 1
    assert fake_sweep(tmp_path, [1], {1: "early"}).run() == 1
    (member,) = record(tmp_path)["members"]
    assert (member["state"], member["error"]) == ("failed", "no such module")


def test_sweep_finds_finished_members_without_its_record(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1, 2]).run() == 0
    (tmp_path / "sweeps" / "s" / "sweep.json").unlink()
    assert fake_sweep(tmp_path, [1, 2]).run() == 0
    assert [len(runs) for seed in (1, 2) for runs in starts(tmp_path, seed)] == [1, 1]


def test_sweep_with_damaged_record_is_refused_by_name(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1]).run() == 0
    (tmp_path / "sweeps" / "s" / "sweep.json").write_text("[")
    with pytest.raises(ConfigError, match=r"sweep\.json cannot be read.*remove it"):
        fake_sweep(tmp_path, [1]).run()


def test_sweep_of_another_name_shares_nothing(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1]).run() == 0
    for path in tmp_path.glob("run-1-*/run.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "sweep": "other"}))
    (tmp_path / "sweeps" / "s" / "sweep.json").unlink()
    assert fake_sweep(tmp_path, [1]).run() == 0
    assert len(starts(tmp_path, 1)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sweep_signal_ends_members_and_leaves_the_rest_to_go_on_with(tmp_path: Path, number: int) -> None:
    if (
        signal.getsignal(number) == signal.SIG_IGN
    ):  # as SIGINT is in a shell's background job, whose children would ignore it too
        signal.signal(number, signal.default_int_handler)
    thread = signal_once_waiting(tmp_path, number, runs=2)
    began = time.monotonic()
    assert fake_sweep(tmp_path, [1, 2, 3], {1: "wait", 2: "soft"}).run() == 128 + number
    thread.join()
    assert time.monotonic() - began < 30
    assert states(tmp_path) == {f"seed={seed}": "interrupted" for seed in (1, 2, 3)}
    assert not starts(tmp_path, 3)
    assert fake_sweep(tmp_path, [1, 2, 3]).run() == 0
    assert [[len(runs) for runs in starts(tmp_path, seed)] for seed in (1, 2, 3)] == [[2], [2], [1]]


@pytest.mark.parametrize(("grace_s", "times"), [(1.0, 1), (60.0, 2)])
def test_sweep_kills_members_that_do_not_end(tmp_path: Path, grace_s: float, times: int) -> None:
    thread = signal_once_waiting(tmp_path, signal.SIGTERM, runs=1, times=times)
    began = time.monotonic()
    assert fake_sweep(tmp_path, [1], {1: "deaf"}, grace_s=grace_s).run() == 128 + signal.SIGTERM
    thread.join()
    assert time.monotonic() - began < 30
    assert record(tmp_path)["members"][0]["exit_status"] == -signal.SIGKILL
    assert states(tmp_path) == {"seed=1": "interrupted"}


def test_sweep_member_that_ends_well_without_finishing_has_failed(tmp_path: Path) -> None:
    assert fake_sweep(tmp_path, [1], {1: "unfinished"}).run() == 1
    assert "without a finished run" in record(tmp_path)["members"][0]["error"]


def test_sweep_member_with_a_fault_is_not_started_and_the_others_run(tmp_path: Path) -> None:
    def change(member) -> None:
        if member.number == 1:
            member.fault = "optim.lr=-1: must be more than 0."

    assert fake_sweep(tmp_path, [1, 2], change=change).run() == 1
    assert states(tmp_path) == {"seed=1": "failed", "seed=2": "finished"}
    assert not starts(tmp_path, 1)


def test_sweep_member_that_repeats_another_is_left_out_and_told(tmp_path: Path, caplog) -> None:
    assert fake_sweep(tmp_path, [1, 1]).run() == 0
    assert len(starts(tmp_path, 1)) == 1 and "Member 2 computes the same as member 1" in caplog.text


def full_disk(name: str = "sweep.json") -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", name)


def failing_writes(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool], error: Exception) -> list[int]:
    """Makes those writes of the record fail, by their number from 1; gives the numbers of all so far."""
    write = SweepRecord.write
    numbers: list[int] = []

    def write_or_not(self: SweepRecord) -> None:
        numbers.append(len(numbers) + 1)
        if fails(numbers[-1]):
            raise error
        write(self)

    monkeypatch.setattr(SweepRecord, "write", write_or_not)
    return numbers


@pytest.mark.parametrize("number", [1, 2, 4])  # before the first member, as it begins, as one ends
def test_sweep_record_that_cannot_be_written_once_is_written_at_the_next_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, number: int
) -> None:
    numbers = failing_writes(monkeypatch, lambda n: n == number, full_disk())
    assert fake_sweep(tmp_path, [1, 2, 3]).run() == 0
    assert len(numbers) == 8  # at first, two a member, in the end
    assert states(tmp_path) == {f"seed={seed}": "finished" for seed in (1, 2, 3)}
    assert record(tmp_path)["state"] == "finished"
    assert caplog.text.count("cannot be written") == 1 and "No space left on device" in caplog.text


def test_sweep_record_that_cannot_be_written_to_the_end_is_told_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, capsys
) -> None:
    with monkeypatch.context() as patch:
        failing_writes(patch, lambda n: n > 2, full_disk())
        with pytest.raises(
            ResumableError, match=r"sweep\.json cannot be written.*No space left.*sweep\.name=s"
        ) as told:
            fake_sweep(tmp_path, [1, 2, 3], {2: "fail"}).run()
    assert str(tmp_path / "sweeps" / "s") in str(told.value)
    assert caplog.text.count("cannot be written") == 1  # one kind of fault
    assert "failed  seed=2: the loss is not finite" in capsys.readouterr().out  # the table is there
    assert [len(starts(tmp_path, seed)) for seed in (1, 2, 3)] == [1, 1, 1]
    assert fake_sweep(tmp_path, [1, 2, 3]).run() == 0
    assert states(tmp_path) == {f"seed={seed}": "finished" for seed in (1, 2, 3)}
    assert [len(starts(tmp_path, seed)) for seed in (1, 3)] == [1, 1]  # nothing is repeated


def test_sweep_member_whose_log_cannot_be_opened_is_named_and_the_others_run(tmp_path: Path) -> None:
    blocked: list[Path] = []

    def block(member: Member) -> None:
        if member.number == 2:
            blocked.append(tmp_path / "sweeps" / "s" / "logs" / f"{member.label}.log")
            blocked[0].mkdir(parents=True)

    assert fake_sweep(tmp_path, [1, 2, 3], change=block).run() == 1
    assert states(tmp_path) == {"seed=1": "finished", "seed=2": "interrupted", "seed=3": "finished"}
    entry = record(tmp_path)["members"][1]
    assert "cannot be started" in entry["error"] and str(blocked[0]) in entry["error"] and entry["starts"] == 0
    blocked[0].rmdir()
    assert fake_sweep(tmp_path, [1, 2, 3]).run() == 0
    assert [len(starts(tmp_path, seed)) for seed in (1, 2, 3)] == [1, 1, 1]


def test_sweep_resumed_member_that_cannot_be_started_keeps_what_it_has_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake_sweep(tmp_path, [1], {1: "remembers"}).run() == 1

    def refuse(folder: Path) -> None:
        raise full_disk(str(folder))

    with monkeypatch.context() as patch:
        patch.setattr("mrm.sweeps.running.forget_stop", refuse)
        assert fake_sweep(tmp_path, [1]).run() == 1
    assert states(tmp_path) == {"seed=1": "interrupted"}
    assert fake_sweep(tmp_path, [1]).run() == 0
    assert [len(runs) for runs in starts(tmp_path, 1)] == [2]  # in the one folder


@pytest.mark.parametrize(("behaviour", "ended_by"), [("wait", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_sweep_that_an_error_ends_leaves_no_member_running_and_closes_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, ended_by: int
) -> None:
    closed: list[Any] = []
    monkeypatch.setattr("mrm.sweeps.running.close_parent", lambda *told: closed.append(told[:2]))

    def fail_once_waiting(*args: object, **kwargs: object) -> None:
        if list(tmp_path.glob("run-*/waits")):
            raise RuntimeError("a fault of the driver")

    sweep = fake_sweep(tmp_path, [1, 2], {1: behaviour}, settings=SweepConfig(jobs=1), grace_s=0.5)
    monkeypatch.setattr(sweep.display, "progress", fail_once_waiting)
    parent = {"tracking_uri": "sqlite:///none.db", "experiment": "mrm", "run_id": "0a1b"}
    monkeypatch.setattr(sweep, "_open_parent", lambda: setattr(sweep.record, "mlflow", parent))
    with pytest.raises(RuntimeError, match="a fault of the driver"):
        sweep.run()
    assert closed == [(parent, "interrupted")]
    first, second = record(tmp_path)["members"]
    assert (first["state"], first["exit_status"]) == ("interrupted", -ended_by) and first["run_dir"]
    assert (second["state"], second["starts"]) == ("interrupted", 0)
    os.close(lock_sweep(tmp_path / "sweeps" / "s"))  # which a member that ran still would hold
    write_json(tmp_path / "sweeps" / "s" / "sweep.json", record(tmp_path) | {"mlflow": None})
    assert fake_sweep(tmp_path, [1, 2]).run() == 0
    assert [[len(runs) for runs in starts(tmp_path, seed)] for seed in (1, 2)] == [[2], [1]]


def test_sweep_whose_lines_cannot_be_printed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = fake_sweep(tmp_path, [1, 2])

    def refuse(*args: object, **kwargs: object) -> None:
        raise full_disk("sweep.out")

    monkeypatch.setattr(sweep.console, "print", refuse)
    assert sweep.run() == 0


def test_sweep_that_is_running_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    lock = lock_sweep(tmp_path / "sweeps" / "s")
    try:
        with pytest.raises(ConfigError, match=r"sweep\.name=s: this sweep is running"):
            fake_sweep(tmp_path, [1]).run()
    finally:
        os.close(lock)
    assert fake_sweep(tmp_path, [1]).run() == 0


def test_again_names_the_sweep_among_the_overrides() -> None:
    assert again(["-m", "seed=1,2", "--config-dir", "x"], "n") == [
        "-m",
        "seed=1,2",
        "sweep.name=n",
        "--config-dir",
        "x",
    ]
    assert again(["-m", "sweep.name=n", "seed=1"], "n") == ["-m", "seed=1", "sweep.name=n"]
    assert again(["-m", "seed=1", "hydra.sweep.dir=a/n"], "n") == ["-m", "seed=1", "hydra.sweep.dir=a/n"]
