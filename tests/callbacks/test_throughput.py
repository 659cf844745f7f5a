from types import SimpleNamespace

import pytest
import torch

from callbacks.throughput import Throughput
from mrm.errors import ConfigError


class Recorder:
    def __init__(self):
        self.logged = []

    def log_metrics(self, metrics, step):
        self.logged.append((step, metrics))


def make_trainer(step=0):
    strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: 2 * tensor)  # two ranks that do the same
    return SimpleNamespace(global_step=step, strategy=strategy, is_global_zero=True, loggers=[Recorder()])


# 2 pairs of which one is filler, 5 tokens and one of padding.
BATCH = SimpleNamespace(edge_weight=torch.tensor([1.0, 0.0]), sequence_ids=torch.tensor([[0, 0, 0], [1, 1, -1]]))


def test_throughput_every_two_steps_logs_pairs_and_tokens_of_all_ranks(monkeypatch):
    clock = iter([0.0, 10.0, 14.0, 14.0])
    monkeypatch.setattr("callbacks.throughput.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    callback, trainer = Throughput(every_n_steps=2), make_trainer()
    callback.on_train_epoch_start(trainer, None)  # at 10 s
    for step in (0, 1, 1, 2):  # two micro-batches a step
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, None, BATCH, 0)
    # 4 batches x 2 ranks in 4 s: 8 pairs, 40 tokens
    expected = {"throughput/pairs_per_second": 2.0, "throughput/tokens_per_second": 10.0}
    assert trainer.loggers[0].logged == [(2, expected)]


def test_throughput_new_epoch_starts_anew():
    callback, trainer = Throughput(every_n_steps=2), make_trainer(1)
    callback.on_train_batch_end(trainer, None, None, BATCH, 0)
    callback.on_train_epoch_start(trainer, None)
    trainer.global_step = 2
    callback.on_train_batch_end(trainer, None, None, BATCH, 0)
    assert trainer.loggers[0].logged == []


def test_throughput_leaves_idle_seconds_out(monkeypatch):
    clock, idle = iter([0.0, 10.0, 16.0, 16.0]), [1.0]
    monkeypatch.setattr("callbacks.throughput.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    callback, trainer = Throughput(every_n_steps=1, idle=lambda: idle[0]), make_trainer()
    callback.on_train_epoch_start(trainer, None)
    idle[0] = 3.0  # two of the six seconds
    trainer.global_step = 1
    callback.on_train_batch_end(trainer, None, None, BATCH, 0)
    assert trainer.loggers[0].logged[0][1]["throughput/pairs_per_second"] == 0.5


def test_throughput_zero_steps_is_refused():
    with pytest.raises(ConfigError, match="every_n_steps=0"):
        Throughput(every_n_steps=0)
