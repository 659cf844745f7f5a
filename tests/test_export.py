"""A run's checkpoint as a saved model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from callbacks.checkpoints import newest_checkpoint
from mrm.config import RunConfig
from mrm.errors import ConfigError
from mrm.export import ExportConfig, export, main
from mrm.run import run
from tests.test_run_distributed import assert_same_model


@pytest.fixture
def finished(small_run: Callable[..., RunConfig]) -> Path:
    """The folder of a run of one epoch; its last checkpoint has the weights that were saved at its end."""
    config = small_run("experiment=dt2it_no_curation", "trainer.max_epochs=1", "report.enabled=false")
    return run(config).run_dir


def test_newest_checkpoint_is_exported_as_the_runs_own_model(finished: Path, tmp_path: Path) -> None:
    path = export(ExportConfig(run=str(finished), output=str(tmp_path / "model")))
    assert path == newest_checkpoint(finished / "checkpoints")
    assert_same_model(tmp_path / "model", finished / "model")


def test_what_cannot_be_exported_is_named(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def message(**given: str) -> str:
        with pytest.raises(ConfigError) as error:
            export(ExportConfig(**{"run": str(finished), "output": str(tmp_path / "new"), **given}))
        assert not (tmp_path / "new").exists()
        return str(error.value)

    damaged = tmp_path / "a.ckpt"
    damaged.write_bytes(b"nothing")
    foreign = tmp_path / "b.ckpt"
    torch.save({"state_dict": {"model.x": torch.zeros(1)}}, foreign)
    assert "is no run's folder" in message(run=str(tmp_path))
    assert "is not empty" in message(output=str(finished))
    assert "is a file" in message(output=str(damaged))
    assert "among the run's checkpoints" in message(output=str(finished / "checkpoints" / "x.ckpt"))
    assert "cannot be written" in message(output="/proc/nowhere/model")
    assert "is the folder of checkpoints; name one of" in message(checkpoint=str(finished / "checkpoints"))
    assert "a.ckpt: cannot be read" in message(checkpoint=str(damaged))
    assert "b.ckpt: does not fit the model" in message(checkpoint=str(foreign))
    assert "holds none" in message(checkpoint=str(tmp_path / "c.ckpt"))
    with pytest.raises(SystemExit):
        main([f"run={tmp_path}", f"output={tmp_path / 'new'}"])
    assert "is no run's folder" in capsys.readouterr().err
