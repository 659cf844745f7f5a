"""Pages in a real browser: nothing in the console, every picture shown in its shape, no sideways scrolling on a phone."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callbacks.curation_report import build_report
from mrm.compare import tables_of
from mrm.comparing.archive import Archive, write_archive
from mrm.comparing.axis import lines_over
from mrm.comparing.comparison import compare_runs
from mrm.comparing.page import write_comparison
from mrm.comparing.selecting import choose
from mrm.construction.construction_report import write_construction_report
from mrm.diagnose_page import write_diagnostics
from mrm.evaluation.diagnostics import diagnose
from tests.browser import PHONE, check_page
from tests.callbacks.reporting import four_rounds
from tests.callbacks.test_curation_report import read
from tests.comparing.making import FLIP, made_run
from tests.comparing.test_archive import Source
from tests.construction.test_construction_report import summary
from tests.evaluation.test_diagnostics import table


def picture(width: int) -> str:
    """An empty picture as a data URI."""
    buffer = io.BytesIO()
    Image.new("L", (width, 30)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


FAULTS = {
    "console": ("<script>console.error('lost')</script>", "lost"),
    "broken picture": ('<img alt="gone" src="data:image/png;base64,AAAA">', "not shown"),
    "too wide": ('<div style="width:700px">wide</div>', "scrolls sideways"),
    "too small": ('<p style="font-size:6px">small</p>', "text of 6 pixels"),
    "missing picture": ("", "0"),
    "small letters": (
        f'<img alt="wide" style="width:100%" data-letters="14" src="{picture(900)}">',
        "letters of a picture too small",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_page_finds_what_is_wrong(fault: str, tmp_path: Path) -> None:
    body, told = FAULTS[fault]
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>made</title><body><p>text</p>{body}</body>")
    with pytest.raises(AssertionError, match=told):
        check_page(page, images=int(fault in ("broken picture", "missing picture", "small letters")))


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


def test_page_of_a_comparison_in_a_browser(tmp_path: Path) -> None:
    runs = [
        made_run(
            name,
            seed,
            {f"test_{one}": 0.9 - fall * rate + seed / 100 for one in ("style_opposed", "style_agreeing", "t2i")},
            config={FLIP: rate},
        )
        for name, fall in (("dt2it_full", 0.1), ("an_experiment_with_quite_a_long_name", 0.8))
        for rate in (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
        for seed in (1, 2, 3)
    ]
    store = Archive(write_archive(tmp_path / "runs.jsonl.gz", Source(), runs))
    comparison = compare_runs(store, choose(store.runs()[0]), reference="dt2it_full")
    page = write_comparison(
        tmp_path / "compare.html",
        comparison,
        store=store,
        tables=tables_of(comparison),
        axis=(lines_over(comparison.alignment, FLIP), comparison.measures[:1]),
        remarks=["A remark."],
    )
    look = check_page(page, images=4)  # 32 differences in two pictures, the lines, and the noise
    assert all(image.letters for image in look.at[PHONE].images)


def test_page_of_diagnostics_in_a_browser(tmp_path: Path) -> None:
    length = np.random.default_rng(0).integers(5, 90, (60, 2))
    found = diagnose(table(np.random.default_rng(1).normal(1, 1, 60).tolist(), length=length))
    facts = {"pairs of": ["/a/long/path/to/shards"] * 3, "samples": 60, "scored by": "/another/long/path/to/a/model"}
    page = write_diagnostics(tmp_path / "page.html", "What the reward model goes by", facts, found)
    pictures = page.read_text(encoding="utf-8").count("<img")
    assert pictures == 2  # reliability, and accuracy by style
    check_page(page, images=pictures)
