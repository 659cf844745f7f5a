"""Looking into ledgers of a run and of a curation: three rounds over two data sets, decided by hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from datamodules.index import Index
from datamodules.ledger import Decision, Ledger
from datamodules.reading import read_sample
from mrm.audit import diff, export, main, show, undo
from mrm.audit_config import DiffConfig, ExportConfig, ShowConfig, UndoConfig
from mrm.curate import CurateConfig, curate
from mrm.errors import ConfigError, LedgerError, UnreadableSamplesError
from mrm.preference import Pair
from mrm.run_dirs import write_state
from tests.datamodules.making import make_dataset, make_sample
from tests.datamodules.sources.helpers import write_json, write_jsonl

KEEP, FLIP, DROP, QUEUE = Decision.KEEP, Decision.FLIP, Decision.DROP, Decision.QUEUE


def decided(ledger: Ledger, rows: dict[int, str], **columns: object) -> Ledger:
    """The next round, which decides so about some rows."""
    columns_of = {name: getattr(ledger, name).copy() for name in ("decision", "decided", "active", "flipped", "reason")}
    for row, decision in rows.items():
        columns_of["decision"][row], columns_of["decided"][row] = decision, ledger.round + 1
        columns_of["active"][row] = decision in (KEEP, FLIP)
        columns_of["flipped"][row] |= decision == FLIP
        columns_of["reason"][row] = f"round {ledger.round + 1} said {decision}"
    return replace(ledger, round=ledger.round + 1, **columns_of, **columns)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder. Pairs: trusted t0, t1; open m (two pairs), o, p. Round 1: flip, keep, drop, keep; round 2: m/0 keep, m/1 queue."""
    make_dataset(tmp_path / "trusted", [make_sample(f"t{n}", source="t") for n in range(2)])
    pool = [make_sample("m", responses=3, pairs=(Pair(0, 1), Pair(1, 2))), make_sample("o"), make_sample("p")]
    make_dataset(tmp_path / "open", pool)
    places = {"trusted": tmp_path / "trusted", "open": tmp_path / "open"}
    index = Index.concat({name: Index.load(place) for name, place in places.items()})
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    specs = [[name, str(place), name] for name, place in places.items()]
    write_state(folder, datasets=[*specs, ["test", str(tmp_path / "gone"), "test"]])
    zero = Ledger.initial(index, np.array([True, True, False, False, False]), admit_open=False)
    scores = np.array([np.nan, np.nan, -2, 1, -1, 0.5], np.float32)
    first = decided(zero, {2: FLIP, 3: KEEP, 4: DROP, 5: KEEP}, chosen_score=scores, rejected_score=0 * scores)
    second = decided(first, {2: KEEP, 3: QUEUE})
    for ledger in (zero, first, second):
        ledger.write(folder / "ledger")
    return folder


# -- show


def test_show_accounts_are_by_round_and_source(run: Path) -> None:
    told = {(one.round, one.source): one for one in show(ShowConfig(str(run))).accounts}
    assert set(told) == {(n, source) for n in range(3) for source in ("t", "made")}
    assert told[0, "made"].decisions == {"held": 4} and told[2, "t"].decisions == {"trusted": 2}
    assert told[1, "made"].decisions == {"keep": 2, "flip": 1, "drop": 1}
    assert (told[2, "made"].active, told[2, "made"].flipped, told[2, "made"].decided) == (2, 1, 2)
    some = show(ShowConfig(str(run / "ledger"), source="made", round=1)).accounts
    assert [(one.round, one.source) for one in some] == [(1, "made")]


def test_show_key_tells_every_round_and_the_texts(run: Path) -> None:
    shown = show(ShowConfig(str(run), key="m"))
    first, second = shown.pairs
    assert (first.pair, second.pair, shown.found, shown.problem) == (0, 1, 2, "")
    assert [(step.decision, step.flipped, step.decided) for step in first.steps] == [
        ("held", False, True),
        ("flip", True, True),
        ("keep", True, True),
    ]
    assert first.steps[1].chosen_score == -2 and first.steps[1].reason == "round 1 said flip"
    assert (second.prompt, second.chosen) == ("<image>What is in m?", "answer 1 to m")  # as published
    assert [one.pair for one in show(ShowConfig(str(run), key="m", pair=1)).pairs] == [1]


