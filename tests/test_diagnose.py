"""What a reward model goes by, from a saved model or from given scores."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from datamodules.pair_files import PairFile
from datamodules.prepare import prepare
from mrm import diagnose_model
from mrm.diagnose import DiagnoseConfig, diagnose_pairs, main
from mrm.errors import ConfigError, RecordError, UnreadableSamplesError
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.reward_model import RewardModel
from mrm.model.saving import save_reward_model
from tests.datamodules.sources.helpers import png, write_json, write_jsonl

COLOURS = ("red", "blue", "green", "yellow", "white")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    encoder = Encoder.from_pretrained(TINY_DIRECTORY, max_pixels=4096)
    save_reward_model(RewardModel.from_pretrained(TINY_DIRECTORY), folder, encoder)
    return str(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("shards")
    for split in ("open", "t2i"):
        prepare("shapeworld", None, root / split, split=split, count=12, seed=3)
    return [str(root / "open"), str(root / "t2i")]


def test_diagnose_model_measures_everything_and_its_lines_give_the_same_again(model, shards, tmp_path):
    page, figures, lines = tmp_path / "page.html", tmp_path / "all.json", tmp_path / "lines.jsonl"
    config = DiagnoseConfig(
        pairs=shards, model=model, output=str(page), json=str(figures), lines=str(lines), progress=False, batch_size=8
    )
    result = diagnose_pairs(config)
    assert result.bad.samples == 0 and result.found.pairs == len(lines.read_text().splitlines())
    assert {use.change for use in result.found.images} == {"removed", "another sample's"}
    assert result.found.position.pairs == 12 and not result.found.not_measured
    for word in ("data:image/png;base64,", "Reliability", "What the images do", "Position bias"):
        assert word in page.read_text()
    told = json.loads(figures.read_text())
    assert {part: set(own) for part, own in told["intervals"].items()} == {
        "length": {"accuracy", "longer", "shorter"},
        "correlations": {"log length", "log (1 + markup)"},
        "position": {"consistent", "given", "swapped", "same_image", "first_image"},
        "calibration": {"error", "error_if_calibrated"},
    }
    assert told["intervals"]["calibration"]["error"]["estimate"] == told["calibration"]["error"]
    assert told["pairs"] == result.found.pairs and told["rows"][0]["accuracy"]["n"] == 24

    again = diagnose_pairs(DiagnoseConfig(pairs=shards, scores=str(lines), progress=False))
    assert again.found.rows == result.found.rows and again.found.calibration == result.found.calibration
    assert again.found.images == () and any("give model=" in reason for reason in again.found.not_measured)


def test_diagnose_rewards_do_not_depend_on_what_else_is_scored(model, shards):
    settings = {"pairs": shards, "model": model, "progress": False}
    alone = diagnose_pairs(DiagnoseConfig(**settings, images=False, batch_size=1))
    packed = diagnose_pairs(DiagnoseConfig(**settings, batch_size=16, row_tokens=2048))
    assert alone.rows.names == packed.rows.names
    np.testing.assert_allclose(alone.rows.chosen, packed.rows.chosen, atol=1e-5)


def test_diagnose_unreadable_samples_are_named_and_bounded(tmp_path):
    records = [
        {
            "conversations": [{"from": "human", "value": "Say a number."}],
            "chosen": {"from": "gpt", "value": "One."},
            "rejected": {"from": "gpt", "value": "Two." if number else "One."},
        }
        for number in range(4)
    ]
    pairs = str(write_json(tmp_path / "pairs.json", records))
    scores = str(write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1.0, "rejected": 0.0}] * 4))
    with pytest.raises(UnreadableSamplesError, match="1 of 4 samples could not be used.*max_bad=0.01"):
        diagnose_pairs(DiagnoseConfig(pairs=pairs, scores=scores, progress=False))
    result = diagnose_pairs(DiagnoseConfig(pairs=pairs, scores=scores, max_bad=0.5, progress=False))
    assert (result.found.pairs, result.bad.samples) == (3, 1)
    assert any(reason.startswith("what the images do: no pair has any") for reason in result.found.not_measured)


def pair_record(number, **more):
    turns = [{"from": "human", "value": f"Say {number}."}]
    return {"conversations": turns, "chosen": {"from": "gpt", "value": "Yes."}, "rejected": "No.", **more}


@pytest.fixture
def known(tmp_path):
    """Ten pairs in a file of their own folder, with scores of them: the model is right on all."""
    (tmp_path / "own").mkdir()
    write_json(tmp_path / "own" / "px.json", [pair_record(number) for number in range(10)])
    write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1.0 + number, "rejected": 0.0} for number in range(10)])
    return {"pairs": str(tmp_path / "own" / "px.json"), "scores": str(tmp_path / "s.jsonl"), "progress": False}


def test_diagnose_records_that_are_no_objects_are_named_and_counted(known, tmp_path):
    records = [*(pair_record(number) for number in range(5)), 5, "x", *(pair_record(number) for number in range(5, 10))]
    write_json(tmp_path / "own" / "px.json", records)
    write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1.0, "rejected": 0.0}] * 12)
    with pytest.raises(UnreadableSamplesError, match="2 of 12 samples.*2 no pair; first: px-0000005: .*; px-0000006: "):
        diagnose_pairs(DiagnoseConfig(**known, max_bad=0))
    result = diagnose_pairs(DiagnoseConfig(**known, max_bad=0.2))
    assert (result.found.pairs, result.bad.samples, result.facts["samples not used"]) == (10, 2, 2)


def test_diagnose_records_that_vanish_meanwhile_are_told(known, tmp_path, monkeypatch):
    monkeypatch.setattr(PairFile, "texts", lambda self, wanted: iter(()))
    with pytest.raises(ConfigError, match="pairs: px has 10 samples, but gave 0"):
        diagnose_pairs(DiagnoseConfig(**known))


def test_diagnose_lines_of_unreadable_samples_say_why_and_are_scores_again(known, shards, tmp_path):
    write_json(tmp_path / "own" / "px.json", [pair_record(0), 5, pair_record(2), pair_record(3)])
    pairs = [known["pairs"], shards[1]]
    given = [{"chosen": 1.5, "rejected": -0.1}, *[{"unreadable": "no"}] * 2, {"chosen": 0.1, "rejected": 0.3}]
    given += [{"unreadable": "blurred"}, *({"chosen": 0.1 * number, "rejected": 0.5} for number in range(11))]
    scores = write_jsonl(tmp_path / "s.jsonl", given)
    config = {"pairs": pairs, "max_bad": 0.5, "progress": False}
    result = diagnose_pairs(DiagnoseConfig(**config, scores=str(scores), lines=str(tmp_path / "lines.jsonl")))
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [number for number, line in enumerate(lines) if "unreadable" in line] == [1, 2, 4]
    assert "px.json" in lines[1]["unreadable"] and lines[2]["unreadable"] == "no" and lines[3]["chosen"] == 0.1
    again = diagnose_pairs(
        DiagnoseConfig(**config, scores=str(tmp_path / "lines.jsonl"), lines=str(tmp_path / "again.jsonl"))
    )
    assert again.found == result.found and again.bad.why == result.bad.why
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "lines.jsonl").read_text()


def test_diagnose_model_lines_of_a_sample_it_cannot_read_are_scores_again(model, known, tmp_path):
    broken = pair_record(1, conversations=[{"from": "human", "value": "<image>which?"}], images=["gone.png"])
    write_json(tmp_path / "own" / "px.json", [pair_record(0), broken, pair_record(2)])
    config = {"pairs": known["pairs"], "max_bad": 0.5, "progress": False}
    lines = tmp_path / "lines.jsonl"
    result = diagnose_pairs(DiagnoseConfig(**config, model=model, images=False, lines=str(lines)))
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert ["unreadable" in line for line in told] == [False, True, False] and "gone.png" in told[1]["unreadable"]
    again = diagnose_pairs(DiagnoseConfig(**config, scores=str(lines)))
    assert again.found.rows == result.found.rows and again.bad.samples == 1


def image_record(number, image, **more):
    return pair_record(number, conversations=[{"from": "human", "value": f"<image>{number}?"}], images=[image], **more)


def test_diagnose_given_scores_need_no_image(known, tmp_path):
    """Of four pairs with an image, one is missing, one does not decode and one is no path; a fifth pair has none."""
    (tmp_path / "own" / "broken.png").write_bytes(b"no image")
    (tmp_path / "own" / "real.png").write_bytes(png())
    images = ["gone.png", "broken.png", "data:image/png;base64,????", "real.png"]
    records = [image_record(number, image) for number, image in enumerate(images)]
    write_json(tmp_path / "own" / "px.json", [*records, pair_record(4)])
    write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1.0, "rejected": 0.0}] * 5)
    result = diagnose_pairs(DiagnoseConfig(**known, max_bad=0))
    assert result.found.pairs == 5 and result.rows.columns["has_images"] == [True] * 4 + [False]


def test_diagnose_given_scores_of_shards_need_no_image(shards, tmp_path, monkeypatch):
    """Statements about two images are told as such although their images are not read."""
    monkeypatch.setattr("datamodules.pair_pools.read_sample", None)
    scores = str(write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1.0, "rejected": 0.0}] * 24))
    result = diagnose_pairs(DiagnoseConfig(pairs=shards, scores=scores, progress=False))
    assert result.rows.columns["has_images"] == [True] * 24
    assert result.rows.columns["statement"] == [False] * 12 + [True] * 12


def test_diagnose_changed_images_that_cannot_be_scored_are_counted_and_named(model, known, tmp_path, monkeypatch):
    """Five pairs: 0 to 2 have an image each, 3 has two, which no other has, 4 none. Without its image 1 cannot be
    encoded, and 2 is not finite; with another's image 0 is not."""
    for number in range(5):
        (tmp_path / "own" / f"{number}.png").write_bytes(png(COLOURS[number]))
    two = pair_record(3, conversations=[{"from": "human", "value": "<image><image>3?"}], images=["3.png", "4.png"])
    records = [image_record(number, f"{number}.png") for number in range(3)]
    write_json(tmp_path / "own" / "px.json", [*records, two, pair_record(4)])
    given = {f"px-{number:07d}": png(COLOURS[number]) for number in range(3)}
    encode, score = Encoder.encode, diagnose_model.score_batch

    def encode_but_one(self, sample):
        if sample.key == "px-0000001" and not sample.images:
            raise RecordError("made up", "it is too short")
        return encode(self, sample)

    def score_but_two(model, encoder, items, **settings):
        lines = score(model, encoder, items, **settings)
        for (sample, _), line in zip(items, lines, strict=True):
            removed = sample.key == "px-0000002" and not sample.images
            others = sample.key == "px-0000000" and sample.images and sample.images[0] != given[sample.key]
            if removed or others:
                line["rewards"] = [math.nan, 0.0]
        return lines

    monkeypatch.setattr(Encoder, "encode", encode_but_one)
    monkeypatch.setattr(diagnose_model, "score_batch", score_but_two)
    config = {"pairs": known["pairs"], "model": model, "max_bad": 0, "progress": False}
    result = diagnose_pairs(DiagnoseConfig(**config, json=str(tmp_path / "all.json"), output=str(tmp_path / "p.html")))
    assert result.bad.samples == 0 and result.found.pairs == 5
    assert json.loads((tmp_path / "all.json").read_text())["not_scored"] == {
        "without_images": {"made up": 1, "reward not finite": 1},
        "others_images": {"reward not finite": 1, "no other sample with as many images": 1},
        "swapped": {},
    }
    assert [(use.change, use.pairs) for use in result.found.images] == [("removed", 2), ("another sample's", 2)]
    told = [reason for reason in result.found.not_measured if "samples with" in reason]
    assert told[0].startswith(
        "2 samples with images removed: 1 made up, 1 reward not finite; first: px-0000001: it is too short; "
    )
    assert told[1].startswith(
        "2 samples with another sample's images: 1 reward not finite, 1 no other sample with as many images; "
    )
    assert len(told) == 2 and "2 samples with images removed: 1 made up" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"json": "own/px.json"}, "json='.*px.json': would write over the file of pairs"),
        ({"pairs": "own", "json": "own/px.json"}, "json='.*px.json': would write over the file of pairs"),
        ({"json": "s.jsonl"}, "json='.*s.jsonl': would write over the file of scores"),
        ({"lines": "own/../s.jsonl"}, "lines='.*s.jsonl': would write over the file of scores"),
        ({"json": "x", "lines": "x"}, "lines='.*x': would write over the file of json"),
        ({"output": "x.html", "json": "x.html"}, "json='.*x.html': would write over the file of output"),
    ],
)
def test_diagnose_over_its_own_input_or_another_output_is_refused(known, tmp_path, given, told):
    config = DiagnoseConfig(**{**known, **{key: str(tmp_path / name) for key, name in given.items()}})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    with pytest.raises(ConfigError, match=told):
        diagnose_pairs(config)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def test_diagnose_over_a_shard_is_refused_and_beside_it_is_not(shards, tmp_path):
    scores = str(write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1.0, "rejected": 0.0}] * 12))
    with pytest.raises(ConfigError, match="json=.*would write over the file of pairs"):
        diagnose_pairs(DiagnoseConfig(pairs=shards[1], scores=scores, json=f"{shards[1]}/prepared.json"))
    for _ in range(2):
        diagnose_pairs(DiagnoseConfig(pairs=shards[1], scores=scores, json=f"{shards[1]}/found.json", progress=False))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pairs": ""}, "pairs='': a name in it is empty"),
        ({"pairs": "[]"}, "pairs='..': a name in it is empty"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
    ],
)
def test_diagnose_settings_that_mean_nothing_are_refused(known, given, told):
    with pytest.raises(ConfigError, match=told):
        diagnose_pairs(DiagnoseConfig(**{**known, **given}))


def test_diagnose_settings_that_do_not_fit_are_told_together(tmp_path):
    with pytest.raises(ConfigError) as caught:
        diagnose_pairs(DiagnoseConfig(pairs=[], output="page.txt", batch_size=0))
    for word in ("pairs=[]", "model, scores", "output='page.txt'", "batch_size=0"):
        assert word in str(caught.value)


def test_diagnose_command_prints_tables(shards, tmp_path, capsys):
    lines = write_jsonl(tmp_path / "s.jsonl", [{"chosen": number % 3 - 0.5, "rejected": 0.0} for number in range(12)])
    main([f"pairs={shards[1]}", f"scores={lines}", "progress=false"])
    printed = capsys.readouterr().out
    assert "Calibration" in printed and "Not measured" in printed
