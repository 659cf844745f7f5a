"""The main job as a whole: its outputs, resuming after a kill, and errors as a person meets them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file

from datamodules.ledger import Decision, Ledger, ledger_rounds, round_path
from datamodules.prepare import prepare
from mrm.audit import show
from mrm.audit_config import ShowConfig
from mrm.config import DatasetConfig, RunConfig, to_yaml
from mrm.construct_config import ModelSpec
from mrm.errors import ConfigError, MrmError, ResumableError
from mrm.evaluation.sample_scores import SCORES_FILE, read_scores
from mrm.history import read_history
from mrm.parts import build_annotators
from mrm.run import check_judges, run
from mrm.run_dirs import STOPPED, read_state
from mrm.sync import SyncConfig, sync
from mrm.tracking import tracking_uri
from tests.construction.fault_server import FaultServer

ROOT = Path(__file__).parent.parent
ROUND_KEYS = ["scored", "flipped", "dropped", "reannotated", "restored", "queued", "noise_before", "noise_after"]
KILLED = """
import sys
from omegaconf import OmegaConf
from mrm.config import RunConfig
from mrm.parts import build_annotators
from mrm.run import check_judges, run
run(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(sys.argv[1])))
"""


def final_ledger(folder: Path) -> Ledger:
    return Ledger.read(round_path(folder / "ledger", ledger_rounds(folder / "ledger")[-1]))


def test_run_writes_results_model_report_history_and_latest(small_run: Callable[..., RunConfig]) -> None:
    result = run(small_run("experiment=dt2it_full"))
    folder = result.run_dir
    written = json.loads((folder / "results.json").read_text())
    assert [list(record) for record in written["rounds"]] == [ROUND_KEYS, ROUND_KEYS]
    assert written["open_pairs"] == 16
    ledger = final_ledger(folder)
    assert written["active_pairs"] == int(
        (ledger.active & (ledger.decision != Decision.TRUSTED) & (ledger.source == "shapeworld_open")).sum()
    )
    assert written["rounds"][0]["scored"] == 16
    assert written["peak_memory_mib"] > 100
    scores = read_scores(folder / SCORES_FILE)
    assert {name: float(one.right.mean()) for name, one in scores.items()} == pytest.approx(written["tests"])
    assert (folder.parent / "latest").resolve() == folder
    assert {"train/loss", "curation/flipped"} <= {entry["name"] for entry in read_history(folder)}
    assert "<html" in (folder / "report.html").read_text()[:500].lower()
    assert [path.suffix for path in (folder / "checkpoints").iterdir()] == [".ckpt"]
    shown = show(ShowConfig(str(folder), key=str(ledger.key[-1])))  # the run notes where its data sets lie
    assert shown.problem == "" and shown.pairs[0].chosen and len(shown.pairs[0].steps) == 3


def test_run_twice_gives_equal_weights_ledgers_and_figures(small_run: Callable[..., RunConfig]) -> None:
    first, second = (run(small_run("experiment=dt2it_full", "report.enabled=false")) for _ in range(2))
    assert first.run_dir != second.run_dir
    assert_same_outcome(first.run_dir, second.run_dir)


def test_run_without_evaluation_ends_with_the_same_weights_and_ledgers(small_run: Callable[..., RunConfig]) -> None:
    words = ("experiment=dt2it_full", "report.enabled=false")
    watched = run(small_run(*words, "evaluation.every_n_steps=2")).run_dir
    blind = run(small_run(*words, "data.datasets.held_out.use=false")).run_dir
    assert len(json.loads((watched / "evaluations.json").read_text())) > 3
    assert json.loads((blind / "evaluations.json").read_text()) == []
    assert_same_weights_and_ledgers(watched, blind)


def test_run_stops_early_behind_its_last_round_and_saves_and_tests_the_best(
    small_run: Callable[..., RunConfig],
) -> None:
    watch = ["every_n_steps=1", "every_n_epochs=null", "best.metric=val/held_out/loss", "best.use=true"]
    watch += ["early_stopping.metric=val/held_out/accuracy", "early_stopping.patience=2", "early_stopping.min_delta=1"]
    words = ("experiment=dt2it_flip_only", "report.enabled=false", *(f"evaluation.{word}" for word in watch))
    config = small_run(*words)
    result = run(config)
    (last_round,) = (spec.after_epoch for spec in config.curation.schedule)
    counted = [one for one in result.evaluations if one["epoch"] > last_round]
    assert result.evaluation["stopped_early"] and len(counted) == 3 and len(result.evaluations) > 3
    chosen = min(result.evaluations, key=lambda one: one["figures"]["val/held_out/loss"])
    written = json.loads((result.run_dir / "results.json").read_text())["evaluation"]
    assert written == result.evaluation and written["model"] == "best" and written["best"]["step"] == chosen["step"]
    weights = torch.load(result.run_dir / "best" / f"step{chosen['step']:07d}.ckpt", weights_only=True)["state_dict"]
    head = load_file(result.run_dir / "model" / "reward_head.safetensors")
    assert all(torch.equal(value, weights[f"model.head.{name}"]) for name, value in head.items())
    assert {"val/held_out/accuracy", "val/accuracy", "val/loss"} <= {e["name"] for e in read_history(result.run_dir)}


NEVER = (
    "evaluation.every_n_steps=100000", "evaluation.every_n_epochs=null", "evaluation.best.metric=val/loss", "evaluation.best.use=true",
)  # fmt: skip


@pytest.mark.parametrize("experiment", ["baseline_open_pool", "dt2it_full"])
def test_run_with_evaluations_that_never_come_is_refused_before_its_first_step(
    small_run: Callable[..., RunConfig], experiment: str
) -> None:
    config = small_run(f"experiment={experiment}", *NEVER, "evaluation.early_stopping.metric=val/loss")
    with pytest.raises(
        ConfigError, match=r"every_n_steps=100000: nothing is ever evaluated in a training of at most \d+ steps"
    ):
        run(config)
    folder = (Path(config.output_root) / "latest").resolve()
    assert not list(folder.glob("checkpoints/*.ckpt"))
    assert not {"train/loss"} & {entry["name"] for entry in read_history(folder)}


def test_run_without_any_evaluation_in_the_end_keeps_its_last_weights_and_says_so(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("experiment=baseline_open_pool", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    plain = run(small_run(*words)).run_dir
    monkeypatch.setattr("callbacks.periodic_evaluation.PeriodicEvaluation._check_comes", lambda *_: None)
    folder = run(small_run(*words, *NEVER)).run_dir
    assert "there are no best weights: the LAST weights are saved" in caplog.text
    written = json.loads((folder / "results.json").read_text())
    assert written["evaluation"] == {
        "evaluations": 0, "last": None, "best": None, "stopped_early": False, "model": "last",
    }  # fmt: skip
    assert written["tests"] == json.loads((plain / "results.json").read_text())["tests"] and written["tests"]
    assert (folder / "report.html").exists() and read_state(folder)["finished"]
    heads = (load_file(path / "model" / "reward_head.safetensors") for path in (plain, folder))
    one, other = heads
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("place", ["use_best", "evaluate", "finish_mlflow", "write_report"])
def test_run_that_fails_behind_its_training_is_failed_in_mlflow(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    config = small_run(
        "experiment=baseline_open_pool", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=mlflow",
        "evaluation.best.metric=val/loss", "evaluation.best.use=true",
    )  # fmt: skip
    seen = []

    def statuses() -> list[str]:
        client = MlflowClient(tracking_uri(config))
        experiment = client.get_experiment_by_name("mrm")
        assert experiment is not None
        return [one.info.status for one in client.search_runs([experiment.experiment_id])]

    def fail(*_: Any, **__: Any) -> None:
        seen.extend(statuses())
        raise MrmError("fails here")

    monkeypatch.setattr(f"mrm.run.{place}", fail)
    with pytest.raises(MrmError, match="fails here"):
        run(config)
    assert seen == ["RUNNING"] and statuses() == ["FAILED"]


def test_run_that_has_finished_stays_so_in_mlflow_where_it_cannot_be_shown(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: Any) -> None:
        raise BrokenPipeError

    config = small_run(
        "experiment=baseline_open_pool", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=mlflow"
    )
    monkeypatch.setattr("mrm.run.print_summary", closed)
    with pytest.raises(BrokenPipeError):
        run(config)
    client = MlflowClient(tracking_uri(config))
    experiment = client.get_experiment_by_name("mrm")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"


def test_run_logs_to_mlflow_and_resume_goes_on_in_the_same_run(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run("experiment=dt2it_flip_only", "logger=mlflow", "trainer.max_epochs=2", "seed=5")
    with monkeypatch.context() as patch:  # dies after training, before results
        patch.setattr("mrm.run.evaluate", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            run(config)
    config.resume = "auto"
    result = run(config)
    client = MlflowClient(tracking_uri(config))
    experiment = client.get_experiment_by_name("mrm")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["curation.restart"] == "warm"
    assert tracked.data.tags["experiment"] == "dt2it_flip_only" and tracked.data.tags["seed"] == "5"
    assert len(tracked.data.tags["data_fingerprint"]) == 64
    assert {"train/loss", "test/test_t2i/accuracy", "curation/flipped", "active_pairs", "peak_memory_mib"} <= set(
        tracked.data.metrics
    )
    assert {"val/held_out/accuracy", "val/accuracy", "system/cpu_utilization_percentage"} <= set(tracked.data.metrics)
    kept = {item.path for item in client.list_artifacts(tracked.info.run_id)}
    assert {path for path in kept if not path.startswith("changes")} == {
        "config.yaml", "results.json", "rounds.json", "evaluations.json", "test_scores.parquet", "report.html", "ledger",
        "environment.json", "data.json",
    }  # fmt: skip
    contexts = {one.dataset.name: one.tags[0].value for one in tracked.inputs.dataset_inputs}
    assert contexts["open"] == "open" and contexts["held_out"] == "val" and contexts["ledger_round_1"] == "curated"
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.source_run_id == tracked.info.run_id and model.status == "READY"
    assert "test/test_t2i/accuracy" in {metric.key for metric in model.metrics}
    for name in ("train/loss", "val/accuracy"):  # the run was killed behind its training: nothing is there twice
        steps = [metric.step for metric in client.get_metric_history(tracked.info.run_id, name)]
        assert len(steps) == len(set(steps)), name
    assert len(json.loads((result.run_dir / "environment.json").read_text())["starts"]) == 2
    assert [item.path for item in client.list_artifacts(tracked.info.run_id, "ledger")] == [
        "ledger/round_0000.parquet", "ledger/round_0001.parquet",
    ]  # fmt: skip
    assert len(list(result.run_dir.parent.glob("dt2it_flip_only-*"))) == 1
    before = {name: client.get_metric_history(tracked.info.run_id, name) for name in tracked.data.metrics}
    assert not sync(result.run_dir, SyncConfig()).lacks  # nothing was lacking: figures, end and model stay as they are
    again = client.get_run(tracked.info.run_id)
    assert again.info.end_time == tracked.info.end_time and again.data.metrics == tracked.data.metrics
    assert {name: len(client.get_metric_history(tracked.info.run_id, name)) for name in before} == {
        name: len(points) for name, points in before.items()
    }
    assert [one.model_id for one in client.search_logged_models([experiment.experiment_id])] == [model.model_id]


def test_run_killed_within_an_epoch_and_resumed_ends_as_one_left_alone(
    small_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    def config(root: str) -> RunConfig:
        made = small_run(
            "experiment=dt2it_full", "trainer.checkpoint_every_n_steps=3", "report.enabled=false",
            "evaluation.every_n_steps=2", "evaluation.best.metric=val/loss", "evaluation.best.use=true", samples=32,
        )  # fmt: skip
        made.output_root = str(tmp_path / root)
        return made

    alone = run(config("alone")).run_dir
    (tmp_path / "config.yaml").write_text(to_yaml(config("killed")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "config.yaml")], env=environment)
    try:  # epoch 0 takes 16 steps at 64 samples; steps 18, 21, ... are within epoch 1, behind the first round
        wait_for(lambda: list((tmp_path / "killed").glob("*/checkpoints/epoch001-step*.ckpt")), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (folder,) = (path for path in (tmp_path / "killed").iterdir() if not path.is_symlink())
    assert not (folder / "results.json").exists()
    resumed = config("killed")
    resumed.resume = "auto"
    assert run(resumed).run_dir == folder
    assert_same_outcome(alone, folder)


def test_run_that_stops_half_way_remembers_why_until_it_goes_on(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config = small_run("experiment=baseline_open_pool", "resume=auto")
    monkeypatch.setattr("mrm.run._run", full)
    with pytest.raises(ResumableError, match="No space left on device.*resume=auto"):
        run(config)
    folder = (Path(config.output_root) / "latest").resolve()
    assert "No space left on device" in read_state(folder)[STOPPED]
    monkeypatch.setattr("mrm.run._run", lambda _, folder, resumed, *rest: (folder, resumed))
    assert run(config) == (folder, True) and read_state(folder)[STOPPED] is None


def test_resume_auto_without_unfinished_run_starts_a_new_one(small_run: Callable[..., RunConfig]) -> None:
    config = small_run("experiment=baseline_open_pool", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    first = run(config).run_dir
    config.resume = "auto"
    assert run(config).run_dir != first


def test_resume_of_finished_run_is_refused(small_run: Callable[..., RunConfig]) -> None:
    config = small_run("experiment=baseline_open_pool", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    config.resume = str(run(config).run_dir)
    with pytest.raises(ConfigError, match="has finished"):
        run(config)


def test_run_that_diverges_saves_no_model_and_is_not_finished(small_run: Callable[..., RunConfig]) -> None:
    config = small_run("experiment=baseline_open_pool", "trainer.max_epochs=1", "optim.lr=1e30", "optim.head_lr=1e30")
    with pytest.raises(MrmError, match="the training has diverged.*optim.lr"):
        run(config)
    folder = (Path(config.output_root) / "latest").resolve()
    assert not (folder / "model").exists() and not list(folder.glob("checkpoints/*.ckpt"))
    assert not read_state(folder).get("finished")


def test_run_with_judges_that_cannot_judge_the_open_shards_stops_before_training(
    small_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    pairs = [{"prompt": f"q{number}", "chosen": f"yes {number}", "rejected": f"no {number}"} for number in range(4)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    shards = prepare("jsonl", tmp_path / "pairs.jsonl", tmp_path / "shards", show_progress=False).path
    config = small_run("experiment=dt2it_full")
    config.data.datasets["open"] = DatasetConfig(source="shards", role="open", path=str(shards))
    with pytest.raises(ConfigError, match="pairs-0000000.* is not of the embedded world.*choose models of kind openai"):
        run(config)
    assert not read_history((Path(config.output_root) / "latest").resolve())


def test_run_with_servers_as_judges_asked_beside_the_training_tells_what_they_took(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "a-key-of-some-length")
    rounds = ["[score, correct]", "[score, filter]", "[annotate]"]
    schedule = ", ".join(f"{{after_epoch: {epoch}, steps: {steps}}}" for epoch, steps in enumerate(rounds))
    config = small_run(
        "experiment=dt2it_full", f"curation.schedule=[{schedule}]", "curation.annotation.mode=async",
        "trainer.max_epochs=4", "report.enabled=false",
    )  # fmt: skip
    with FaultServer(key="a-key-of-some-length") as server:
        judge = ModelSpec(model="judge", base_url=server.url, key_env="JUDGE_KEY", price_input=1.0, price_output=2.0)
        config.curation.annotators = {"one": judge, "two": replace(judge, temperature=0.5)}
        result = run(config)
        asked = sum(server.asked.values())
    last = result.rounds[2]
    assert last["annotation_calls"] == 4 * result.rounds[1]["queued"] == 4 * last["reannotated"] > 0
    assert last["annotation_failed"] == 0 and last["annotation_cost"] > 0
    assert last["annotation_calls"] <= asked <= last["annotation_calls"] + 2  # and the probe, unless it was queued
    assert "curation/annotation_cost" in {entry["name"] for entry in read_history(result.run_dir)}
    assert (result.run_dir / "annotations" / "answers.jsonl").is_file()
    kept = [path.read_bytes() for path in result.run_dir.rglob("*") if path.is_file()]
    assert not any(b"a-key-of-some-length" in content for content in kept)


def test_check_judges_without_probe_looks_for_the_key_and_asks_nobody(
    small_run: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run("experiment=dt2it_full")
    judge = ModelSpec(model="m", base_url="http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY")
    config.curation.annotators = {"judge": judge}
    annotators = build_annotators(config, tmp_path)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        check_judges(annotators, [], probe=False)
    monkeypatch.setenv("NO_SUCH_KEY", "x")
    check_judges(annotators, [], probe=False)
    check_judges(None, [], probe=True)
    assert annotators is not None and annotators.folder == tmp_path / "annotations" and not annotators.folder.exists()
    config.curation.annotation.cache_dir = str(tmp_path / "shared")
    shared = build_annotators(config, tmp_path)
    assert shared is not None and shared.folder == tmp_path / "shared"


def test_run_more_devices_than_processes_says_how_to_start(small_run: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node=2"):
        run(small_run("trainer.devices=2"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["experiment=dt2it_ful"], "Did you mean 'dt2it_full'?"),
        (["trainer.max_epochs=1"], "too few"),
        (["experiment=smoke_real", "data_root=nowhere"], "there is no nowhere/math_v; set data_root="),
        (["-m", "experiment=dt2it_full,nix", "seed=1,2"], "experiment=nix: there is no such choice"),
    ],
)
def test_command_bad_input_ends_with_one_message_and_status_2(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mrm.run", *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(tmp_path.glob("runs/*-s*"))


def test_command_multirun_runs_members_at_once_and_goes_on(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    counts = [
        f"data.datasets.{name}.options.{'shapeworld.' if dataset.source == 'construct' else ''}count="
        f"{4 if dataset.role == 'test' else 16}"
        for name, dataset in small_run().data.datasets.items()
    ]
    command = [sys.executable, "-m", "mrm.run", "-m", *counts, "trainer.accelerator=cpu", "trainer.max_epochs=1"]
    command += ["+data.datasets.trusted.options.style.mode=none"]  # of so few pairs, style would leave none
    command += ["trainer.limit_train_batches=1", "report.enabled=false", "sweep.name=three", "sweep.jobs=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def sweep(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280
        )

    # Members that cannot be run do not keep the others from it.
    first = sweep("experiment=baseline_open_pool,dt2it_no_curation", "seed=1", "optim.lr=1e-4,-1")
    assert first.returncode == 1, first.stderr
    assert first.stdout.count("optim.lr=-1.0: must be more than 0") == 2
    names = sorted(path.parent.name.rsplit("-", 2)[0] for path in (tmp_path / "runs").glob("*-s*/results.json"))
    assert names == ["baseline_open_pool-s1", "dt2it_no_curation-s1"]
    for name in ("open", "test_count"):  # members that begin together share what is prepared
        assert len([p for p in (tmp_path / "data" / "prepared").glob(f"{name}-*") if p.is_dir()]) == 1

    done = sweep("experiment=baseline_open_pool", "seed=range(1,3)", "optim.lr=1e-4")
    assert done.returncode == 0, done.stderr
    assert "1 of 2 members to run" in done.stderr
    told = json.loads((tmp_path / "runs" / "sweeps" / "three" / "sweep.json").read_text())
    assert [(m["number"], m["state"], m["starts"]) for m in told["members"]] == [
        (1, "finished", 1), (2, "finished", 1), (None, "failed", 0), (None, "finished", 1), (None, "failed", 0),
    ]  # fmt: skip
    finished = [member for member in told["members"] if member["state"] == "finished"]
    assert len({member["run_dir"] for member in finished}) == 3 and all(m["results"]["tests"] for m in finished)

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mrm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("role") == "sweep"]
    assert parent.info.run_name == "three" and parent.info.status == "FINISHED"
    assert parent.data.metrics["finished"] == 2
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["run_dir"] for run in children} == {member["run_dir"] for member in finished}
    assert all("test/test_count/accuracy" in run.data.metrics for run in children)


def test_command_sweep_settings_without_a_sweep_are_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mrm.run", "sweep.jobs=2"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "sweep.jobs=2: has an effect only on a sweep; add -m" in done.stderr


def assert_same_outcome(first: Path, second: Path) -> None:
    """All but times and memory."""
    assert_same_weights_and_ledgers(first, second)
    assert figures(first / "results.json") == figures(second / "results.json")
    for name in ("rounds.json", "evaluations.json", "best/best.json"):
        assert (first / name).exists() == (second / name).exists(), name
        assert not (first / name).exists() or figures(first / name) == figures(second / name), name
    assert figures(first / "data.json") == figures(second / "data.json")
    one, other = (read_scores(folder / SCORES_FILE) for folder in (first, second))
    assert all((one[name].chosen == other[name].chosen).all() for name in one)


def figures(path: Path) -> Any:
    def told(node: Any) -> Any:
        if isinstance(node, list):
            return [told(item) for item in node]
        if isinstance(node, dict):
            return {
                key: told(item) for key, item in node.items() if not key.endswith(("starts", "seconds", "memory_mib"))
            }
        return node

    return told(json.loads(path.read_text()))


def assert_same_weights_and_ledgers(first: Path, second: Path) -> None:
    for file in ("model.safetensors", "reward_head.safetensors"):
        one, other = load_file(first / "model" / file), load_file(second / "model" / file)
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one), file
    for number in ledger_rounds(first / "ledger"):
        assert round_path(first / "ledger", number).read_bytes() == round_path(second / "ledger", number).read_bytes()


def wait_for(found: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if found():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.1)
    raise AssertionError("no checkpoint within two minutes")
