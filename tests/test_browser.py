"""Pages in a real browser: nothing in the console, every picture shown in its shape, no sideways scrolling on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from callbacks.curation_report import build_report
from mrm.construction.construction_report import write_construction_report
from tests.browser import check_page
from tests.callbacks.reporting import four_rounds
from tests.callbacks.test_curation_report import read
from tests.construction.test_construction_report import summary

FAULTS = {
    "console": ("<script>console.error('lost')</script>", "lost"),
    "broken picture": ('<img alt="gone" src="data:image/png;base64,AAAA">', "not shown"),
    "too wide": ('<div style="width:700px">wide</div>', "scrolls sideways"),
    "too small": ('<p style="font-size:6px">small</p>', "text of 6 pixels"),
    "missing picture": ("", "0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_page_finds_what_is_wrong(fault: str, tmp_path: Path) -> None:
    body, told = FAULTS[fault]
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>made</title><body><p>text</p>{body}</body>")
    with pytest.raises(AssertionError, match=told):
        check_page(page, images=int(fault in ("broken picture", "missing picture")))


def test_report_of_a_run_in_a_browser(tmp_path: Path) -> None:
    ledgers = four_rounds()
    for ledger in ledgers:
        ledger.write(tmp_path / "ledger")
    page = build_report(
        tmp_path / "report.html",
        title="dt2it_full",
        facts={"experiment": "dt2it_full", "run": "a-name-without-any-place-to-break" * 3},
        tests={"style_opposed": {"accuracy": 0.9375, "n": 1600, "tie_rate": 0.0}, "t2i": 0.5},
        rounds=[
            {
                "round": 1,
                "noise_before": 0.4,
                "noise_estimate": 0.35,
                "noise_estimate_error": 0.02,
                "sources": {"b": {}},
            },
            {"round": 2, "flipped": 1, "judges": {"judge_a": {"asked": 4, "agreement": 0.75}}},
        ],
        metrics=[{"step": step, "name": "train/loss", "value": 1 / (step + 1)} for step in range(5)],
        ledgers=ledgers,
        ledger_dir=tmp_path / "ledger",
        read=read,
    )
    pictures = page.read_text(encoding="utf-8").count("<img")
    assert pictures > 1
    check_page(page, images=pictures)


def test_report_of_a_construction_in_a_browser(tmp_path: Path) -> None:
    _, page = write_construction_report(tmp_path, summary())
    check_page(page, images=page.read_text(encoding="utf-8").count("<img"))
