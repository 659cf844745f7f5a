"""From decisions to pairs and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.agreement import AgreementRule, Scored
from mrm.construction.pairing import agreed, pair_table, sample_of, split
from mrm.construction.records import ImageStore, PromptRecord, Response
from mrm.construction.style import FEATURES
from mrm.errors import RecordError
from mrm.preference import Message, Pair
from tests.construction.helpers import answers_of, shapeworld_records


def record(*texts: str) -> PromptRecord:
    responses = tuple(Response(text, f"m{number}") for number, text in enumerate(texts))
    return PromptRecord("k", "s", (Message("user", "Q"),), responses=responses, reference="R")


def both(*overalls: float) -> list[Scored]:
    return [Scored("judge", mode, 0, overalls) for mode in ("listwise", "pointwise")]


def test_split_gives_pairs_their_strength_and_the_others_a_reason() -> None:
    decisions = agreed(record("a", "b", "c"), both(7.0, 4.5, 7.0), ["judge"], AgreementRule())
    pairs, left = split("k", decisions)
    assert pairs == [
        {"chosen": 0, "rejected": 1, "strength": 0.25},
        {"chosen": 2, "rejected": 1, "strength": 0.25},
    ]
    assert [(each.key, each.reason) for each in left] == [("k 0-2", "tie")]


@given(st.lists(st.floats(0, 10), min_size=2, max_size=6), st.floats(0, 10))
def test_split_accounts_for_every_pair(overalls: list[float], least: float) -> None:
    made = record(*(f"t{number}" for number in range(len(overalls))))
    pairs, left = split("k", agreed(made, both(*overalls), ["judge"], AgreementRule(least_difference=least)))
    assert len(pairs) + len(left) == len(overalls) * (len(overalls) - 1) // 2
    for pair in pairs:
        assert overalls[pair["chosen"]] > overalls[pair["rejected"]] and 0 <= pair["strength"] <= 1


def test_pair_table_of_nothing_has_the_features_width() -> None:
    table = pair_table([(record("a", "b"), [])])
    assert table.chosen.shape == table.rejected.shape == (0, len(FEATURES)) and table.key == []


def test_pair_table_groups_by_record() -> None:
    pair = {"chosen": 1, "rejected": 0, "strength": 0.5}
    table = pair_table([(record("a", "b"), [pair]), (record("c", "d"), []), (record("**e**", "f f"), [pair])])
    assert table.group.tolist() == [0, 2] and table.key == ["k 1-0", "k 1-0"]
    assert not np.array_equal(table.chosen[1], table.rejected[1])


def test_sample_of_keeps_only_responses_of_pairs_and_renumbers(tmp_path: Path) -> None:
    pairs = [{"chosen": 3, "rejected": 1, "strength": 0.5}]
    sample = sample_of(record("a", "b", "c", "d"), pairs, ImageStore(tmp_path))
    assert sample.responses == ("b", "d") and sample.pairs == (Pair(1, 0, 0.5),)
    assert sample.meta["construction"]["models"] == ["m1", "m3"]
    assert [list(style) for style in sample.meta["construction"]["style"]] == [list(FEATURES)] * 2
    assert sample.meta["construction"]["reference"] == "R" and "truth" not in sample.meta


def test_sample_of_the_embedded_world_knows_which_winners_are_wrong(tmp_path: Path) -> None:
    (world,) = shapeworld_records(tmp_path, 1)
    answers = answers_of(world)
    worst = max(answers)
    texts = (answers[0]["plain"], answers[worst]["plain"], answers[0]["terse"])
    made = PromptRecord(
        world.key, "s", world.prompt, world.images, None, tuple(Response(t, "m") for t in texts), world.meta
    )
    pairs = [{"chosen": 0, "rejected": 1, "strength": 1.0}, {"chosen": 1, "rejected": 2, "strength": 1.0}]
    truth = sample_of(made, pairs, ImageStore(tmp_path)).meta["truth"]
    assert truth == {"errors": [0, worst, 0], "flipped": [False, True], "styles": ["plain", "plain", "terse"]}
    assert "answers" not in truth


def test_sample_of_record_whose_image_is_gone_is_named(tmp_path: Path) -> None:
    (world,) = shapeworld_records(tmp_path, 1)
    (tmp_path / world.images[0].path).unlink()
    made = PromptRecord(world.key, "s", world.prompt, world.images, None, (Response("a", "m"), Response("b", "m")))
    with pytest.raises(RecordError) as caught:
        sample_of(made, [{"chosen": 0, "rejected": 1, "strength": 1.0}], ImageStore(tmp_path))
    assert caught.value.reason == "image missing"
