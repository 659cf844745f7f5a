"""Every yaml in experiments/: named as its file, composes, passes all checks, and trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mrm.cli import compose_run_config
from mrm.config import RunConfig, experiments_dir
from mrm.config_checks import check_config
from mrm.errors import ConfigError
from mrm.parts import check
from mrm.run import run

EXPERIMENTS = sorted(path.stem for path in (experiments_dir() / "experiment").glob("*.yaml"))
GROUPS = ("model", "data", "loss", "optim", "curation", "trainer", "logger", "scale")
WITH_EMBEDDED_JUDGES = [  # ablations of the rounds, which bring their whole curation
    "dt2it_drop", "dt2it_iterations_2", "dt2it_released", "dt2it_rounds_1", "dt2it_rounds_3", "dt2it_rounds_4", "dt2it_weight",
]  # fmt: skip
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((experiments_dir() / group).glob("*.yaml"))]


@pytest.fixture
def published_data(tmp_path: Path) -> Path:
    """The layouts of MJ-Bench and MATH-V with a few drawn pictures."""
    objects, maths = tmp_path / "mj_bench_objects", tmp_path / "math_v"
    for folder in (objects / "images", maths / "images", maths / "outputs"):
        folder.mkdir(parents=True)
    captions = []
    for number in range(8):
        names = [f"a_{number}.jpg", f"b_{number}.jpg"]
        for shade, name in enumerate(names):
            Image.new("RGB", (48, 40), (30 * number, 200 * shade, 90)).save(objects / "images" / name)
        captions.append({"caption": f"Room {number}.", "label_0": 1, "image_0": names[0], "image_1": names[1]})
    (objects / "captions.json").write_text(json.dumps(captions))
    questions, answers = [], []
    for number in range(8):
        Image.new("RGB", (40, 48), (9, 30 * number, 9)).save(maths / "images" / f"{number}.jpg")
        question = {"id": str(number), "question": "How many?\n<image1>", "options": [], "answer": "6"}
        questions.append({**question, "subject": "counting", "level": 1, "image": f"images/{number}.jpg"})
        for text, correct in (("6", True), ("It is 7.", False)):
            answers.append(
                {"id": str(number), "model": "m", "response": text, "model_answer": text, "correct": correct}
            )
    (maths / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (maths / "outputs" / "m.jsonl").write_text("\n".join(map(json.dumps, answers)))
    return tmp_path


def test_experiments_are_found() -> None:
    assert {"dt2it_full", "baseline_open_pool", "smoke_real"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_file_opens_with_question_command_and_expectation(name: str) -> None:
    text = (experiments_dir() / "experiment" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n# Question: ")
    assert f"# Command:     python -m mrm.run experiment={name}\n" in text
    assert "\n# Expectation: " in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_named_as_its_file(name: str) -> None:
    assert compose_run_config([f"experiment={name}"]).experiment == name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_trains_every_epoch_and_tests(
    name: str, small_run: Callable[..., RunConfig], published_data: Path
) -> None:
    config = small_run(f"experiment={name}", f"data_root={published_data}", "trainer.limit_train_batches=1")
    check(config)
    result = run(config)
    assert len(result.rounds) == len(config.curation.schedule)
    assert set(result.tests) == {key for key, d in config.data.datasets.items() if d.role == "test" and d.use}
    assert all(0 <= accuracy <= 1 for accuracy in result.tests.values())
    written = json.loads((result.run_dir / "results.json").read_text())
    told = [
        key for key in written if key != "evaluation" and "memory" not in key
    ]  # one where there is a set of role val
    assert told == ["tests", "rounds", "open_pairs", "active_pairs", "starts", "seconds"]
    assert (result.run_dir / "model" / "model.safetensors").is_file()
    assert result.report is not None and result.report.is_file()


@pytest.mark.parametrize("choice", CHOICES)
def test_group_choice_composes(choice: str) -> None:
    compose_run_config([choice])


@pytest.mark.parametrize("scale", ["gpu1", "paper"])
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("dt2it")])
def test_experiment_at_larger_scale_passes_checks_with_own_data(name: str, scale: str, tmp_path: Path) -> None:
    for file in ("debiased.json", "t2i.json", "open.json", "test.json"):
        (tmp_path / file).write_text("[]")
    config = compose_run_config([f"experiment={name}", f"scale={scale}", f"data_root={tmp_path}"])
    assert (config.experiment, config.scale) == (name, scale)
    if name in WITH_EMBEDDED_JUDGES:  # who know ShapeWorld only: a person brings others, and is told so
        with pytest.raises(
            ConfigError, match="judges of kind shapeworld know ShapeWorld only.*choose curation=no_judges"
        ):
            check_config(config)
        return
    check_config(config)
    assert not config.curation.annotators