def test_show_decision_is_the_standing_one_or_that_of_a_round(run: Path) -> None:
    assert [(p.key, p.pair) for p in show(ShowConfig(str(run), decision="keep")).pairs] == [("m", 0), ("p", 0)]
    assert [p.key for p in show(ShowConfig(str(run), decision="keep", round=2)).pairs] == ["m"]
    limited = show(ShowConfig(str(run), decision="keep", limit=1, texts=False))
    assert (len(limited.pairs), limited.found) == (1, 2)


def test_show_without_the_data_says_why_there_are_no_texts(run: Path, tmp_path: Path) -> None:
    (tmp_path / "open").rename(tmp_path / "moved")
    shown = show(ShowConfig(str(run), key="o"))
    assert shown.pairs[0].prompt is None and "data=DIR" in shown.problem
    data = {"trusted": str(tmp_path / "trusted"), "open": str(tmp_path / "moved")}
    assert show(ShowConfig(str(run), key="o", data=json.dumps(data))).pairs[0].chosen == "answer 0 to o"
    with pytest.raises(ConfigError, match="are not those of the ledger"):
        show(ShowConfig(str(run), key="o", data=str(tmp_path / "moved")))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"key": "oo"}, "key='oo': the ledger has no such key. Did you mean 'o'"),
        ({"key": "m", "pair": 5}, "key='m': has the pairs 0, 1, but none with pair=5"),
        ({"pair": 1}, "pair=1: is a number within a sample"),
        ({"decision": "flipp"}, "there is no such decision; .* Did you mean 'flip'"),
        ({"source": "mad"}, "no such source; it has made, t. Did you mean 'made'"),
        ({"round": 7}, "round=7: .* has the rounds 0, 1, 2"),
    ],
)
def test_show_what_is_not_there_is_told(run: Path, settings: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        show(ShowConfig(str(run), **settings))


# -- diff


def test_diff_of_two_rounds_counts_and_names(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Ledger.latest(run / "ledger", at_most=1).write(other)  # type: ignore[union-attr]
    result = diff(DiffConfig(str(run), str(other)))
    assert result.diff.decisions == {
        ("drop", "drop"): 1,
        ("keep", "flip"): 1,
        ("keep", "keep"): 1,
        ("queue", "keep"): 1,
        ("trusted", "trusted"): 2,
    }
    assert result.diff.changed.tolist() == [[2, 2], [3, 3]] and result.diff.labels == 0
    assert not len(diff(DiffConfig(str(run), str(other), round=1)).diff.changed)


def test_diff_main_prints_and_ends_well(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["diff", f"run={run}", f"other={run}"])
    assert "0 pairs differ" in capsys.readouterr().out


# -- undo


def test_undo_takes_back_what_stands_or_was_confirmed_and_names_what_was_decided_again(
    run: Path, tmp_path: Path
) -> None:
    result = undo(UndoConfig(str(run), 1, str(tmp_path / "undone.parquet")))
    ledger = Ledger.read(result.path)
    assert ledger.decision.tolist() == ["trusted", "trusted", "held", "queue", "held", "held"]
    assert np.flatnonzero(result.undone.taken_back).tolist() == [2, 4, 5] and not ledger.flipped.any()
    assert np.flatnonzero(result.undone.confirmed).tolist() == [2]  # flipped by round 1, kept by round 2
    assert np.flatnonzero(result.undone.decided_again).tolist() == [3]
    assert ledger.accounts() == {"pairs": 6, "trained": 2, "dropped": 0, "queued": 1, "held": 3, "unreadable": 0}
    assert "round_0002.parquet" in {path.name for path in (run / "ledger").iterdir()}


def test_undo_changes_nothing_in_the_run(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    undo(UndoConfig(str(run), 2, str(tmp_path / "folder")))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    found = show(ShowConfig(str(tmp_path / "folder"), key="m", texts=False)).pairs[0]
    assert [(step.round, step.decision, step.flipped) for step in found.steps] == [(2, "flip", True)]


def test_undo_what_cannot_be_is_refused(run: Path, tmp_path: Path) -> None:
    for settings, told in (
        ({"round": 0}, "rounds of curation begin with 1"),
        ({"round": 3}, "has the rounds 0, 1, 2"),
        ({"output": str(run / "ledger" / "x.parquet")}, "stays as it is"),
        ({"output": str(tmp_path)}, None),
    ):
        config = replace(UndoConfig(str(run), 2, str(tmp_path / "new.parquet")), **settings)
        if told is None:
            (tmp_path / "round_0002.parquet").write_text("")
            told = "exists"
        with pytest.raises(ConfigError, match=told):
            undo(config)
    (run / "ledger" / "round_0001.parquet").unlink()
    with pytest.raises(LedgerError, match="no ledger of round 1"):
        undo(UndoConfig(str(run), 2, str(tmp_path / "new.parquet")))


def test_undo_main_names_the_pairs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["undo", f"run={run}", "round=1", f"output={tmp_path / 'u.parquet'}"])
    shown = capsys.readouterr().out
    assert "3 pairs are as round 1 found them: m/0, o/0, p/0." in shown
    assert "1 of them had been confirmed by a later round: m/0." in shown
    assert "1 keep all of what a later round decided: m/1." in shown
    assert "3 are held again, so not in use; admit=true takes them in as published: m/0, o/0, p/0." in shown
    main(["undo", f"run={run}", "round=1", f"output={tmp_path / 'admitted.parquet'}", "admit=true"])
    assert "held again" not in capsys.readouterr().out
    assert Ledger.read(tmp_path / "admitted.parquet").decision.tolist()[2:] == ["raw", "queue", "raw", "raw"]


# -- export


def test_export_tables_hold_a_row_a_pair(run: Path, tmp_path: Path) -> None:
    for name in ("t.jsonl", "t.csv", "t.parquet"):
        assert export(ExportConfig(str(run), str(tmp_path / name))).pairs == 6
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert rows[2]["key"] == "m" and rows[2]["chosen_score"] == -2 and rows[2]["vote_share"] is None
    assert rows[0]["strength"] == 0.5 and rows[0]["decision"] == "trusted"
    table = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["decision"] for row in table] == [row["decision"] for row in rows] and table[0]["chosen_score"] == ""
    assert Ledger.read(tmp_path / "t.parquet").round == 2
    picked = export(ExportConfig(str(run), str(tmp_path / "q.parquet"), decision="queue"))
    assert picked.pairs == 1 and pq.read_table(picked.path)["key"].to_pylist() == ["m"]
    assert export(ExportConfig(str(run), str(tmp_path / "r1.csv"), round=1, source="made")).pairs == 4


def test_export_shards_hold_what_is_in_use(run: Path, tmp_path: Path) -> None:
    result = export(ExportConfig(str(run), str(tmp_path / "curated")))
    index = Index.load(tmp_path / "curated")
    assert index.keys.tolist() == ["t0", "t1", "m", "p"] and result.pairs == 4
    sample = read_sample(index, 2)
    assert sample.pairs == (Pair(1, 0),) and sample.meta["curation"][0]["decision"] == "keep"
    assert sample.meta["curation"][0]["vote_share"] is None


def test_export_undone_ledger_as_pairs(run: Path, tmp_path: Path) -> None:
    undone = undo(UndoConfig(str(run), 2, str(tmp_path / "undone.parquet"))).path
    result = export(ExportConfig(str(run), str(tmp_path / "p.json"), ledger=str(undone), source="made"))
    records = json.loads((tmp_path / "p.json").read_text())
    assert [one["chosen"]["value"] for one in records] == ["answer 1 to m", "answer 1 to m", "answer 0 to p"]
    assert records[0]["images"] == ["p_images/m.0.png"] and (tmp_path / "p_images" / "m.0.png").is_file()
    assert result.written is not None and result.written.flipped == 1


def test_export_images_in_the_way_are_told_before_anything_is_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p_images").mkdir()
    (tmp_path / "p_images" / "own.png").write_bytes(b"")
    with monkeypatch.context() as patched:
        patched.setattr("mrm.audit_export.write_pool", lambda *_, **__: pytest.fail("nothing is written"))
        with pytest.raises(ConfigError, match="p_images': exists; choose another name"):
            export(ExportConfig(str(run), str(tmp_path / "p.json")))
    assert not list(tmp_path.glob(".p.json*")) and not (tmp_path / "p.json").exists()
    assert export(ExportConfig(str(run), str(tmp_path / "p"))).pairs == 4  # shards have their images in them
    (tmp_path / "p_images" / "own.png").unlink()
    assert export(ExportConfig(str(run), str(tmp_path / "p.json"))).pairs == 4  # an empty folder is in nobody's way


def test_export_without_images_minds_no_folder_of_images(tmp_path: Path) -> None:
    make_dataset(tmp_path / "plain", [make_sample("a", images=())])
    index = Index.load(tmp_path / "plain")
    Ledger.initial(index, np.array([True]), admit_open=False).write(tmp_path / "ledgers")
    (tmp_path / "p_images").mkdir()
    (tmp_path / "p_images" / "own.png").write_bytes(b"")
    config = ExportConfig(str(tmp_path / "ledgers"), str(tmp_path / "p.json"), data=str(tmp_path / "plain"))
    assert export(config).pairs == 1 and (tmp_path / "p_images" / "own.png").is_file()


def test_export_unreadable_samples_past_max_bad_write_nothing(run: Path, tmp_path: Path) -> None:
    tar = next((tmp_path / "open").glob("*.tar"))
    tar.write_bytes(bytes(len(tar.read_bytes())))
    with pytest.raises(UnreadableSamplesError, match="2 of 5 samples cannot be written, more than max_bad=0.01: m: "):
        export(ExportConfig(str(run), str(tmp_path / "curated")))
    assert not (tmp_path / "curated").exists() and not list(tmp_path.glob(".curated*"))
    result = export(ExportConfig(str(run), str(tmp_path / "curated"), max_bad=1))
    assert result.written is not None and set(result.written.unreadable) == {"m", "p"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"form": "xml"}, "form='xml': must be one of jsonl, csv, parquet, llama_factory, shards"),
        ({"output": "a.txt"}, "its ending '.txt' tells no form"),
        ({"ledger": "l.parquet", "round": 1}, "ledger, round: give one of both"),
        ({"ledger": "nope.parquet"}, "ledger='nope.parquet': there is no such file"),
        ({"output": "pool", "decision": "drop"}, "of the 1 pairs asked for, none is in use"),
    ],
)
def test_export_what_cannot_be_is_told(run: Path, tmp_path: Path, settings: dict, told: str) -> None:
    given = {"output": "t.csv", **settings}
    with pytest.raises(ConfigError, match=told):
        export(ExportConfig(str(run), **{**given, "output": str(tmp_path / given["output"])}))


