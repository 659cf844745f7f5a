"""Images at the model's resolution: the processor's own size rule, the same number of image tokens, small images untouched."""

import copy
import dataclasses
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.index import Index
from datamodules.resizing import Resizing, resizing_for
from datamodules.shards import read_sample
from mrm.errors import ConfigError
from mrm.model.encoding import Encoder
from mrm.model.families import get_family
from mrm.preference import Message
from tests.datamodules.making import make_image, make_sample
from tests.datamodules.prepare_runs import run
from tests.datamodules.sources.helpers import write_jsonl
from tests.datamodules.test_perceptual import scene
from tests.model.checkpoints import KINDS, _internvl, _qwen, make_checkpoint, make_encoder
from tests.model.worlds import encoder

BUDGET = 96 * 96
PROCESSORS: dict = {}


def encode(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def processor_of(kind: str):
    tokenizer = copy.deepcopy(encoder().tokenizer)
    _, processor = _internvl(tokenizer) if kind == "internvl" else _qwen(kind, tokenizer)
    return get_family(kind).at_resolution(processor, BUDGET)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "internvl"])
@settings(deadline=None, max_examples=40)
@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_smaller_gives_as_many_image_tokens_as_the_original(kind, width, height):
    if max(width, height) > 200 * min(width, height):
        return
    family, processor = get_family(kind), PROCESSORS.setdefault(kind, processor_of(kind))
    rule = Resizing(BUDGET, lambda w, h: family.target_size(processor, w, h))
    image = Image.new("RGB", (width, height), "orange")
    data = rule.smaller(image, b"")
    written = image if data is None else Image.open(io.BytesIO(data)).convert("RGB")
    tiles = 4 if kind == "internvl" else None
    assert family.look(processor, written, tiles).tokens == family.look(processor, image, tiles).tokens
    if data is not None:
        assert written.width * written.height < width * height
    if width * height <= BUDGET:
        assert data is None


def test_smaller_size_is_worked_out_by_hand_for_qwen3():
    # factor 16 x 2 = 32; 400 x 300 over 9,216 pixels: beta = sqrt(120000 / 9216) = 3.608; 110.8 -> 96, 83.1 -> 64
    rule = resizing_for("tiny", BUDGET)
    assert rule.target_size(400, 300) == (96, 64)
    data = rule.smaller(Image.new("RGB", (400, 300)), b"")
    assert Image.open(io.BytesIO(data)).size == (96, 64)


def test_smaller_keeps_lossless_lossless_and_jpeg_jpeg():
    rule = resizing_for("tiny", BUDGET)
    image = scene(1)
    for kind, options, expected in (
        ("PNG", {}, "PNG"),
        ("BMP", {}, "PNG"),
        ("JPEG", {}, "JPEG"),
        ("WEBP", {"lossless": False}, "JPEG"),
        ("WEBP", {"lossless": True}, "PNG"),
    ):
        made = rule.smaller(image, encode(image, kind, **options))
        assert Image.open(io.BytesIO(made)).format == expected


def test_smaller_pixels_are_those_that_the_processor_makes():
    rule, image = resizing_for("tiny", BUDGET), scene(1)
    made = Image.open(io.BytesIO(rule.smaller(image, encode(image, "PNG"))))
    expected = image.resize(rule.target_size(*image.size), Image.Resampling.BICUBIC)
    assert made.tobytes() == expected.tobytes()


def test_resizing_for_unknown_backbone_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="backbone"):
        resizing_for(str(tmp_path), BUDGET)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "large.jpg").write_bytes(encode(scene(1).crop((0, 0, 250, 120)), "JPEG"))
    (folder / "turned.jpg").write_bytes(encode(scene(2).crop((0, 0, 250, 120)), "JPEG", exif=exif))
    (folder / "large.png").write_bytes(encode(scene(3), "PNG"))
    (folder / "small.png").write_bytes(make_image(4, size=(90, 100)))
    names = sorted(p.name for p in folder.iterdir())
    records = [
        {"key": name.replace(".", "_"), "prompt": f"<image>Q {name}", "images": [name], "chosen": "a", "rejected": "b"}
        for name in names
    ]
    return write_jsonl(folder / "pairs.jsonl", records)


def samples(path):
    index = Index.load(path)
    return {index.keys[row]: read_sample(index, row) for row in range(len(index))}


def test_prepare_max_pixels_encodes_to_the_same_tokens(tmp_path, data):
    original = run("jsonl", data, tmp_path / "original", shard_mb=1)
    resized = run("jsonl", data, tmp_path / "resized", shard_mb=1, max_pixels=BUDGET)
    assert (original.resized, resized.resized) == (0, 3)
    before, after = samples(original.path), samples(resized.path)
    made = encoder().with_resolution(BUDGET)
    assert isinstance(made, Encoder)
    for key, sample in before.items():
        first, second = made.encode(sample), made.encode(after[key])
        assert first.prefix_ids.tolist() == second.prefix_ids.tolist()
        assert first.image_grid_thw.tolist() == second.image_grid_thw.tolist()
        assert (sample.images == after[key].images) == (key == "small_png")
        if key == "large_png":
            assert abs(first.pixel_values - second.pixel_values).max() < 1e-6
    assert (
        Image.open(io.BytesIO(after["turned_jpg"].images[0])).height > 60
    )  # upright: it was wide before it was turned
    assert not Image.open(io.BytesIO(after["turned_jpg"].images[0])).getexif()


def test_prepare_max_pixels_is_part_of_what_is_asked_for(tmp_path, data):
    run("jsonl", data, tmp_path / "out", shard_mb=1, max_pixels=BUDGET)
    assert run("jsonl", data, tmp_path / "out", shard_mb=1, max_pixels=BUDGET).reused
    with pytest.raises(ConfigError, match="max_pixels was 9216, now None"):
        run("jsonl", data, tmp_path / "out", shard_mb=1)
    with pytest.raises(ConfigError, match="backbone: has no effect without max_pixels"):
        run("jsonl", data, tmp_path / "out", shard_mb=1, backbone="/somewhere")


@pytest.mark.parametrize("kind", KINDS)
def test_target_size_is_that_of_every_familys_encoder(tmp_path, kind):
    folder = make_checkpoint(kind, tmp_path / kind)
    made = make_encoder(folder, max_pixels=BUDGET)
    rule = resizing_for(str(folder), BUDGET)
    image = scene(1).resize((331, 173))
    small = rule.smaller(image, encode(image, "PNG"))
    sample = make_sample("a", images=[encode(image, "PNG")])
    sample = dataclasses.replace(sample, prompt=(Message("user", "<image>Q"),))
    other = dataclasses.replace(sample, images=(small,))
    assert made.encode(sample).prefix_ids.tolist() == made.encode(other).prefix_ids.tolist()
