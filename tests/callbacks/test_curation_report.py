import base64
import io
import re

import numpy as np
from PIL import Image

from callbacks.curation_report import build_report, format_number, gallery, image_uri
from callbacks.report_figures import curve_figures, histogram_figures
from datamodules.ledger import Decision
from mrm.errors import ShardError
from mrm.preference import Message, Pair, PreferenceSample
from tests.callbacks.fakes import make_ledger
from tests.datamodules.making import make_image

KEEP, FLIP, DROP = Decision.KEEP, Decision.FLIP, Decision.DROP
EVIL = '<script>alert("x")</script>'


def read(key: str) -> PreferenceSample:
    if key == "k1":
        raise ShardError("shard-000000.tar: gone")
    images = (make_image(1, size=(900, 600)), b"no image at all")
    prompt = (Message("user", f"<image><image> What is here? {EVIL}"),)
    return PreferenceSample(
        key, "made", prompt, images, (EVIL + "a", "b" * 3000), (Pair(0, 1),), {"truth": {"flipped": [True]}}
    )


def two_rounds():
    one = make_ledger(
        chosen_score=[-3.0, -5.0, 1.0, -0.5], rejected_score=[0.0] * 4, decision=[FLIP, FLIP, KEEP, KEEP],
        flipped=[True, True, False, False], decided=[1] * 4, active=[True] * 4, reason=["why"] * 4,
    )  # fmt: skip
    two = make_ledger(
        chosen_score=[-2.0, 4.0, 1.0, -0.5], rejected_score=[0.0] * 4, decision=[KEEP, DROP, KEEP, DROP],
        flipped=[True, True, False, False], decided=[2] * 4, active=[True, False, True, False], round=2,
    )  # fmt: skip
    return [one, two]


def build(tmp_path, **changes):
    arguments = dict(
        title="dt2it_full",
        facts={"experiment": "dt2it_full", "seed": 1, "commit": None, "note": EVIL},
        tests={"style_opposed": {"accuracy": 0.9375, "n": 1600, "tie_rate": 0.0}, "t2i": 0.5},
        rounds=[{"round": 1, "steps": ["score", "correct"], "flipped": 2, "noise_before": 0.4, "flip_recall": None}],
        metrics=[{"step": step, "name": "train/loss", "value": 1 / (step + 1)} for step in range(5)],
        ledgers=two_rounds(),
        read=read,
    )
    return build_report(tmp_path / "out" / "report.html", **{**arguments, **changes}).read_text(encoding="utf-8")


def test_build_report_holds_facts_tables_figures_and_gallery(tmp_path):
    page = build(tmp_path)
    assert "<h1>dt2it_full</h1>" in page
    for cell in ("0.9375", "1,600", "0.5", "score, correct", "0.4", "–"):
        assert f">{cell}<" in page, cell
    assert page.count('src="data:image/png') == 3  # one panel of curves, two histograms
    assert page.count('src="data:image/jpeg') == 2  # k0 flipped, k3 dropped; k1 cannot be read
    assert page.count("image 2 does not decode") == 2
    assert page.count("shard-000000.tar: gone") == 2
    assert "(1,000 more characters)" in page
    assert "published as chosen, now rejected: scored -3.000" in page
    assert 'truly <span class="bad">wrong</span>' in page
    assert 'name="viewport"' in page


def test_build_report_text_of_the_data_is_escaped_and_nothing_is_fetched(tmp_path):
    page = build(tmp_path)
    assert "<script" not in page and "&lt;script&gt;" in page
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)>]+)', page)
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert "@import" not in page and "http" not in page


def test_build_report_without_curation_or_tests_says_so(tmp_path):
    page = build(tmp_path, rounds=[], tests={}, metrics=[], ledgers=[])
    assert "not curated in this run" in page and "No test set was run" in page
    assert "Most confidently" not in page and "Curves" not in page


def test_build_report_written_twice_is_the_same_page(tmp_path):
    assert build(tmp_path) == build(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_gallery_takes_the_surest_decisions_of_their_own_round():
    ledgers = two_rounds()
    assert [(item.key, item.round, item.margin) for item in gallery(ledgers, FLIP, 8)] == [
        ("k1", 1, -5.0),
        ("k0", 1, -3.0),
    ]
    assert [item.key for item in gallery(ledgers, FLIP, 1)] == ["k1"]
    assert [(item.key, item.margin) for item in gallery(ledgers, DROP, 8)] == [("k1", 4.0), ("k3", -0.5)]
    assert gallery([], DROP, 8) == []


def test_histogram_figures_split_by_decision_in_the_orientation_in_use():
    first, second = histogram_figures(two_rounds())
    assert first.description.endswith("keep (2), flip (2)")
    assert second.description.endswith("keep (2), drop (2)")
    assert histogram_figures([make_ledger(3)]) == []  # nothing decided


def test_curve_figures_metrics_of_a_kind_share_a_panel():
    metrics = [
        {"step": 2, "name": "val/opposed/accuracy", "value": 0.9},
        {"step": 1, "name": "val/opposed/accuracy", "value": 0.8},
        {"step": 1, "name": "train/accuracy", "value": float("nan")},
        {"step": 1, "name": "train/loss", "value": 0.7},
        {"step": 1, "name": "grad_norm", "value": 2.0},
        {"step": 1, "name": "epoch", "value": 0},
        {"step": 1, "name": "curation/flipped", "value": 3},
    ]
    figures = curve_figures(metrics)
    assert [figure.title for figure in figures] == ["Loss", "Accuracy", "grad_norm"]
    assert "val/opposed/accuracy ends at 0.9" in figures[1].description


def test_image_uri_is_a_small_jpeg_and_none_where_nothing_decodes():
    uri = image_uri(make_image(0, size=(1000, 500)))
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert image.size == (320, 160)
    assert image_uri(make_image(0, size=(1000, 500))[:200]) is None
    assert image_uri(b"") is None


def test_image_uri_shows_what_the_model_sees():
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    image = Image.open(io.BytesIO(base64.b64decode(image_uri(buffer.getvalue()).split(",")[1])))
    assert image.size == (20, 40)
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "ICO")  # a format that shards do not hold
    assert image_uri(buffer.getvalue()) is None


def test_format_number_cells():
    cells = [None, np.nan, 12345, 0.123456, "text", ["a", "b"], True]
    assert [format_number(cell) for cell in cells] == ["–", "–", "12,345", "0.1235", "text", "a, b", "True"]
