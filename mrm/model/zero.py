"""Gradients and AdamW's moments in slices over the processes, the weights whole on each: DeepSpeed's ZeRO, stage 2.

Lightning's strategy runs the engine. What differs here is what makes it train, save and resume as `ddp` does: weights stay
float32 and are computed with in bfloat16 by autocast, Lightning counts the accumulated batches, and a checkpoint is one file
in PyTorch's own form, read without unpickling. DeepSpeed's own checkpoints cannot be read safely.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor, nn

from mrm.errors import ConfigError, MrmError

PIECE = 2**28  # numbers gathered at once: 1 GiB
BUCKET = 200_000_000  # numbers of a gradient's bucket, as Lightning has it


def check_zero(accelerator: str = "auto") -> None:
    """Looks whether DeepSpeed can run here.

    Args:
        accelerator: `trainer.accelerator`.

    Raises:
        ConfigError: where it is not installed, or there is no GPU for it.
    """
    _check_installed()
    if accelerator not in ("auto", "gpu") or not torch.cuda.is_available():
        raise ConfigError("deepspeed: runs on CUDA GPUs only, with trainer.accelerator=gpu; use trainer.strategy=ddp.")


class Zero2Strategy(DeepSpeedStrategy):
    """ZeRO's stage 2.

    Args:
        precision: `32-true` or `bf16-mixed`.

    Raises:
        ConfigError: where DeepSpeed is not installed.
    """

    def __init__(self, precision: str = "32-true") -> None:
        _check_installed()
        stage = {"stage": 2, "overlap_comm": True, "reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET}
        config: dict[str, Any] = {
            "zero_optimization": stage,
            "zero_allow_untested_optimizer": True,  # PyTorch's AdamW
            "train_micro_batch_size_per_gpu": 1,  # for DeepSpeed's log alone
            "gradient_accumulation_steps": 1,  # or it would divide the loss once more than Lightning does
        }
        if precision == "bf16-mixed":  # by autocast: DeepSpeed's own bfloat16 would turn the head's weights into it too
            config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
        super().__init__(config=config, precision_plugin=_Precision(precision))  # type: ignore[arg-type]

    @property
    def handles_gradient_accumulation(self) -> bool:
        """Left to Lightning, which takes a step at an epoch's end too, where DeepSpeed goes on to accumulate."""
        return False

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        self.deepspeed_engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.deepspeed_engine.set_gradient_accumulation_boundary(True)

    def setup(self, trainer: pl.Trainer) -> None:
        assert self.lightning_module is not None
        check_trained(self.lightning_module)
        super().setup(trainer)

    def _format_config(self) -> None:
        assert isinstance(self.config, dict) and self.lightning_module is not None
        self.config["gradient_clipping"] = self.lightning_module.trainer.gradient_clip_val or 0.0

    def _initialize_deepspeed_inference(self, model: nn.Module) -> None:
        self.model_to_device()  # the weights are whole: no engine is needed

    def optimizer_step(
        self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:  # one more reason to stop than the watched losses: DeepSpeed passes such a step over in silence
        result = super().optimizer_step(optimizer, closure, model, **kwargs)
        if self._zero.overflow:  # by the norm of all gradients: equal on all ranks
            raise MrmError(
                "the training has diverged: a gradient is not a finite number. Lower optim.lr and optim.head_lr, or look for what "
                "is wrong with the data, and start a new run."
            )
        return result

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        # Mapped, since every process reads the moments of all.
        return torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=True)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)
        if self.optimizers:
            self._zero.refresh_fp32_params()

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        return whole_state(self._zero, keep=self.is_global_zero)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        load_state(self._zero, checkpoint["optimizer_states"][0])

    def teardown(self) -> None:
        if self.model is not self.lightning_module:  # evaluation follows: lets the slices go, and the hooks with them
            engine = self.deepspeed_engine
            for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
                hook.remove()
            engine.destroy()
            del engine
            self.model = self.lightning_module
            self.optimizers = []
            gc.collect()  # they refer to each other in circles
        super().teardown()

    @property
    def _zero(self) -> Any:
        return self.optimizers[0]


