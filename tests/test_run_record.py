"""What a run's folder tells of how it came about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset_spec import DatasetSpec
from datamodules.preference_datamodule import PreferenceDataModule
from mrm import run_record
from mrm.config import DatasetConfig, RunConfig
from mrm.run_record import differences, environment, record_files, write_data, write_start
from tests.datamodules.making import ToyEncoder, make_dataset, make_image, make_sample


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told = [""]
    monkeypatch.setattr(run_record, "local_changes", lambda: told[0])
    return told


def test_environment_tells_versions_machine_and_seed() -> None:
    told = environment(RunConfig(seed=7))
    assert json.loads(json.dumps(told)) == told
    assert told["seed"] == 7 and told["packages"]["numpy"] == np.__version__
    assert told["cpu"]["usable"] >= 1 and told["threads"] >= 1 and told["memory_mib"] > 100 and told["processes"] == 1
    assert len(told["code_digest"]) == 64


def test_write_start_adds_each_start_and_tells_what_is_not_as_it_was(
    tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_start(tmp_path, RunConfig())
    assert [path.name for path in record_files(tmp_path)] == ["environment.json"]
    write_start(tmp_path, RunConfig())
    assert not caplog.records
    here = environment(RunConfig())
    moved = {**here, "threads": here["threads"] + 1, "packages": {**here["packages"], "torch": "9"}}
    monkeypatch.setattr(run_record, "environment", lambda config: moved)
    write_start(tmp_path, RunConfig())
    assert "packages torch" in caplog.text and f"threads {here['threads']} then" in caplog.text
    assert len(json.loads((tmp_path / "environment.json").read_text())["starts"]) == 3


def test_write_start_keeps_the_changes_of_each_start_that_differ(tmp_path: Path, changes: list[str]) -> None:
    for now in ("a\n", "a\n", "b\n", ""):
        changes[0] = now
        write_start(tmp_path, RunConfig())
    assert [path.name for path in record_files(tmp_path)[1:]] == ["changes-3.diff", "changes.diff"]
    assert (tmp_path / "changes.diff").read_text() == "a\n" and (tmp_path / "changes-3.diff").read_text() == "b\n"


def test_write_start_after_a_damaged_file_begins_anew(
    tmp_path: Path, changes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "environment.json").write_text("[1")
    write_start(tmp_path, RunConfig())
    assert "cannot be read" in caplog.text
    assert len(json.loads((tmp_path / "environment.json").read_text())["starts"]) == 1


def test_differences_name_what_figures_depend_on() -> None:
    then = {"python": "3.11", "packages": {"a": "1", "b": "1"}, "started": "x", "gpus": []}
    now = {"python": "3.11", "packages": {"a": "2", "c": "1"}, "started": "y", "gpus": []}
    assert differences(then, now) == [
        "packages a 1 then, 2 now", "packages b 1 then, None now", "packages c None then, 1 now",
    ]  # fmt: skip


def test_write_data_counts_each_set_and_tells_how_it_was_made(tmp_path: Path) -> None:
    make_dataset(
        tmp_path / "first", [make_sample("a", images=[make_image(), make_image()]), make_sample("b", responses=3)]
    )
    make_dataset(tmp_path / "second", 4, prefix="s")
    make_dataset(tmp_path / "held", 2, prefix="h")
    specs = [
        DatasetSpec("first", tmp_path / "first", "trusted"),
        DatasetSpec("second", tmp_path / "second", "open", 2.0),
    ]
    specs.append(DatasetSpec("held", tmp_path / "held", "val"))
    data = PreferenceDataModule(
        specs, ToyEncoder(), ledger_dir=None, batch_size=2, score_batch_size=2, row_tokens=None, num_workers=0, seed=1
    )
    config = RunConfig()
    for spec in specs:
        config.data.datasets[spec.name] = DatasetConfig(source="shapeworld", role=spec.role, options={"seed": 11})
    accounts = write_data(tmp_path, config, data)
    told = json.loads((tmp_path / "data.json").read_text())
    assert told["training_fingerprint"] == data.index.fingerprint
    first, second, held = told["sets"]
    assert (first["samples"], first["responses"], first["images"]) == (2, 5, 3)
    assert first["pairs"] == int(data.index.pair_start[2]) and second["pairs"] == 4 and held["samples"] == 2
    assert second["weight"] == 2.0 and held["role"] == "val" and first["options"] == {"seed": 11}
    assert len({one["fingerprint"] for one in told["sets"]}) == 3
    assert [account.fingerprint for account in accounts] == [one["fingerprint"] for one in told["sets"]]
    assert sum(first["sources"].values()) == 2
