"""MLflow gets what it lacks of a run, from the run's folder."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelOutput, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient

from mrm.cli import compose_run_config
from mrm.config import RunConfig, to_yaml
from mrm.errors import ConfigError, ResumableError
from mrm.mlflow_logger import PatientMLFlowLogger
from mrm.mlflow_model import has_model, log_model
from mrm.run_dirs import close_run_dir, fingerprint, identity, lock_run_dir, write_json, write_state
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


STARTS = [
    {"started": "1970-01-01T00:00:00.500000+00:00", "commit": "0" * 40},
    {"started": "1970-01-01T00:00:01+00:00", "commit": "ab" * 20},
]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return replace(compose_run_config(["logger=mlflow"]), output_root=str(tmp_path / "runs"))


@pytest.fixture
def folder(config: RunConfig) -> Path:
    return made_run(config)


def made_run(config: RunConfig, name: str = "e-s1", *, finished: bool = True) -> Path:
    folder = Path(config.output_root) / name
    (folder / "ledger").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    write_state(folder, fingerprint=fingerprint(config), identity=identity(config), sweep="a", finished=finished)
    lines = [json.dumps({"step": s, "name": n, "value": v, "time": t}) for s, n, v, t in HISTORY]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    write_json(folder / "data.json", {"training_fingerprint": "cd" * 32, "sets": [DATA]})
    write_json(folder / "environment.json", {"starts": STARTS})
    if finished:
        write_json(folder / "results.json", RESULTS)
        os.utime(folder / "results.json", ns=(9 * 10**9, 9 * 10**9))
    return folder


def asked(folder: Path, **values: object) -> SyncConfig:
    """Into the store beside the run."""
    return SyncConfig(**{"run": str(folder), "mlflow": f"sqlite:///{folder.parent / 'mlflow.db'}", **values})


def only_run(uri: str, experiment_name: str = "mrm") -> tuple[MlflowClient, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    return client, tracked


def points(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float, int]]:
    return sorted((one.step, one.value, one.timestamp) for one in client.get_metric_history(run_id, name))


def log_line(folder: Path, step: int, value: float) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "name": "train/loss", "value": value, "time": 1000 * step}) + "\n")


def test_sync_gives_an_untracked_run_whole_and_twice_changes_nothing(folder: Path, capsys) -> None:
    for _ in range(2):
        run(asked(folder))
        client, tracked = only_run(asked(folder).mlflow)
        run_id = tracked.info.run_id
        assert (tracked.info.status, tracked.info.start_time, tracked.info.end_time) == ("FINISHED", 500, 9000)
        tags = tracked.data.tags
        assert tags["sweep"] == "a" and tags["git_commit"] == "ab" * 20 and tags["data_fingerprint"] == "cd" * 32
        assert points(client, run_id, "train/loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]  # at the times of before
        expected = {"open_pairs": 8, "active_pairs": 6, "starts": 2, "seconds": 9.5, "evaluation/times": 3}
        expected |= {"evaluation/stopped_early": 1, "evaluation/best_step": 2, "evaluation/best_value": 0.25}
        for name, value in expected.items():
            assert points(client, run_id, name) == [(0, value, 9000)], name
        names = {"config.yaml", "results.json", "data.json", "environment.json"}
        assert {item.path for item in client.list_artifacts(run_id)} == names
        (data,) = tracked.inputs.dataset_inputs
        assert data.dataset.name == "pool" and data.dataset.digest == "ab" * 16 and data.tags[0].value == "open"
    assert "e-s1 is in sqlite:" in capsys.readouterr().out


def test_sync_gives_only_what_is_lacking_and_what_came_out_otherwise(config: RunConfig, folder: Path) -> None:
    logger = start_mlflow(config, folder, Membership("a"))  # which gives it the history
    client, run_id = logger.experiment, str(logger.run_id)
    logger.log_metrics({"train/loss": 1.0}, 3)
    logger.save()
    for step, loss in ((3, 1.0), (2, 2.5), (4, math.inf)):
        log_line(folder, step, loss)
    for _ in range(2):
        assert sync(folder, asked(folder)).run_id == run_id
        found = points(client, run_id, "train/loss")
        assert [step for step, _, _ in found] == [1, 2, 2, 3, 4] and found[-1][2] == 4000
        assert {value for step, value, _ in found if step == 2} == {2.0, 2.5}
        assert client.get_run(run_id).info.status == "FINISHED"


def test_sync_of_a_run_that_went_on_with_another_guard_lacks_nothing(config: RunConfig, folder: Path) -> None:
    start_mlflow(config, folder)
    other = replace(config, curation=replace(config.curation, min_active_share=0.125))
    logger = start_mlflow(other, folder)  # whose parameters the store has with other values
    (folder / "config.yaml").write_text(to_yaml(other))
    assert not logger.lacks and not sync(folder, asked(folder)).lacks


def test_sync_to_another_store_makes_one_run_there_and_leaves_the_first(folder: Path, tmp_path: Path) -> None:
    first = sync(folder, asked(folder))
    place = tmp_path / "elsewhere"
    place.mkdir()
    other = asked(folder, mlflow=f"sqlite:///{place / 'other.db'}", experiment_name="copies")
    ids = [sync(folder, other).run_id for _ in range(2)]
    assert ids[0] == ids[1] != first.run_id
    _, tracked = only_run(other.mlflow, "copies")
    assert tracked.info.run_id == ids[0] and tracked.data.metrics["seconds"] == 9.5
    assert (place / "mlartifacts").is_dir()
    assert sync(folder, asked(folder)).run_id == first.run_id
    with pytest.raises(ConfigError, match="has the run already, in 'copies'"):
        sync(folder, replace(other, experiment_name="third"))


def test_sync_of_a_moved_run_finds_the_store_beside_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sync(folder, asked(folder))
    moved = tmp_path / "moved"
    folder.parent.rename(moved)
    monkeypatch.chdir(tmp_path)
    assert sync(moved / "e-s1", SyncConfig(run="e-s1")).run_id == first.run_id
    _, tracked = only_run(f"sqlite:///{moved / 'mlflow.db'}")
    assert tracked.data.tags["run_dir"] == str(moved / "e-s1")
    assert [path.parent.name for path in tmp_path.rglob("mlflow.db")] == ["moved"]


def test_sync_without_a_store_names_one_and_makes_none(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no .*mlflow.db; give mlflow=sqlite:"):
        sync(folder, SyncConfig(run=str(folder)))
    assert not (folder.parent / "mlflow.db").exists()


@pytest.mark.parametrize(("before", "after"), [("RUNNING", "KILLED"), ("FAILED", "FAILED"), (None, "KILLED")])
def test_sync_of_an_unfinished_run_gives_its_figures_so_far(config: RunConfig, before: str | None, after: str) -> None:
    folder = made_run(config, finished=False)
    if before is not None:
        logger = start_mlflow(config, folder)
        logger.experiment.update_run(str(logger.run_id), status=before)
    logger = sync(folder, asked(folder))
    tracked = logger.experiment.get_run(str(logger.run_id))
    assert tracked.info.status == after and tracked.data.metrics["train/loss"] == 2.0
    assert "seconds" not in tracked.data.metrics
    assert lock_run_dir(folder)  # it may go on
    with pytest.raises(ConfigError, match="is running"):
        in_another_process(folder)


@pytest.mark.parametrize("fails", [False, True])
def test_sync_holds_the_run_until_it_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    close = PatientMLFlowLogger.close_as_of
    held: list[bool] = []

    def look(logger: PatientMLFlowLogger, status: str, ended_ms: int) -> None:
        held.append(not lock_run_dir(folder))  # as a run that would go on
        if fails:
            raise ConfigError("no end")
        close(logger, status, ended_ms)

    def look_first(*args: object, **kwargs: object) -> None:
        held.append(not lock_run_dir(folder))

    monkeypatch.setattr(PatientMLFlowLogger, "close_as_of", look)
    monkeypatch.setattr("mrm.sync.give_files", look_first)  # which may take minutes
    if fails:
        with pytest.raises(ConfigError, match="no end"):
            sync(folder, asked(folder))
    else:
        sync(folder, asked(folder))
    assert held == [True, True]
    assert lock_run_dir(folder)
    close_run_dir(folder)


def test_sync_of_a_running_run_leaves_its_lock(folder: Path) -> None:
    assert lock_run_dir(folder)
    with pytest.raises(ConfigError, match="is running"):
        sync(folder, asked(folder))
    assert not lock_run_dir(folder)
    close_run_dir(folder)


def in_another_process(folder: Path) -> None:
    """As another process finds the folder that this one has locked."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mrm.sync.lock_run_dir", lambda _: False)
            sync(folder, asked(folder))
    finally:
        close_run_dir(folder)


