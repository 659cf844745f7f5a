"""The report: its JSON is complete, its page needs nothing else and shows what it was given."""

import json
import math
import re

import numpy as np
import pytest

from mrm.construction.agreement_report import AgreementMatrix, TruthCheck, strength_histogram
from mrm.construction.construction_report import (
    ConstructionSummary,
    StageRow,
    style_rows,
    write_construction_report,
)
from mrm.construction.diversity import Diversity
from mrm.construction.style import FEATURES
from mrm.construction.style_figures import measure_style


def style_figures(rate: float):
    """Winners that have more words at a rate, by their number; nothing else differs."""
    counts = np.zeros((2, 100, len(FEATURES)))
    longer = np.arange(100) * 37 % 100 < 100 * rate
    counts[0, :, 1], counts[1, :, 1] = longer, ~longer
    return measure_style(*counts, np.arange(100))


def summary(**changes) -> ConstructionSummary:
    fields = {
        "title": "run <7>",
        "facts": {"seed": 0, "judges": ["a", "b"]},
        "accounts": [
            StageRow("judge listwise", "calls", 1200, 1190, {"time-out": 7, "no JSON": 3}),
            StageRow("agree", "pairs", 100, 40, {"tie": 50}),
        ],
        "agreement": AgreementMatrix(
            ("a listwise", "b listwise"), ((1.0, 0.75), (0.75, 1.0)), ((8, 4), (4, 6)), (1, 0)
        ),
        "judges": [{"judge": "a", "mean": 6.5}, {"judge": "b", "mean": math.nan, "first_place_wins": 0.61}],
        "reasons": {"kept": 40, "tie": 50},
        "strengths": strength_histogram([0.1, 0.2, 0.2]),
        "style": {"as judged": style_figures(0.9), "balanced": style_figures(0.5)},
        "style_target": 0.55,
        "diversity": {"responses": Diversity(0.5, 0.75, 0.625, math.nan, 12)},
        "truth": {"listwise alone": TruthCheck(200, 25, 0.125, 3, 0.7)},
        "costs": [{"model": "a", "calls": 1190, "cost": 1.25}],
    }
    return ConstructionSummary(**{**fields, **changes})


def page_of(tmp_path, made: ConstructionSummary) -> str:
    return write_construction_report(tmp_path, made)[1].read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S))


def test_write_report_json_holds_every_number(tmp_path):
    path, _ = write_construction_report(tmp_path / "new", summary())
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["accounts"][0]["lost"] == {"time-out": 7, "no JSON": 3}
    assert [account["unaccounted"] for account in told["accounts"]] == [0, 10]
    assert told["agreement"]["share"] == [[1.0, 0.75], [0.75, 1.0]]
    assert told["judges"][1] == {"judge": "b", "mean": None, "first_place_wins": 0.61}
    assert told["style"]["as judged"]["probe"]["accuracy"] == pytest.approx(0.9)
    assert told["truth"]["listwise alone"]["wrong"] == 25
    assert sum(told["strengths"]["counts"]) == 3 and told["diversity"]["responses"]["semantic"] is None


def test_write_report_page_shows_every_part(tmp_path):
    text = text_of(page_of(tmp_path, summary()))
    for shown in (
        "time-out 7, no JSON 3",
        "balances",
        "10 unaccounted for",
        "0.750 of 4",
        "a 6.5 – b – 0.61",
        "as judged balanced",
        "more words wins 0.900 of 100 0.500 of 100",
        "listwise alone 200 25 0.1250 3 0.700",
        "responses 12 0.500 0.750 0.625 –",
        "a 1,190 1.25",
    ):
        assert shown in text, shown


def test_write_report_page_needs_nothing_else_and_escapes(tmp_path):
    page = page_of(tmp_path, summary())
    assert "run &lt;7&gt;" in page and "<7>" not in page
    assert page.count('<img src="data:image/png;base64,') == 3
    assert not re.search(r'(?:src|href)="(?!data:)|https?://|<script', page)


def test_write_report_figures_are_told_in_words(tmp_path):
    page = page_of(tmp_path, summary())
    assert "Pairs by strength: 0.10 to 0.15: 1, 0.20 to 0.25: 2" in page
    assert "kept 40 (44.4 %), tie 50 (55.6 %)" in page
    assert "as judged: words 0.90; balanced: words 0.50" in page


def test_write_report_of_nothing_says_so(tmp_path):
    text = text_of(page_of(tmp_path, ConstructionSummary("empty")))
    for shown in ("No stage was run", "Nothing was scored", "Style was not measured", "No model was asked"):
        assert shown in text


def test_write_report_of_no_pairs_is_written(tmp_path):
    nothing = measure_style(np.zeros((0, len(FEATURES))), np.zeros((0, len(FEATURES))), np.zeros(0))
    made = summary(reasons={"kept": 0}, strengths=strength_histogram([]), style={"as judged": nothing})
    assert "probe accuracy – " in text_of(page_of(tmp_path, made))


def test_write_report_again_replaces_it(tmp_path):
    write_construction_report(tmp_path, summary())
    write_construction_report(tmp_path, summary(title="second"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert "second" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_style_rows_have_a_cell_for_each_state():
    rows = dict(style_rows(summary().style))
    assert rows["pairs"] == ["100", "100"]
    assert rows["more headers wins"] == ["–", "–"]
    assert all(len(cells) == 2 for cells in rows.values())
