"""MLflow gets what it lacks of a run, from the run's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mrm.cli import compose_run_config
from mrm.config import RunConfig, to_yaml
from mrm.errors import ConfigError
from mrm.run_dirs import fingerprint, identity, write_json, write_state
from mrm.sweeps.membership import Membership
from mrm.sync import SyncConfig, run, sync
from mrm.tracking import start_mlflow

RESULTS = {
    "tests": {"test_a": 0.5},
    "rounds": [],
    "open_pairs": 8,
    "active_pairs": 6,
    "starts": 2,
    "seconds": 9.5,
    "evaluation": {
        "evaluations": 3,
        "last": {"step": 4, "epoch": 0, "figures": {"val/loss": 0.7}},
        "best": {"metric": "val/loss", "step": 2, "epoch": 0, "figures": {"val/loss": 0.25}},
        "stopped_early": True,
        "model": "best",
    },
}
HISTORY = [(1, "train/loss", 3.0, 1000), (2, "train/loss", 2.0, 2000), (2, "test/test_a/accuracy", 0.5, 3000)]
DATA = {
    "name": "pool", "role": "open", "path": "/data/pool", "weight": 1.0, "fingerprint": "ab" * 32, "samples": 4, "responses": 8, "pairs": 4,
    "images": 4, "strengths": 0, "sources": {"s": 4}, "source": "shapeworld", "options": {},
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return replace(compose_run_config(["logger=mlflow"]), output_root=str(tmp_path / "runs"))


def made_run(config: RunConfig, name: str = "e-s1", *, finished: bool = True) -> Path:
    folder = Path(config.output_root) / name
    (folder / "ledger").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    write_state(folder, fingerprint=fingerprint(config), identity=identity(config), sweep="a", finished=finished)
    lines = [json.dumps({"step": s, "name": n, "value": v, "time": t}) for s, n, v, t in HISTORY]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    write_json(folder / "data.json", {"training_fingerprint": "cd" * 32, "sets": [DATA]})
    if finished:
        write_json(folder / "results.json", RESULTS)
    return folder


def points(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float, int]]:
    return [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run_id, name)]


def test_sync_gives_an_untracked_run_whole_and_twice_changes_nothing(config: RunConfig, capsys) -> None:
    folder = made_run(config)
    for _ in range(2):
        run(SyncConfig(run=str(folder)))
        client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("mrm")
        assert experiment is not None
        (tracked,) = client.search_runs([experiment.experiment_id])
        run_id = tracked.info.run_id
        assert tracked.info.status == "FINISHED" and tracked.data.tags["sweep"] == "a"
        assert points(client, run_id, "train/loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]  # at the times of before
        expected = {"open_pairs": 8, "active_pairs": 6, "starts": 2, "seconds": 9.5, "evaluation/times": 3}
        expected |= {"evaluation/stopped_early": 1, "evaluation/best_step": 2, "evaluation/best_value": 0.25}
        assert expected.items() <= tracked.data.metrics.items()
        assert {item.path for item in client.list_artifacts(run_id)} == {"config.yaml", "results.json", "data.json"}
        (data,) = tracked.inputs.dataset_inputs
        assert data.dataset.name == "pool" and data.dataset.digest == "ab" * 16 and data.tags[0].value == "open"
        assert tracked.data.tags["data_fingerprint"] == "cd" * 32
    assert "e-s1 is in sqlite:" in capsys.readouterr().out


def test_sync_gives_only_what_is_lacking(config: RunConfig) -> None:
    folder = made_run(config)
    logger = start_mlflow(config, folder, Membership("a"))  # which gives it the history
    client, run_id = logger.experiment, str(logger.run_id)
    logger.log_metrics({"train/loss": 1.0}, 3)
    logger.save()
    with (folder / "metrics.jsonl").open("a") as file:
        for step, loss in ((3, 1.0), (4, 0.5)):
            file.write(json.dumps({"step": step, "name": "train/loss", "value": loss, "time": 1000 * step}) + "\n")
    assert sync(folder, SyncConfig(run=str(folder))).run_id == run_id
    found = sorted(points(client, run_id, "train/loss"))
    assert [(step, value) for step, value, _ in found] == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5)]
    assert found[-1][2] == 4000


def test_sync_to_another_store_makes_one_run_there_and_leaves_the_first(config: RunConfig, tmp_path: Path) -> None:
    folder = made_run(config)
    first = sync(folder, SyncConfig(run=str(folder)))
    other = SyncConfig(run=str(folder), mlflow=f"sqlite:///{tmp_path / 'other.db'}", experiment_name="copies")
    ids = [sync(folder, other).run_id for _ in range(2)]
    assert ids[0] == ids[1] != first.run_id
    client = MlflowClient(other.mlflow)
    experiment = client.get_experiment_by_name("copies")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_id == ids[0] and tracked.data.metrics["seconds"] == 9.5
    assert sync(folder, SyncConfig(run=str(folder))).run_id == first.run_id


def test_sync_of_an_unfinished_run_gives_its_figures_so_far(config: RunConfig) -> None:
    folder = made_run(config, finished=False)
    logger = sync(folder, SyncConfig(run=str(folder)))
    tracked = logger.experiment.get_run(str(logger.run_id))
    assert tracked.info.status == "KILLED" and tracked.data.metrics["train/loss"] == 2.0
    assert "seconds" not in tracked.data.metrics


def test_sync_tells_of_every_run_that_it_cannot_give(config: RunConfig, tmp_path: Path, capsys) -> None:
    folder = made_run(config)
    with pytest.raises(ConfigError, match="none'.*is no run's folder") as told:
        run(SyncConfig(run=f"[{tmp_path / 'none'},{folder}]"))
    assert str(folder) not in str(told.value) and "e-s1 is in" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="MLflow cannot open this store.*stands as it was: the same command goes on"):
        run(SyncConfig(run=str(folder), mlflow="htp://host"))


def test_sync_says_what_a_store_still_lacks(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_run(config)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no such host")

    monkeypatch.setattr("mrm.mlflow_logger.LAST_PAUSE_S", 0.0)
    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    with pytest.raises(ConfigError, match="still lacks something"):
        run(SyncConfig(run=str(folder)))
