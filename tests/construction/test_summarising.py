"""What a construction's report tells is what its files hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrm.construct import construct
from mrm.construction.construction_report import PAGE_NAME
from tests.construction.constructing import asked, lines, own_config, own_input, small_config


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("summary")
    construct(small_config(folder, count=30))
    return folder


def report(work: Path) -> dict[str, object]:
    return json.loads((work / "report.json").read_text())


def test_report_counts_what_the_files_hold(work: Path) -> None:
    told = report(work)
    assert (work / PAGE_NAME).stat().st_size > 1000
    kept, dropped = (sum(len(line["pairs"]) for line in lines(work, "agree")), len(lines(work, "agree.skipped")))
    reasons = told["reasons"]
    assert reasons["kept"] == kept and sum(reasons.values()) == kept + dropped
    assert told["style"]["agreed"]["probe"]["pairs"] == kept
    assert told["truth"]["agreed"]["pairs"] == kept
    costs = {(row["model"], row["kind"]): row["calls"] for row in told["costs"]}
    assert costs == asked(work)


def test_report_states_say_what_agreement_is_worth(work: Path) -> None:
    truth = report(work)["truth"]
    assert truth["agreed"]["wrong_share"] < truth["one listwise call"]["wrong_share"]


def test_report_of_a_single_record_and_judge_without_truth_is_made(tmp_path: Path) -> None:
    construct(own_config(tmp_path / "work", own_input(tmp_path, ["good", "bad"])))
    told = report(tmp_path / "work")
    assert told["truth"] == {} and told["reasons"]["kept"] == 1


def test_report_of_rewriting_has_its_own_state(tmp_path: Path) -> None:
    target = "tests.construction.constructing:rewriter"
    given = own_input(tmp_path, ["fine good", "bad"], ["fine good good", "good"])
    construct(own_config(tmp_path / "work", given, rewriter={"kind": "callable", "target": target}))
    assert list(report(tmp_path / "work")["style"]) == ["one listwise call", "agreed", "rewritten", "balanced"]


def test_report_tells_the_fates_of_rewrites(tmp_path: Path) -> None:
    # Of three pairs: "fine good" is told again, "lost good" loses a point, "mute" stays, "bad" is told again as it is.
    target = "tests.construction.constructing:rewriter"
    given = own_input(tmp_path, ["fine good", "bad"], ["lost good good", "mute"])
    construct(own_config(tmp_path / "work", given, rewriter={"kind": "callable", "target": target}))
    rows = {row["fate"]: row for row in report(tmp_path / "work")["rewrites"]}
    assert {fate: row["responses"] for fate, row in rows.items()} == {
        "rewritten": 2, "score moved": 1, "no rewrite": 1, "not judged": 0,
    }  # fmt: skip
    assert (rows["score moved"]["mean_move"], rows["score moved"]["mean_size_of_move"]) == (-2, 2)
    assert rows["rewritten"]["mean_size_of_move"] == 0 and rows["no rewrite"]["mean_move"] is None
    page = (tmp_path / "work" / "report.html").read_text()
    assert "score moved" in page and "mean size of move" in page


def test_report_tells_diversity_of_meaning_where_an_embedder_is_given(tmp_path: Path) -> None:
    given = own_input(tmp_path, ["good", "bad"])
    embedder = "tests.construction.constructing:embed"
    construct(own_config(tmp_path / "work", given, embedder=embedder))
    told = report(tmp_path / "work")["diversity"]
    assert told["responses"]["semantic"] == told["of the pairs written"]["semantic"] == 1.0  # at right angles
