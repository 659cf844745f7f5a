"""A module and a datamodule that do just enough for the callbacks: scores come from a table, not from a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

from callbacks.annotating import Annotators
from datamodules.index import Index
from datamodules.ledger import Decision, Ledger
from datamodules.shards import read_sample
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Call, Model
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.embedded import ShapeWorldScorer
from mrm.construction.rubrics import load_rubrics
from mrm.construction.scoring import ResponseScore, Scoring
from mrm.model.packing import Unreadable

RUBRICS = load_rubrics("auto", {})
QUICK = RunSettings(fault_tries=2, unusable_tries=2, base_s=0.01, longest_s=0.05, timeout_s=20.0)
Scores = Mapping[str, Sequence[float]]


def make_annotators(folder: Path, *judges: Model, mode: str = "sync", settings: RunSettings = QUICK) -> Annotators:
    """Judges of the embedded world, two that never err unless others are given; their answers are kept in `folder`."""
    judges = judges or tuple(ShapeWorldScorer(name, accuracy=1.0) for name in ("a", "b"))
    return Annotators(judges, RUBRICS, folder, settings=settings, mode=mode)


def told_scores(name: str, score: Callable[[str], int], asked: list[tuple[str, ...]] | None = None) -> CallableModel:
    """A judge that gives each response one score for all criteria, by its text; notes in `asked` what it was shown."""

    def judge(call: Call) -> str:
        if asked is not None:
            asked.append(call.subject.responses)
        rubric = RUBRICS["en"]
        judged = [
            ResponseScore(
                float(score(text)),
                dict.fromkeys(rubric.names, score(text)),
                dict.fromkeys(rubric.names, 1 / len(rubric.names)),
                dict.fromkeys(rubric.names, "Seen."),
            )
            for text in call.subject.responses
        ]
        return Scoring("A reference.", tuple(judged)).to_answer()

    return CallableModel(name, judge, identity={"name": name})


def make_ledger(size: int = 0, **columns: object) -> Ledger:
    """A ledger of round 1 of open pairs not yet admitted; columns may be given as lists."""
    size = size or max(len(value) for value in columns.values() if isinstance(value, (list, np.ndarray)))
    default = {
        "key": np.array([f"k{i}" for i in range(size)], object),
        "pair": np.zeros(size, np.int16),
        "source": np.full(size, "made", object),
        "strength": np.full(size, np.nan, np.float32),
        "chosen_score": np.full(size, np.nan),
        "rejected_score": np.full(size, np.nan),
        "spread": np.full(size, np.nan, np.float32),
        "vote_share": np.full(size, np.nan, np.float32),
        "decision": np.full(size, Decision.HELD, object),
        "flipped": np.zeros(size, bool),
        "active": np.zeros(size, bool),
        "weight": np.ones(size, np.float32),
        "decided": np.zeros(size, np.int32),
        "reason": np.full(size, "", object),
    }
    given = {name: np.array(value, default[name].dtype) for name, value in columns.items() if name in default}
    rest = {name: value for name, value in columns.items() if name not in default}
    return Ledger(**{**default, **given, "round": 1, "index_fingerprint": "made", **rest})


@dataclass
class ToyBatch:
    """What scoring reads of a `RewardBatch`."""

    keys: list[str]
    response_counts: list[int]
    unreadable: list[Unreadable] = field(default_factory=list)

    def to(self, device: object) -> ToyBatch:
        return self


class ToyModule(pl.LightningModule):
    """Trains one weight; `tables[epoch]` says what it scores at that epoch's end."""

    def __init__(self, tables: Sequence[Scores] = ()) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.dropout = torch.nn.Dropout(0.5)
        self.tables = tables
        self.scored: list[str] = []
        self.restarts = 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight - 1).square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def predict_step(self, batch: ToyBatch, batch_idx: int = 0) -> torch.Tensor:
        assert not self.dropout.training and not torch.is_grad_enabled()
        self.scored += batch.keys
        table = self.tables[self.current_epoch]
        return torch.tensor([score for key in batch.keys for score in table[key]])

    def restart(self, base_state: Mapping[str, torch.Tensor]) -> None:
        self.restarts += 1
        self.load_state_dict(base_state)


class ToyDataModule(pl.LightningDataModule):
    """Real index and ledgers; training batches are ones."""

    def __init__(self, index: Index, trusted: Sequence[bool], ledger_dir: Path, broken: Mapping[str, str] = {}) -> None:  # noqa: B006
        super().__init__()
        self.index, self.trusted, self.ledger_dir, self.broken = index, np.array(trusted, bool), ledger_dir, broken
        self.unread: dict[str, str] = {}  # what training found unreadable
        self.rounds_trained: list[int] = []
        self.expected_round = None

    def setup(self, stage: str) -> None:
        if Ledger.latest(self.ledger_dir) is None:
            Ledger.initial(self.index, self.trusted, admit_open=False).write(self.ledger_dir)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        self.rounds_trained.append(Ledger.latest(self.ledger_dir).round)
        assert self.expected_round is None or self.rounds_trained[-1] == self.expected_round(self.trainer.current_epoch)
        return torch.utils.data.DataLoader(torch.ones(2, 1))

    def score_dataloader(
        self, rows: np.ndarray, responses: Mapping, *, encoder: object, layout: object
    ) -> list[ToyBatch]:
        assert not responses and encoder is None and layout is None  # no two samples of the tests say the same
        batches = []
        for some in np.array_split(rows, -(-len(rows) // 2)):
            readable = [row for row in some if self.index.keys[row] not in self.broken]
            broken = [self.index.keys[row] for row in some if self.index.keys[row] in self.broken]
            keys = [self.index.keys[row] for row in readable]
            counts = [int(self.index.n_responses[row]) for row in readable]
            batches.append(ToyBatch(keys, counts, [Unreadable(key, "shard", self.broken[key]) for key in broken]))
        return batches

    def unreadable_reasons(self) -> dict[str, str]:
        return self.unread

    def read_truth(self, rows: np.ndarray) -> list[object]:
        return [read_sample(self.index, int(row)).meta.get("truth") for row in rows]
