"""Checkpoints in slices: whole again on any number of processes, and refused where something is missing."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mrm.errors import MrmError
from mrm.model.sharded_checkpoints import load_tensors, read_rest, whole_weights
from tests.model.test_distributed import torchrun
from tests.model.test_reward_module import shards  # noqa: F401  # a fixture


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):  # noqa: F811
    """Whole weights and a checkpoint of two processes that shared them."""
    folder = tmp_path_factory.mktemp("trained")
    torchrun(
        "-m",
        "tests.model.distributed",
        str(shards),
        str(folder / "w.safetensors"),
        "fsdp2",
        "4",
        f"checkpoint={folder / 'w.ckpt'}",
    )
    return folder


def test_slices_are_written_by_every_process_and_make_the_whole_weights(trained):
    assert len(list((trained / "w.ckpt").glob("shard-*.safetensors"))) == 2
    weights, wanted = whole_weights(trained / "w.ckpt"), load_file(trained / "w.safetensors")
    assert set(weights) == {f"model.{name}" for name in wanted}
    for name, value in wanted.items():
        assert torch.equal(weights[f"model.{name}"], value), name


@pytest.mark.parametrize("processes", [1, 3])
def test_checkpoint_is_taken_up_by_another_number_of_processes(trained, shards, tmp_path, processes):  # noqa: F811
    start = [
        f"resume={trained / 'w.ckpt'}",
        f"checkpoint={tmp_path / 'w.ckpt'}",
    ]  # at the end of its only epoch: nothing is trained, and all is written again
    arguments = ("-m", "tests.model.distributed", str(shards), str(tmp_path / "w.safetensors"), "fsdp2", "4", *start)
    assert torchrun(*arguments, processes=processes).stdout.count("took 3 steps") == processes
    before, after = (read_rest(folder / "w.ckpt") for folder in (trained, tmp_path))
    assert before["optimizer_states"] == after["optimizer_states"]
    named = before["optimizer_states"][0]["scalars"]
    shapes = {name: value.shape for name, value in load_file(trained / "w.safetensors").items()}
    assert named
    for name in named:
        moment = f"optimizer.0.{name}.exp_avg"
        first, second = ({moment: torch.full(shapes[name.removeprefix("model.")], -1.0)} for _ in range(2))
        load_tensors(trained / "w.ckpt", first)
        load_tensors(tmp_path / "w.ckpt", second)
        assert torch.equal(first[moment], second[moment]) and first[moment].abs().sum() > 0


def test_missing_or_cut_shard_is_named(trained, tmp_path):
    folder = shutil.copytree(trained / "w.ckpt", tmp_path / "w.ckpt")
    first = min(folder.glob("shard-*"))  # without the last, the whole would seem smaller; without the first it does not
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    with pytest.raises(MrmError, match=first.name):
        whole_weights(folder)
    first.unlink()
    with pytest.raises(MrmError, match=first.name):
        whole_weights(folder)


def test_file_of_another_is_named_and_not_read(trained, tmp_path):
    folder = shutil.copytree(trained / "w.ckpt", tmp_path / "w.ckpt")
    shutil.copy(min(folder.glob("shard-*")), folder / "shard-00009-model-00001-of-00001.safetensors")
    with pytest.raises(MrmError, match="not its own: shard-00009"):
        whole_weights(folder)


def test_damaged_header_is_told_in_one_message(trained, tmp_path):
    folder = shutil.copytree(trained / "w.ckpt", tmp_path / "w.ckpt")
    first = min(folder.glob("shard-*"))
    content = bytearray(first.read_bytes())
    content[8:20] = b"x" * 12
    first.write_bytes(content)
    with pytest.raises(MrmError, match="header is damaged"):
        whole_weights(folder)


@pytest.mark.parametrize("content", [None, b"", b"nothing", pickle.dumps({"files": {}, "optimizer_states": Path("x")})])
def test_folder_that_is_no_checkpoint_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "rest.ckpt").write_bytes(content)
    with pytest.raises(MrmError, match=r"is no whole checkpoint in slices: its rest\.ckpt is missing or damaged"):
        read_rest(tmp_path)


def test_tensor_of_another_shape_is_refused(trained):
    name = "model.model.head.layers.0.weight"
    assert name.removeprefix("model.") in whole_weights(trained / "w.ckpt")
    with pytest.raises(MrmError, match="does not fit this model"):
        load_tensors(trained / "w.ckpt", {name: torch.zeros(1, 3)})
