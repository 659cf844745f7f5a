"""`scale=gpu1` and `scale=paper`: the published hyper-parameters, the models at full size on meta tensors, and whole runs at shrunken size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from datamodules.shapeworld import generate_split
from datamodules.sources.llama_factory import to_llama_factory
from mrm.cli import compose_run_config
from mrm.config import RunConfig, to_yaml
from mrm.model.saving import load_reward_model
from mrm.parts import build_reward_model
from tests.model.test_distributed import torchrun
from tests.model.test_full_size import LANGUAGE, QWEN3_VL_8B

SCALES = ("gpu1", "paper")
WIDTH = QWEN3_VL_8B["text_config"]["hidden_size"]
MATRICES = (
    36 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12_288))
)  # q and o, k and v, gate, up and down
TRAINED = {"gpu1": MATRICES + WIDTH, "paper": LANGUAGE["qwen3_vl"] + WIDTH}


@pytest.mark.parametrize("scale", SCALES)
def test_scale_has_the_published_hyper_parameters(scale: str) -> None:
    config = compose_run_config([f"scale={scale}"])
    trainer, model, optim = config.trainer, config.model, config.optim
    assert trainer.devices * trainer.num_nodes * trainer.accumulate * config.data.batch_size == 512
    assert (model.max_pixels_train, model.max_pixels_score) == (268_324, 1_310_720)
    assert model.max_prompt_tokens + model.max_response_tokens == 7168
    assert model.freeze_vision and model.freeze_projector and trainer.precision == "bf16-mixed"
    assert (optim.schedule, optim.warmup, optim.lr) == ("cosine", 0.1, {"gpu1": 1e-4, "paper": 1e-5}[scale])


@pytest.mark.parametrize("scale", SCALES)
def test_scale_builds_its_model_at_full_size(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_meta(path: str, *, dtype: torch.dtype, **_: object) -> tuple[torch.nn.Module, dict[str, list[str]]]:
        with torch.device("meta"):
            model = AutoModel.from_config(AutoConfig.from_pretrained(path), dtype=dtype)
        return model, {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": []}

    AutoConfig.for_model("qwen3_vl", **QWEN3_VL_8B).save_pretrained(tmp_path)
    monkeypatch.setattr(AutoModel, "from_pretrained", on_meta)
    config = compose_run_config([f"scale={scale}", f"model.backbone={tmp_path}"])
    with torch.device("meta"):  # the low-rank matrices too
        model = build_reward_model(config, device="cpu")
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert sum(weight.numel() for weight in trained.values()) == TRAINED[scale]
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert not any("visual" in name for name in trained)
    assert model.backbone.is_gradient_checkpointing


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """The files that data/own.yaml names, in LLaMA-Factory's form."""
    folder = tmp_path / "own"
    folder.mkdir()
    records = []
    for sample in generate_split("trusted", 8, seed=3):
        names = [f"{sample.key}-{place}.png" for place in range(len(sample.images))]
        for name, content in zip(names, sample.images, strict=True):
            (folder / name).write_bytes(content)
        records += to_llama_factory(sample, names)
    for name in ("debiased", "t2i", "open", "test"):
        (folder / f"{name}.json").write_text(json.dumps(records))
    return folder


@pytest.mark.parametrize(("scale", "processes"), [("gpu1", 1), ("paper", 2)])
def test_scale_runs_at_shrunken_size(
    scale: str, processes: int, small_run: Callable[..., RunConfig], own_data: Path, tmp_path: Path
) -> None:
    config = small_run(
        f"scale={scale}", f"data_root={own_data}", f"output_root={tmp_path / 'runs'}", "model.backbone=tiny",
        "trainer.accelerator=cpu", f"trainer.devices={processes}", "trainer.accumulate=2", "data.batch_size=2",
        "data.row_tokens=1024", "data.workers=1", "model.max_pixels_train=9216", "model.max_pixels_score=9216",
        "trainer.progress=false", "logger=none",
    )  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    torchrun("-m", "tests.distributed_run", str(path), processes=processes)
    folder = (tmp_path / "runs" / "latest").resolve()
    assert json.loads((folder / "results.json").read_text())["rounds"]
    load_reward_model(folder / "model")
    (checkpoint,) = (folder / "checkpoints").glob("*.ckpt")
    assert checkpoint.is_dir() == (scale == "paper")
