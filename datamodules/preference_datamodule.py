"""The LightningDataModule: index x ledger -> this epoch's batches.

Every epoch is planned anew from the newest ledger, which needs `Trainer(reload_dataloaders_every_n_epochs=1)`. A
checkpoint remembers the ledger's round: a run resumed from it sets later rounds aside and does them again.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule, Trainer

from datamodules.dataset_spec import TRAINED, DatasetSpec, spec_problems
from datamodules.held_out import HeldOutSet
from datamodules.index import Index
from datamodules.ledger import Ledger, ledger_rounds, set_aside_after
from datamodules.loader import BatchLoader, EpochLoader, PreferenceDataset, SampleEncoder, Workers
from datamodules.memory import release_memory
from datamodules.orders import ORDERS
from datamodules.plan import Array, padding_share
from datamodules.pool import mixture_weights, plan_pool, sample_lengths
from datamodules.reading import read_record
from datamodules.remote import ShardCache
from datamodules.restart import first_batch
from datamodules.unreadable import UnreadableCount
from datamodules.work import EpochWork, published_work, scoring_work
from mrm.errors import ConfigError, LedgerError
from mrm.model.packing import RewardBatch

__all__ = ["DatasetSpec", "PreferenceDataModule"]

log = logging.getLogger(__name__)


class PreferenceDataModule(LightningDataModule):
    """Trusted and open data sets to train on, the ledger between them, and sets that are held out: watched, or tested on.

    Args:
        datasets: all data sets.
        encoder: encodes samples for training.
        score_encoder: encodes samples for scoring and testing, maybe at a higher resolution; None takes `encoder`.
        ledger_dir: where the rounds' snapshots lie; None keeps round 0 in memory (nothing is curated).
        batch_size: samples a micro-batch in training. score_batch_size: the same when scoring and testing.
        row_tokens: tokens that a packed row holds at most; None gives every sample its own row.
        layout: of the rows, one of `mrm.model.packing.LAYOUTS`.
        num_workers: worker processes; 0 reads in the main process.
        seed: of the epochs' order.
        length_window: steps within which samples are sorted by length; 0 is off.
        batch_tokens: places that a micro-batch has at most, by the samples' estimated lengths; see `plan.epoch_plan`.
        order: of an epoch's samples, a name in `orders.ORDERS`.
        admit_open: whether open pairs are trained on before any curation.
        use_strength: False hides all strengths from training.
        max_unreadable: fraction of a data set's samples that may be unreadable before the run stops.
        cache: where remote shards go; see `Index.load`.

    Attributes:
        index: the training samples, trusted and open, after `setup`.
        trusted: bool [N], samples of trusted data sets.
        lengths: int32 [N], each sample's estimated tokens.
        mixture: float64 [N], how often each sample is seen an epoch, on average.
        fingerprints: data set -> the fingerprint of its own index, of those that have been loaded.
        unreadable: what could not be read so far, by data set and key in `.found`.
        cut: key -> text tokens that the encoder's limits cut away, of the training samples read so far.
        text_only: whether training batches bring the same samples without images too.
        expected_round: if set (by whoever curates), from an epoch to the ledger round that it must be planned with;
            another one stops the run.
    """

    def __init__(
        self,
        datasets: Sequence[DatasetSpec],
        encoder: SampleEncoder,
        *,
        score_encoder: SampleEncoder | None = None,
        ledger_dir: str | os.PathLike[str] | None,
        batch_size: int,
        score_batch_size: int,
        row_tokens: int | None,
        layout: str = "shared",
        num_workers: int,
        seed: int,
        length_window: int = 0,
        batch_tokens: int | None = None,
        order: str = "shuffled",
        admit_open: bool = False,
        use_strength: bool = True,
        max_unreadable: float = 0.01,
        text_only: bool = False,
        cache: ShardCache | None = None,
    ) -> None:
        super().__init__()
        self.datasets = tuple(datasets)
        self.encoder = encoder
        self.score_encoder = score_encoder or encoder
        self.ledger_dir = None if ledger_dir is None else Path(ledger_dir)
        self.batch_size = batch_size
        self.score_batch_size = score_batch_size
        self.row_tokens = row_tokens
        self.layout = layout
        self.num_workers = num_workers
        self.seed = seed
        self.length_window = length_window
        self.batch_tokens = batch_tokens
        self.order = order
        self.admit_open = admit_open
        self.use_strength = use_strength
        self.text_only = text_only
        self.cache = cache
        self.unreadable = UnreadableCount(max_unreadable)
        self.cut: dict[str, int] = {}
        self.fingerprints: dict[str, str] = {}
        self.expected_round: Callable[[int], int] | None = None
        self.test_names = tuple(spec.name for spec in self.datasets if spec.role == "test")
        self._resume_round: int | None = None
        self._resume_fingerprint: str | None = None
        self._started = False
        self._check()

    def _check(self) -> None:
        problems = spec_problems(self.datasets)
        for name, least in (("batch_size", 1), ("score_batch_size", 1), ("num_workers", 0), ("length_window", 0)):
            if getattr(self, name) < least:
                problems.append(f"{name} is {getattr(self, name)}, it must be at least {least}")
        if self.batch_tokens is not None and (self.batch_tokens < 1 or self.length_window < 1):
            problems.append(f"batch_tokens is {self.batch_tokens}: it must be at least 1, and needs length_window >= 1")
        if self.order not in ORDERS:
            problems.append(f"order is {self.order!r}, it must be one of {', '.join(ORDERS)}")
        if not 0 <= self.unreadable.max_fraction <= 1:
            problems.append(f"max_unreadable is {self.unreadable.max_fraction}, it must be in [0, 1]")
        if problems:
            raise ConfigError("the data configuration cannot be used: " + "; ".join(problems) + ".")

    # -- what there is

    @functools.cached_property
    def index(self) -> Index:
        """Index of all training samples, data sets in the order given."""
        indexes = {spec.name: self._load(spec) for spec in self._training}
        if not indexes:
            raise ConfigError("no training data: name at least one data set of role trusted or open.")
        index = Index.concat(indexes)
        del indexes
        release_memory()
        return index

    @property
    def _training(self) -> list[DatasetSpec]:
        return [spec for spec in self.datasets if spec.role in TRAINED]

    @functools.cached_property
    def trusted(self) -> Array:
        return np.array([spec.role == "trusted" for spec in self._training], dtype=bool)[self.index.dataset]

    @functools.cached_property
    def lengths(self) -> Array:
        return sample_lengths(self.index, self.encoder.max_pixels)

    @functools.cached_property
    def mixture(self) -> Array:
        return mixture_weights(self.index, self._training)

    @functools.cached_property
    def held_out_indexes(self) -> dict[str, Index]:
        """Index of each set that is not trained on."""
        held_out = [spec for spec in self.datasets if spec.role not in TRAINED]
        return {spec.name: Index.concat({spec.name: self._load(spec)}) for spec in held_out}  # under its own name

    def _load(self, spec: DatasetSpec) -> Index:
        index = Index.load(spec.path, self.cache)
        self.fingerprints[spec.name] = index.fingerprint
        return index

    def setup(self, stage: str | None = None) -> None:
        """Loads the indexes; for training, writes round 0 where there is no ledger yet.

        Raises:
            ShardError: if an index is missing or does not fit its shards.
            LedgerError: if the newest ledger is of another index.
        """
        _ = self.held_out_indexes
        if stage not in (None, "fit"):
            return
        self._started, self._resume_round, self._resume_fingerprint = False, None, None
        if self.ledger_dir is not None and not ledger_rounds(self.ledger_dir):
            Ledger.initial(self.index, self.trusted, self.admit_open).write(self.ledger_dir)
        self.ledger()
        _ = self.mixture  # a source that is not there must be told before the first epoch

    def ledger(self) -> Ledger:
        """The newest ledger, which the next epoch is planned with.

        Raises:
            LedgerError: if it is of another index.
        """
        found = None if self.ledger_dir is None else Ledger.latest(self.ledger_dir)
        ledger = found or Ledger.initial(self.index, self.trusted, self.admit_open)
        ledger.check_fits(self.index)
        return ledger

    def unreadable_reasons(self) -> dict[str, str]:
        """Key -> why, of the training samples that this process could not read so far."""
        names = self.index.dataset_names
        return {key: item.reason for name in names for key, item in self.unreadable.found.get(name, {}).items()}

    def read_truth(self, rows: Sequence[int] | Array) -> list[Any]:
        """`meta["truth"]` of samples, or None: for reports only, never for training or the policy."""
        return [(read_record(self.index, int(row)).get("meta") or {}).get("truth") for row in rows]

    # -- loaders

    def train_dataloader(self) -> EpochLoader:
        """The current epoch's batches of this rank.

        Raises:
            ConfigError: if the trainer would go on with an old plan, or there is nothing to train on.
            LedgerError: if the newest ledger does not fit the index or the epoch.
        """
        trainer = self.trainer
        assert trainer is not None, "without a trainer use epoch_loader()"
        if trainer.reload_dataloaders_every_n_epochs != 1:
            raise ConfigError(
                "the trainer would train on an outdated pool: set reload_dataloaders_every_n_epochs=1"
                f" (it is {trainer.reload_dataloaders_every_n_epochs})."
            )
        start = 0 if self._started else self._start(trainer)
        # Not `current_epoch`: resumed from an epoch's end, Lightning asks once before it has counted that epoch as completed.
        return self.epoch_loader(
            trainer.fit_loop.epoch_progress.current.processed,
            start=start,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
            accumulate=trainer.accumulate_grad_batches,
        )

    def epoch_loader(
        self, epoch: int, *, world_size: int = 1, rank: int = 0, accumulate: int = 1, start: int = 0
    ) -> EpochLoader:
        """An epoch's batches of one rank from batch `start` on, planned with the newest ledger."""
        ledger = self.ledger()
        if self.expected_round is not None and ledger.round != (expected := self.expected_round(epoch)):
            raise LedgerError(
                f"epoch {epoch} must be planned with the ledger of round {expected}, the newest in {self.ledger_dir} is"
                f" round {ledger.round}: a round was skipped or done twice; resume from an earlier checkpoint."
            )
        plan = plan_pool(
            self.index,
            ledger,
            self.lengths,
            self.mixture,
            batch_size=self.batch_size,
            accumulate=accumulate,
            world_size=world_size,
            seed=self.seed,
            epoch=epoch,
            length_window=self.length_window,
            batch_tokens=self.batch_tokens,
            order=self.order,
        )
        if not len(plan):
            raise ConfigError(
                f"epoch {epoch} has no pair to train on: {ledger.accounts()}; name a trusted data set, admit the open"
                " pool (admit_open), or loosen the curation."
            )
        if rank == 0:
            padding = "" if self.row_tokens else f", {padding_share(plan, self.lengths):.1%} padding by estimate"
            log.info("epoch %d: %d micro-batches a rank%s.", epoch, len(plan), padding)
        works = EpochWork(self.index, ledger, plan, rank, self.use_strength)
        del ledger
        release_memory()
        return EpochLoader(self._train_workers, works, self._note, epoch=epoch, start=start)

    def score_dataloader(
        self,
        rows: Sequence[int] | Array,
        responses: Mapping[int, tuple[int, ...]] | None = None,
        *,
        encoder: SampleEncoder | None = None,
        layout: str | None = None,
    ) -> BatchLoader:
        """Batches that score responses of these rows of `index`, in the order given, without labels.

        Args:
            rows: of `index`.
            responses: row -> the numbers of the responses to score, where not all are.
            encoder, layout: of another model than the one in training.
        """
        workers = self._workers(self.index, encoder, layout)
        return BatchLoader(workers, scoring_work(rows, self.score_batch_size, responses), self._note)

    def test_dataloader(self) -> list[BatchLoader]:
        """One loader a test set, in the order of `test_names`; every rank gets all samples."""
        return [self._published(name) for name in self.test_names]

    def held_out(self, name: str) -> HeldOutSet:
        """A set that is not trained on, to be scored while training."""
        index = self.held_out_indexes[name]
        return HeldOutSet(index, self._workers(index), self.score_batch_size, self._note_of(name))

    def _published(self, name: str) -> BatchLoader:
        index = self.held_out_indexes[name]
        return BatchLoader(self._workers(index), published_work(index, self.score_batch_size), self._note_of(name))

    def _note_of(self, name: str) -> Callable[[RewardBatch], None]:
        return functools.partial(self.unreadable.note, sizes={name: len(self.held_out_indexes[name])})

    def _note(self, batch: RewardBatch) -> None:
        self.unreadable.note(batch, self._sizes)
        self.cut.update((key, cut) for key, cut in zip(batch.keys, batch.cut_tokens, strict=True) if cut)

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        """Samples of each training set."""
        names = self.index.dataset_names
        return dict(zip(names, np.bincount(self.index.dataset, minlength=len(names)).tolist(), strict=True))

    @functools.cached_property
    def _train_workers(self) -> Workers:
        dataset = PreferenceDataset(self.index, self.encoder, self.row_tokens, self.layout, text_only=self.text_only)
        return Workers(dataset, num_workers=self.num_workers, persistent=True)

    def _workers(self, index: Index, encoder: SampleEncoder | None = None, layout: str | None = None) -> Workers:
        dataset = PreferenceDataset(index, encoder or self.score_encoder, self.row_tokens, layout or self.layout)
        return Workers(dataset, num_workers=self.num_workers)

    def teardown(self, stage: str | None = None) -> None:
        if stage == "fit" and self.cut:
            log.warning(
                "%d of %d training samples were cut to the limits on text, by %d tokens in all; first: %s. Raise"
                " max_prompt_tokens or max_response_tokens to keep them whole.",
                len(self.cut),
                len(self.index),
                sum(self.cut.values()),
                ", ".join(sorted(self.cut)[:3]),
            )
        if "_train_workers" in self.__dict__:
            self._train_workers.close()
            del self._train_workers  # the next use starts new ones

    # -- resuming

    def state_dict(self) -> dict[str, Any]:
        rounds = [] if self.ledger_dir is None else ledger_rounds(self.ledger_dir)
        return {
            "ledger_round": rounds[-1] if rounds else 0,
            "index_fingerprint": self.index.fingerprint,
            "unreadable": self.unreadable.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_round = state_dict["ledger_round"]
        self._resume_fingerprint = state_dict["index_fingerprint"]
        self.unreadable.load_state_dict(state_dict["unreadable"])

    def _start(self, trainer: Trainer) -> int:
        """Brings the ledgers to where the run starts; gives the batch to start with."""
        self._started = True
        if self._resume_fingerprint not in (None, self.index.fingerprint):
            raise LedgerError(
                "the checkpoint was trained on other data than the configuration names (index"
                f" {str(self._resume_fingerprint)[:12]}, now {self.index.fingerprint[:12]}); resume with the same data."
            )
        fresh = self._resume_round is None and trainer.current_epoch == 0
        if self.ledger_dir is not None and (fresh or self._resume_round is not None):
            start = self._resume_round or 0
            if moved := set_aside_after(self.ledger_dir, start):
                names = ", ".join(path.name for path in moved)
                log.warning("ledgers later than round %d are done again; set aside: %s", start, names)
            if fresh:  # round 0 of an earlier run may have had other settings
                Ledger.initial(self.index, self.trusted, self.admit_open).write(self.ledger_dir)
            elif start not in ledger_rounds(self.ledger_dir):
                raise LedgerError(
                    f"{self.ledger_dir}: no ledger of round {start}, which the checkpoint needs; start anew."
                )
            trainer.strategy.barrier("ledgers")
        return first_batch(trainer)
