"""The LightningModule: a reward model, a loss, accuracies and an optimizer. It knows no prompts, paths or curation.

The learning rate is a pure function of training progress in epochs, because the number of batches changes with the pool;
so are the random numbers of dropout, so that a resumed run draws the same ones.

A run that diverges is stopped: losses and rewards are watched on the device, and asked for where figures are logged, at
every epoch's end and before a checkpoint is saved, where the weights are looked at too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from mrm.errors import MrmError
from mrm.evaluation.metrics import PreferenceAccuracy
from mrm.model.losses import pair_deltas
from mrm.model.packing import RewardBatch
from mrm.model.reward_model import RewardModel
from mrm.model.saving import check_finite, local
from mrm.model.schedules import cycle_peak, lr_factor
from mrm.model.sharding import like, shard_model

PairLoss = Callable[..., Any]
NEVER = torch.iinfo(torch.int64).max  # the step of a divergence that has not happened


class RewardModule(pl.LightningModule):
    """Trains a reward model on packed batches of preference pairs.

    Args:
        model: the reward model.
        loss: ([E] deltas, [E] strengths, [E] weights) -> [E] losses, see `mrm.model.losses`; where batches bring a text-only twin
            also told `text_delta`, it gives the losses of both.
        lr: of the backbone.
        head_lr: of the reward head, which starts from nothing.
        weight_decay: on matrices; biases and norms have none.
        betas: of AdamW.
        schedule: `cosine` or `constant`.
        warmup: share of a cycle in which the rate rises.
        cycle_starts: epochs at which the schedule begins again, where each stage between rounds is a training of its own.
        cycle_peaks: factor on the rates in each cycle; the last one holds for all further cycles, none is 1.
        seed: of dropout.
        test_names: names of the test sets, in the order of their dataloaders.

    Attributes:
        last_rewards: [S] of the newest training batch, from before its step; for whoever keeps them.
    """

    last_rewards: Tensor

    def __init__(
        self,
        model: RewardModel,
        *,
        loss: PairLoss,
        lr: float,
        head_lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        schedule: str,
        warmup: float,
        cycle_starts: Sequence[int] = (),
        cycle_peaks: Sequence[float] = (),
        seed: int = 0,
        test_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.lr = lr
        self.head_lr = head_lr
        self.weight_decay = weight_decay
        self.betas = betas
        self.schedule = schedule
        self.warmup = warmup
        self.cycle_starts = tuple(cycle_starts)
        self.cycle_peaks = tuple(cycle_peaks)
        self.seed = seed
        self.test_names = list(test_names)
        self._sharded = False
        # The step of the first loss or reward that was not finite; no buffer, since DDP would overwrite it with rank 0's.
        self._diverged = torch.tensor(NEVER)
        self.accuracies = nn.ModuleList(PreferenceAccuracy() for _ in self.test_names)

    def configure_model(self) -> None:
        """Shards the weights where the strategy has a device mesh (FSDP2); Lightning calls it before every stage."""
        if self.device_mesh is not None and not self._sharded:
            compute = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else None
            shard_model(self.model, self.device_mesh["data_parallel"], compute=compute)
            self._sharded = True

    def forward(self, batch: RewardBatch) -> Tensor:
        """[S] rewards of a packed batch."""
        return self.model(batch)

    def training_step(self, batch: RewardBatch, batch_idx: int) -> Tensor:
        rewards = self.model(batch)
        self.last_rewards = rewards.detach()
        delta = pair_deltas(rewards, batch.edge_chosen, batch.edge_rejected)
        if batch.text_only is None:
            loss = objective = self.loss(delta, batch.edge_strength, batch.edge_weight).sum()
        else:
            text_delta = pair_deltas(self.model.forward_text(batch.text_only), batch.edge_chosen, batch.edge_rejected)
            losses = self.loss(
                delta, batch.edge_strength, batch.edge_weight, text_delta=text_delta, sees=batch.edge_sees
            )
            loss, text_loss = (part.sum() for part in losses)
            objective = loss + text_loss
            self._log_text(text_delta, batch.edge_weight)
        self._watch(objective.detach())
        weight = batch.edge_weight.sum()
        if weight > 0:
            counted = batch.edge_weight > 0
            accuracy = (delta[counted] > 0).float().mean()
            logged = {"train/loss": (loss / weight).detach(), "train/accuracy": accuracy}
            self.log_dict(logged, on_step=True, prog_bar=True, batch_size=int(counted.sum()))
        return objective / batch.normalizer

    def _log_text(self, text_delta: Tensor, weight: Tensor) -> None:
        """How often the text alone tells the winner: what a model that does not look can reach."""
        counted = weight > 0
        if counted.any():
            right = (text_delta[counted] > 0).float().mean()
            self.log("train/text_only_accuracy", right, on_step=True, batch_size=int(counted.sum()))

    def test_step(self, batch: RewardBatch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """[S] rewards, for whoever keeps them."""
        metric = self.accuracies[dataloader_idx]
        rewards = self.model(batch)
        delta = pair_deltas(rewards, batch.edge_chosen, batch.edge_rejected)
        self._watch(delta)
        metric.update(delta)  # type: ignore[operator]
        name = f"test/{self.test_names[dataloader_idx]}/accuracy"
        self.log(name, metric, on_step=False, on_epoch=True, add_dataloader_idx=False, batch_size=len(batch.keys) or 1)  # type: ignore[arg-type]
        return rewards

    def predict_step(self, batch: RewardBatch, batch_idx: int = 0, dataloader_idx: int = 0) -> Tensor:
        """[S] rewards; the caller splits them by `batch.response_counts`."""
        return self.model(batch)

    def on_train_batch_end(self, outputs: Any, batch: RewardBatch, batch_idx: int) -> None:
        if self.trainer.is_last_batch:  # before curation, which would judge with these weights
            self._check_finite()
        elif (batch_idx + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check_diverged()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_finite()

    def on_test_epoch_end(self) -> None:
        self._check_diverged()

    def _watch(self, values: Tensor) -> None:
        """Notes on the device whether values are finite: to ask for it at every step would make the host wait."""
        step = torch.full((), self.global_step, device=values.device).where(~values.isfinite().all(), NEVER)
        self._diverged = torch.minimum(self._diverged.to(values.device), step)

    def _check_diverged(self) -> None:
        """Stops on all ranks where a watched value of any was not finite.

        Raises:
            MrmError: naming the first such step.
        """
        step = int(self.trainer.strategy.reduce(self._diverged.to(self.device, copy=True), reduce_op="min"))
        if step != NEVER:
            raise MrmError(
                f"the training has diverged: at step {step} a loss or reward is not a finite number, with optim.lr={self.lr:g} and "
                f"optim.head_lr={self.head_lr:g}. Lower them, or look for what is wrong with the data, and start a new run."
            )

    def _check_finite(self) -> None:
        """As `_check_diverged`, and with a look at the weights, which the newest step may have spoilt after its loss."""
        self._check_diverged()
        state = {name: local(value) for name, value in self.model.state_dict().items()}
        spoilt = torch.stack([~value.isfinite().all() for value in state.values()]).sum()
        if (
            self.trainer.strategy.reduce(spoilt.float().to(self.device), reduce_op="sum") > 0
        ):  # all ranks, or none, stop
            check_finite(state)
            raise MrmError(
                "the training has diverged: weights that another process holds are not finite; see its message."
            )

    def on_train_batch_start(self, batch: RewardBatch, batch_idx: int) -> None:
        seeds = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx, self.global_rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        factor = lr_factor(self._progress(batch_idx), schedule=self.schedule, warmup=self.warmup)
        factor *= cycle_peak(self.cycle_peaks, sum(start <= self.current_epoch for start in self.cycle_starts))
        for group in self.optimizers().optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = group["base_lr"] * factor
        self.log("train/lr", self.lr * factor)

    def _progress(self, batch_idx: int) -> float:
        """Share of the schedule's cycle that is done in the middle of this optimizer step, whatever is accumulated for it."""
        assert self.trainer.max_epochs is not None, "the schedule is defined over epochs"
        first = max((start for start in self.cycle_starts if start <= self.current_epoch), default=0)
        end = min((start for start in self.cycle_starts if start > self.current_epoch), default=self.trainer.max_epochs)
        accumulate = self.trainer.accumulate_grad_batches
        steps = math.ceil(self.trainer.num_training_batches / accumulate)
        return (self.current_epoch - first + (batch_idx // accumulate + 0.5) / steps) / (end - first)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the norm; the twin's head by its own, so that the model's steps do not depend on it.

        DeepSpeed clips by the norm of all.
        """
        twin = self.model.text_head
        if twin is None or not gradient_clip_val or hasattr(optimizer, "refresh_fp32_params"):
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        own = {id(parameter) for parameter in twin.parameters()}
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for is_twin in (False, True):
            part = [parameter for parameter in parameters if (id(parameter) in own) == is_twin]
            nn.utils.clip_grad_norm_(part, gradient_clip_val)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        heads = [head for head in (self.model.head, self.model.text_head) if head is not None]
        for part, rate in (*((head, self.head_lr) for head in heads), (self.model.backbone, self.lr)):
            for parameter in part.parameters():
                if parameter.requires_grad:
                    decay = self.weight_decay if parameter.ndim > 1 else 0.0
                    groups.setdefault((rate, decay), []).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": params, "lr": rate, "base_lr": rate, "weight_decay": decay}
                for (rate, decay), params in groups.items()
            ],
            betas=self.betas,
        )

    def restart(self, base_state: Mapping[str, Tensor]) -> None:
        """A new start at an epoch's end: the given weights and a fresh optimizer; see `cycle_starts` for the schedule.

        Args:
            base_state: of all weights (a cold start) or of some, such as the head's; the others stay as they are.
        """
        own = self.state_dict()
        self.load_state_dict({name: like(base_state[name], own[name]) for name in base_state}, strict=False)
        optimizer: Any = self.optimizers().optimizer  # type: ignore[union-attr]
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()  # in place, since DeepSpeed holds on to them
        if hasattr(optimizer, "refresh_fp32_params"):  # DeepSpeed updates slices of its own
            optimizer.refresh_fp32_params()
