"""Whole rounds under a real Trainer: shards, index and ledgers are real, the scores come from a table."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.curation_schedule import RoundSpec
from callbacks.iterative_curation import ASKING, IterativeCuration, _poll
from datamodules.index import Index
from datamodules.ledger import Decision, Ledger, ledger_rounds
from datamodules.shards import read_sample
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.servers import OpenAIServer
from mrm.construction.embedded import ShapeWorldScorer
from mrm.errors import ConfigError, CurationError, LedgerError
from mrm.preference import Pair
from tests.callbacks.fakes import ToyDataModule, ToyModule, make_annotators, told_scores
from tests.datamodules.making import make_dataset, make_sample

FIRST = RoundSpec(0, ("score", "correct"))
SECOND = RoundSpec(1, ("score", "filter", "annotate"))
# Open pairs o0..o7: (published label wrong, score difference at boundary 1, at boundary 2).
POOL = [
    (True, -4.0, -4.0),  # flipped at 1 (of four negatives the two most negative), consistent then
    (True, -3.0, -3.0),  # flipped at 1, consistent then
    (True, -1.0, -2.0),  # stays at 1, queued at 2, the judges turn it round
    (False, -0.5, 2.0),  # negative but not in the lower half; consistent at 2
    (False, 1.0, 1.0),
    (False, 2.0, -1.0),  # queued at 2 for nothing: the judges bring it back as it was
    (False, 3.0, 3.0),
    (True, 0.0, 0.0),  # a tie isn't negative; queued at 2; judges turn it round
]
TABLES = [
    {"t0": (0.0, 0.0), **{f"o{i}": (row[boundary], 0.0) for i, row in enumerate(POOL)}} for boundary in (1, 2)
] * 2


def make_pool(directory, wrong=tuple(row[0] for row in POOL)) -> tuple[Index, list[bool]]:
    truths = [{"errors": [1, 0] if label else [0, 1], "flipped": [label]} for label in wrong]
    samples = [make_sample("t0", images=())]
    samples += [make_sample(f"o{i}", images=(), meta={"truth": truth}) for i, truth in enumerate(truths)]
    return make_dataset(directory, samples), [True] + [False] * len(wrong)


def run(tmp_path, name="run", schedule=(FIRST, SECOND), tables=TABLES, broken={}, epochs=3, **options):  # noqa: B006
    directory = tmp_path / "pool"
    index, trusted = (
        make_pool(directory) if not directory.exists() else (Index.load(directory), [True] + [False] * len(POOL))
    )
    datamodule = ToyDataModule(index, trusted, tmp_path / name, broken)
    module = ToyModule(tables)
    callback = IterativeCuration(schedule, **{"annotators": make_annotators(tmp_path / f"{name}_answers"), **options})
    trainer(epochs, callback).fit(module, datamodule=datamodule)
    return callback, datamodule, module


def trainer(epochs, *callbacks, **options) -> pl.Trainer:
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    chosen = {"reload_dataloaders_every_n_epochs": 1, **quiet, **options}
    return pl.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), **chosen)


def ledger_bytes(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


def test_two_rounds_by_hand_give_the_expected_ledgers_and_records(tmp_path):
    callback, datamodule, module = run(tmp_path)
    one, two = (Ledger.read(tmp_path / "run" / f"round_000{number}.parquet") for number in (1, 2))

    assert one.decision.tolist() == ["trusted", "flip", "flip"] + ["keep"] * 6
    assert one.flipped.tolist() == [False, True, True] + [False] * 6
    assert one.active.all()
    assert one.chosen_score[1] == -4.0 and np.isnan(one.chosen_score[0])  # trusted pairs are not scored

    assert two.decision.tolist() == ["trusted", "keep", "keep", "restore", "keep", "keep", "restore", "keep", "restore"]
    assert two.flipped.tolist() == [False, True, True, True, False, False, False, False, True]
    assert two.active.all()
    assert two.policy_fingerprint != one.policy_fingerprint

    first, second = callback.rounds
    assert {name: first[name] for name in ("round", "epoch", "scored", "flipped", "dropped", "reannotated", "kept")} == {
        "round": 1, "epoch": 0, "scored": 8, "flipped": 2, "dropped": 0, "reannotated": 0, "kept": 6,
    }  # fmt: skip
    assert (first["noise_before"], first["noise_after"]) == (4 / 8, 2 / 8)
    assert (first["flip_precision"], first["flip_recall"]) == (1.0, 2 / 4)
    assert (second["reannotated"], second["restored"], second["queued"], second["kept"]) == (3, 3, 0, 5)
    assert (second["noise_before"], second["noise_after"]) == (2 / 8, 0.0)

    assert datamodule.rounds_trained == [0, 1, 2]  # each round acts on the very next epoch
    assert sorted(module.scored) == sorted(2 * [f"o{i}" for i in range(8)])  # every open sample once a round
    assert module.dropout.training and module.restarts == 0


def test_same_run_twice_gives_byte_equal_ledgers(tmp_path):
    run(tmp_path, "one")
    run(tmp_path, "two")
    assert ledger_bytes(tmp_path / "one") == ledger_bytes(tmp_path / "two")


def test_round_done_again_overwrites_later_ledgers(tmp_path):
    run(tmp_path, "one")
    expected = ledger_bytes(tmp_path / "one")
    # Killed behind the boundary: rounds 1 and 2 lie there, and training starts again before round 1.
    callback, datamodule = IterativeCuration((FIRST,), annotators=make_annotators(tmp_path / "answers")), None
    index, trusted = Index.load(tmp_path / "pool"), [True] + [False] * len(POOL)
    datamodule = ToyDataModule(index, trusted, tmp_path / "one")
    datamodule.train_dataloader = lambda: torch.utils.data.DataLoader(torch.ones(2, 1))
    trainer(1, callback).fit(ToyModule(TABLES), datamodule=datamodule)
    assert ledger_rounds(tmp_path / "one") == [0, 1]
    assert (tmp_path / "one" / "round_0001.parquet").read_bytes() == expected["round_0001.parquet"]


def test_resumed_run_ends_with_the_ledgers_of_an_uninterrupted_one(tmp_path):
    whole, *_ = run(tmp_path, "whole")
    index, trusted = Index.load(tmp_path / "pool"), [True] + [False] * len(POOL)
    saver = pl.callbacks.ModelCheckpoint(tmp_path / "saved", every_n_epochs=1, save_last=True, save_top_k=0)
    first = IterativeCuration((FIRST, SECOND), annotators=make_annotators(tmp_path / "answers"))
    half = trainer(3, first, saver, enable_checkpointing=True, max_steps=2)
    half.fit(ToyModule(TABLES), datamodule=ToyDataModule(index, trusted, tmp_path / "cut"))
    resumed = IterativeCuration((FIRST, SECOND), annotators=make_annotators(tmp_path / "answers"))
    trainer(3, resumed).fit(
        ToyModule(TABLES),
        datamodule=ToyDataModule(index, trusted, tmp_path / "cut"),
        ckpt_path=tmp_path / "saved" / "last.ckpt",
        weights_only=False,
    )
    assert resumed.rounds == whole.rounds
    assert ledger_bytes(tmp_path / "cut") == ledger_bytes(tmp_path / "whole")


def test_unreadable_samples_are_named_and_left_out(tmp_path):
    callback, *_ = run(tmp_path, broken={"o3": "image does not decode"}, schedule=(FIRST,))
    ledger = Ledger.latest(tmp_path / "run")
    row = ledger.key.tolist().index("o3")
    assert (ledger.decision[row], ledger.reason[row]) == (Decision.UNREADABLE, "image does not decode")
    assert not ledger.active[row]
    assert callback.rounds[0]["unreadable"] == 1
    assert ledger.accounts() == {"pairs": 9, "trained": 8, "dropped": 0, "queued": 0, "held": 0, "unreadable": 1}


def test_score_that_is_no_number_is_never_kept(tmp_path):
    tables = [{**TABLES[0], "o6": (float("nan"), 0.0)}]
    run(tmp_path, tables=tables * 3, schedule=(FIRST,))
    ledger = Ledger.latest(tmp_path / "run")
    assert ledger.decision[ledger.key.tolist().index("o6")] == Decision.UNREADABLE


def test_wrong_judges_of_opposite_opinions_drop_the_queue(tmp_path):
    judges = told_scores("a", lambda text: len(text) % 11), told_scores("b", lambda text: 10 - len(text) % 11)
    callback, *_ = run(tmp_path, annotators=make_annotators(tmp_path / "answers", *judges))
    assert (callback.rounds[1]["reannotated"], callback.rounds[1]["dropped"]) == (3, 3)
    ledger = Ledger.latest(tmp_path / "run")
    assert set(ledger.reason[ledger.decision == Decision.DROP]) == {"votes tied 2 : 2"}


def test_filter_without_annotate_leaves_the_queue_out_and_a_later_round_can_settle_it(tmp_path):
    schedule = (FIRST, RoundSpec(1, ("score", "filter")), RoundSpec(2, ("annotate",)))
    callback, *_ = run(tmp_path, schedule=schedule)
    assert [record["queued"] for record in callback.rounds] == [0, 3, 0]
    assert [record["scored"] for record in callback.rounds] == [8, 8, 0]
    assert callback.rounds[2]["restored"] == 3


FILTER = ("score", "filter")


def test_two_filters_without_judges_take_back_the_consistent_and_account_for_all(tmp_path):
    callback, _, module = run(tmp_path, schedule=(RoundSpec(0, FILTER), RoundSpec(1, FILTER)))
    one, two = (Ledger.read(tmp_path / "run" / f"round_000{number}.parquet") for number in (1, 2))
    queued = [{str(key) for key in ledger.key[ledger.decision == Decision.QUEUE]} for ledger in (one, two)]
    assert queued == [{"o0", "o1", "o2", "o3", "o7"}, {"o0", "o1", "o2", "o5", "o7"}]  # o3 came back, o5 went
    for record in callback.rounds:
        assert (record["scored"], record["kept"], record["queued"], record["dropped"]) == (8, 3, 5, 0)
        assert record["open_pairs"] == record["active_pairs"] + record["queued"]
    assert len(module.scored) == 16


def test_queued_pairs_are_not_scored_for_a_round_that_cannot_use_their_scores(tmp_path):
    schedule = (RoundSpec(0, FILTER), RoundSpec(1, ("score", "correct")))
    callback, _, module = run(tmp_path, schedule=schedule)
    assert [record["scored"] for record in callback.rounds] == [8, 3]
    assert sorted(module.scored[8:]) == ["o4", "o5", "o6"]
    assert [record["queued"] for record in callback.rounds] == [5, 5]
    ledger = Ledger.latest(tmp_path / "run")
    queued = ledger.decision == Decision.QUEUE
    assert np.isfinite(ledger.chosen_score[queued]).all()  # those that they were queued by


def test_pool_that_would_be_emptied_stops_and_writes_nothing(tmp_path):
    tables = [{key: (0.0, 0.0) for key in TABLES[0]}] * 3  # a model that has learned nothing: all ties
    with pytest.raises(CurationError, match="0 of 8 open pairs in use.*min_active_share=0.25"):
        run(tmp_path, tables=tables, schedule=(RoundSpec(0, ("score", "filter")),))
    assert ledger_rounds(tmp_path / "run") == [0]


def test_score_alone_records_scores_and_admits_nobody(tmp_path):
    run(tmp_path, schedule=(RoundSpec(0, ("score",)),))
    ledger = Ledger.latest(tmp_path / "run")
    assert ledger.accounts()["held"] == 8
    assert np.isfinite(ledger.chosen_score[1:]).all()


def test_cold_restart_goes_back_to_the_first_weights(tmp_path):
    seen = []

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(pl_module.weight.item())

    index, trusted = make_pool(tmp_path / "pool")
    callback = IterativeCuration((FIRST,), restart="cold")
    module = ToyModule(TABLES)
    trainer(3, callback, Watch()).fit(module, datamodule=ToyDataModule(index, trusted, tmp_path / "run"))
    assert module.restarts == 1
    assert seen[:2] == [0.0, 0.0] and seen[2] > 0


def test_random_state_is_the_same_with_and_without_a_round(tmp_path):
    states = []
    for name, schedule in (("with", (FIRST,)), ("without", ())):
        pl.seed_everything(3, verbose=False)
        run(tmp_path, name, schedule=schedule)
        states.append(torch.rand(1).item())
    assert states[0] == states[1]


def test_sample_with_several_pairs_is_scored_once_and_judged_pair_by_pair(tmp_path):
    truth = {"errors": [0, 1, 2], "flipped": [False, True, False]}
    pairs = [Pair(0, 1), Pair(2, 1), Pair(0, 2)]
    samples = [
        make_sample("t0", images=()),
        make_sample("o0", images=(), responses=3, pairs=pairs, meta={"truth": truth}),
    ]
    datamodule = ToyDataModule(make_dataset(tmp_path / "pool", samples), [True, False], tmp_path / "run")
    module = ToyModule([{"o0": (0.5, 1.0, 0.0)}] * 2)  # differences -0.5, -1, +0.5
    schedule = (RoundSpec(0, ("score", "correct", "filter", "annotate")),)
    trainer(1, callback := IterativeCuration(schedule, annotators=make_annotators(tmp_path / "answers"))).fit(
        module, datamodule=datamodule
    )
    ledger = Ledger.latest(tmp_path / "run")
    assert module.scored == ["o0"]
    # Pair 0 was queued and judged; pair 1 was flipped, which makes it consistent.
    assert ledger.decision.tolist() == ["trusted", "restore", "flip", "keep"]
    assert ledger.flipped.tolist() == [False, False, True, False]
    assert (callback.rounds[0]["flipped"], callback.rounds[0]["noise_after"]) == (1, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trusted": [False] * 9}, "no trusted data"),
        ({"trusted": [True] * 9}, "no open data"),
        ({"reload": 0}, "reload_dataloaders_every_n_epochs=0"),
        ({"epochs": 1}, r"rounds after epoch \[1\] never run"),
    ],
)
def test_run_that_cannot_be_curated_is_refused_before_training(tmp_path, change, message):
    index, trusted = make_pool(tmp_path / "pool")
    datamodule = ToyDataModule(index, change.get("trusted", trusted), tmp_path / "run")
    callback = IterativeCuration((FIRST, SECOND), annotators=make_annotators(tmp_path / "answers"))
    fit = trainer(change.get("epochs", 3), callback, reload_dataloaders_every_n_epochs=change.get("reload", 1))
    with pytest.raises(ConfigError, match=message):
        fit.fit(ToyModule(TABLES), datamodule=datamodule)
    assert not datamodule.rounds_trained


def test_missing_ledger_before_a_round_is_an_error(tmp_path):
    index, trusted = make_pool(tmp_path / "pool")
    datamodule = ToyDataModule(index, trusted, tmp_path / "run")
    trained = datamodule.train_dataloader

    def lose_the_ledger():
        loader = trained()
        (tmp_path / "run" / "round_0000.parquet").unlink()
        return loader

    datamodule.train_dataloader = lose_the_ledger
    with pytest.raises(LedgerError, match="needs the ledger of round 0, found none"):
        trainer(3, IterativeCuration((FIRST,))).fit(ToyModule(TABLES), datamodule=datamodule)


def test_ledger_of_other_settings_is_an_error(tmp_path):
    run(tmp_path, "run", schedule=(FIRST,))
    other = IterativeCuration(
        (RoundSpec(0, ("score", "correct"), correct_mode="drop"), SECOND),
        annotators=make_annotators(tmp_path / "answers"),
    )
    index, trusted = Index.load(tmp_path / "pool"), [True] + [False] * len(POOL)
    with pytest.raises(LedgerError, match="other curation settings"):
        other._ledger_before(2, ToyDataModule(index, trusted, tmp_path / "run"))


def test_truth_reaches_neither_scores_nor_decisions(tmp_path):
    """The same pool with all truths turned round, and no judges: the same ledger."""
    ledgers = []
    for name, wrong in (("as_is", [row[0] for row in POOL]), ("turned", [not row[0] for row in POOL])):
        index, trusted = make_pool(tmp_path / name, wrong)
        datamodule = ToyDataModule(index, trusted, tmp_path / f"run_{name}")
        trainer(2, IterativeCuration((FIRST, RoundSpec(1, ("score", "filter"))))).fit(
            ToyModule(TABLES), datamodule=datamodule
        )
        ledgers.append(Ledger.latest(tmp_path / f"run_{name}"))
        assert read_sample(index, 1).meta["truth"]["flipped"] == [wrong[0]]
    assert ledgers[0].decision.tolist() == ledgers[1].decision.tolist()
    assert ledgers[0].flipped.tolist() == ledgers[1].flipped.tolist()


def test_round_takes_out_what_training_could_not_read_trusted_pairs_too(tmp_path):
    index, trusted = make_pool(tmp_path / "pool")
    datamodule = ToyDataModule(index, trusted, tmp_path / "run")
    datamodule.unread = {"t0": "shard cut off", "o6": "image does not decode"}
    module = ToyModule(TABLES)
    trainer(2, callback := IterativeCuration((FIRST,))).fit(module, datamodule=datamodule)
    ledger = Ledger.latest(tmp_path / "run")
    for key, reason in datamodule.unread.items():
        row = ledger.key.tolist().index(key)
        assert (ledger.decision[row], ledger.reason[row], ledger.active[row]) == (Decision.UNREADABLE, reason, False)
    assert ledger.accounts() == {"pairs": 9, "trained": 7, "dropped": 0, "queued": 0, "held": 0, "unreadable": 2}
    (record,) = callback.rounds
    assert (record["open_pairs"], record["unreadable"], record["scored"]) == (8, 1, 7)
    assert "o6" not in module.scored


ASYNC = (RoundSpec(0, FILTER), RoundSpec(1, ("annotate",)))


def test_judges_asked_beside_the_training_decide_as_judges_asked_at_the_boundary(tmp_path):
    for mode in ("sync", "async"):
        annotators = make_annotators(tmp_path / f"{mode}_answers", mode=mode)
        callback, *_ = run(tmp_path, mode, schedule=ASYNC, annotators=annotators)
        assert (callback.rounds[0]["queued"], callback.rounds[1]["restored"], callback.rounds[1]["queued"]) == (5, 5, 0)
        assert callback.rounds[1]["annotation_calls"] == 20 and callback.rounds[1]["annotation_failed"] == 0
        assert "annotation_calls" not in callback.rounds[0]
    one, two = (Ledger.latest(tmp_path / mode) for mode in ("sync", "async"))
    for column in ("decision", "flipped", "active", "weight", "reason", "decided"):
        assert getattr(one, column).tolist() == getattr(two, column).tolist()


def test_pairs_queued_at_the_boundary_itself_are_not_among_those_asked_beside_the_training(tmp_path):
    asked = []
    schedule = (RoundSpec(0, FILTER), RoundSpec(1, ("score", "filter", "annotate")))
    judges = told_scores("a", lambda text: len(text) % 11, asked), told_scores("b", lambda text: 3, [])
    run(tmp_path, schedule=schedule, annotators=make_annotators(tmp_path / "answers", *judges, mode="async"))
    keys = {response.split()[-1] for responses in asked for response in responses}
    assert keys == {"o0", "o1", "o2", "o3", "o7"}  # o5 was queued at the second boundary


def test_run_resumed_while_judges_are_asked_ends_as_one_left_alone_and_asks_nobody_twice(tmp_path):
    asked = []

    def judges(folder):
        told = [told_scores(name, lambda text: 5 + int(text.split()[1]), asked) for name in ("a", "b")]
        return make_annotators(folder, *told, mode="async")

    schedule = (RoundSpec(0, FILTER), RoundSpec(2, ("annotate",), max_flipped=1.0))
    whole, *_ = run(tmp_path, "whole", schedule=schedule, annotators=judges(tmp_path / "w"), epochs=4)
    assert len(asked) == 20
    index, trusted = Index.load(tmp_path / "pool"), [True] + [False] * len(POOL)
    saver = pl.callbacks.ModelCheckpoint(tmp_path / "saved", every_n_epochs=1, save_last=True, save_top_k=0)
    first = IterativeCuration(schedule, annotators=judges(tmp_path / "c"))
    half = trainer(4, first, saver, enable_checkpointing=True, max_steps=4)  # within the two epochs of asking
    half.fit(ToyModule(TABLES), datamodule=ToyDataModule(index, trusted, tmp_path / "cut"))
    resumed = IterativeCuration(schedule, annotators=judges(tmp_path / "c"))
    trainer(4, resumed).fit(
        ToyModule(TABLES),
        datamodule=ToyDataModule(index, trusted, tmp_path / "cut"),
        ckpt_path=tmp_path / "saved" / "last.ckpt",
        weights_only=False,
    )
    assert resumed.rounds == whole.rounds
    assert ledger_bytes(tmp_path / "cut") == ledger_bytes(tmp_path / "whole")
    cut = asked[20:]
    assert len(set(cut)) == 10 and len(cut) <= 20 + 2 * 8  # two judges; only what was under way may be asked again


def test_judge_that_is_down_does_not_end_the_training(tmp_path):
    down = OpenAIServer("down", model="m", base_url="http://127.0.0.1:9/v1")
    annotators = make_annotators(tmp_path / "answers", ShapeWorldScorer("up", accuracy=1.0), down)
    callback, datamodule, _ = run(tmp_path, annotators=annotators)
    assert datamodule.rounds_trained == [0, 1, 2]
    assert (callback.rounds[1]["annotation_calls"], callback.rounds[1]["annotation_failed"]) == (12, 6)
    assert callback.rounds[1]["restored"] == 0  # not on half of the votes


def test_sigterm_while_judges_are_asked_ends_the_run_as_lightning_ends_it_and_decides_nothing(tmp_path):
    began = threading.Event()

    def judge(call):
        if not began.is_set():
            began.set()
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
        return "{}"

    slow = CallableModel("slow", judge, identity={})
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # else Lightning goes on to the system's handler
    try:
        with pytest.raises(SIGTERMException):
            run(tmp_path, annotators=make_annotators(tmp_path / "answers", slow))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert began.is_set()
    assert ledger_rounds(tmp_path / "run") == [0, 1]


def test_first_process_tells_the_others_that_it_lives_while_its_judges_are_asked(monkeypatch):
    told = []
    fake = SimpleNamespace(received_sigterm=False, world_size=2, strategy=SimpleNamespace(broadcast=told.append))
    monkeypatch.setattr("callbacks.iterative_curation._SIGN_OF_LIFE_S", 0.05)
    poll = _poll(fake)
    poll()
    assert told == []
    time.sleep(0.06)
    poll()
    poll()
    assert told == [ASKING]
