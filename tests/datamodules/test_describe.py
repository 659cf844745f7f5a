"""Cards of small data sets, with every number counted by hand."""

import dataclasses
import json
import math
import re

import fsspec
import pytest

from datamodules.describe import DescribeConfig, dataset_paths, describe, main
from datamodules.index import Index
from mrm.errors import ConfigError, ShardError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import make_dataset, make_image, make_sample
from tests.datamodules.prepare_runs import status_of

EVIL = '<script>alert("x")</script>'


def text_sample(key, chosen, rejected, *, prompt="What is it?", source="made", strength=None, images=()):
    content = "<image>" * len(images) + prompt
    pair = Pair(0, 1, strength)
    return PreferenceSample(key, source, (Message("user", content),), images, (chosen, rejected), (pair,))


def card_of(*paths, **settings):
    shards = ",".join(map(str, paths))
    return describe(DescribeConfig(shards=shards, **{"show_progress": False, "output": None, **settings}))


def test_describe_counts_by_source(tmp_path):
    make_dataset(
        tmp_path / "set",
        [
            make_sample("a", responses=3, pairs=[Pair(0, 1, 0.25), Pair(0, 2, 0.75), Pair(1, 2)], source="x"),
            make_sample("b", images=(), pairs=[Pair(0, 1)], source="y"),
            make_sample("c", images=[make_image(1), make_image(2)], source="x"),
        ],
    )
    card = card_of(tmp_path / "set")
    assert (card.samples, card.pairs, card.responses, card.images) == (3, 5, 7, 3)
    x, y = card.sources
    assert (x.source, x.samples, x.responses, x.pairs, x.images) == ("x", 2, 5, 4, 3)
    assert (x.strength_known, x.strength_mean) == (0.75, 0.5)
    assert (y.source, y.pairs, y.strength_known) == ("y", 1, 0.0) and math.isnan(y.strength_mean)
    assert card.strength_unknown == 2
    shown = dict(zip(card.strengths.labels, card.strengths.series["pairs"], strict=True))
    assert {label: n for label, n in shown.items() if n} == {"0.2 to 0.3": 1, "0.5 to 0.6": 1, "0.7 to 0.8": 1}


def test_describe_strength_of_ten_tenths_is_in_the_bucket_of_its_name(tmp_path):
    samples = [text_sample(f"k{n}", "a", "b", prompt=str(n), strength=n / 10) for n in range(11)]
    make_dataset(tmp_path / "set", samples)
    assert card_of(tmp_path / "set").strengths.series["pairs"] == (1,) * 9 + (2,)


def test_describe_measures_lengths_and_style_by_language(tmp_path):
    make_dataset(
        tmp_path / "set",
        [
            text_sample("a", "**a** cat", "dog"),
            text_sample("b", "one two three", "I am it"),
            text_sample("c", "猫", "一只狗", prompt="这是什么?"),
        ],
    )
    card = card_of(tmp_path / "set")
    spreads = {spread.name: spread for spread in card.lengths}
    assert spreads["characters, chosen"].mean == pytest.approx((9 + 13 + 1) / 3)
    assert spreads["words, rejected"].median == 3
    english = {row.feature: row for row in card.styles["English"]}
    assert (english["words"].chosen_mean, english["words"].rejected_mean) == (2.5, 2.0)
    assert (english["words"].differing, english["words"].more_wins) == (1, 1.0)
    assert (english["bold"].chosen_mean, english["first_person"].more_wins) == (0.5, 0.0)
    chinese = {row.feature: row for row in card.styles["Chinese"]}
    assert (chinese["words"].chosen_mean, chinese["words"].rejected_mean) == (1.0, 3.0)
    assert [probe.name for probe in card.probes] == ["all pairs", "English", "Chinese"]
    assert [probe.pairs for probe in card.probes] == [3, 2, 1]


def test_describe_probe_finds_a_planted_style_where_it_is(tmp_path):
    biased = [text_sample(f"b{n}", f"- item {n}", f"item {n}", prompt=f"b{n}") for n in range(60)]
    fair = [text_sample(f"f{n}", f"thing {n}", f"other {n}", prompt=f"f{n}", source="fair") for n in range(60)]
    make_dataset(tmp_path / "biased", biased)
    make_dataset(tmp_path / "fair", fair)
    probes = {probe.name: probe for probe in card_of(tmp_path / "biased", tmp_path / "fair").probes}
    assert list(probes) == ["all pairs", "biased", "fair"]
    assert probes["biased"].accuracy == 1.0 and probes["biased"].low > 0.9
    assert probes["fair"].accuracy == 0.5 and probes["fair"].low < 0.5 < probes["fair"].high


