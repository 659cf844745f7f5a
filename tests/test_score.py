"""Scoring a file with a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mrm.errors import ConfigError, UnreadableSamplesError
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.reward_model import RewardModel
from mrm.score import ScoreConfig, main, score

PAIR = {
    "key": "p",
    "prompt": "<image>What is it?",
    "images": ["a.png"],
    "chosen": "A red circle.",
    "rejected": "A blue cross.",
}
LIST = {
    "key": "l",
    "prompt": "Say a number.",
    "responses": ["One.", "Two.", "Three."],
    "pairs": [{"chosen": 0, "rejected": 1}, {"chosen": 0, "rejected": 2}],
}
BAD = {"key": "b", "prompt": "Say a number.", "chosen": "One.", "rejected": "One."}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    encoder = Encoder.from_pretrained(TINY_DIRECTORY, max_pixels=4096)
    RewardModel.from_pretrained("tiny", head="linear").save_pretrained(folder, encoder)
    return folder


@pytest.fixture
def files(model: Path, tmp_path: Path) -> ScoreConfig:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    return ScoreConfig(
        str(model), str(tmp_path / "in.jsonl"), str(tmp_path / "out" / "s.jsonl"), device="cpu", progress=False
    )


def write(config: ScoreConfig, *records: dict) -> None:
    Path(config.input).write_text("\n".join(map(json.dumps, records)))


def read(config: ScoreConfig) -> list[dict]:
    return [json.loads(line) for line in Path(config.output).read_text().splitlines()]


def test_score_pair_and_list_gives_a_reward_a_response(files: ScoreConfig) -> None:
    write(files, PAIR, LIST)
    result = score(files)
    pair, ranked = read(files)
    assert (result.read, result.scored, result.bad.total()) == (2, 2, 0)
    assert pair["key"] == "p" and pair["rewards"] == [pair["chosen"], pair["rejected"]]
    assert ranked["key"] == "l" and len(ranked["rewards"]) == 3 and "chosen" not in ranked


def test_score_pair_with_chosen_second_takes_rewards_by_number(files: ScoreConfig) -> None:
    responses = {"responses": ["A blue cross.", "A red circle."], "pairs": [{"chosen": 1, "rejected": 0}]}
    write(files, PAIR, {"key": "q", "prompt": PAIR["prompt"], "images": PAIR["images"], **responses})
    score(files)
    first, second = read(files)
    assert second["chosen"] == pytest.approx(first["chosen"], abs=1e-5)
    assert second["rewards"] == [second["rejected"], second["chosen"]]


def test_score_rewards_do_not_depend_on_batch_size(files: ScoreConfig) -> None:
    write(files, PAIR, LIST, {**PAIR, "key": "p2", "chosen": "A rather longer answer about the picture."})
    score(files)
    together = read(files)
    files.batch_size = 1
    score(files)
    for one, other in zip(together, read(files), strict=True):
        assert one["rewards"] == pytest.approx(other["rewards"], abs=1e-5)


def test_score_candidates_without_preference_gives_rewards_only(files: ScoreConfig) -> None:
    candidates = {name: LIST[name] for name in ("prompt", "responses")}
    one = {"key": "one", "prompt": "Say a number.", "responses": ["One."], "pairs": []}
    same = {"key": "same", "prompt": "Say a number.", "responses": ["One.", "One."]}
    none = {"key": "none", "prompt": "Say a number.", "responses": []}
    blank = {"key": "blank", "prompt": "Say a number.", "responses": ["One.", " "]}
    write(files, LIST, candidates, one, same, none, blank)
    files.max_bad = 0.5
    result = score(files)
    ranked, unranked, single, equal = read(files)
    assert unranked == {"key": "in-0000001", "rewards": pytest.approx(ranked["rewards"], abs=1e-5)}
    assert single == {"key": "one", "rewards": [pytest.approx(ranked["rewards"][0], abs=1e-5)]}
    assert equal["rewards"][0] == pytest.approx(equal["rewards"][1], abs=1e-5)
    assert result.named == {"too few responses": ["none"], "empty response": ["blank"]}


def test_score_bad_lines_beyond_limit_stops_and_keeps_the_scores(files: ScoreConfig) -> None:
    write(files, PAIR, BAD, LIST)
    with pytest.raises(UnreadableSamplesError, match=r"1 of 3 lines .*1 x equal responses \(b\).*s\.jsonl\.partial"):
        score(files)
    (partial,) = Path(files.output).parent.iterdir()
    assert partial.name == "s.jsonl.partial"
    assert [json.loads(line)["key"] for line in partial.read_text().splitlines()] == ["p", "l"]


def test_score_bad_lines_within_limit_are_counted_and_named(files: ScoreConfig) -> None:
    write(files, PAIR, BAD, LIST, PAIR)
    files.max_bad = 0.5
    result = score(files)
    assert dict(result.bad) == {"equal responses": 1, "duplicate key": 1}
    assert result.named == {"equal responses": ["b"], "duplicate key": ["p"]}
    assert [line["key"] for line in read(files)] == ["p", "l"]


def test_score_nothing_usable_is_an_error(files: ScoreConfig) -> None:
    write(files, BAD)
    files.max_bad = 1
    with pytest.raises(ConfigError, match="none of its 1 lines"):
        score(files)
    assert not list(Path(files.output).parent.iterdir())


def test_score_output_that_cannot_be_written_is_a_clear_error(files: ScoreConfig) -> None:
    write(files, PAIR)
    files.output = str(Path(files.input) / "s.jsonl")  # beneath a file
    with pytest.raises(ConfigError, match="output=.*cannot be written"):
        score(files)


def test_score_cuda_without_a_device_is_a_clear_error(files: ScoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write(files, PAIR)
    files.device = "cuda"
    with pytest.raises(ConfigError, match="device='cuda': torch finds no CUDA device"):
        score(files)


def test_score_bad_settings_are_told_together(files: ScoreConfig) -> None:
    files.batch_size, files.model = 0, "nowhere"
    with pytest.raises(ConfigError, match=r"batch_size=0(.|\n)*model='nowhere'(.|\n)*input="):
        score(files)


def test_score_folder_without_model_is_refused(files: ScoreConfig, tmp_path: Path) -> None:
    write(files, PAIR)
    files.model = str(tmp_path)
    with pytest.raises(ConfigError, match="no saved reward model"):
        score(files)


def test_main_bad_input_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["model=nowhere", "input=a", "output=b"])
    assert ended.value.code == 2
