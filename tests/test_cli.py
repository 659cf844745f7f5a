"""The command line: one failing member of a sweep does not end it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mrm.cli import hydra_command
from mrm.config import RunConfig
from mrm.errors import ConfigError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs a task as the command does with these words; gives the exit status."""

    def call(task, *words: str) -> object:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.setattr("mrm.cli.set_up_logging", lambda: None)  # would replace pytest's handlers
        monkeypatch.setattr(sys, "argv", ["run", *words, f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}"])
        try:
            hydra_command(task)
        except SystemExit as ended:
            return ended.code
        return 0

    return call


def test_hydra_command_sweep_goes_on_past_failing_members_and_names_them(command, capsys) -> None:
    done = []

    def task(config: RunConfig) -> None:
        if config.seed == 1:
            raise ConfigError("no such thing")
        if config.seed == 2:
            raise RuntimeError("out of memory")
        done.append(config.seed)

    assert command(task, "-m", "seed=1,2,3") == 2
    assert done == [3]
    told = capsys.readouterr().err
    assert "no such thing" in told and "out of memory" in told
    assert "2 member(s) of the sweep failed" in told and "- seed=1" in told and "- seed=2" in told


def test_hydra_command_sweep_without_failure_ends_well(command) -> None:
    assert command(lambda config: None, "-m", "seed=1,2") == 0


def test_hydra_command_alone_keeps_the_traceback_of_other_errors(command) -> None:
    def task(config: RunConfig) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        command(task)
