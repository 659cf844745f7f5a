"""Data sets and ledgers as MLflow keeps them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from datamodules.ledger import Ledger
from datamodules.set_accounts import SetAccount
from mrm.mlflow_data import ledger_inputs, set_inputs
from mrm.mlflow_logger import PatientMLFlowLogger
from tests.datamodules.making import make_dataset


def account(name: str, role: str, path: str) -> SetAccount:
    return SetAccount(name, role, path, 1.0, 64 * "a", 3, 6, 3, 2, 1, {"made": 3})


@pytest.fixture
def logger(tmp_path: Path) -> PatientMLFlowLogger:
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return PatientMLFlowLogger(experiment_name="e", tracking_uri=f"sqlite:///{tmp_path}/m.db", synchronous=True)


def test_set_inputs_are_kept_with_digest_role_schema_counts_and_source(
    logger: PatientMLFlowLogger, tmp_path: Path
) -> None:
    accounts = [account("trusted", "trusted", str(tmp_path)), account("far", "val", "s3://bucket/set")]
    logger.log_inputs(set_inputs([*accounts, account("hub", "test", "hf://datasets/a/b")]))
    assert logger.waiting == 0
    kept = MlflowClient(f"sqlite:///{tmp_path}/m.db").get_run(logger.run_id).inputs.dataset_inputs
    assert [(one.dataset.name, one.tags[0].key, one.tags[0].value) for one in kept] == [
        ("trusted", "mlflow.data.context", "trusted"), ("far", "mlflow.data.context", "val"),
        ("hub", "mlflow.data.context", "test"),
    ]  # fmt: skip
    first = kept[0].dataset
    assert first.digest == 32 * "a" and json.loads(first.profile)["pairs"] == 3
    assert json.loads(first.profile)["fingerprint"] == 64 * "a"
    assert [column["name"] for column in json.loads(first.schema)["mlflow_colspec"]][:3] == ["key", "source", "prompt"]
    assert [one.dataset.source_type for one in kept] == ["local", "s3", "code"]
    assert mlflow.data.get_source(first).uri == str(tmp_path)
    assert "hf://datasets/a/b" in kept[2].dataset.source


def test_ledger_inputs_tell_what_is_trained_on_after_each_round(logger: PatientMLFlowLogger, tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", 3)
    ledger = Ledger.initial(index, np.array([True, True, False]), False)
    path = ledger.write(tmp_path / "ledger")
    (made,) = ledger_inputs([(path, ledger)])
    assert made.dataset.name == "ledger_round_0" and made.tags[0].value == "curated" and len(made.dataset.digest) == 32
    profile = json.loads(made.dataset.profile)
    assert profile["pairs"] == 3 and profile["active_pairs"] == 2 and profile["decisions"]["held"] == 1
