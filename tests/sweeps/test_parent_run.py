"""The sweep's own run in MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mrm.cli import compose_run_config
from mrm.sweeps.parent_run import close_parent, open_parent


@pytest.mark.parametrize("written", [True, False])
def test_close_parent_closes_the_run_also_where_its_record_cannot_be_added(
    tmp_path: Path, caplog, written: bool
) -> None:
    config = replace(compose_run_config(["logger=mlflow"]), output_root=str(tmp_path))
    parent = open_parent(config, tmp_path / "sweeps" / "s", ["-m"], None)
    assert parent is not None
    if written:
        (tmp_path / "sweep.json").write_text("{}")
    close_parent(parent, "interrupted", [], tmp_path / "sweep.json")
    client = MlflowClient(parent["tracking_uri"])
    tracked = client.get_run(parent["run_id"])
    assert tracked.info.status == "KILLED"
    assert tracked.data.metrics == {"members": 0, "finished": 0, "failed": 0, "interrupted": 0}
    assert [one.path for one in client.list_artifacts(parent["run_id"])] == ["sweep.json"] * written
    assert ("is not up to date" in caplog.text) is not written