def test_describe_measures_images(tmp_path):
    images = [make_image(0, size=(60, 40)), make_image(1, "JPEG", (100, 100)), make_image(2, "WEBP", (10, 100))]
    make_dataset(tmp_path / "set", [make_sample("a", images=images)])
    card = card_of(tmp_path / "set")
    assert card.formats == {"png": 1, "jpg": 1, "webp": 1}
    aspects = dict(zip(card.aspects.labels, card.aspects.series["images"], strict=True))
    assert {label for label, n in aspects.items() if n} == {"below 1:3", "square, ± 5 %", "4:3 to 2:1"}
    pixels = dict(zip(card.pixels.labels, card.pixels.series["images"], strict=True))
    assert {label: n for label, n in pixels.items() if n} == {"below 32²": 1, "32² to 64²": 1, "64² to 128²": 1}
    assert {size.name: size.median for size in card.sizes} == {"width": 60, "height": 100, "pixels": 2400}


def test_describe_finds_duplicates_over_data_sets(tmp_path):
    same, image = (make_image(1),), make_image(1)
    make_dataset(
        tmp_path / "one",
        [
            text_sample("a", "yes", "no", images=same),
            text_sample("b", "yes", "no", images=same, strength=0.5),
            text_sample("c", "yes", "no", images=(make_image(2),)),
        ],
    )
    make_dataset(tmp_path / "two", [text_sample("a", "no", "yes", images=(image,))])
    found = card_of(tmp_path / "one", tmp_path / "two").duplicates
    assert (found.images, found.images_distinct, found.most_used) == (4, 2, 3)
    assert (found.samples_sharing_images, found.pairs_compared) == (3, 3)
    assert (found.pairs_surplus, found.contradicting) == (2, 1)
    assert found.named == (("one/a", "one/b", "two/a"),)
    assert found.shared_images == (("one", "two", 1),)


def test_describe_finds_duplicates_within_a_sample(tmp_path):
    """Responses of equal text under several numbers, as published rankings have them."""
    pairs = [Pair(0, 1), Pair(2, 1), Pair(3, 0)]
    twice = make_sample("a", images=[make_image(1)], responses=4, pairs=pairs)
    twice = dataclasses.replace(twice, responses=("yes", "no", "yes", "no"))
    other = make_sample("b", images=[make_image(2)], responses=3, pairs=[Pair(0, 1), Pair(1, 2)])
    make_dataset(tmp_path / "set", [twice, other, text_sample("c", "x", "y", images=(make_image(3),))])
    for limit in (None, 1):
        found = card_of(tmp_path / "set", limit=limit).duplicates
        assert (found.samples_sharing_images, found.pairs_compared) == (0, 5)
        assert (found.pairs_surplus, found.contradicting) == (2, 1)
        assert found.named == (("set/a", "set/a", "set/a"),)


def test_describe_keeps_shards_of_a_url_where_it_is_told(tmp_path):
    make_dataset(tmp_path / "set", 3)
    store = fsspec.filesystem("memory")
    for path in (tmp_path / "set").iterdir():
        store.pipe_file(f"/described/{path.name}", path.read_bytes())
    assert card_of("memory://described", cache_dir=str(tmp_path / "cache")).measured == 3
    assert list((tmp_path / "cache").glob("*.tar"))
    assert card_of("memory://described", cache_dir=str(tmp_path / "small"), cache_gb=1e-6).measured == 0


def test_describe_compares_all_pairs_though_few_are_measured(tmp_path):
    make_dataset(tmp_path / "set", [text_sample(f"k{n}", "yes", "no") for n in range(50)])
    card = card_of(tmp_path / "set", limit=5)
    assert (card.measured, card.compared_only, card.visited, card.measured_pairs) == (5, 45, 50, 5)
    assert card.duplicates.pairs_surplus == 49


def test_describe_with_a_limit_draws_by_seed(tmp_path):
    samples = [make_sample(f"k{n}", images=[make_image(n, size=(n + 1, 9))]) for n in range(40)]
    make_dataset(tmp_path / "set", samples)
    first, again, other = (card_of(tmp_path / "set", limit=10, seed=seed).sizes[0] for seed in (1, 1, 2))
    assert first == again != other
    assert card_of(tmp_path / "set", limit=40) == card_of(tmp_path / "set", limit=None)


def test_describe_names_and_counts_what_cannot_be_read(tmp_path):
    index = make_dataset(tmp_path / "set", [make_sample(f"k{n}", images=[make_image(n)]) for n in range(6)])
    shard = index.shard_files[0]
    data = bytearray(shard.read_bytes())
    data[index.image_offset[1] + 30] ^= 0xFF
    data[index.json_offset[3] + 2] ^= 0xFF
    shard.write_bytes(data)
    target, page = tmp_path / "card.json", tmp_path / "card.html"
    card = card_of(tmp_path / "set", json=str(target), output=str(page))
    assert [(sample.key, sample.shard) for sample in card.unread] == [("k1", shard.name), ("k3", shard.name)]
    assert card.measured == 4 and card.visited == 6
    assert card.unread_reasons == {"unreadable in its shard": 2}
    assert "k1" in json.loads(target.read_text())["unread"][0]["detail"]
    assert page.read_text().count("set/k1</b>") == 1 and page.read_text().count("<article>") == 4


