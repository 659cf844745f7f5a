"""What a process of a distributed test does: `torchrun ... -m tests.model.distributed SHARDS OUTPUT STRATEGY BATCH [CHECKPOINT|twin]`.

Trains on the shards, from a checkpoint if one is given, or with a text-only twin, and saves the whole weights and a checkpoint beside them; prints
how many steps each rank took.
"""

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from safetensors.torch import save_file

from mrm.launch import is_main, world_size
from mrm.model.saving import gathered
from mrm.parts import build_strategy
from tests.model.test_reward_module import build

CLIP = 0.5  # low enough to clip: the norm must be that of all gradients, whoever holds them


def main(shards: str, output: str, strategy: str, batch_size: str, more: str | None = None) -> None:
    torch.set_num_threads(1)
    module, data = build(Path(shards), int(batch_size), twin=more == "twin")
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=world_size(),
        strategy=build_strategy(strategy, world_size()),
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
    trainer.fit(module, datamodule=data, ckpt_path=None if more == "twin" else more, weights_only=True)
    trainer.save_checkpoint(Path(output).with_suffix(".ckpt"))
    state = {name: gathered(value).contiguous() for name, value in module.model.state_dict().items()}
    print(f"rank {trainer.global_rank} took {trainer.global_step} steps", flush=True)
    if is_main():
        save_file(state, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
