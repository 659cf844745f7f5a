"""A whole run as torchrun starts it: `-m tests.distributed_run CONFIG [EPOCH STEP]`, killed behind that step if one is named."""

import atexit
import os
import signal
import sys

import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

import mrm.parts
import mrm.run
from mrm.config import RunConfig
from mrm.parts import build_trainer
from tests.model.distributed import allow_deepspeed_on_cpu


class Kill(Callback):
    """Ends the process at once, as a machine's failure does."""

    def __init__(self, epoch: int, step: int) -> None:
        self.place = (epoch, step)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            os.kill(os.getpid(), signal.SIGKILL)


def main(config: str, *place: str) -> None:
    torch.set_num_threads(1)
    allow_deepspeed_on_cpu()
    mrm.parts.check_zero = lambda accelerator: None
    atexit.register(
        lambda: print(f"group left: {not torch.distributed.is_initialized()}", flush=True)
    )  # after all others

    def build(*arguments):
        trainer = build_trainer(*arguments)
        if place:
            trainer.callbacks.insert(0, Kill(int(place[0]), int(place[1])))
        return trainer

    mrm.run.build_trainer = build
    mrm.run.run(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(config)))


if __name__ == "__main__":
    main(*sys.argv[1:])
