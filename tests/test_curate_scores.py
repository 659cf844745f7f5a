"""A saved model over a pool whose records repeat each other: what it sees, and who shares what it said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from callbacks.round_inputs import NOT_FINITE, PairScores
from datamodules.distinct import DistinctResponses
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS, PairPool, open_pool
from mrm.curate_journal import ScoreJournal, remove_journals
from mrm.curate_scores import model_scores
from mrm.errors import UnreadableSamplesError
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.packing import RewardBatch
from mrm.model.reward_model import RewardModel
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import make_dataset, make_image
from tests.datamodules.sources.helpers import write_json

Said = tuple[str, str, str, str]  # image, question, chosen, rejected
# b says y again, e nothing new; c and d say the same of another image and to another question, f turns a round.
SAID: dict[str, Said] = {
    "a": ("1", "What?", "x", "y"),
    "b": ("1", "What?", "y", "z"),
    "c": ("2", "What?", "x", "y"),
    "d": ("1", "Where?", "x", "y"),
    "e": ("./1", "What?", "z", "x"),
    "f": ("1", "What?", "y", "x"),
}
ONCE = [("a", 2), ("b", 1), ("c", 2), ("d", 2)]
Score = Callable[..., PairScores]


def make_pool(folder: Path, form: str, said: dict[str, Said]) -> PairPool:
    """A pair a sample, of one image; `2` is another one than `1`, and `./1` the same."""
    if form == SHARDS:
        samples = [
            PreferenceSample(
                key,
                "made",
                (Message("user", f"<image>{question}"),),
                (make_image(int(image[-1])),),
                (chosen, rejected),
                (Pair(0, 1),),
            )
            for key, (image, question, chosen, rejected) in said.items()
        ]
        make_dataset(folder / "pool", samples)
        return open_pool(folder / "pool")
    records = [
        {
            "id": key,
            "conversations": [{"from": "human", "value": f"<image>{question}"}],
            "images": [f"{image}.png"],
            "chosen": {"from": "gpt", "value": chosen},
            "rejected": rejected,
        }
        for key, (image, question, chosen, rejected) in said.items()
    ]
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(make_image(number))
    return open_pool(write_json(folder / "p.json", records))


@pytest.fixture(scope="module")
def parts() -> tuple[RewardModel, Encoder]:
    torch.manual_seed(0)
    return RewardModel.from_pretrained("tiny", head="linear").eval(), Encoder.from_pretrained(
        TINY_DIRECTORY, max_pixels=4096
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, int]]]:
    """Batch by batch, the samples that the model sees and how many responses of each."""
    calls: list[list[tuple[str, int]]] = []
    plain = RewardModel.forward

    def forward(self: RewardModel, batch: RewardBatch) -> torch.Tensor:
        names = [key.removeprefix("p-") for key in batch.keys]  # a file's keys begin with its name
        calls.append(list(zip(names, batch.response_counts, strict=True)))
        return plain(self, batch)

    monkeypatch.setattr(RewardModel, "forward", forward)
    return calls


@pytest.fixture
def score(parts: tuple[RewardModel, Encoder], tmp_path: Path) -> Score:
    def of(pool: PairPool, **changed: Any) -> PairScores:
        journal = ScoreJournal(tmp_path / "journal", {})
        settings = {"batch_size": 2, "row_tokens": None, "workers": 0, "max_bad": 0.5, "progress": False, **changed}
        try:
            return model_scores(pool, *parts, device=torch.device("cpu"), journal=journal, **settings)
        finally:
            journal.close()

    return of


def undisturbed(tmp_path: Path) -> None:
    remove_journals(tmp_path / "journal")


def every_one(pool: PairPool, wanted: np.ndarray) -> DistinctResponses:
    """The plan that shares nothing."""
    nothing = np.zeros(0, np.int64)
    return DistinctResponses(np.flatnonzero(wanted), {}, nothing, nothing)


@pytest.mark.parametrize("form", [SHARDS, LLAMA_FACTORY])
def test_model_scores_shared_responses_are_seen_once_and_equal_to_the_bit(
    form: str, tmp_path: Path, score: Score, seen: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, sample: read.append(sample.key[-1]) or plain(self, sample))
    pool = make_pool(tmp_path, form, SAID)
    scores = score(pool)
    assert sorted(one for batch in seen for one in batch) == ONCE
    assert sorted(read) == ["a", "b", "c", "d"]  # what says nothing new is not even read
    a, b, c, d, e, f = zip(scores.chosen[0].tolist(), scores.rejected[0].tolist(), strict=True)
    (x, y), z = a, b[1]
    assert (b, e, f) == ((y, z), (z, x), (y, x))  # equal to the bit: a and f disagree by exactly as much
    assert len({x, y, z, *c, *d}) == 7 and (scores.reasons == "").all()

    monkeypatch.setattr(type(pool), "distinct", every_one)
    undisturbed(tmp_path)
    each = score(pool)
    np.testing.assert_allclose(scores.chosen, each.chosen, atol=1e-5)
    np.testing.assert_allclose(scores.rejected, each.rejected, atol=1e-5)


def test_model_scores_packed_rows_and_other_processes_make_no_difference(
    tmp_path: Path, score: Score, seen: list
) -> None:
    pool = make_pool(tmp_path, LLAMA_FACTORY, SAID)
    one = score(pool)
    undisturbed(tmp_path)
    other = score(pool, batch_size=4, row_tokens=256, workers=1)
    assert len(seen) == 2 + 1
    np.testing.assert_allclose(one.chosen, other.chosen, atol=1e-5)
    assert other.chosen[0, 5] == other.rejected[0, 0] == other.chosen[0, 1]


def test_model_scores_first_holder_with_a_damaged_image_is_named_and_the_others_scored(
    tmp_path: Path, score: Score, seen: list
) -> None:
    """x and y, which a would have brought, stand in b, e and f too; one value of each is everybody's."""
    pool = make_pool(tmp_path, SHARDS, {name: SAID[name] for name in "abef"})
    tar = next((tmp_path / "pool").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[int(pool.index.image_offset[0]) + 40] ^= 1
    tar.write_bytes(data)
    scores = score(pool)
    assert seen[0] == [("b", 1)]
    assert sorted(one for batch in seen[1:] for one in batch) == [("b", 1), ("e", 1), ("f", 2)]
    assert "other bytes than were indexed" in scores.reasons[0] and (scores.reasons[1:] == "").all()
    (_, y, z, also_y), (_, also_z, x, also_x) = scores.chosen[0].tolist(), scores.rejected[0].tolist()
    assert np.isnan([scores.chosen[0, 0], scores.rejected[0, 0]]).all() and np.isfinite([x, y, z]).all()
    assert (y, z, x) == (also_y, also_z, also_x)


TOO_LONG = {"a": ("1", "What?", "x", "word " * 300), "b": ("1", "What?", "x", "z"), "c": ("1", "What?", "z", "x")}


@pytest.mark.parametrize("form", [SHARDS, LLAMA_FACTORY])
def test_model_scores_first_holder_that_fits_no_row_leaves_what_is_shared_to_the_others(
    form: str, tmp_path: Path, score: Score, seen: list
) -> None:
    long = TOO_LONG["a"][3]
    pool = make_pool(tmp_path, form, {**TOO_LONG, "d": ("1", "What?", "z", long)})
    scores = score(pool, row_tokens=256, batch_size=4)
    assert seen == [[("b", 1)], [("b", 1), ("c", 1)]]  # and nothing of d, whose second response fits no row either
    assert ["fit row_tokens=256" in why for why in scores.reasons] == [True, False, False, True]
    assert scores.chosen[0, 1] == scores.rejected[0, 2] and scores.rejected[0, 1] == scores.chosen[0, 2]
    assert np.isnan(scores.chosen[0, [0, 3]]).all() and np.isfinite(scores.chosen[0, 1:3]).all()


def test_model_scores_reward_that_is_not_finite_is_not_handed_on(
    tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = RewardModel.forward, []

    def forward(self: RewardModel, batch: RewardBatch) -> torch.Tensor:
        calls.append(batch.keys)
        rewards = plain(self, batch)
        if len(calls) == 1:
            rewards[0] = float("nan")  # a's x; its y is as good as any
        return rewards

    monkeypatch.setattr(RewardModel, "forward", forward)
    scores = score(make_pool(tmp_path, LLAMA_FACTORY, {name: SAID[name] for name in "abe"}), batch_size=1)
    assert calls == [["p-a"], ["p-b"], ["p-e"]]
    assert scores.reasons.tolist() == [NOT_FINITE, "", ""]
    assert np.isfinite([*scores.chosen[0, 1:], *scores.rejected[0, 1:]]).all()
    assert scores.rejected[0, 1] == scores.chosen[0, 2]


def test_model_scores_missing_image_names_all_who_show_it(tmp_path: Path, score: Score, seen: list) -> None:
    pool = make_pool(tmp_path, LLAMA_FACTORY, SAID)
    (tmp_path / "1.png").unlink()
    scores = score(pool, max_bad=1.0)
    assert seen == [[("c", 2)]]
    assert [why == "" for why in scores.reasons] == [False, False, True, False, False, False]
    assert all("1.png" in why for why in scores.reasons if why)
    undisturbed(tmp_path)
    with pytest.raises(UnreadableSamplesError, match="3 of 6 samples"):  # a, b and d, which were read first
        score(pool, max_bad=0.4)


@pytest.mark.parametrize("form", [SHARDS, LLAMA_FACTORY])
@pytest.mark.parametrize("killed", [1, 2, 3, 4, 5])
def test_model_scores_killed_goes_on_to_the_same_bits(
    form: str, killed: int, tmp_path: Path, score: Score, seen: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five batches of one sample, the last of them of what a, too long for a row, left to b and c."""
    said = {**TOO_LONG, "g": SAID["d"], "h": SAID["c"]}
    pool = make_pool(tmp_path, form, said)
    whole = score(pool, row_tokens=256, batch_size=1)
    expected = list(seen)
    assert len(expected) == 5 and sum(count for batch in expected for _, count in batch) == 7
    undisturbed(tmp_path)
    seen.clear()
    counted = RewardModel.forward

    def forward(self: RewardModel, batch: RewardBatch) -> torch.Tensor:
        if len(seen) == killed - 1:
            raise KeyboardInterrupt
        return counted(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(RewardModel, "forward", forward)
        with pytest.raises(KeyboardInterrupt):
            score(pool, row_tokens=256, batch_size=1)
    again = score(pool, row_tokens=256, batch_size=1)
    assert seen == expected  # each batch once, over both tries
    for side in ("chosen", "rejected", "reasons"):
        np.testing.assert_array_equal(getattr(again, side), getattr(whole, side))


def test_model_scores_journal_of_another_plan_is_scored_anew(
    tmp_path: Path, score: Score, seen: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a shard could not be read when the first try compared its samples, and can be now."""
    pool = make_pool(tmp_path, SHARDS, {"a": SAID["a"], "b": SAID["b"]})
    with monkeypatch.context() as patched:
        patched.setattr(type(pool), "distinct", every_one)
        score(pool, batch_size=1)
    scores = score(pool, batch_size=1)
    assert seen == [[("a", 2)], [("b", 2)], [("b", 1)]]  # a's batch is the same one
    assert scores.rejected[0, 0] == scores.chosen[0, 1]


def test_model_scores_says_how_much_was_said_before(
    tmp_path: Path, score: Score, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        score(make_pool(tmp_path, LLAMA_FACTORY, SAID))
    assert "5 of 12 responses were said before" in caplog.text
