"""Scores of pairs in JSON Lines: read fast where all is well, and told by line where not."""

import json

import numpy as np
import pytest

from datamodules import score_files
from datamodules.score_files import read_scores, write_scores
from datamodules.texts import Texts
from mrm.errors import ConfigError

KEYS, PAIRS = Texts.of(["a", "a", "b"]), np.array([0, 1, 0], np.int16)
GOOD = [
    '{"chosen": 1, "rejected": -2.5}',
    '{"rejected": 1e-3, "chosen": 0}',
    '{"chosen": -4, "rejected": 4, "by": "me"}',
]


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_read_scores_gives_both_sides_in_order(tmp_path):
    chosen, rejected, reasons = read_scores(write(tmp_path / "s.jsonl", *GOOD), KEYS, PAIRS)
    assert chosen.tolist() == [1, 0, -4] and rejected.tolist() == [-2.5, 1e-3, 4]
    assert reasons.tolist() == ["", "", ""]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"chosen": NaN, "rejected": 1}', "chosen=nan, which is not finite"),
        ('{"chosen": 1, "rejected": Infinity}', "rejected=inf, which is not finite"),
        ('{"chosen": "1", "rejected": 1}', 'chosen="1", which is no number'),
        ('{"chosen": true, "rejected": 1}', "chosen=true, which is no number"),
        ('{"chosen": null, "rejected": 1}', "chosen=null, which is no number"),
        ('{"chosen": [1], "rejected": 1}', "chosen=.1., which is no number"),
        ('{"chosen": 1}', "has no `rejected`, only chosen"),
        ("{}", "has no `chosen`, only nothing"),
        ('{"chosen": 1e39, "rejected": 1}', "chosen=1e.39, which is beyond"),
        ('{"chosen": 1' + "0" * 400 + ', "rejected": 1}', "which is beyond"),
        ("[1, 2]", "is no JSON object"),
        ("", "is empty"),
        ("1.5 2.5", "is not JSON"),
        ('{"unreadable": ""}', "must be a text"),
        ('{"unreadable": "x", "chosen": 1}', "stand without scores"),
        ('{"unreadable": 5}', "must be a text"),
        ('{"chosen": 1, "rejected": 0, "key": 5}', "key=5, which names no pair"),
        ('{"chosen": 1, "rejected": 0, "pair": "1"}', 'pair="1", which names no pair'),
        ('{"chosen": 1, "rejected": 0, "pair": true}', "pair=true, which names no pair"),
    ],
)
def test_read_scores_of_a_wrong_line_names_file_and_line(tmp_path, line, told):
    path = write(tmp_path / "s.jsonl", GOOD[0], line, GOOD[2])
    with pytest.raises(ConfigError, match=rf"s\.jsonl, line 2: .*{told}"):
        read_scores(path, KEYS, PAIRS)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (GOOD[:2], "has 2 lines, but the input has 3 pairs; .*: the first without a line is pair 3"),
        ((*GOOD, GOOD[0]), "has 4 lines, but the input has 3 pairs"),
        ((*GOOD, "", " "), r"has 5 lines \(2 of them blank, at the end\)"),
        (GOOD * 2, "has 6 lines, .*it must have one line a pair, in the input's order"),
    ],
)
def test_read_scores_of_another_number_of_lines_is_refused(tmp_path, lines, told):
    with pytest.raises(ConfigError, match=rf"s\.jsonl {told}"):
        read_scores(write(tmp_path / "s.jsonl", *lines), KEYS, PAIRS)


def test_read_scores_of_another_number_of_lines_says_what_may_be(tmp_path):
    with pytest.raises(ConfigError, match=r"it must have 3 \(a line a pair\) or 6 \(two\), in the input's order"):
        read_scores(write(tmp_path / "s.jsonl", *GOOD[:2]), KEYS, PAIRS, form="3 (a line a pair) or 6 (two)")


def test_read_scores_two_objects_in_a_line_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has 2 lines|line 1"):
        read_scores(write(tmp_path / "s.jsonl", GOOD[0] + GOOD[1], GOOD[2]), KEYS, PAIRS)


@pytest.mark.parametrize(
    "line",
    [
        '{"unreadable": "no image"}',
        '{"unreadable": "no image", "chosen": null, "rejected": null}',
        '{"unreadable": null, "chosen": 1, "rejected": 0, "key": null, "pair": null}',
    ],
)
def test_read_scores_line_by_line_gives_what_the_fast_way_gives(tmp_path, monkeypatch, line):
    path = write(tmp_path / "s.jsonl", *GOOD[:2], line)
    assert score_files._quickly(path, 3) is not None
    fast = read_scores(path, KEYS, PAIRS)
    monkeypatch.setattr(score_files, "_quickly", lambda path, pairs: None)
    for one, other in zip(fast, read_scores(path, KEYS, PAIRS), strict=True):
        np.testing.assert_array_equal(one, other)
    if "no image" in line:
        assert fast[2].tolist() == ["", "", "no image"] and np.isnan(fast[0][2])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ('"key": "b"', "sample 'b', but there the input has 'a', pair 1"),
        ('"pair": 0', "pair 0, but there the input has 'a', pair 1"),
        ('"key": "b", "pair": 1', "sample 'b', pair 1, but"),
        ('"key": "a", "pair": 0', "sample 'a', pair 0, but"),
    ],
)
def test_read_scores_that_name_a_part_of_another_pair_are_refused(tmp_path, names, told):
    lines = (GOOD[0], f'{{"chosen": 1, "rejected": 0, {names}}}', GOOD[2])
    with pytest.raises(ConfigError, match=f"line 2: is of {told}"):
        read_scores(write(tmp_path / "s.jsonl", *lines), KEYS, PAIRS)


@pytest.mark.parametrize("names", ['"key": "a"', '"pair": 1', '"key": "a", "pair": 1'])
def test_read_scores_that_name_a_part_of_their_pair_are_taken(tmp_path, names):
    path = write(tmp_path / "s.jsonl", GOOD[0], f'{{"chosen": 1, "rejected": 0, {names}}}', GOOD[2])
    assert read_scores(path, KEYS, PAIRS)[0].tolist() == [1, 1, -4]


def test_read_scores_that_name_another_pair_are_refused(tmp_path):
    lines = [json.dumps({"chosen": 1, "rejected": 0, "key": k, "pair": n}) for k, n in (("a", 0), ("b", 0), ("a", 1))]
    with pytest.raises(ConfigError, match="line 2: is of sample 'b', pair 0, but there the input has 'a', pair 1"):
        read_scores(write(tmp_path / "s.jsonl", *lines), KEYS, PAIRS)


def test_read_scores_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no file .*none.jsonl"):
        read_scores(tmp_path / "none.jsonl", KEYS, PAIRS)


def test_write_scores_reads_back_exactly(tmp_path):
    chosen = np.array([0.1, np.nan, -1e-30], np.float32)
    rejected = np.array([3e38, np.nan, 1 / 3], np.float32)
    reasons = np.array(["", 'no "image"', ""], object)
    write_scores(tmp_path / "s.jsonl", KEYS, PAIRS, chosen, rejected, reasons)
    read = read_scores(tmp_path / "s.jsonl", KEYS, PAIRS)
    np.testing.assert_array_equal(read[0], chosen.astype(np.float64))
    np.testing.assert_array_equal(read[1], rejected.astype(np.float64))
    assert read[2].tolist() == reasons.tolist()
    assert json.loads((tmp_path / "s.jsonl").read_text().splitlines()[1]) == {
        "unreadable": 'no "image"',
        "key": "a",
        "pair": 1,
    }