def test_audit_of_a_curation_reaches_its_input(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "which?"}]
    records = [{"conversations": turns, "chosen": f"c{n}", "rejected": f"r{n}", "more": n} for n in range(4)]
    scores = [{"chosen": score, "rejected": 0} for score in (-2, -1, 1, 2)]
    output = str(tmp_path / "out")
    curate(
        CurateConfig(
            output,
            input=str(write_json(tmp_path / "open.json", records)),
            scores=str(write_jsonl(tmp_path / "s.jsonl", scores)),
        )
    )
    (story,) = show(ShowConfig(output, decision="flip")).pairs
    assert (story.prompt, story.chosen, [step.decision for step in story.steps]) == ("which?", "c0", ["held", "flip"])
    export(ExportConfig(output, str(tmp_path / "again.json")))
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(
        (tmp_path / "out" / "pairs.json").read_text()
    )
    write_json(tmp_path / "open.json", records[:3])
    with pytest.raises(ConfigError, match="are not those of the ledger"):
        export(ExportConfig(output, str(tmp_path / "third.json")))


# -- the command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the first word must be an action: show, diff, undo, export"),
        (["run=x"], "the first word must be an action"),
        (["shwo", "run=x"], "there is no such action; there are show, diff, undo, export. Did you mean 'show'"),
        (["show", "run=x", "keys=a"], "keys: there is no such key; known: data, decision, key"),
        (["undo", "run=x"], "output, round: missing"),
        (["show", "run=x"], "x: there is no such folder"),
    ],
)
def test_main_wrong_words_end_with_status_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_main_help_lists_actions_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "--help"])
    shown = capsys.readouterr().out
    assert "Keys of show" in shown and "Keys of export" in shown and "limit: 20" in shown


def test_main_show_prints_accounts_and_stories(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", f"run={run}"])
    assert "decided in this round" in capsys.readouterr().out
    main(["show", f"run={run}", "key=m", "pair=0"])
    shown = capsys.readouterr().out
    assert "round 1: flip, in use, label turned, weight 1, scores -2 : " in shown and "round 1 said flip" in shown
    assert "chosen:   answer 0 to m" in shown
