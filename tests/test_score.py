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
from mrm.model.packing import RewardBatch
from mrm.model.reward_model import RewardModel
from mrm.model.saving import save_reward_model
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
    save_reward_model(RewardModel.from_pretrained("tiny", head="linear"), folder, encoder)
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


def skipped(config: ScoreConfig) -> list[dict]:
    return [json.loads(line) for line in Path(f"{config.output}.skipped.jsonl").read_text().splitlines()]


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
    with pytest.raises(
        UnreadableSamplesError, match=r"1 of 3 lines .*1 x equal responses \(b; .*s\.jsonl\.skipped.*s\.jsonl\.partial"
    ):
        score(files)
    partial, skipped = sorted(Path(files.output).parent.iterdir())
    assert (partial.name, skipped.name) == ("s.jsonl.partial", "s.jsonl.skipped.jsonl")
    assert [json.loads(line)["key"] for line in partial.read_text().splitlines()] == ["p", "l"]


def test_score_bad_lines_within_limit_are_counted_and_named(files: ScoreConfig) -> None:
    write(files, PAIR, BAD, LIST, PAIR)
    files.max_bad = 0.5
    result = score(files)
    assert dict(result.bad) == {"equal responses": 1, "duplicate key": 1}
    assert result.named == {"equal responses": ["b"], "duplicate key": ["p"]}
    assert [line["key"] for line in read(files)] == ["p", "l"]


def test_score_bad_lines_are_listed_with_record_and_explanation(files: ScoreConfig) -> None:
    write(files, PAIR, BAD, PAIR)
    files.max_bad = 1
    score(files)
    equal, double = skipped(files)
    assert (equal["key"], equal["record"], equal["reason"]) == ("b", 2, "equal responses")
    assert equal["detail"].startswith("in.jsonl:2: ")
    assert "'b'" in equal["detail"]
    assert (double["key"], double["record"], double["reason"]) == ("p", 3, "duplicate key")
    assert "of record 1" in double["detail"]


def test_score_bad_lines_message_has_the_first_explanation_of_a_reason(files: ScoreConfig) -> None:
    first, second = ({**PAIR, "key": f"k{number}", "images": [f"gone{number}.png"]} for number in (1, 2))
    write(files, PAIR, first, second)
    with pytest.raises(UnreadableSamplesError, match=r"2 x image missing \(k1, k2; the first: .*gone1\.png") as caught:
        score(files)
    assert "gone2" not in str(caught.value)


def test_score_without_bad_lines_drops_an_earlier_list(files: ScoreConfig) -> None:
    write(files, PAIR, BAD)
    files.max_bad = 1
    score(files)
    assert len(skipped(files)) == 1
    write(files, PAIR)
    score(files)
    assert [path.name for path in Path(files.output).parent.iterdir()] == ["s.jsonl"]


def test_score_rewards_that_are_not_finite_are_bad_lines(files: ScoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(model: RewardModel, batch: RewardBatch) -> torch.Tensor:
        return torch.tensor([0.5, 0.25, 1.0, float("nan"), float("inf")])

    monkeypatch.setattr(RewardModel, "forward", forward)
    write(files, PAIR, LIST)
    files.max_bad = 0.5
    result = score(files)
    assert result.named == {"reward not finite": ["l"]}
    assert [line["key"] for line in read(files)] == ["p"]
    assert [(line["record"], line["reason"]) for line in skipped(files)] == [(2, "reward not finite")]


def test_score_empty_output_is_refused(files: ScoreConfig) -> None:
    write(files, PAIR)
    files.output = ""
    with pytest.raises(ConfigError, match="output=''"):
        score(files)


def test_score_over_its_own_list_of_bad_lines_is_refused(files: ScoreConfig) -> None:
    write(files, PAIR)
    listed = Path(files.input).rename(Path(files.input).with_name("s.skipped.jsonl"))
    files.input, files.output = str(listed), str(listed.with_name("s"))
    with pytest.raises(ConfigError, match="would write over the input"):
        score(files)


def test_score_nothing_usable_is_an_error(files: ScoreConfig) -> None:
    write(files, BAD)
    files.max_bad = 1
    with pytest.raises(ConfigError, match="none of its 1 lines"):
        score(files)
    assert [path.name for path in Path(files.output).parent.iterdir()] == ["s.jsonl.skipped.jsonl"]


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
