"""Pretraining of the packaged backbone: what its texts say is true, and how many processes train changes nothing."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from datamodules import shapeworld
from mrm.errors import ConfigError
from mrm.model.reward_model import RewardModel
from mrm.pretrain_tiny import (
    ROW_TOKENS,
    Conversations,
    PretrainConfig,
    compared,
    new_encoder,
    pretrain,
    slip,
    train_tokenizer,
)

PLACE = "|".join(sorted(shapeworld.PLACES, key=len, reverse=True))
FITS = "neither|first|second|both"
PART = re.compile(rf"at the ({PLACE}) ({FITS}) a (\w+) ({FITS}) (\w+) ({FITS}) (\w+) ({FITS})")


def small(output: Path, **settings) -> PretrainConfig:
    shape = {"steps": 2, "warmup": 1, "batch_size": 4, "tokenizer_rows": 50, "bfloat16": False}
    return PretrainConfig(output=str(output), **{**shape, **settings})


def test_compared_says_of_each_word_which_images_it_fits() -> None:
    for number in range(50):
        rng = random.Random(number)
        scenes = [shapeworld.sample_scene(rng, most=3), shapeworld.sample_scene(rng, most=3)]
        parts = compared(rng, scenes).split(" and ")
        for part in parts:
            match = PART.fullmatch(part)
            assert match, part
            there = [{thing.place: thing for thing in scene}.get(shapeworld.PLACES.index(match[1])) for scene in scenes]
            words = [(match[2], [thing is not None for thing in there])]
            for group, attribute in ((3, "size"), (5, "colour"), (7, "shape")):
                words.append((match[group + 1], [getattr(thing, attribute, None) == match[group] for thing in there]))
            for fits, (first, second) in words:
                assert first == (fits in ("first", "both"))
                assert second == (fits in ("second", "both"))


def test_slip_is_mended_at_once() -> None:
    text = "at the top left a large red circle and at the bottom a small blue square"
    slipped = [slip(random.Random(number), text) for number in range(50)]
    assert len(set(slipped)) > 20
    assert {re.sub(r"\w+ no, ", "", told) for told in slipped} == {text}


def test_conversations_leave_out_turns_that_do_not_fit_a_row() -> None:
    rows = Conversations(new_encoder(train_tokenizer(1024, 0, 50)), PretrainConfig(questions=30), "test")
    for number in range(5):
        row, told = rows.row(number)
        assert len(row.response_ids) == len(told) < 30
        assert row.tokens <= ROW_TOKENS


def test_pretrain_number_of_processes_does_not_change_the_model(tmp_path: Path) -> None:
    saved = {}
    for processes in (1, 2):
        folder = pretrain(small(tmp_path / str(processes), processes=processes), Console(quiet=True))
        saved[processes] = load_file(folder / "model.safetensors")
    assert saved[1].keys() == saved[2].keys()
    for name, weights in saved[1].items():  # saved in bfloat16, in which Muon works as well
        torch.testing.assert_close(weights.float(), saved[2][name].float(), rtol=2**-7, atol=1e-3)
    RewardModel.from_pretrained(str(folder))  # loads like any other Qwen3-VL


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"processes": 3}, "batch_size=4: must be a multiple of processes=3"),
        ({"processes": 0, "steps": 0, "lr": float("nan")}, r"steps=0(.|\n)*processes=0(.|\n)*lr=nan"),
        ({"vocab_size": 100}, "vocab_size=100: must be at least 2"),
    ],
)
def test_pretrain_impossible_settings_are_told_together(tmp_path: Path, settings, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        pretrain(small(tmp_path, **settings), Console(quiet=True))


def test_pretrain_replaces_nothing_but_a_backbone(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(ConfigError, match="holds a backbone already"):
        pretrain(small(tmp_path), Console(quiet=True))
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=r"holds thesis\.txt"):
        pretrain(small(tmp_path, overwrite=True), Console(quiet=True))
    with pytest.raises(ConfigError, match="is a file"):
        pretrain(small(tmp_path / "thesis.txt"), Console(quiet=True))
