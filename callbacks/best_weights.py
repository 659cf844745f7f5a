"""The weights of a run's best evaluations, kept beside its checkpoints: `best/stepNNNNNNN.ckpt`, and `best/best.json`, which tells of them.

Which evaluations are the best is `mrm.evaluation.course`'s to say. Files go when no better one replaces them only in memory: a run that is
killed goes on from its newest checkpoint, and the best of that time must still be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch

from callbacks.checkpoints import remove, whole_checkpoints, write_checkpoint
from mrm.errors import MrmError
from mrm.evaluation.course import Evaluation, best
from mrm.model.sharded_checkpoints import load_weights
from mrm.run_dirs import write_json

BEST_FILE = "best.json"


class BestWeights:
    """Writes and removes them. All ranks call every method but `path`.

    Args:
        folder: where to; made with the first one.
        metric: of the evaluations.
        keep: how many.
    """

    def __init__(self, folder: Path, *, metric: str, keep: int = 1) -> None:
        self.folder, self.metric, self.keep = Path(folder), metric, keep
        self._needed: list[Evaluation] = []  # by the newest checkpoint to resume from

    def path(self, evaluation: Evaluation) -> Path:
        """Of an evaluation's weights; a folder where the strategy shards them."""
        return self.folder / f"step{evaluation.step:07d}.ckpt"

    def update(self, trainer: pl.Trainer, evaluations: Sequence[Evaluation]) -> None:
        """Keeps the weights of the newest evaluation, which the model has now, if it is among the best.

        Raises:
            ResumableError: where they cannot be written.
        """
        kept = best(evaluations, self.metric, self.keep)
        if evaluations[-1] in kept:
            if trainer.is_global_zero:
                self.folder.mkdir(parents=True, exist_ok=True)
            write_checkpoint(trainer, self.path(evaluations[-1]), weights_only=True)
            self._write(trainer, kept, [*kept, *self._needed])

    def note_checkpoint(self, evaluations: Sequence[Evaluation]) -> None:
        """A checkpoint to resume from is being written: until the next one, a run that is killed needs the best of now."""
        self._needed = best(evaluations, self.metric, self.keep)

    def settle(self, trainer: pl.Trainer, evaluations: Sequence[Evaluation]) -> None:
        """Leaves only the best: at the end, and where a run goes on, whose later evaluations are done again."""
        self._needed = best(evaluations, self.metric, self.keep)
        if self.folder.is_dir():
            self._write(trainer, self._needed, self._needed)

    def load(self, module: torch.nn.Module, evaluations: Sequence[Evaluation]) -> Evaluation:
        """Puts the weights of the best evaluation into the module that is trained; all ranks call.

        Raises:
            MrmError: where they are not there or cannot be read.
        """
        chosen = best(evaluations, self.metric)[0]
        path = self.path(chosen)
        if path.is_dir():
            load_weights(module, path)
            return chosen
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        except Exception as error:  # what a damaged file raises is not told by torch
            raise MrmError(
                f"{path}: the best weights cannot be read: {error}; put the file back, or start a new run (the run's last weights are in"
                " its checkpoint: python -m mrm.export)."
            ) from error
        module.load_state_dict(state)
        return chosen

    def _write(self, trainer: pl.Trainer, kept: Sequence[Evaluation], needed: Sequence[Evaluation]) -> None:
        if not trainer.is_global_zero:
            return
        told = [{"file": self.path(one).name, "value": one.figures[self.metric], **one.to_json()} for one in kept]
        write_json(self.folder / BEST_FILE, {"metric": self.metric, "kept": told})
        names = {self.path(one).name for one in needed}
        for path in whole_checkpoints(self.folder):
            if path.name not in names:
                remove(path)
