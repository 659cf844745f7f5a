import hashlib
import subprocess
import sys

import numpy as np

from callbacks.report_sources import AFTER_IT, CHECK_PROGRAM, COLUMNS, round_tables, source_counts
from callbacks.report_view import view_ledgers
from tests.callbacks.reporting import four_rounds


def test_round_tables_count_what_was_done_by_hand():
    start, first, second, third = round_tables(view_ledgers(four_rounds()))
    assert [name for name, _ in second.rows] == ["all sources", "b", "a"]
    rows = {name: dict(zip(COLUMNS, counts, strict=True)) for name, counts in second.rows}
    assert rows["b"] == {
        "pairs": 4, "scored": 4, "kept": 1, "flipped": 0, "restored": 2, "queued": 0, "dropped": 1, "unreadable": 0,
        "in use": 3, "in queue": 0, "out": 1, "unread": 0, "held": 0, "down-weighted": 0,
    }  # fmt: skip
    assert rows["a"] == {  # k1 is trusted no more
        "pairs": 3, "scored": 1, "kept": 0, "flipped": 0, "restored": 0, "queued": 1, "dropped": 0, "unreadable": 1,
        "in use": 0, "in queue": 1, "out": 0, "unread": 2, "held": 0, "down-weighted": 0,
    }  # fmt: skip
    assert dict(zip(COLUMNS, start.rows[0][1], strict=True))["held"] == 6
    assert dict(zip(COLUMNS, first.rows[0][1], strict=True))["down-weighted"] == 5
    assert third.rows[0][1] == tuple(np.sum([counts for _, counts in third.rows[1:]], axis=0))


def test_source_counts_where_pairs_are_adds_up_to_all_of_them():
    view = view_ledgers(four_rounds())
    for seen in view.rounds:
        counts = source_counts(seen, view.source, 2)
        assert (sum(counts[name] for name in AFTER_IT[:5]) == counts["pairs"]).all()


def test_check_program_prints_the_page_s_table_and_digest(tmp_path):
    ledgers = four_rounds()
    for ledger in ledgers:
        ledger.write(tmp_path / "ledger")
    tables = round_tables(view_ledgers(ledgers), tmp_path / "ledger")
    assert tables[2].file == "ledger/round_0002.parquet"
    for table in (tables[0], tables[2]):
        done = subprocess.run(
            [sys.executable, "-c", CHECK_PROGRAM, tmp_path / table.file], capture_output=True, text=True, check=True
        )
        digest, header, *lines = done.stdout.splitlines()
        assert digest == f"sha256 {table.sha256}"
        assert table.sha256 == hashlib.sha256((tmp_path / table.file).read_bytes()).hexdigest()
        assert header.split("\t") == ["source", *COLUMNS]
        printed = {line.split("\t")[0]: tuple(map(int, line.split("\t")[1:])) for line in lines}
        assert printed == dict(table.rows)
