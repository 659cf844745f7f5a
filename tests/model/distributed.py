"""What a process of a distributed test does: `torchrun ... -m tests.model.distributed SHARDS OUTPUT STRATEGY BATCH [NAME=VALUE ...]`.

Trains on the shards and saves the whole weights, and a checkpoint if its path is given; prints how many steps each rank took. Names are those of `main`.
"""

import math
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import deepspeed
from safetensors.torch import save_file

from mrm.launch import is_main, leave_group, world_size
from mrm.model.saving import gathered
from mrm.parts import build_strategy
from tests.model.test_reward_module import build

CLIP = 0.5  # low enough to clip: the norm must be that of all gradients, whoever holds them


def allow_deepspeed_on_cpu() -> None:
    """Takes away Lightning's refusal of other devices than CUDA's: DeepSpeed itself runs on the CPU, as slow as it is."""
    deepspeed.CUDAAccelerator = CPUAccelerator
    deepspeed._validate_device_index_selection = lambda devices: None
    deepspeed.DeepSpeedStrategy.root_device = torch.device("cpu", 0)  # it asks for a number


class ColdThenSaved(pl.Callback):
    """A cold restart at the end of epoch 0, a checkpoint at the end of epoch 1."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def setup(self, trainer, pl_module, stage):
        self.base = {name: value.clone() for name, value in pl_module.state_dict().items()}

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            pl_module.restart(self.base)
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)


class Spoilt(pl.Callback):
    """A gradient that is not finite on one rank, under a loss that is."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_start(self, trainer, pl_module):
        if trainer.global_rank == self.rank:
            next(pl_module.model.head.parameters()).register_hook(lambda gradient: gradient * math.inf)


def main(
    shards: str, output: str, strategy: str, batch_size: str, *, accumulate: str = "1", precision: str = "32-true",
    epochs: str = "1", save: str = "", resume: str = "", spoil: str = "", checkpoint: str = "", twin: str = "",
) -> None:  # fmt: skip
    torch.set_num_threads(1)
    allow_deepspeed_on_cpu()
    module, data = build(Path(shards), int(batch_size), twin=bool(twin))
    callbacks = ([ColdThenSaved(save)] if save else []) + ([Spoilt(int(spoil))] if spoil else [])
    trainer = pl.Trainer(
        max_epochs=int(epochs),
        accelerator="cpu",
        devices=world_size(),
        strategy=build_strategy(strategy, world_size(), precision),
        precision=precision,
        accumulate_grad_batches=int(accumulate),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        gradient_clip_val=CLIP,
        default_root_dir=Path(output).parent,
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume or None, weights_only=True)
    if checkpoint:
        trainer.save_checkpoint(checkpoint)
    state = {name: gathered(value).contiguous() for name, value in module.model.state_dict().items()}
    print(f"rank {trainer.global_rank} took {trainer.global_step} steps", flush=True)
    if is_main():
        save_file(state, output)


if __name__ == "__main__":
    main(*sys.argv[1:5], **dict(argument.split("=", 1) for argument in sys.argv[5:]))
    leave_group()
