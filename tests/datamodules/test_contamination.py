"""Keeping benchmark items out: by bytes, pixels, looks and question, from files in any of the read forms."""

import base64
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules.benchmark_items import read_benchmark
from datamodules.contamination import load_benchmarks, normalise
from datamodules.fingerprints import ImageMatcher, fingerprint
from mrm.errors import ConfigError
from mrm.images import decode_image
from tests.datamodules.making import make_dataset, make_sample
from tests.datamodules.prepare_runs import listed, run
from tests.datamodules.sources.helpers import make_mj_bench, png, write_jsonl
from tests.datamodules.test_perceptual import scene

QUESTION = "Which of the two trains arrives first at the northern station?"


def encode(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def matcher(data: bytes, distance: int = 4) -> ImageMatcher:
    return ImageMatcher.of([("bench[0]", fingerprint(data))], distance)


def find(data: bytes, known: ImageMatcher) -> str | None:
    return known.find(data, decode_image(data, name="x"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<image>\nWhat is THIS?", "what is this"),
        ("What  is\tthis ?<image1>", "what is this"),
        ("Ｗhat—is “this”", "what is this"),
        ("<image_2> 这是什么？", "这是什么"),
        ("3 + 4 = ?", "3 4"),
        ("<IMAGE> straße", "strasse"),
    ],
)
def test_normalise_leaves_words_alone(text, expected):
    assert normalise(text) == expected


@given(st.text(max_size=40))
def test_normalise_twice_changes_nothing_more(text):
    assert normalise(normalise(text)) == normalise(text)


def test_image_matcher_same_bytes_pixels_and_looks_are_told_apart():
    image = scene(1)
    known = matcher(encode(image))
    assert find(encode(image), known) == "has the bytes of bench[0]"
    assert find(encode(image, compress_level=1), known) == "has the pixels of bench[0]"
    assert "looks like bench[0] (" in find(encode(image.resize((200, 200)), "JPEG"), known)
    assert find(encode(scene(2)), known) is None


def test_image_matcher_distance_is_kept():
    image = scene(1)
    copy = image.copy()
    copy.paste(scene(7).crop((0, 0, 90, 90)), (20, 20))
    bits = (fingerprint(encode(image)).look ^ fingerprint(encode(copy)).look).bit_count()
    assert 4 < bits < 32
    assert find(encode(copy), matcher(encode(image), bits)) is not None
    assert find(encode(copy), matcher(encode(image), bits - 1)) is None


def test_image_matcher_negative_distance_looks_at_exact_copies_only():
    image = scene(1)
    known = matcher(encode(image), -1)
    assert find(encode(image, compress_level=1), known) is not None
    assert find(encode(image, "JPEG", quality=95), known) is None


def test_image_matcher_images_without_a_pattern_match_exactly_or_not_at_all():
    known = matcher(png("red"))
    assert find(png("red"), known) is not None
    assert find(png("blue"), known) is None


def test_image_matcher_orientation_is_applied_before_pixels_are_compared():
    image = scene(3).crop((0, 0, 200, 120))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees, clockwise by 90
    assert find(encode(turned, exif=exif), matcher(encode(image))) == "has the pixels of bench[0]"


def one(path):
    (item,) = read_benchmark(path)
    return item


def test_read_benchmark_json_lines_finds_text_and_image_beside_it(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(png())
    path = write_jsonl(
        tmp_path / "b.jsonl", [{"id": "q7", "query": QUESTION, "image": "img/a.png", "response": ["x", "y"]}]
    )
    item = one(path)
    assert (item.questions, item.images, item.missing) == ((QUESTION,), (png(),), 0)
    assert "b.jsonl" in item.name and "q7" in item.name


def test_read_benchmark_json_list_counts_images_that_are_not_there(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps([{"Text": QUESTION, "images": ["x/none.png", "y/none.jpg"]}]))
    item = one(tmp_path / "b.json")
    assert (item.questions, item.images, item.missing) == ((QUESTION,), (), 2)


def test_read_benchmark_parquet_reads_image_columns_in_both_forms(tmp_path):
    image = {"bytes": png(), "path": "a.png"}
    table = pa.table({"prompt": [QUESTION], "image": [image], "jpg_0": [png("blue")], "label_0": [1.0]})
    pq.write_table(table, tmp_path / "b.parquet")
    item = one(tmp_path / "b.parquet")
    assert item.questions == (QUESTION,) and set(item.images) == {png(), png("blue")}


def test_read_benchmark_conversation_and_data_address(tmp_path):
    turns = [{"from": "human", "value": f"<image>{QUESTION}"}, {"from": "gpt", "value": "The red one."}]
    address = "data:image/png;base64," + base64.b64encode(png()).decode()
    path = write_jsonl(tmp_path / "b.jsonl", [{"conversations": turns, "images": [address]}])
    assert one(path).questions == (f"<image>{QUESTION}",) and one(path).images == (png(),)


def test_read_benchmark_folder_takes_each_image_once(tmp_path):
    (tmp_path / "img").mkdir()
    for colour in ("red", "blue"):
        (tmp_path / "img" / f"{colour}.png").write_bytes(png(colour))
    write_jsonl(tmp_path / "b.jsonl", [{"question": QUESTION, "image": "img/red.png"}])
    assert sorted(data for item in read_benchmark(tmp_path) for data in item.images) == sorted(
        [png("red"), png("blue")]
    )


def test_read_benchmark_shards_ask_what_their_users_ask(tmp_path):
    make_dataset(tmp_path / "set", [make_sample("k1", images=[png()], meta={"caption": "a red square"})])
    item = one(tmp_path / "set")
    assert item.name == "set/k1" and item.images == (png(),)
    assert item.questions == ("<image>What is in k1?", "a red square")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"question": "x"}\n{"question": \n', "b.jsonl.*Mend it: what is not read would be trained on"),
        ('{"answer": "x"}\n', "no question .* and no image; its fields are answer"),
    ],
)
def test_read_benchmark_file_that_is_not_understood_is_refused(tmp_path, content, text):
    (tmp_path / "b.jsonl").write_text(content)
    with pytest.raises(ConfigError, match=text):
        list(read_benchmark(tmp_path / "b.jsonl"))


