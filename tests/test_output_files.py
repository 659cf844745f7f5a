"""Outputs that would be in the way, or could not be written, are told before anything is computed."""

from __future__ import annotations

from pathlib import Path

from mrm.output_files import output_problems


def test_output_problems_of_places_that_can_be_written_are_none(tmp_path: Path) -> None:
    written = [("json", str(tmp_path / "a" / "b" / "f.json")), ("output", str(tmp_path / "o.jsonl")), ("lines", None)]
    assert output_problems([("data", tmp_path / "d.json")], written, partial=("output",)) == []


def test_output_problems_name_key_place_and_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = output_problems(
        [("data", tmp_path / "d.json")],
        [("json", str(tmp_path / "d.json")), ("output", str(tmp_path)), ("lines", str(tmp_path / "file" / "x"))],
    )
    assert [line.split(":")[1].split(";")[0].strip() for line in told] == [
        "would write over the file of data",
        "is a folder",
        f"cannot be written, {tmp_path / 'file'} takes no files",
    ]
