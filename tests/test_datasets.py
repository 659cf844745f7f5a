"""The shards that a run trains on: prepared, constructed or there already, and found again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.index import Index
from mrm.config import DatasetConfig, RunConfig
from mrm.datasets import check_construction, prepare_datasets
from mrm.errors import ConfigError, UnreadableSamplesError
from tests.datamodules.sources.helpers import png, write_jsonl


def record(key: str, chosen: str = "yes") -> dict[str, object]:
    return {"key": key, "prompt": f"<image>Q {key}", "images": [f"{key}.png"], "chosen": chosen, "rejected": "no"}


def own_data(tmp_path: Path, **options: object) -> RunConfig:
    config = RunConfig(data_root=str(tmp_path), prepared_root=str(tmp_path / "prepared"))
    config.data.datasets["mine"] = DatasetConfig(source="jsonl", role="open", path="pairs.jsonl", options=dict(options))
    config.trainer.progress = False
    for key in ("a", "b"):
        (tmp_path / f"{key}.png").write_bytes(png())
    return config


def test_prepare_datasets_prints_a_row_a_dataset_also_when_used_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a"), record("b", chosen="")])
    for _ in range(2):
        prepare_datasets(config)
        row = next(line for line in capsys.readouterr().out.splitlines() if "mine" in line)
        assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["mine", "2", "1", "1", "1 empty response"]


def test_prepare_datasets_folder_of_shards_tells_what_was_told_when_it_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a")])
    (spec,) = prepare_datasets(config)
    capsys.readouterr()
    config.data.datasets["mine"] = DatasetConfig(source="shards", role="open", path=str(spec.path))
    prepare_datasets(config)
    assert "none" in capsys.readouterr().out
    (Path(spec.path) / "prepared.json").unlink()
    prepare_datasets(config)
    assert "not known" in capsys.readouterr().out


def test_prepare_datasets_edited_input_or_other_options_are_prepared_beside_the_old(tmp_path: Path) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a")])
    (first,) = prepare_datasets(config)
    assert prepare_datasets(config) == [first]
    write_jsonl(tmp_path / "pairs.jsonl", [record("a"), record("b")])
    (second,) = prepare_datasets(config)
    config.data.datasets["mine"].options["name"] = "other"
    (third,) = prepare_datasets(config)
    assert len({first.path, second.path, third.path}) == 3


def test_prepare_datasets_lost_image_that_came_back_is_found(tmp_path: Path) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a"), record("b")])
    (tmp_path / "b.png").unlink()
    with pytest.raises(UnreadableSamplesError, match=r"1 of 2 records cannot be read \(1 x image missing\)"):
        prepare_datasets(config)
    config.data.max_unreadable = 0.5
    (spec,) = prepare_datasets(config)
    assert len((Path(spec.path) / "skipped.jsonl").read_text().splitlines()) == 1
    (tmp_path / "b.png").write_bytes(png())
    assert prepare_datasets(config) == [spec]
    assert (Path(spec.path) / "skipped.jsonl").read_text() == ""


def constructed(tmp_path: Path, **options: object) -> RunConfig:
    config = RunConfig(data_root=str(tmp_path), prepared_root=str(tmp_path / "prepared"))
    config.trainer.progress = False
    told = {"construction": "shapeworld", "shapeworld": {"count": 8}, "style": {"mode": "none"}, **options}
    config.data.datasets["made"] = DatasetConfig(source="construct", role="trusted", options=told)
    return config


def test_prepare_datasets_constructs_and_finds_what_was_constructed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = constructed(tmp_path)
    (spec,) = prepare_datasets(config)
    assert isinstance(spec.path, Path) and spec.role == "trusted"
    index = Index.load(spec.path)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ made"))
    read, written, pairs = (int(cell) for cell in row.strip("│ ").split("│")[1:4])
    assert (read, written, pairs) == (8, len(index), index.n_pairs)
    before = {path: path.stat().st_mtime_ns for path in spec.path.iterdir()}
    assert prepare_datasets(config) == [spec]
    assert before == {path: path.stat().st_mtime_ns for path in spec.path.iterdir()}


def test_prepare_datasets_of_runs_that_start_together_is_constructed_once(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; import sys; from tests.test_datasets import constructed;"
        " from mrm.datasets import prepare_datasets; print(prepare_datasets(constructed(Path(sys.argv[1])))[0].path)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert len({out.splitlines()[-1] for out, _ in told}) == 1
    assert sum("listwise ..." in err or "Construction" in out for out, err in told) == 1


def test_prepare_datasets_other_options_are_constructed_beside_the_old_and_how_calls_run_is_none(
    tmp_path: Path,
) -> None:
    (first,) = prepare_datasets(constructed(tmp_path))
    (second,) = prepare_datasets(constructed(tmp_path, agreement={"least_difference": 1.0}))
    (third,) = prepare_datasets(constructed(tmp_path, running={"concurrency": 3}))
    assert first.path == third.path != second.path


def test_prepare_datasets_records_left_out_balance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_datasets(constructed(tmp_path, agreement={"least_difference": 4.0}))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ made"))
    read, written = (int(cell) for cell in row.strip("│ ").split("│")[1:3])
    assert 0 < written < read == 8 and f"{read - written} no pair left" in row


def test_check_construction_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="listwise_repeats=7"):
        check_construction(constructed(tmp_path, listwise_repeats=7).data.datasets["made"])
    with pytest.raises(ConfigError, match="listwise_repeat"):
        check_construction(constructed(tmp_path, listwise_repeat=2).data.datasets["made"])
