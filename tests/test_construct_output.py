"""What `mrm.construct` prints."""

from __future__ import annotations

import pytest

from mrm.construct_output import print_accounts
from mrm.construction.stage_files import StageAccount


def account(failed: dict[str, int]) -> StageAccount:
    named = {reason: [f"q-1 (listwise, judge, repeat 0) for {reason}"] for reason in failed}
    return StageAccount("", read=2, written=2, extra={"calls": [{"failed": failed, "named": named}]})


def test_print_accounts_names_calls_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    print_accounts({"prompts": StageAccount("", read=2, written=2), "listwise": account({"time-out": 3})})
    told = capsys.readouterr().out
    assert "listwise: 3 failed (time-out), such as q-1 (listwise, judge, repeat 0) for time-out" in told
    assert "answers/failures.jsonl" in told


def test_print_accounts_without_failures_says_nothing_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_accounts({"listwise": account({})})
    assert "failed" not in capsys.readouterr().out