def test_read_benchmark_nothing_there_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none.json", tmp_path / "empty"):
        with pytest.raises(ConfigError, match="decontaminate: "):
            list(read_benchmark(path))


def test_load_benchmarks_short_questions_and_templates_are_left_alone(tmp_path):
    template = "Describe every object in this picture in as much detail as you can."
    records = [{"question": template, "image": f"{n}.png"} for n in range(5)]
    records += [{"question": "Describe this image."}, {"question": QUESTION, "image": "1.png"}]
    records += [{"question": QUESTION, "image": "2.png"}]
    made = load_benchmarks([write_jsonl(tmp_path / "b.jsonl", records)], distance=4, question_chars=40)
    assert list(made.questions) == [normalise(QUESTION)]
    assert (
        "8 benchmark items: 1 questions are compared, 1 are shorter than 40 characters and 1 are templates"
        in made.summary
    )
    assert "7 are named but not there" in made.summary
    shorter = load_benchmarks([tmp_path / "b.jsonl"], distance=4, question_chars=10)
    assert set(shorter.questions) == {normalise(QUESTION), "describe this image"}


@pytest.fixture
def training(tmp_path):
    """Five records: clean, a benchmark's bytes, its image scaled, its question otherwise written, a short one."""
    folder = tmp_path / "data"
    folder.mkdir()
    images = {
        "clean": scene(5),
        "bytes": scene(1),
        "scaled": scene(1).resize((300, 300)),
        "other": scene(6),
        "last": scene(7),
    }
    questions = [
        "Q one?",
        "Q two?",
        "Q three?",
        "<image>which of the two trains arrives first, at the NORTHERN station",
        "What is it?",
    ]
    records = []
    for (key, image), question in zip(images.items(), questions, strict=True):
        (folder / f"{key}.png").write_bytes(encode(image))
        text = question if "<image>" in question else f"<image>{question}"
        records.append({"key": key, "prompt": text, "images": [f"{key}.png"], "chosen": "a", "rejected": "b"})
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "x.png").write_bytes(encode(scene(1)))
    write_jsonl(
        tmp_path / "bench" / "b.jsonl", [{"id": 3, "question": QUESTION, "image": "x.png"}, {"question": "What is it?"}]
    )
    return write_jsonl(folder / "pairs.jsonl", records)


