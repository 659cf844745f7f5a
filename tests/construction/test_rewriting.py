"""Rewrites: taken where the judges' scores stay, told apart from those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datamodules.index import Index
from datamodules.reading import read_sample
from mrm.construct import construct
from mrm.construct_config import ConstructConfig
from mrm.construction.agreement import Scored
from mrm.construction.records import PromptRecord, Response
from mrm.construction.rewriting import MOVED, NONE, REWRITTEN, UNJUDGED, before_and_after, settled, verdicts, with_texts
from tests.construction.constructing import lines, own_config, own_input, small_config

LINE = {"key": "k", "rewrites": [["a", "A"], ["b", None], ["c", "C"], ["d", "D"]]}


def scorings(*overalls: float | None) -> list[Scored]:
    return [Scored("judge", "pointwise", 0, overalls)]


def test_verdicts_take_what_kept_its_score_and_name_the_rest() -> None:
    told = verdicts(LINE, scorings(8.0, 8.5, 3.0, 4.0, 5.0, None), 0.5)
    assert [fate["fate"] for fate in told["fates"]] == [REWRITTEN, NONE, MOVED, UNJUDGED]
    assert told["texts"] == {"a": "A"}
    assert told["fates"][0] | {"text": ""} == {"text": "", "fate": REWRITTEN, "before": 8.0, "after": 8.5}


def test_verdicts_use_the_mean_over_judges() -> None:
    line = {"key": "k", "rewrites": [["a", "A"]]}
    both = [*scorings(8.0, 9.0), Scored("other", "pointwise", 0, (8.0, 7.0))]
    assert verdicts(line, both, 0.1)["fates"][0] | {"text": ""} == {
        "text": "",
        "fate": REWRITTEN,
        "before": 8.0,
        "after": 8.0,
    }


def test_before_and_after_shows_both_texts_of_what_was_rewritten() -> None:
    record = PromptRecord("k", "s", (), responses=tuple(Response(text, "m") for text in "abcd"))
    assert [response.text for response in before_and_after(record, LINE).responses] == ["a", "A", "c", "C", "d", "D"]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=6), st.floats(0, 10))
def test_verdicts_never_take_a_rewrite_that_moved_further_than_told(
    scores: list[tuple[float, float]], most: float
) -> None:
    line = {"key": "k", "rewrites": [[f"t{n}", f"r{n}"] for n in range(len(scores))]}
    told = verdicts(line, scorings(*(score for both in scores for score in both)), most)
    for number, (before, after) in enumerate(scores):
        assert (f"t{number}" in told["texts"]) == (abs(after - before) <= most)
    record = PromptRecord("k", "s", (), responses=tuple(Response(f"t{n}", "m") for n in range(len(scores))))
    texts = [response.text for response in with_texts(record, told).responses]
    assert texts == [told["texts"].get(f"t{n}", f"t{n}") for n in range(len(scores))]


def rewriting_config(work: Path, given: Path) -> ConstructConfig:
    target = "tests.construction.constructing:rewriter"
    return own_config(work, given, rewriter={"kind": "callable", "target": target})


def test_rewriting_in_a_construction_tells_each_responses_fate(tmp_path: Path) -> None:
    work = tmp_path / "work"
    given_file = own_input(
        tmp_path,
        ["fine good good", "lost good", "mute"],  # rewritten; its score moves; not rewritten
        ["fine good", "good", "good good good"],  # the first two are equal in the end
    )
    result = construct(rewriting_config(work, given_file))
    first, second = lines(work, "verify")
    assert {fate["text"]: fate["fate"] for fate in first["fates"]} == {
        "fine good good": REWRITTEN,
        "lost good": MOVED,
        "mute": NONE,
    }
    assert result.accounts["verify"].extra["responses"] == {REWRITTEN: 4, MOVED: 1, NONE: 1}
    samples = {sample.key: sample for sample in (read_sample(Index.load(work / "shards"), row) for row in range(2))}
    assert sorted(samples["q0"].responses) == ["good good", "lost good", "mute"]
    assert second["texts"] == {"fine good": "good", "good": "good", "good good good": "good good good"}
    assert result.accounts["rewrite"].complete is False  # "mute" is asked again by a later run
    for name in ("rewrite", "verify"):
        account = result.accounts[name]
        assert account.read == account.written + sum(account.left.values())


def test_rewriting_pair_of_equal_texts_is_left_out_by_name(tmp_path: Path) -> None:
    given_file = own_input(tmp_path, ["good", "good good", "good good good"], ["good", "bad"])
    rewriter = {"kind": "callable", "target": "tests.construction.constructing:flattening"}
    config = own_config(tmp_path / "work", given_file, rewriter=rewriter, rewrite_tolerance=1.5)
    account = construct(config).accounts["style"]
    # "good" and "bad" become "the same"; 2 and 3 times good are too far from it
    assert (account.read, account.written, account.left) == (4, 3, {"equal after rewriting": 1})
    assert [
        name in ("q1 0-1", "q1 1-0", "q1 0-2", "q1 2-0", "q1 1-2", "q1 2-1")
        for name in account.named["equal after rewriting"]
    ] == [True]


def settling(*fates: tuple[str, str, float, float]) -> dict[str, Any]:
    """A line of `verdicts`: (text, rewrite, score before, score after) each."""
    texts = {text: rewrite for text, rewrite, _, _ in fates}
    told = [{"text": t, "fate": REWRITTEN, "before": before, "after": after} for t, _, before, after in fates]
    return {"key": "k", "texts": texts, "fates": told}


RECORD = PromptRecord("k", "s", (), responses=tuple(Response(text, "m") for text in "ABC"))
PAIRS = [{"chosen": 0, "rejected": 1}, {"chosen": 1, "rejected": 2}, {"chosen": 0, "rejected": 2}]


def test_settled_rewrites_that_are_equal_leave_no_contradiction() -> None:
    line = settling(("A", "same", 6, 5.5), ("C", "same", 5, 5.5), ("B", "other", 5.5, 5.5))
    contradictory, equal = "contradictory after rewriting", "equal after rewriting"
    assert settled(RECORD, PAIRS, line) == [contradictory, contradictory, equal]


def test_settled_winner_must_still_win() -> None:
    line = settling(("A", "a", 7, 6), ("B", "b", 6, 7), ("C", "c", 1, 1))
    assert settled(RECORD, PAIRS, line) == ["winner changed by rewriting", "", ""]


def test_settled_pair_that_became_another_is_said_once() -> None:
    line = settling(("A", "same", 6, 6), ("B", "same", 6, 6), ("C", "c", 5, 5))
    assert settled(RECORD, PAIRS[1:], line) == ["", "said twice after rewriting"]


def test_rewriting_in_the_embedded_world_makes_one_style(tmp_path: Path) -> None:
    rewriter = {"kind": "shapeworld", "options": {"style": "plain", "slip": 0.3}}
    result = construct(small_config(tmp_path, changes={"rewriter": rewriter}))
    fates = result.accounts["verify"].extra["responses"]
    assert fates[REWRITTEN] > 0 and fates[MOVED] > 0
    index = Index.load(result.shards)
    styles = [style for row in range(len(index)) for style in read_sample(index, row).meta["truth"]["styles"]]
    assert styles.count("plain") > len(styles) / 2
