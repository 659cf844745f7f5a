"""The shards that a run trains on: prepared, constructed or there already, and found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrm.config import DatasetConfig, RunConfig
from mrm.datasets import prepare_datasets
from mrm.errors import UnreadableSamplesError
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
