"""Reading runs from MLflow, and what it lacks from their folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mrm.cli import compose_run_config
from mrm.comparing.records import comparable
from mrm.comparing.store import Store, store_uri
from mrm.errors import ConfigError
from mrm.run_dirs import identity
from tests.comparing.stored import open_store, put

METRICS = {"test/test_a/accuracy": 0.9, "seconds": 10.0}
LOSS = {"train/loss": [(10, 0.7), (20, 0.5), (20, 0.4)]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run, one whose folder is here, a sweep's own run and a stranger."""
    root = tmp_path_factory.mktemp("store")
    client, experiment = open_store(f"sqlite:///{root / 'mlflow.db'}", artifacts=(root / "mlartifacts").as_uri())
    config = compose_run_config(["experiment=dt2it_full"])
    put(client, experiment, config, METRICS, history=LOSS, scratch=root)
    folder = root / "dt2it_full-s2"
    folder.mkdir()
    config = replace(config, seed=2)
    run_id = put(client, experiment, config, METRICS, history=LOSS, folder=folder, status=None, scratch=root)
    state = {"mlflow_run_id": run_id, "finished": True, "identity": identity(config)}
    (folder / "run.json").write_text(json.dumps(state))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 30, "name": "train/loss", "value": 0.1}) + "\n")
    (folder / "results.json").write_text(json.dumps({"open_pairs": 10, "active_pairs": 7, "tests": {}}))
    put(client, experiment, replace(config, seed=3), {"train/loss": 0.1}, scratch=root)  # killed before its tests
    client.create_run(experiment, run_name="sweep", tags={"role": "sweep"})
    client.create_run(experiment, run_name="stranger")
    return root


@pytest.fixture
def store(place: Path) -> Store:
    return Store(str(place), "mrm")


def test_store_reads_runs_and_names_strangers(store: Store) -> None:
    runs, strangers = store.runs()
    assert sorted((run.experiment, run.seed, run.status) for run in runs) == [
        ("dt2it_full", 1, "FINISHED"),
        ("dt2it_full", 2, "FINISHED"),  # its folder says so; MLflow was away at its end
        ("dt2it_full", 3, "RUNNING"),  # trained, but not tested: it lacks the totals
    ]
    whole = {run.seed: store.whole(run).metrics for run in runs}
    assert whole[2]["train/loss"] == 0.1 and whole[2]["active_pairs"] == 7.0  # of the folder, which MLflow lacks
    assert whole[1] == {run.seed: run.metrics for run in runs}[1]
    assert len(strangers) == 1 and strangers[0].startswith("stranger (")
    assert all(run.metrics["test/test_a/accuracy"] == 0.9 and run.commit == "c0ffee" for run in runs if run.seed < 3)


def test_store_configuration_that_was_cut_comes_whole_from_the_artifact(store: Store) -> None:
    first, second, _ = sorted(store.runs()[0], key=lambda run: run.seed)
    expected = comparable(identity(compose_run_config(["experiment=dt2it_full"])))
    assert second.config == expected and second.cut == ()
    if first.cut:
        assert first.config != expected
    assert store.whole(first).config == expected and store.whole(first).cut == ()


def test_store_history_is_of_the_folder_or_of_mlflow(store: Store) -> None:
    first, second, _ = sorted(store.runs()[0], key=lambda run: run.seed)
    names = ["train/loss", "no/such"]
    assert [(one["step"], one["value"]) for one in store.history(first, names)] == [(10, 0.7), (20, 0.4)]
    assert [(one["step"], one["value"]) for one in store.history(second, names)] == [(30, 0.1)]


def test_store_artifact_that_is_not_there_is_none(store: Store) -> None:
    first = min(store.runs()[0], key=lambda run: run.seed)
    path = store.artifact(first, "config.yaml")
    assert path is not None and "experiment: dt2it_full" in path.read_text()
    assert store.artifact(first, "no_such.parquet") is None


@pytest.mark.parametrize(
    ("open_", "said"),
    [
        (lambda root: store_uri(str(root / "no")), "there is no .*mlflow.db|there is no .*no; give"),
        (lambda root: store_uri(f"sqlite:///{root}/other.db"), "there is no .*other.db"),
        (lambda root: Store(str(root), "mr"), "experiment_name='mr'.*it has .*mrm"),
        (lambda root: Store("htp://host", "mrm"), "MLflow cannot read it"),
    ],
)
def test_store_that_is_not_there_is_a_clear_error_and_none_is_made(
    place: Path, open_: Callable[[Path], object], said: str
) -> None:
    before = sorted(path.name for path in place.iterdir())
    with pytest.raises(ConfigError, match=said):
        open_(place)
    assert sorted(path.name for path in place.iterdir()) == before


def test_store_uri_of_folder_file_and_address(place: Path) -> None:
    uri = f"sqlite:///{place / 'mlflow.db'}"
    assert store_uri(str(place)) == store_uri(str(place / "mlflow.db")) == store_uri(uri) == uri
    assert store_uri("http://host:5000") == "http://host:5000"
