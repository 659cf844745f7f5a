import io
from collections import Counter

from rich.console import Console

from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.run_progress import CallProgress, describe

ACCOUNT = CallAccount(
    calls=50, answered=30, reused=10, failed=Counter({"no JSON": 10}), input_tokens=1_200_000, cost=1.5, seconds=60.0
)


def test_describe_tells_rate_failures_tokens_and_cost():
    assert describe(ACCOUNT, 4) == "0.5/s, 4 under way, 10 failed, 1.2M tokens, cost 1.50"


def test_a_terminal_is_shown_a_bar_with_what_is_done():
    out = io.StringIO()
    with CallProgress("judge", total=100, console=Console(file=out, force_terminal=True, width=150)) as progress:
        progress.update(ACCOUNT, 4)
    assert "50/100" in out.getvalue() and "cost 1.50" in out.getvalue()


def test_a_log_file_is_told_a_line_now_and_then(capsys):
    console = Console(file=io.StringIO())
    with CallProgress("judge", total=100, console=console, line_s=0.0) as progress:
        progress.update(ACCOUNT, 4)
    # 40 were asked in a minute, 50 are left: 75 s.
    assert "judge: 50 of 100, 1 min left, 0.5/s" in capsys.readouterr().err


def test_nothing_is_shown_when_asked(capsys):
    out = io.StringIO()
    for terminal in (True, False):
        console = Console(file=out, force_terminal=terminal)
        with CallProgress("judge", show=False, console=console, line_s=0.0) as progress:
            progress.update(ACCOUNT, 4)
    assert not out.getvalue() and not capsys.readouterr().err


def test_account_tells_itself_in_lines():
    account = CallAccount(calls=2, answered=1, seconds=3.0, stopped="budget reached")
    account.not_asked["budget"] = 1
    lines = account.lines()
    assert lines[0] == "2 calls: 1 answered, 0 reused, 0 failed, 1 not asked"
    assert lines[-2:] == ["not asked: budget 1", "stopped: budget reached"]