def test_sync_member_is_a_child_of_its_sweep_in_the_same_store(folder: Path, tmp_path: Path) -> None:
    place = folder.parent / "sweeps" / "a"
    place.mkdir(parents=True)
    write_json(place / "sweep.json", {"mlflow": {"tracking_uri": asked(folder).mlflow, "run_id": "0a1b"}})
    sync(folder, asked(folder))
    assert only_run(asked(folder).mlflow)[1].data.tags["mlflow.parentRunId"] == "0a1b"
    other = f"sqlite:///{tmp_path / 'other.db'}"
    sync(folder, asked(folder, mlflow=other))
    assert "mlflow.parentRunId" not in only_run(other)[1].data.tags


DAMAGES = {
    "no results": ("results.json", None, "results.json: cannot be read"),
    "results of another form": ("results.json", b"[]", "results.json: cannot be read"),
    "no configuration": ("config.yaml", None, "config.yaml cannot be read"),
    "a ledger cut short": ("ledger/round_0001.parquet", b"PAR1", "round_0001.parquet"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_sync_of_a_damaged_run_touches_nothing_and_gives_the_others(
    config: RunConfig, folder: Path, damage: str, capsys
) -> None:
    name, content, said = DAMAGES[damage]
    first = sync(folder, asked(folder))
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    good = made_run(config, "e-s2")
    with pytest.raises(ConfigError) as told:
        run(asked(folder, run=f"[{folder},{good}]"))
    assert said in str(told.value) and str(good) not in str(told.value)
    assert "e-s2 is in" in capsys.readouterr().out
    assert first.experiment.get_run(str(first.run_id)).info.status == "FINISHED"


def test_sync_leaves_out_lines_that_are_no_metrics_and_says_how_many(folder: Path, caplog) -> None:
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'3\n{"step": 3}\n{"step": 3, "name": "train/loss", "value": null}\n\xff\n{"step": 4, "na')
    (folder / "data.json").write_text('{"training_fingerprint": null, "sets": [{"name": 1}]}')
    run(asked(folder))
    assert "metrics.jsonl: 3 lines are no metrics and are left out, first line 4" in caplog.text
    assert "data.json cannot be read" in caplog.text
    client, tracked = only_run(asked(folder).mlflow)
    assert len(points(client, tracked.info.run_id, "train/loss")) == 2


def test_sync_tells_of_every_run_that_it_cannot_give(folder: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(ConfigError, match="none'.*is no run's folder") as told:
        run(asked(folder, run=f"[{tmp_path / 'none'},{folder}]"))
    assert str(folder) not in str(told.value) and "e-s1 is in" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="MLflow cannot open this store"):
        run(asked(folder, mlflow="htp://host"))
    with pytest.raises(ConfigError, match="name at least one run's folder"):
        run(SyncConfig(run="[]"))


def test_sync_of_a_run_that_was_deleted_in_the_store_says_how_to_bring_it_back(folder: Path) -> None:
    logger = sync(folder, asked(folder))
    logger.experiment.delete_run(str(logger.run_id))
    with pytest.raises(ConfigError, match="was deleted there; bring it back by `mlflow runs restore --run-id"):
        sync(folder, asked(folder))
    other = asked(folder, mlflow=asked(folder).mlflow.replace("mlflow.db", "other.db"))
    client = sync(folder, other).experiment
    client.delete_experiment(client.get_experiment_by_name("mrm").experiment_id)
    write_state(folder, mlflow_run_id=None)
    with pytest.raises(ConfigError, match="the MLflow experiment 'mrm' was deleted there; bring it back"):
        sync(folder, other)


@pytest.mark.parametrize("refused", ["log_artifact", "log_batch"])
def test_sync_says_what_a_store_still_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise MlflowException("too long", error_code=INVALID_PARAMETER_VALUE)

    monkeypatch.setattr("mrm.mlflow_logger.LAST_PAUSE_S", 0.0)
    monkeypatch.setattr(MlflowClient, refused, refuse)
    with pytest.raises(ResumableError, match="still lacks something"):
        run(asked(folder))
    monkeypatch.undo()
    run(asked(folder))


def test_log_model_that_fails_leaves_the_one_that_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = sync(folder, asked(folder))
    client, run_id = logger.experiment, str(logger.run_id)
    made = client.create_logged_model(client.get_run(run_id).info.experiment_id, name="model", source_run_id=run_id)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 2)])
    client.finalize_logged_model(made.model_id, "READY")
    assert has_model(logger)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("mrm.mlflow_model.Model.log", fail)
    with pytest.raises(OSError, match="no room"):
        log_model(logger, folder, 2)
    assert has_model(logger)
    found = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert [one.model_id for one in found] == [made.model_id]