def test_describe_images_that_do_not_decode_are_unread(tmp_path):
    broken = make_image(1, size=(40, 40))[:500]
    make_dataset(tmp_path / "set", [make_sample("a"), make_sample("b", images=[broken])])
    card = card_of(tmp_path / "set")
    assert card.unread_reasons == {"image does not decode": 1}
    assert card_of(tmp_path / "set", max_image_pixels=10).unread_reasons == {"image too large": 2}


def test_describe_page_is_self_contained_and_escaped(tmp_path):
    make_dataset(
        tmp_path / "set",
        [text_sample("a", EVIL + "up", EVIL + "down", prompt=EVIL, source=EVIL, strength=0.5, images=(make_image(),))],
    )
    card_of(tmp_path / "set", output=str(tmp_path / "new" / "card.html"))
    page = (tmp_path / "new" / "card.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:image/)|url\(|@import", page)
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert "prefers-color-scheme: dark" in page
    assert "strength 0.5" in page


def test_describe_sheet_lets_sources_take_turns(tmp_path):
    samples = [make_sample(f"k{n}", images=(), source="large") for n in range(50)]
    make_dataset(tmp_path / "set", [*samples, make_sample("rare", images=(), source="small")])
    card_of(tmp_path / "set", output=str(tmp_path / "card.html"), samples=4)
    page = (tmp_path / "card.html").read_text()
    assert page.count("<article>") == 4
    assert "<b>rare</b>" in page


def test_describe_json_is_valid_and_holds_nothing_that_is_no_number(tmp_path):
    make_dataset(tmp_path / "set", [make_sample("a", images=())])
    card_of(tmp_path / "set", json=str(tmp_path / "card.json"))
    card = json.loads((tmp_path / "card.json").read_text(), parse_constant=pytest.fail)
    assert card["samples"] == 1
    assert card["probes"][0]["accuracy"] is None
    assert card["datasets"]["set"]["path"] == str(tmp_path / "set")


def test_describe_leaves_the_shards_as_they_are(tmp_path):
    make_dataset(tmp_path / "set", 3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    card_of(tmp_path / "set", output=str(tmp_path / "card.html"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
    Index.load(tmp_path / "set")


def test_describe_without_shards_says_so(tmp_path):
    with pytest.raises(ShardError, match="no such directory"):
        card_of(tmp_path / "none")


def test_dataset_paths_tell_folders_of_one_name_apart(tmp_path):
    a, b, c = (str(tmp_path / name) for name in ("a/set", "b/set", "b/other"))
    assert dataset_paths(f"{a},{b}, {c}") == {a: a, b: b, "other": c}


def test_dataset_paths_refuse_nothing_and_one_directory_twice(tmp_path):
    with pytest.raises(ConfigError, match="is empty"):
        dataset_paths(" , ")
    with pytest.raises(ConfigError, match="one directory"):
        dataset_paths(f"{tmp_path}/a,{tmp_path}/b/../a")


def test_dataset_paths_take_a_folder_with_a_comma(tmp_path):
    (tmp_path / "a,b").mkdir()
    assert dataset_paths(str(tmp_path / "a,b")) == {"a,b": str(tmp_path / "a,b")}


@pytest.mark.parametrize("setting", [{"limit": 0}, {"folds": 1}, {"samples": -1}, {"seed": -1}])
def test_describe_refuses_settings_out_of_range(tmp_path, setting):
    with pytest.raises(ConfigError, match=f"{next(iter(setting))}: .* at least"):
        card_of(tmp_path, **setting)


def test_describe_refuses_files_it_cannot_write_before_reading(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, problem in (("folder", "is a directory"), ("file/card.html", "cannot be made")):
        with pytest.raises(ConfigError, match=f"output: .*{problem}"):
            card_of(tmp_path / "none", output=str(tmp_path / path))
    one = str(tmp_path / "card")
    with pytest.raises(ConfigError, match="are one file"):
        card_of(tmp_path / "none", output=one, json=one)


def test_main_prints_the_tables_and_where_the_page_is(tmp_path, capsys):
    make_dataset(tmp_path / "set", 3)
    page = tmp_path / "card.html"
    assert status_of(main, [f"shards={tmp_path / 'set'}", f"output={page}", "show_progress=false"]) == 0
    told = capsys.readouterr().out
    for part in ("Sources: 3 samples", "Can style alone tell the winner", "Duplicates", "Unread: 0 of 3", str(page)):
        assert part in told


def test_main_tells_an_error_in_one_message(tmp_path, capsys):
    assert status_of(main, [f"shards={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert status_of(main, ["--help"]) == 0
    assert "limit: 20000" in capsys.readouterr().out
