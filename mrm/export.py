"""`python -m mrm.export run=DIR output=FOLDER`: a saved reward model from a run's checkpoint, before the run has ended.

The newest checkpoint of the run, or the one named by `checkpoint`, is made into the form that `mrm.score` takes; one in
slices (a folder, see `trainer=fsdp2`) is put together on the CPU, without the processes that wrote it. The run may go on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import MISSING
from rich.console import Console
from torch import Tensor

from callbacks.checkpoints import newest_checkpoint, whole_checkpoints
from mrm.cli import settings_command
from mrm.errors import ConfigError
from mrm.model.saving import save_reward_model
from mrm.model.sharded_checkpoints import whole_weights
from mrm.parts import build_encoder, build_reward_model
from mrm.run_dirs import CONFIG_FILE, read_config

PART = "model."  # of the module that is trained: the reward model


@dataclass
class ExportConfig:
    """What the command takes."""

    run: str = MISSING  # a run's folder
    output: str = MISSING  # a new folder for the saved model
    checkpoint: str | None = None  # null takes the run's newest


def export(config: ExportConfig) -> Path:
    """Writes the saved model.

    Returns:
        The checkpoint that it was made from.

    Raises:
        MrmError: for a folder that is no run or has no checkpoint, a checkpoint that cannot be read or does not fit the run's
            model, weights that are not finite, or an output that exists.
    """
    run, output = Path(config.run), Path(config.output)
    settings = read_config(run)
    _check_output(output, run)
    path = _checkpoint(config.checkpoint, run)
    weights = read_weights(path)
    settings.model.attention = "auto"  # what the run was trained with may not be installed here; it is not saved
    model = build_reward_model(settings, device="cpu")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path}: does not fit the model of {run / CONFIG_FILE}: {error}") from error
    encoder = build_encoder(settings).with_resolution(settings.model.max_pixels_score)
    partial = output.with_name(f".{output.name}.partial")  # whole under its name, or not there
    try:
        shutil.rmtree(partial, ignore_errors=True)
        save_reward_model(model, partial, encoder, form=settings.model.lora.save)
        partial.replace(output)
    except OSError as error:
        raise ConfigError(f"output={str(output)!r}: cannot be written: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _check_output(output: Path, run: Path) -> None:
    if output.is_dir() and any(output.iterdir()):
        raise ConfigError(f"output={str(output)!r}: is not empty; name a new folder.")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output={str(output)!r}: is a file; name a new folder.")
    if (run / "checkpoints").resolve() in output.resolve().parents:
        raise ConfigError(f"output={str(output)!r}: lies among the run's checkpoints; name a folder elsewhere.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output={str(output)!r}: cannot be written: {error}.") from error


def _checkpoint(given: str | None, run: Path) -> Path:
    """The checkpoint that is named, or the run's newest."""
    folder = run / "checkpoints"
    path = Path(given) if given else newest_checkpoint(folder)
    there = ", ".join(str(one) for one in whole_checkpoints(folder))
    if path is None or not path.exists():
        raise ConfigError(
            f"checkpoint={given or 'null'}: {path or folder} holds none; a run writes one every "
            f"trainer.checkpoint_every_n_steps and at an epoch's end. There are: {there or 'none'}."
        )
    if path.resolve() == folder.resolve():
        raise ConfigError(f"checkpoint={given}: is the folder of checkpoints; name one of {there or 'none'}.")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The reward model's whole weights, of a checkpoint in one file or in slices.

    Raises:
        MrmError: for one that cannot be read.
    """
    if path.is_dir():
        state = whole_weights(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        except Exception as error:  # what a damaged or foreign file raises is not told by torch
            raise ConfigError(f"checkpoint {path}: cannot be read: {error}") from error
    return {name.removeprefix(PART): value for name, value in state.items() if name.startswith(PART)}


def run(config: ExportConfig) -> None:
    """Exports, and says what was written."""
    path = export(config)
    Console().print(f"{path}\nModel    {config.output}", markup=False, highlight=False, soft_wrap=True)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(ExportConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
