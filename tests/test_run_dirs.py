"""Run folders: names, what identifies a configuration, finding an unfinished run."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mrm.config import AnnotationConfig, CurationConfig, LoggerConfig, ReportConfig, RoundConfig, RunConfig, SweepConfig
from mrm.construct_config import ModelSpec
from mrm.errors import ConfigError, ResumableError
from mrm.run_dirs import close_run_dir, find_runs, fingerprint, open_run_dir, read_state, write_json, write_state


def config(root: Path, **changes: object) -> RunConfig:
    return replace(RunConfig(output_root=str(root)), **changes)


def test_fingerprint_ignores_output_and_resume_but_not_seed() -> None:
    base = RunConfig()
    assert fingerprint(base) == fingerprint(RunConfig(output_root="elsewhere", resume="auto"))
    assert fingerprint(base) == fingerprint(RunConfig(sweep=SweepConfig(jobs=3, name="a", retry_failed=False)))
    elsewhere = LoggerConfig(enabled=False, mlflow="http://host:5000", experiment_name="x")
    assert fingerprint(base) == fingerprint(RunConfig(logger=elsewhere, report=ReportConfig(enabled=False)))
    assert fingerprint(base) != fingerprint(RunConfig(seed=2))


def test_fingerprint_ignores_how_judges_are_reached_and_paid_but_not_what_they_are_asked() -> None:
    def digest(spec: ModelSpec, **annotation: object) -> str:
        curation = CurationConfig(annotators={"a": spec}, annotation=AnnotationConfig(**annotation))  # type: ignore[arg-type]
        return fingerprint(RunConfig(curation=curation))

    base = digest(ModelSpec(model="m"))
    moved = ModelSpec(model="m", base_url="http://host/v1", key_env="KEY", concurrency=2, price_input=1.0)
    assert digest(moved, budget_money=5.0, tries=2, probe=False, cache_dir="elsewhere") == base
    assert digest(ModelSpec(model="n")) != base
    assert digest(ModelSpec(model="m"), mode="async") != base
    assert digest(ModelSpec(model="m"), language="en") != base


def test_fingerprint_ignores_what_only_stops_a_round() -> None:
    def digest(least: float = 0.25, **settings: object) -> str:
        schedule = [RoundConfig(after_epoch=0, steps=["score", "correct"], **settings)]  # type: ignore[arg-type]
        return fingerprint(RunConfig(curation=CurationConfig(enabled=True, schedule=schedule, min_active_share=least)))

    own = {"a": {"dead_zone": 1.0}}
    assert digest() == digest(least=0.1, max_flipped=0.9) != digest(correct_mode="drop")
    assert digest(sources=own) == digest(sources={"a": {"dead_zone": 1.0, "max_flipped": 0.1}}) != digest()


def test_open_run_dir_resume_past_a_cap_takes_another_one(tmp_path: Path) -> None:
    folder, _ = open_run_dir(config(tmp_path))
    close_run_dir(folder)
    raised = config(tmp_path, resume="auto")
    raised.curation.min_active_share = 0.1
    assert open_run_dir(raised) == (folder, True)
    close_run_dir(folder)
    raised.resume, raised.seed = str(folder), 2
    with pytest.raises(ConfigError) as caught:
        open_run_dir(raised)
    assert "seed: 1 then, 2 now" in str(caught.value) and "min_active_share" not in str(caught.value)


def test_open_run_dir_twice_makes_two_folders_and_latest_is_the_second(tmp_path: Path) -> None:
    first, resumed = open_run_dir(config(tmp_path))
    second, _ = open_run_dir(config(tmp_path))
    assert not resumed and first != second
    assert (tmp_path / "latest").resolve() == second
    assert os.readlink(tmp_path / "latest") == second.name  # relative: the folder may be moved
    assert first.name.startswith("default-s1-") and (first / "config.yaml").is_file()


def test_open_run_dir_auto_takes_newest_unfinished_of_the_same_configuration(tmp_path: Path) -> None:
    finished, _ = open_run_dir(config(tmp_path))
    write_state(finished, finished=True)
    older, _ = open_run_dir(config(tmp_path))
    os.utime(older / "config.yaml", (1, 1))
    wanted, _ = open_run_dir(config(tmp_path))
    other, _ = open_run_dir(config(tmp_path, seed=2))
    for folder in (finished, older, wanted, other):
        close_run_dir(folder)
    assert open_run_dir(config(tmp_path, resume="auto")) == (wanted, True)
    assert (tmp_path / "latest").resolve() == wanted
    assert open_run_dir(config(tmp_path, resume="auto", seed=2)) == (other, True)
    assert open_run_dir(config(tmp_path, resume="auto", seed=3))[1] is False


def test_open_run_dir_resume_of_other_configuration_names_the_keys(tmp_path: Path) -> None:
    folder, _ = open_run_dir(config(tmp_path))
    with pytest.raises(ConfigError, match="seed: 1 then, 2 now"):
        open_run_dir(config(tmp_path, seed=2, resume=str(folder)))


def test_open_run_dir_of_a_running_run_is_passed_over_or_refused(tmp_path: Path) -> None:
    older, _ = open_run_dir(config(tmp_path))
    os.utime(older / "config.yaml", (1, 1))
    running, _ = open_run_dir(config(tmp_path))
    close_run_dir(older)
    assert open_run_dir(config(tmp_path, resume="auto")) == (older, True)
    fresh, resumed = open_run_dir(config(tmp_path, resume="auto"))  # both run now
    assert fresh not in (older, running) and not resumed
    with pytest.raises(ResumableError, match=r"still running, it holds .*run\.lock"):
        open_run_dir(config(tmp_path, resume=str(running)))
    close_run_dir(running)
    assert open_run_dir(config(tmp_path, resume=str(running))) == (running, True)


def test_lock_of_a_killed_run_is_free_although_its_worker_lives(tmp_path: Path) -> None:
    folder, _ = open_run_dir(config(tmp_path))
    fork = multiprocessing.get_context("fork")
    alive = fork.Event()
    worker = fork.Process(target=lambda: (alive.set(), time.sleep(60)))
    worker.start()
    try:
        assert alive.wait(30)
        close_run_dir(folder)  # as the kernel does when the run's process ends
        assert open_run_dir(config(tmp_path, resume="auto")) == (folder, True)
    finally:
        worker.kill()
        worker.join()


def test_find_runs_by_sweep_newest_first_past_damaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    older, newer = (open_run_dir(config(tmp_path), sweep="a")[0] for _ in range(2))
    os.utime(older / "config.yaml", (1, 1))
    other, damaged = open_run_dir(config(tmp_path))[0], open_run_dir(config(tmp_path), sweep="a")[0]
    (damaged / "run.json").write_text("[")
    assert find_runs(tmp_path, sweep="a", fingerprint=fingerprint(RunConfig())) == [newer, older]
    assert find_runs(tmp_path, sweep="b") == [] and find_runs(tmp_path / "none") == []
    assert other in find_runs(tmp_path) and str(damaged) in caplog.text


def test_open_run_dir_resume_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run's folder"):
        open_run_dir(config(tmp_path, resume=str(tmp_path)))


@pytest.mark.parametrize("damage", ["", '{"fingerprint": "a', "[]", "{}"])
def test_open_run_dir_auto_passes_over_a_damaged_run(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, _ = open_run_dir(config(tmp_path))
    other, _ = open_run_dir(config(tmp_path, seed=2))
    (other / "run.json").write_text(damage)
    close_run_dir(wanted)
    assert open_run_dir(config(tmp_path, resume="auto")) == (wanted, True)
    assert damage == "{}" or f"passes over {other}" in caplog.text


@pytest.mark.parametrize("damage", ["", "[]"])
def test_open_run_dir_resume_of_a_damaged_run_names_the_file(tmp_path: Path, damage: str) -> None:
    folder, _ = open_run_dir(config(tmp_path))
    (folder / "run.json").write_text(damage)
    with pytest.raises(ConfigError, match=r"run\.json .*the run cannot be resumed"):
        open_run_dir(config(tmp_path, resume=str(folder)))


def test_open_run_dir_output_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    for root in (tmp_path / "taken", tmp_path / "taken" / "runs"):
        with pytest.raises(ConfigError, match="output_root: no folder can be made in .*taken"):
            open_run_dir(config(root))


def test_write_json_is_brought_to_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "a.json").exists()
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_text())

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "a.json", {"a": 1})
    assert synced == [(tmp_path / "a.json").read_text()]


def test_write_state_adds_to_what_is_there(tmp_path: Path) -> None:
    write_state(tmp_path, a=1)
    write_state(tmp_path, b=2)
    assert read_state(tmp_path) == {"a": 1, "b": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_write_json_that_fails_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mrm.run_dirs.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"] and '"a": 1' in path.read_text()