def test_prepare_decontaminate_leaves_out_and_names_what_it_matched(tmp_path, training):
    result = run("jsonl", training, tmp_path / "out", decontaminate=str(tmp_path / "bench"), shard_mb=1)
    assert dict(result.skipped) == {"contaminated: image": 2, "contaminated: question": 1}
    lines = {line["key"]: line for line in listed(result.path)}
    assert "image 0 has the bytes of b.jsonl" in lines["bytes"]["detail"] and "(id 3)" in lines["bytes"]["detail"]
    assert "looks like b.jsonl" in lines["scaled"]["detail"]
    assert "is asked by b.jsonl" in lines["other"]["detail"]
    assert result.written == 2


def test_prepare_decontaminate_settings_widen_and_narrow(tmp_path, training):
    bench = f"{tmp_path / 'bench'}, {training.parent.parent / 'bench' / 'b.jsonl'}"  # the second adds nothing
    exact = run("jsonl", training, tmp_path / "exact", decontaminate=bench, contaminated_distance=-1, shard_mb=1)
    assert exact.skipped["contaminated: image"] == 1
    short = run("jsonl", training, tmp_path / "short", decontaminate=bench, contaminated_question_chars=5, shard_mb=1)
    assert short.skipped["contaminated: question"] == 2


def test_prepare_other_benchmarks_refuse_the_earlier_output(tmp_path, training):
    run("jsonl", training, tmp_path / "out", shard_mb=1)
    with pytest.raises(ConfigError, match="decontaminate was None, now"):
        run("jsonl", training, tmp_path / "out", decontaminate=str(tmp_path / "bench"), shard_mb=1)


@pytest.mark.parametrize("setting", [{"contaminated_distance": 2}, {"contaminated_question_chars": 9}])
def test_prepare_setting_without_decontaminate_is_refused(tmp_path, training, setting):
    with pytest.raises(ConfigError, match="has no effect without decontaminate"):
        run("jsonl", training, tmp_path / "out", **setting)


def test_prepare_decontaminate_t2i_looks_at_both_images_and_the_caption(tmp_path):
    folder = tmp_path / "mj"
    captions = ["a", "b", "a very long caption of a bus, a bicycle and a red door"]
    pairs = [
        {"caption": c, "label_0": 1, "image_0": f"{n}a.png", "image_1": f"{n}b.png"} for n, c in enumerate(captions)
    ]
    make_mj_bench(folder, pairs, [p[f"image_{i}"] for p in pairs for i in (0, 1)])
    bench = tmp_path / "bench"
    write_jsonl(bench / "b.jsonl", [{"prompt": captions[2]}])
    (bench / "x.png").write_bytes((folder / "images" / "0b.png").read_bytes())
    result = run("mj_bench", folder, tmp_path / "out", decontaminate=str(bench), shard_mb=1)
    assert (result.written, dict(result.skipped)) == (1, {"contaminated: image": 1, "contaminated: question": 1})


def test_image_matcher_many_images_are_searched_exactly():
    rng = np.random.default_rng(0)
    known = ImageMatcher.of([(f"b{n}", fingerprint(encode(scene(n, 64)))) for n in range(30)], 4)
    for n in rng.integers(0, 30, 5).tolist():
        copy = encode(scene(n, 64).resize((80, 80)))
        assert f"looks like b{n} " in find(copy, known)


def test_load_benchmarks_question_of_one_image_in_several_rows_and_files_is_no_template(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(png())
    rows = [{"question": QUESTION, "image": f"{name}.png"} for name in "abcabc"]
    files = [write_jsonl(tmp_path / "one.jsonl", rows)]
    files += [write_jsonl(tmp_path / f"{n}.jsonl", [{"question": QUESTION, "image": f"gone{n}.png"}]) for n in range(5)]
    assert list(load_benchmarks(files, distance=4, question_chars=40).questions) == [normalise(QUESTION)]
