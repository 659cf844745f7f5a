"""Run folders: names, what identifies a configuration, finding an unfinished run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mrm.config import RunConfig
from mrm.errors import ConfigError
from mrm.run_dirs import fingerprint, open_run_dir, read_state, write_state


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
    assert open_run_dir(config(tmp_path, resume="auto")) == (wanted, True)
    assert (tmp_path / "latest").resolve() == wanted
    assert open_run_dir(config(tmp_path, resume="auto", seed=2)) == (other, True)
    assert open_run_dir(config(tmp_path, resume="auto", seed=3))[1] is False


def test_open_run_dir_resume_of_other_configuration_names_the_keys(tmp_path: Path) -> None:
    folder, _ = open_run_dir(config(tmp_path))
    with pytest.raises(ConfigError, match="seed: 1 then, 2 now"):
        open_run_dir(config(tmp_path, seed=2, resume=str(folder)))


def test_open_run_dir_resume_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run's folder"):
        open_run_dir(config(tmp_path, resume=str(tmp_path)))


def test_write_state_adds_to_what_is_there(tmp_path: Path) -> None:
    write_state(tmp_path, a=1)
    write_state(tmp_path, b=2)
    assert read_state(tmp_path) == {"a": 1, "b": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
