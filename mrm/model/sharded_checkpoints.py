"""Checkpoints of sharded weights (FSDP2): a folder in which each rank writes its slices, and no rank holds the whole.

`shard-NNNNN-...safetensors` hold weights and moments, named `model.NAME` and `optimizer.NUMBER.NAME.MOMENT`, each with its place in
the whole tensor; `rest.ckpt` holds what is no tensor and the list of those files. PyTorch's distributed checkpoints write
and place the slices, on any number of processes; its own metadata file would be a pickle, which the safetensors form has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from mrm.errors import MrmError

REST_FILE = "rest.ckpt"
FILES = "files"
SHARDS = "*.safetensors"


class ShardedStrategy(ModelParallelStrategy):
    """Data-parallel training on slices of the weights, with checkpoints in slices.

    Args:
        processes: of the whole run, one a device.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=True)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Writes the folder; all ranks must call."""
        folder = Path(self.broadcast(filepath))
        tensors = {_model_name(name): value for name, value in checkpoint.pop("state_dict").items()}
        rest = {**checkpoint, "optimizer_states": []}
        for number, state in enumerate(checkpoint.get("optimizer_states", [])):
            moments, scalars = _split(state["state"], number)
            tensors |= moments
            rest["optimizer_states"].append({"scalars": scalars, "param_groups": state["param_groups"]})
        if self.is_global_zero:
            folder.mkdir(parents=True)
        self.barrier("checkpoint folder")
        dcp.save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        files = self._own_files(folder)
        if self.is_global_zero:
            rest[FILES] = files
            torch.save(rest, folder / REST_FILE)

    def _own_files(self, folder: Path) -> dict[str, int]:
        """Name -> bytes of all ranks' shards, each told by the rank that wrote it: another may not see it yet."""
        mine = {path.name: path.stat().st_size for path in folder.glob(f"shard-{self.global_rank + 1:05d}-{SHARDS}")}
        told: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(told, mine)
        return {name: size for found in told for name, size in sorted(found.items())}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads into this rank's slices, and returns the rest; never unpickles.

        Raises:
            MrmError: for a folder that is not whole, or fits another model.
        """
        folder = Path(self.broadcast(checkpoint_path))
        rest = read_rest(folder)
        assert self.model is not None
        load_weights(self.model, folder)
        for number, (optimizer, told) in enumerate(zip(self.optimizers, rest["optimizer_states"], strict=True)):
            state: dict[str, Any] = dict(get_optimizer_state_dict(self.model, optimizer))
            moments, _ = _split(state["state"], number)
            load_tensors(folder, moments)
            for name, scalars in told["scalars"].items():
                state["state"][name].update(scalars)
            state["param_groups"] = told["param_groups"]
            set_optimizer_state_dict(self.model, optimizer, state)
        return rest


def read_rest(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint holds beside tensors in slices.

    Raises:
        MrmError: for a folder that is no whole checkpoint, naming what is missing.
    """
    folder = Path(folder)
    try:
        rest = torch.load(folder / REST_FILE, map_location="cpu", weights_only=True)
        files = dict(rest[FILES])
        for state in rest["optimizer_states"]:
            state["scalars"], state["param_groups"]
    except Exception as error:  # torch's own words would advise to load it unsafely
        raise MrmError(
            f"checkpoint {folder}: is no whole checkpoint in slices: its {REST_FILE} is missing or damaged "
            f"({type(error).__name__}); copy the folder again, or start a new run."
        ) from error
    there = {path.name: path.stat().st_size for path in folder.glob(SHARDS)}
    if lacking := sorted(name for name, size in files.items() if there.get(name) != size):
        raise MrmError(f"checkpoint {folder}: missing or cut short: {', '.join(lacking)}; copy the whole folder again.")
    if foreign := sorted(there.keys() - files.keys()):
        raise MrmError(f"checkpoint {folder}: holds files that are not its own: {', '.join(foreign)}; remove them.")
    return rest


def load_tensors(folder: str | Path, tensors: dict[str, Any]) -> None:
    """Fills tensors, whole or in slices, from a folder's shards; in a group of processes all must call.

    Raises:
        MrmError: where the folder lacks one, or has it in another shape.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        dcp.load(tensors, storage_reader=reader, no_dist=not torch.distributed.is_initialized())
    except (RuntimeError, ValueError, dcp.api.CheckpointException, SafetensorError) as error:
        raise MrmError(f"checkpoint {folder}: does not fit this model: {error}") from error


def load_weights(module: torch.nn.Module, folder: str | Path) -> None:
    """Reads a checkpoint's weights into a module, each rank into its slices; all ranks must call.

    Raises:
        MrmError: where the folder lacks one, or has it in another shape.
    """
    weights = dict(get_model_state_dict(module))
    load_tensors(folder, {_model_name(name): value for name, value in weights.items()})
    module.load_state_dict(weights)


def whole_weights(folder: str | Path) -> dict[str, Tensor]:
    """The module's weights under their own names, whole, on the CPU, from a checkpoint in slices.

    Raises:
        MrmError: for a folder that is no whole checkpoint.
    """
    read_rest(folder)
    try:
        metadata = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise MrmError(f"checkpoint {folder}: a shard's header is damaged: {error}; copy the folder again.") from error
    weights = {
        name: torch.empty(told.size, dtype=told.properties.dtype)  # type: ignore[union-attr]
        for name, told in metadata.items()
        if name.startswith(_model_name(""))
    }
    load_tensors(folder, weights)
    return {name.removeprefix(_model_name("")): value for name, value in weights.items()}


def _model_name(name: str) -> str:
    return f"model.{name}"


def _split(states: Mapping[str, Mapping[str, Any]], number: int) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Moments by their names in the checkpoint, and by weight what is a single number, as the count of steps."""
    moments: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for name, state in states.items():
        scalars[name] = {}
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                moments[f"optimizer.{number}.{name}.{key}"] = value
            else:
                scalars[name][key] = value
    return moments, scalars
