"""Run folders: names, what identifies a configuration, finding an unfinished run."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mrm.config import RunConfig
from mrm.errors import ConfigError
from mrm.run_dirs import close_run_dir, fingerprint, open_run_dir, read_state, write_state


def config(root: Path, **changes: object) -> RunConfig:
    return replace(RunConfig(output_root=str(root)), **changes)


def test_fingerprint_ignores_output_and_resume_but_not_seed() -> None:
    base = RunConfig()
    assert fingerprint(base) == fingerprint(RunConfig(output_root="elsewhere", resume="auto"))
    assert fingerprint(base) != fingerprint(RunConfig(seed=2))


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
    with pytest.raises(ConfigError, match=r"still running, it holds .*run\.lock"):
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


def test_open_run_dir_resume_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run's folder"):
        open_run_dir(config(tmp_path, resume=str(tmp_path)))


def test_write_state_adds_to_what_is_there(tmp_path: Path) -> None:
    write_state(tmp_path, a=1)
    write_state(tmp_path, b=2)
    assert read_state(tmp_path) == {"a": 1, "b": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
