import re
from dataclasses import replace

from callbacks.curation_report import build_report
from callbacks.report_figures import curve_figures
from mrm.errors import ShardError
from mrm.preference import Message, Pair, PreferenceSample
from tests.callbacks.reporting import four_rounds, queueing, two_rounds
from tests.datamodules.making import make_image

EVIL = '<script>alert("x")</script>'


def read(key: str) -> PreferenceSample:
    if key == "k1":
        raise ShardError("shard-000000.tar: gone")
    images = (make_image(1, size=(900, 600)), b"no image at all")
    prompt = (Message("user", f"<image><image> What is here? {EVIL}"),)
    return PreferenceSample(
        key, "made", prompt, images, (EVIL + "a", "b" * 3000), (Pair(0, 1),), {"truth": {"flipped": [True]}}
    )


def build(tmp_path, **changes):
    arguments = dict(
        title="dt2it_full",
        facts={"experiment": "dt2it_full", "seed": 1, "commit": None, "note": EVIL},
        tests={"style_opposed": {"accuracy": 0.9375, "n": 1600, "tie_rate": 0.0}, "t2i": 0.5},
        rounds=[{"round": 1, "steps": ["score", "correct"], "flipped": 2, "noise_before": 0.4, "flip_recall": None}],
        metrics=[{"step": step, "name": "train/loss", "value": 1 / (step + 1)} for step in range(5)],
        ledgers=two_rounds(),
        ledger_dir=None,
        read=read,
    )
    return build_report(tmp_path / "out" / "report.html", **{**arguments, **changes}).read_text(encoding="utf-8")


def test_build_report_holds_facts_tables_figures_and_gallery(tmp_path):
    page = build(tmp_path)
    assert "<h1>dt2it_full</h1>" in page
    for cell in ("0.9375", "1,600", "0.5", "score, correct", "0.4", "–"):
        assert f">{cell}<" in page, cell
    assert page.count('src="data:image/png') == 1  # one panel of curves
    assert page.count('class="margins"') == page.count('class="scores"') == 2  # a histogram each a round
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
    assert "&lt;b&gt;bold" in build(
        tmp_path, ledgers=[replace(one, source=one.source + "<b>bold") for one in two_rounds()]
    )
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)>]+)', page)
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert "@import" not in page and "http" not in page


def test_build_report_every_part_of_curation_is_there_and_shown_without_scripts(tmp_path):
    ledgers = four_rounds()
    for ledger in ledgers:
        ledger.write(tmp_path / "ledger")
    records = [
        {"round": 1, "noise_before": 0.4, "noise_estimate": 0.35, "noise_estimate_error": 0.02, "sources": {"b": {}}},
        {"round": 2, "flipped": 1, "judges": {"judge_a": {"asked": 4, "agreement": 0.75}}},
    ]
    page = build(tmp_path, ledgers=ledgers, rounds=records, ledger_dir=tmp_path / "ledger")
    for heading in ("estimated from the scores", "From state to state", "Counts by source", "Scores and margins"):
        assert heading in page, heading
    for heading in ("Annotators and the model", "Each judge", "Where annotators and the model disagree most"):
        assert heading in page, heading
    assert "0.311 to 0.389" in page and "<td>0.75</td>" in page  # 0.35 -+ 1.96 * 0.02
    assert "<tr><td>flipped</td><td>–</td><td>1</td></tr>" in page  # recorded by the second round only
    assert "ledger/round_0002.parquet" in page and "{&#39;" not in page and "{'" not in page
    assert page.count("<svg") == page.count('role="img" aria-label="') + page.count('aria-hidden="true"')
    assert page.count("<img") == page.count('" alt="')
    assert "<script" not in page and "onclick" not in page
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s)>]+)', page)
    assert all(address.startswith("data:") for address in addresses) and "http" not in page


def test_build_report_without_curation_or_tests_says_so(tmp_path):
    page = build(tmp_path, rounds=[], tests={}, metrics=[], ledgers=[])
    assert "not curated in this run" in page and "No test set was run" in page
    assert "Most confidently" not in page and "Curves" not in page


def test_build_report_written_twice_is_the_same_page(tmp_path):
    assert build(tmp_path) == build(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_build_report_shows_what_was_left_out_with_its_pictures(tmp_path):
    ledgers = queueing()[:1]
    page = build(tmp_path, ledgers=ledgers, rounds=[{"round": 1, "dropped": 0, "queued": 2}])
    assert "<h2>Most confidently left out</h2>" in page and "Most confidently dropped" not in page
    assert page.count('src="data:image/jpeg') == 1  # k0; k1 cannot be read
    assert "<tr><td>queued</td><td>2</td></tr>" in page and "left out of training" in page
    assert "Most confidently left out" not in build(tmp_path)


def test_curve_figures_metrics_of_a_kind_share_a_panel():
    metrics = [
        {"step": 2, "name": "val/opposed/accuracy", "value": 0.9},
        {"step": 1, "name": "val/matched/accuracy", "value": 0.7},
        {"step": 1, "name": "val/opposed/accuracy", "value": 0.8},
        {"step": 1, "name": "train/accuracy", "value": float("nan")},
        {"step": 1, "name": "train/loss", "value": 0.7},
        {"step": 1, "name": "val/accuracy", "value": 0.75},
        {"step": 1, "name": "system/cpu_utilization_percentage", "value": 50.0},
        {"step": 1, "name": "grad_norm", "value": 2.0},
        {"step": 1, "name": "epoch", "value": 0},
        {"step": 1, "name": "curation/flipped", "value": 3},
    ]
    figures = curve_figures(metrics)
    assert [figure.title for figure in figures] == ["Loss", "Training accuracy", "Validation accuracy", "grad_norm"]
    assert figures[2].description.endswith("matched ends at 0.7, opposed ends at 0.9, mean ends at 0.75")


def test_curve_figures_accuracies_of_one_evaluation_are_bars_in_their_order():
    sets = [f"test_{number}" for number in range(9)]
    metrics = [{"step": 5, "name": f"test/{name}/accuracy", "value": i / 8} for i, name in enumerate(reversed(sets))]
    (figure,) = curve_figures(metrics)
    assert figure.description.startswith("Test accuracy: test_8 0, test_7 0.125, ")  # bars are over no step
    assert "optimizer step" not in figure.description
    (figure,) = curve_figures([*metrics, {"step": 9, "name": "test/test_0/accuracy", "value": 0.5}])
    assert "test_0 ends at 0.5" in figure.description


def test_curve_figures_pairs_and_tokens_do_not_share_an_axis():
    names = ("throughput/pairs_per_second", "throughput/tokens_per_second")
    figures = curve_figures([{"step": 1, "name": name, "value": 2.0} for name in names])
    assert [figure.title for figure in figures] == ["Pairs per second", "Tokens per second"]