class _Precision(DeepSpeedPrecision):
    """Float32 weights and inputs, computed with in bfloat16 where asked for."""

    def convert_module(self, module: nn.Module) -> nn.Module:
        return module  # frozen weights may be bfloat16

    def convert_input(self, data: Any) -> Any:
        return data

    def forward_context(self) -> AbstractContextManager:
        if self.precision != "bf16-mixed":
            return nullcontext()
        return torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16)


def whole_state(zero: Any, *, keep: bool) -> dict[str, Any]:
    """AdamW's state as if there were one process: what `torch.optim.AdamW.state_dict` gives. All ranks must call.

    Args:
        zero: DeepSpeed's optimizer.
        keep: whether this rank wants it; the others only give their slices.
    """
    state: dict[int, dict[str, Tensor]] = {}
    groups: list[dict[str, Any]] = []
    count = itertools.count()
    for group, weights in zip(zero.param_groups, zero.bit16_groups, strict=True):
        numbers = list(itertools.islice(count, len(weights)))
        groups.append({**group, "params": numbers})
        for key, part in zero.state[group["params"][0]].items():
            flat = _gathered(part, keep) if part.ndim else part
            if keep:
                for number, weight, start in zip(numbers, weights, _starts(weights), strict=True):
                    # The step is one number for all; without a copy each, AdamW would count it on once a weight.
                    value = flat[start : start + weight.numel()].view(weight.shape) if part.ndim else part.clone()
                    state.setdefault(number, {})[key] = value
    return {"state": state, "param_groups": groups} if keep else {}


def load_state(zero: Any, state: Mapping[str, Any]) -> None:
    """Puts this rank's slices of `whole_state` in place, written by any number of processes.

    Args:
        zero: DeepSpeed's optimizer.
        state: of AdamW.
    """
    for group, weights, saved in zip(zero.param_groups, zero.bit16_groups, state["param_groups"], strict=True):
        group.update({key: value for key, value in saved.items() if key != "params"})
        part = group["params"][0]
        placed = zip(saved["params"], _starts(weights), strict=True)
        found = [(start, state["state"][number]) for number, start in placed if number in state["state"]]
        zero.state[part] = {
            key: _sliced([(start, values[key]) for start, values in found], part) if value.ndim else value.clone()
            for key, value in (found[0][1].items() if found else ())
        }


def _starts(weights: list[Tensor]) -> list[int]:
    """Where each weight begins in the flat tensor of its group."""
    starts = [0]
    for weight in weights:
        starts.append(starts[-1] + weight.numel())
    return starts[:-1]


def _gathered(part: Tensor, keep: bool) -> Tensor:
    """The slices of all ranks one behind the other, on the CPU."""
    ranks, size = torch.distributed.get_world_size(), part.numel()
    whole = torch.empty(ranks, size if keep else 0)
    step = max(1, PIECE // ranks)
    for start in range(0, size, step):
        piece = part[start : start + step].contiguous()
        pieces = [torch.empty_like(piece) for _ in range(ranks)]
        torch.distributed.all_gather(pieces, piece)
        if keep:
            whole[:, start : start + step] = torch.stack([piece.cpu() for piece in pieces])
    return whole.flatten()


def _sliced(values: list[tuple[int, Tensor]], part: Tensor) -> Tensor:
    """What of the values, each with its start in the group's flat tensor, falls into this rank's slice; the rest is zero."""
    result = torch.zeros_like(part, requires_grad=False)
    first = torch.distributed.get_rank() * part.numel()
    for start, value in values:
        low, high = max(start, first), min(start + value.numel(), first + part.numel())
        if low < high:
            result[low - first : high - first] = value.flatten()[low - start : high - start]
    return result


def check_trained(module: nn.Module) -> None:
    """Looks at what is trained: its float32 values are the ones that AdamW updates.

    Raises:
        ConfigError: for a trained weight in another dtype.
    """
    for name, weight in module.named_parameters():
        if weight.requires_grad and weight.dtype != torch.float32:
            raise ConfigError(
                f"trainer.strategy=deepspeed: trained weights must be float32, {name} is {weight.dtype}; set model.dtype=float32."
            )


def _check_installed() -> None:
    if find_spec("deepspeed") is None:
        raise ConfigError(
            'deepspeed: DeepSpeed is not installed; run pip install "mrm[deepspeed]", or set trainer.strategy=fsdp2.'
        )
