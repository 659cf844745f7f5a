"""The command line: one failing member of a sweep does not end it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import MISSING

from mrm.cli import compose_config, hydra_command, parse_settings, settings_command
from mrm.config import RunConfig, to_run_config
from mrm.errors import ConfigError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs a task as the command does with these words; gives the exit status."""

    def call(task, *words: str) -> object:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.setattr("mrm.cli.set_up_logging", lambda: None)  # would replace pytest's handlers
        monkeypatch.setattr(sys, "argv", ["run", *words, f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}"])
        try:
            hydra_command(task, root="config", convert=to_run_config)
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


@dataclass
class Settings:
    model: str = MISSING
    output: str = MISSING
    batch_size: int = 16
    row_tokens: int | None = 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["modl=a"], "Did you mean 'model'"),
        (["model=a"], "output: missing; add output=..."),
        (["a"], "must be of the form key=value"),
        (["batch_size=x"], "batch_size: Value 'x'"),
        (["batch_size=null"], "batch_size: Value 'null'"),
        (["=a"], "'=a': must be of the form key=value"),
        (["model.x=a"], r"model\.x.*there is no such key"),
        (["model=a", "output=b", "model=c"], "model: is given twice, as 'a' and as 'c'"),
        (["model=a", "output=${foo}/x"], "output: .*'foo' not found"),
        (["model=a", "output=${"], "output: "),
    ],
)
def test_parse_settings_wrong_word_is_explained(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_settings(Settings, words)


def test_parse_settings_names_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(Settings, ["modl=a", "batch_size=many"])
    for part in ("Did you mean 'model'?", "batch_size: Value 'many'", "model, output: missing"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["2026_01_05", "1e5", "[a", "a: b: c", "a=b", "null", "0x10", "~", ""])
def test_parse_settings_name_is_taken_as_it_is_written(name: str) -> None:
    assert parse_settings(Settings, ["model=a", f"output={name}"]).output == name


def test_parse_settings_null_empties_an_optional_field() -> None:
    assert parse_settings(Settings, ["model=a", "output=b", "row_tokens=null"]).row_tokens is None


def test_settings_command_gives_the_task_its_settings(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrm.cli.set_up_logging", lambda: None)
    given: list[Settings] = []
    settings_command(Settings, given.append, "What it does.", ["model=a", "output=b", "batch_size=4"])
    assert given == [Settings("a", "b", 4)]
    settings_command(Settings, given.append, "What it does.", ["--help"])
    assert len(given) == 1
    assert capsys.readouterr().out.split() == [
        *"What it does. Keys and their defaults (??? must be given):".split(),
        *"model: ??? output: ??? batch_size: 16 row_tokens: 4".split(),
    ]
    with pytest.raises(SystemExit) as ended:
        settings_command(Settings, given.append, "What it does.", ["model=a"])
    assert ended.value.code == 2


def test_compose_within_a_command_that_hydra_composed_uses_its_search_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("found: here\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose_config([], root="mine", convert=dict) == {"found": "here"}
