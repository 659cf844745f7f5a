"""Rows that a program holds, scored as `mrm.score` scores a file; and the same through MLflow."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from mrm import mlflow_logger
from mrm.errors import ConfigError, RecordError
from mrm.mlflow_logger import PatientMLFlowLogger, be_brief
from mrm.mlflow_model import log_model, requirements
from mrm.mlflow_run import LIMIT, wants_model
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.reward_model import RewardModel
from mrm.model.saving import save_reward_model
from mrm.score import ScoreConfig, score
from mrm.score_rows import RowScorer, image_bytes

LINES: list[dict[str, Any]] = [
    {
        "key": "p",
        "prompt": "<image>What is it?",
        "images": ["a.png"],
        "chosen": "A red circle.",
        "rejected": "A cross.",
    },
    {"key": "n", "prompt": [{"role": "user", "content": "Say a number."}], "responses": ["One.", "Two.", "Three."]},
    {"prompt": "<image>And here?", "images": ["a.png"], "responses": ["A circle."]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    made = RewardModel.from_pretrained("tiny", head="linear")
    torch.nn.init.normal_(made.head.layers[-1].weight)  # type: ignore[arg-type]
    save_reward_model(made, folder, Encoder.from_pretrained(TINY_DIRECTORY, max_pixels=4096))
    return folder


@pytest.fixture(scope="module")
def scorer(model: Path) -> RowScorer:
    return RowScorer(model, device="cpu")


def picture(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
    return buffer.getvalue()


def expected(model: Path, folder: Path) -> list[list[float]]:
    """The rewards that the command gives."""
    (folder / "a.png").write_bytes(picture())
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    score(ScoreConfig(str(model), str(folder / "in.jsonl"), str(folder / "out.jsonl"), device="cpu", progress=False))
    return [json.loads(line)["rewards"] for line in (folder / "out.jsonl").read_text().splitlines()]


def rows(image: Any) -> list[dict[str, Any]]:
    return [{**line, "images": [image]} if "images" in line else line for line in LINES]


def test_rows_score_as_the_command_does_whatever_form_an_image_has(
    model: Path, scorer: RowScorer, tmp_path: Path
) -> None:
    wanted = expected(model, tmp_path)
    plain = base64.b64encode(picture()).decode()
    for image in (picture(), str(tmp_path / "a.png"), plain, f"data:image/png;base64,{plain}"):
        lines = scorer.score(rows(image))
        assert [line["rewards"] for line in lines] == wanted
        assert lines[0]["chosen"] == wanted[0][0] and lines[0]["rejected"] == wanted[0][1]
        assert [line["key"] for line in lines] == ["p", "n", "row-2"] and "chosen" not in lines[1]


def test_rows_of_a_table_with_arrays_and_missing_values_score_the_same(scorer: RowScorer) -> None:
    plain = rows(picture())
    table = [
        {**dict.fromkeys(("key", "images", "responses", "chosen", "rejected"), float("nan")), **row} for row in plain
    ]
    for row in table:
        row |= {name: np.array(row[name], object) for name in ("images", "responses") if isinstance(row[name], list)}
    assert scorer.score(table) == scorer.score(plain)


def test_row_that_cannot_be_used_says_why_and_the_others_are_scored(scorer: RowScorer) -> None:
    good = {"prompt": "Say a number.", "responses": ["One.", "Two."]}
    bad = [
        {"prompt": "<image>What?", "responses": ["a"]},
        {"key": "k", "prompt": "<image>What?", "images": ["nowhere.png"], "responses": ["a"]},
        {**good, "respones": []},
        {"prompt": "What?", "images": "a.png", "responses": ["a"]},
    ]
    lines = scorer.score([bad[0], good, *bad[1:], good])
    assert [line["rewards"] is None for line in lines] == [True, False, True, True, True, False]
    assert lines[1]["rewards"] == lines[5]["rewards"]
    assert [line["key"] for line in lines[:3]] == ["row-0", "row-1", "k"]
    for line, told in zip(
        (lines[0], *lines[2:5]), ("marker", "no such file", "respones", "must be a list"), strict=True
    ):
        assert told in line["error"]
    with pytest.raises(ConfigError, match="none of the 4 rows can be used; the first: .*marker"):
        scorer.score(bad)
    assert scorer.score([]) == []


@pytest.mark.parametrize("image", ["cats", "data:image/png;base64,?", "a\0b", "", 7, None])
def test_image_bytes_of_what_is_no_image_are_refused(image: Any) -> None:
    with pytest.raises(RecordError, match="no such file|must be bytes"):
        image_bytes(image)


def test_rows_are_scored_in_batches_with_the_same_rewards(model: Path, scorer: RowScorer) -> None:
    many = [{"prompt": f"Number {number}?", "responses": ["One.", "Two.", "Ten."]} for number in range(5)]
    small = RowScorer(model, device="cpu", batch_size=2)
    for one, other in zip(scorer.score(many), small.score(many), strict=True):
        assert one["key"] == other["key"]
        np.testing.assert_allclose(one["rewards"], other["rewards"], atol=1e-5)


def test_logged_model_is_loaded_by_mlflow_and_scores_rows_as_the_command_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("alembic").setLevel(logging.ERROR)
    monkeypatch.setattr(mlflow_logger, "LAST_PAUSE_S", 0.0)
    be_brief()
    uri = f"sqlite:///{tmp_path}/m.db"
    logger = PatientMLFlowLogger(
        experiment_name="e", tracking_uri=uri, synchronous=True, artifact_location=(tmp_path / "artifacts").as_uri()
    )
    logger.log_hyperparams({"seed": 3})
    logger.log_metrics({"test/a/accuracy": 0.75}, 8)
    logger.save()
    first, address = log_model(logger, model, 8), log_model(logger, model, 8)  # as a run that was killed at its end
    assert first != address
    (found,) = logger.experiment.search_logged_models([logger.experiment_id])
    assert (
        address == f"models:/{found.model_id}" and found.source_run_id == logger.run_id and found.params["seed"] == "3"
    )
    assert [(metric.key, metric.value) for metric in found.metrics] == [("test/a/accuracy", 0.75)]
    files = {path.relative_to(tmp_path / "artifacts") for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    assert files and not any(path.suffix in (".pkl", ".pickle") or path.suffix == ".pyc" for path in files)
    wanted = expected(model, tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"runs:/{logger.run_id}/model")
    finally:
        mlflow.set_tracking_uri(before)
    assert [line["rewards"] for line in loaded.predict(rows(picture()))] == wanted
    place = Path(logger.experiment.get_logged_model(found.model_id).artifact_location.removeprefix("file://"))
    # Elsewhere, where this project is not installed: by the code beside the weights.
    script = f"import mlflow, json; m = mlflow.pyfunc.load_model({str(place)!r}); print(json.dumps(m.predict({rows(str(tmp_path / 'a.png'))!r})))"
    script = f"import sys; sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in str(f)]\n{script}; import mrm; print(mrm.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    *_, answer, where = done.stdout.splitlines()
    assert where.startswith(str(place)) and [line["rewards"] for line in json.loads(answer)] == wanted


def test_logged_model_scores_a_table_into_a_table(model: Path, tmp_path: Path) -> None:
    from mrm.pyfunc_model import RewardScorer

    class Table:  # what is used of pandas.DataFrame
        def __init__(self, records: list[dict[str, Any]], index: Any) -> None:
            self.records, self.index = records, index

        def to_dict(self, form: str) -> list[dict[str, Any]]:
            assert form == "records"
            return self.records

    made = RewardScorer()
    made.scorer = RowScorer(model, device="cpu")
    answer = made.predict(None, Table(LINES[1:2], index=[5]))
    assert isinstance(answer, Table) and answer.index == [5] and len(answer.records[0]["rewards"]) == 3


def test_wants_model_leaves_out_a_large_one_unless_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(LIMIT + 1)  # takes no room
    with caplog.at_level(logging.INFO):
        assert not wants_model(tmp_path, None)
    assert "larger than 1 GB; logger.log_model=true" in caplog.text
    assert wants_model(tmp_path, True) and not wants_model(tmp_path, False)
    (tmp_path / "weights").write_bytes(b"1")
    assert wants_model(tmp_path, None)


def test_requirements_are_the_projects_own_of_what_scoring_needs() -> None:
    asked = requirements()
    assert any(line.startswith("torch>=") for line in asked) and any(line.startswith("hydra-core") for line in asked)
    assert not any(line.startswith(("mlflow", "lightning", "mrm")) for line in asked)


def test_log_model_of_a_run_that_is_not_there_raises(model: Path, tmp_path: Path) -> None:
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logger = PatientMLFlowLogger(experiment_name="e", tracking_uri=f"sqlite:///{tmp_path}/m.db", synchronous=True)
    logger.experiment.delete_run(logger.run_id)
    logger._run_id = "0" * 32
    with pytest.raises(MlflowException):
        log_model(logger, model, 0)
