"""What a sweep's driver makes of the command line: members, their faults, and the words that each one is started with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mrm.cli import hydra_command
from mrm.config import to_run_config
from mrm.errors import ResumableError
from mrm.sweep import SweepDriver, run_command
from mrm.sweeps.running import Sweep

Gather = Callable[..., SweepDriver]


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gather:
    """The driver with the members that these words make."""

    def call(*words: str) -> SweepDriver:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.setattr("mrm.cli.set_up_logging", lambda: None)  # would replace pytest's handlers
        monkeypatch.setattr(sys, "argv", ["run", "-m", f"output_root={tmp_path}", *words])
        driver = SweepDriver()
        hydra_command(lambda _: pytest.fail("ran"), root="config", convert=to_run_config, gather=driver.add)
        return driver

    return call


def test_driver_gathers_lists_ranges_groups_and_several_dimensions(gathered: Gather, tmp_path: Path) -> None:
    driver = gathered(
        "experiment=baseline_open_pool", "model=tiny,qwen3_vl_8b", "seed=range(1,3)", "loss=choice(bradley_terry)",
        "sweep.name=a", "model.backbone=tiny",
    )  # fmt: skip
    assert [member.fault for member in driver.members] == [None] * 4
    made = [
        (m.config.seed, m.config.model.max_prompt_tokens > 0, m.config.loss.name) for m in driver.members if m.config
    ]
    assert made == [(1, True, "bradley_terry"), (2, True, "bradley_terry")] * 2
    assert [word for member in driver.members for word in member.overrides if word.startswith("model=")] == [
        *["model=tiny"] * 2,
        *["model=qwen3_vl_8b"] * 2,
    ]
    assert driver._folder == tmp_path / "sweeps" / "a"
    assert len({member.fingerprint for member in driver.members}) == 4


def test_driver_without_a_name_takes_the_time_once(gathered: Gather, tmp_path: Path) -> None:
    driver = gathered("seed=1,2")
    assert driver._folder.parent == tmp_path / "sweeps" and driver._folder.name.startswith("20")


def test_driver_keeps_a_member_that_cannot_be_run_with_its_fault(gathered: Gather) -> None:
    driver = gathered("experiment=baseline_open_pool", "trainer.num_nodes=1,2", "optim.lr=1e-4,-1")
    faults = [member.fault or "" for member in driver.members]
    assert [bool(fault) for fault in faults] == [False, True, True, True]
    assert "optim.lr=-1.0: must be more than 0" in faults[1] and "submitit" in faults[2]


def test_driver_members_of_several_processes_are_checked_without_torchrun(gathered: Gather) -> None:
    (member,) = gathered("experiment=baseline_open_pool", "trainer.devices=2", "trainer.accelerator=cpu").members
    assert member.fault is None
    command = run_command(["seed=1"], 2)
    assert command[1:3] == ["-m", "torch.distributed.run"] and command[-3:] == ["-m", "mrm.run", "seed=1"]
    assert run_command(["seed=1"], 1) == [sys.executable, "-m", "mrm.run", "seed=1"]


def test_driver_tells_members_where_more_configurations_are(gathered: Gather, tmp_path: Path) -> None:
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "soft.yaml").write_text("label_smoothing: 0.1\n")
    driver = gathered(
        "loss=soft", "hydra.job.name=x", f"hydra.sweep.dir={tmp_path / 's'}", "--config-dir", str(tmp_path / "mine")
    )
    assert driver._flags == ["--config-dir", str(tmp_path / "mine"), "hydra.job.name=x"]
    assert driver._folder == tmp_path / "s"
    assert driver.members[0].config is not None and driver.members[0].config.loss.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sweep.jobs=0"], "sweep.jobs=0: must be at least 1"),
        (["sweep.name=a/b"], "sweep.name='a/b': must be a folder's name"),
        (["sweep.jobs=1,2"], "sweep: its keys hold for all members"),
    ],
)
def test_driver_sweep_settings_at_fault_end_the_command(
    gathered: Gather, words: list[str], expected: str, capsys
) -> None:
    with pytest.raises(SystemExit) as ended:
        gathered("experiment=baseline_open_pool", *words).run()
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_driver_under_torchrun_is_refused(gathered: Gather, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    driver = gathered("experiment=baseline_open_pool", "seed=1,2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        driver.run()
    assert "without torchrun" in capsys.readouterr().err


def test_driver_whose_record_cannot_be_written_ends_as_for_want_of_room(
    gathered: Gather, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    driver = gathered("experiment=baseline_open_pool", "seed=1,2")

    def stop(self: Sweep) -> int:
        raise ResumableError("sweep.json cannot be written: no room")

    monkeypatch.setattr(Sweep, "run", stop)
    with pytest.raises(SystemExit) as ended:
        driver.run()
    assert ended.value.code == 75
    assert "sweep.json cannot be written: no room" in capsys.readouterr().err
