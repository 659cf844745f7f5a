"""The prepare command: the accounts, the balance of sides, bad images, and outputs that exist already."""

import errno
import json
import logging
import os
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from datamodules import prepare as preparing
from datamodules.index import Index
from datamodules.prepare import main, prepare
from datamodules.shards import read_sample
from datamodules.sources import CARDS
from mrm.construction.reformulation import T2I_PROMPTS
from mrm.errors import ConfigError, UnreadableSamplesError
from tests.datamodules.prepare_runs import status_of
from tests.datamodules.sources.helpers import make_mj_bench, png, write_jsonl


def record(key, image="ok.png", **changes):
    return {"key": key, "prompt": f"<image>Q {key}", "images": [image], "chosen": "yes", "rejected": "no", **changes}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "ok.png").write_bytes(png())
    (folder / "cut.png").write_bytes(png()[:40])
    return folder


def run(data, records, **options):
    path = write_jsonl(data / "pairs.jsonl", records)
    return prepare("jsonl", path, data.parent / "out", **{"show_progress": False, **options})


def samples(path):
    index = Index.load(path)
    return [read_sample(index, row) for row in range(len(index))]


def test_prepare_mixed_records_accounts_for_every_one(data):
    records = [record("a"), record("a"), record("b", chosen=""), record("c", "none.png"), "{", record("d")]
    result = run(data, records, max_unreadable=0.4)
    assert (result.read, result.written, result.pairs) == (6, 2, 2)
    assert result.skipped == Counter({"duplicate key": 1, "empty response": 1, "image missing": 1, "not JSON": 1})
    assert result.named["image missing"] == ["c"]
    assert [s.key for s in samples(result.path)] == ["a", "d"]
    listed = [json.loads(line) for line in (result.path / "skipped.jsonl").read_text().splitlines()]
    assert [(x["key"], x["reason"]) for x in listed] == [
        ("a", "duplicate key"), ("b", "empty response"), ("c", "image missing"), ("pairs.jsonl:5", "not JSON"),
    ]  # fmt: skip


def test_prepare_one_bad_image_in_a_hundred_is_a_counted_skip(data):
    result = run(data, [record(f"k{i}", "cut.png" if i == 7 else "ok.png") for i in range(100)])
    assert result.written == 99
    assert result.skipped == Counter({"image does not decode": 1}) and result.named["image does not decode"] == ["k7"]


def test_prepare_two_bad_images_in_a_hundred_stop_the_run_and_leave_nothing(data):
    records = [record(f"k{i}", "cut.png" if i in (7, 8) else "ok.png") for i in range(100)]
    with pytest.raises(UnreadableSamplesError, match="2 of 100 .* k7, k8"):
        run(data, records)
    assert sorted(p.name for p in data.parent.iterdir()) == [".out.lock", "data"]
    assert run(data, records, max_unreadable=0.02).written == 98


def test_prepare_size_limit_skips_larger_images(data):
    result = run(data, [record("a"), record("b", prompt="Q", images=[])], max_image_pixels=63, max_unreadable=0.5)
    assert result.skipped == Counter({"image too large": 1})


def test_prepare_nothing_usable_names_the_reasons(data):
    with pytest.raises(ConfigError, match=r"none of the 2 records.*2 x image missing \(a, b\)"):
        run(data, [record("a", "x.png"), record("b", "x.png")], max_unreadable=1)
    with pytest.raises(ConfigError, match="the input is empty"):
        run(data, [""])


@pytest.mark.parametrize(("count", "first"), [(10, {5}), (7, {3, 4})])
def test_prepare_t2i_sides_are_exactly_balanced_among_the_written(tmp_path, count, first):
    pairs = [{"caption": "c", "label_0": 1, "image_0": f"{i}a.png", "image_1": f"{i}b.png"} for i in range(2 * count)]
    images = [pair[name] for pair in pairs for name in ("image_0", "image_1")]
    folder = make_mj_bench(tmp_path / "mj", pairs, images)
    for i in range(count):  # every other record can't be used
        (folder / "images" / f"{2 * i}b.png").write_bytes(b"broken")
    counts = set()
    for seed in range(4):
        result = prepare(
            "mj_bench", folder, tmp_path / f"out{seed}", seed=seed, max_unreadable=0.5, show_progress=False
        )
        made = samples(result.path)
        assert len(made) == count
        counts.add(sum(s.pairs[0].chosen == 0 for s in made))
        for sample in made:
            preferred = (folder / "images" / sample.meta["preferred_image"]).read_bytes()
            assert sample.images[sample.pairs[0].chosen] == preferred
    assert counts <= first


def test_prepare_t2i_wordings_are_used_alike_with_sides_balanced_in_each(tmp_path):
    count = 60
    pairs = [{"caption": "c", "label_0": 1, "image_0": f"{i}a.png", "image_1": f"{i}b.png"} for i in range(count)]
    folder = make_mj_bench(tmp_path / "mj", pairs, [pair[name] for pair in pairs for name in ("image_0", "image_1")])
    made = samples(prepare("mj_bench", folder, tmp_path / "out", t2i_wordings=3, show_progress=False).path)
    by_text = {text: [s.pairs[0].chosen for s in made if s.prompt[0].content == text] for text in prompts(made)}
    assert set(by_text) == {template.replace("{caption}", "c") for template in T2I_PROMPTS[:3]}
    for chosen in by_text.values():
        assert len(chosen) >= 8 and abs(len(chosen) - 2 * sum(chosen)) == len(chosen) % 2
    with pytest.raises(ConfigError, match="t2i_wordings: 99 is not from 1 to 3"):
        prepare("mj_bench", folder, tmp_path / "out", t2i_wordings=99, show_progress=False)


def prompts(made) -> set[str]:
    return {sample.prompt[0].content for sample in made}


def test_prepare_same_again_uses_the_output_as_it_stands(data):
    first = run(data, [record("a"), record("b", chosen="")])
    before = (first.path / "manifest.json").stat().st_mtime_ns
    again = run(data, [record("a"), record("b", chosen="")], max_unreadable=0.5)
    assert again.reused and not first.reused
    assert (again.read, again.written, again.skipped, again.named) == (2, 1, first.skipped, first.named)
    assert (first.path / "manifest.json").stat().st_mtime_ns == before


def test_prepare_missing_images_stop_the_run_as_broken_ones_do(data):
    records = [record(f"k{i}", {7: "none.png", 8: "cut.png"}.get(i, "ok.png")) for i in range(100)]
    with pytest.raises(UnreadableSamplesError, match="2 of 100 records cannot be read .* k7, k8"):
        run(data, records)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("3", "not a record"),
        (record("b", chose="x"), "unknown field"),
        ({"prompt": "Q", "chosen": "yes"}, "missing field"),
        (record("b", chosen=3), "malformed field"),
        (record("b", "https://x.org/a.png"), "remote image"),
        (record("b", "float.tiff"), "image range unknown"),
        (record("b", "thin.png"), "image too narrow"),
    ],
)
def test_prepare_unreadable_records_stop_the_run(data, bad, reason):
    Image.new("F", (8, 8)).save(data / "float.tiff")
    Image.new("RGB", (201, 1)).save(data / "thin.png")
    with pytest.raises(UnreadableSamplesError, match=rf"1 of 2 records cannot be read \(1 x {reason}\)"):
        run(data, [record("a"), bad])


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (record("a"), "duplicate key"),
        (record("b", chosen="no"), "equal responses"),
        (record("b", chosen=""), "empty response"),
        (record("b", prompt="<image><image>Q"), "image count"),
    ],
)
def test_prepare_what_published_data_holds_does_not_stop_the_run(data, odd, reason):
    assert run(data, [record("a"), odd], max_unreadable=0).skipped == Counter({reason: 1})


def test_prepare_output_that_lacks_images_is_not_used_again(data):
    records = [record("a"), record("b", "late.png")]
    assert run(data, records, max_unreadable=0.5).written == 1
    assert not run(data, records, max_unreadable=0.5).reused
    (data / "late.png").write_bytes(png())
    assert run(data, records).written == 2
    assert run(data, records).reused


def test_prepare_changed_input_or_options_refuses_until_overwrite(data):
    run(data, [record("a")])
    with pytest.raises(ConfigError, match="input was .*overwrite=true"):
        run(data, [record("a"), record("b")])
    with pytest.raises(ConfigError, match=r"\(name was None, now other\).*overwrite=true"):
        run(data, [record("a")], name="other")
    assert run(data, [record("a"), record("b")], overwrite=True).written == 2
    assert run(data, [record("a"), record("b")]).reused


def test_prepare_failed_overwrite_keeps_the_old_output(data):
    path = run(data, [record("a")]).path
    with pytest.raises(UnreadableSamplesError):
        run(data, [record("a", "cut.png")], overwrite=True)
    assert [s.key for s in samples(path)] == ["a"]


def test_prepare_incomplete_output_refuses_and_foreign_files_are_never_deleted(data):
    path = run(data, [record("a")]).path
    for broken in ("", "[]", '{"recipe": 3, "result": {"skipped": {}}}'):
        (path / "prepared.json").write_text(broken)
        with pytest.raises(ConfigError, match="not complete.*overwrite=true"):
            run(data, [record("a")])
    (path / "prepared.json").unlink()
    with pytest.raises(ConfigError, match="not complete.*overwrite=true"):
        run(data, [record("a")])
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="thesis.tex"):
        run(data, [record("a")], overwrite=True)
    assert (path / "thesis.tex").exists()


def test_prepare_folder_of_other_files_is_not_advised_to_be_removed(data):
    (data.parent / "out").mkdir()
    (data.parent / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="thesis.tex.*choose another output") as caught:
        run(data, [record("a")])
    assert "remove" not in str(caught.value) and "overwrite" not in str(caught.value)


def test_prepare_output_that_cannot_be_made_is_a_clear_error(data):
    path = write_jsonl(data / "pairs.jsonl", [record("a")])
    with pytest.raises(ConfigError, match="output: .*ok.png cannot be written to .*choose another output"):
        prepare("jsonl", path, data / "ok.png" / "out", show_progress=False)


@pytest.mark.parametrize("is_there", [True, False])
def test_prepare_through_a_link_writes_where_it_leads_and_leaves_it(data, is_there):
    far, link = data.parent / "big" / "far", data.parent / "out"
    if is_there:
        far.mkdir(parents=True)
    link.symlink_to(far)
    assert run(data, [record("a")]).written == 1
    assert link.is_symlink() and [s.key for s in samples(far)] == ["a"]
    assert run(data, [record("a")]).reused
    assert run(data, [record("b")], overwrite=True).written == 1
    assert link.is_symlink() and [s.key for s in samples(far)] == ["b"]


@pytest.mark.parametrize("bound", [True, False])
def test_prepare_onto_a_mount_point_is_refused_before_anything_is_read(data, monkeypatch, bound):
    out = data.parent / "out"
    out.mkdir()
    mounts = data.parent / "mountinfo"
    mounts.write_text(f"24 29 8:1 /x {out} rw - ext4 /dev/a rw\n" if bound else "")
    monkeypatch.setattr(preparing, "MOUNTS", mounts)
    monkeypatch.setattr(os.path, "ismount", lambda path: not bound and Path(path) == out)
    monkeypatch.setattr(preparing, "Preparation", None)
    with pytest.raises(ConfigError, match=r"out is a mount point.*name a folder in it: .*out/shards"):
        run(data, [record("a")])


def test_prepare_finished_output_on_a_mount_point_is_used_again(data, monkeypatch):
    run(data, [record("a")])
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    assert run(data, [record("a")]).reused


def test_prepare_without_file_locks_goes_on_and_says_so(data, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(preparing.fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING):
        assert run(data, [record("a")]).written == 1
    assert "no file locks there" in caplog.text and "one process at a time" in caplog.text


def test_prepare_left_overs_of_a_killed_run_are_cleared(data):
    left = data.parent / ".out.preparing"
    left.mkdir()
    (left / "half").write_text("x")
    assert run(data, [record("a")]).written == 1
    assert not left.exists()


def test_prepare_shapeworld_needs_no_input(tmp_path):
    result = prepare("shapeworld", None, tmp_path / "out", split="trusted", count=6, seed=1, show_progress=False)
    assert (result.read, result.written) == (6, 6)


def test_main_ends_with_a_table_and_status_0(data, capsys):
    write_jsonl(data / "pairs.jsonl", [record("a"), record("b", chosen="")])
    arguments = [
        "source=jsonl",
        f"input={data / 'pairs.jsonl'}",
        f"output={data.parent / 'out'}",
        "show_progress=false",
    ]
    assert status_of(main, arguments) == 0
    shown = capsys.readouterr().out
    for text in ("read", "written", "skipped: empty response", "b"):
        assert text in shown


def test_main_all_problems_come_in_one_message(capsys):
    assert status_of(main, ["source=math_v", "inptu=x", "max_pairs_per_question=many", "max_unreadable=2"]) == 2
    shown = capsys.readouterr().err
    for text in (
        "did you mean input?",
        "max_pairs_per_question: Value 'many'",
        "output: is missing",
        "input: is missing",
        "not a share",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["source=mathv"], "known are jsonl"),
        (["output=x"], "source: is missing"),
        (["source"], "not of the form key=value"),
        (["source=jsonl", "source=jsonl"], "given twice"),
        (["source=shapeworld", "input=x", "output=y"], "reads nothing"),
        (["source=jsonl", "input=/nowhere.jsonl", "output=y"], "no file or folder"),
        (["source=shapeworld", "output=y", "decontaminate=a,s3://b/c"], "decontaminate: s3://b/c is a URL; only files"),
    ],
)
def test_main_bad_arguments_give_a_clear_error(arguments, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert status_of(main, arguments) == 2
    assert text in capsys.readouterr().err


def test_main_interrupted_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "prepare", interrupted)
    assert status_of(main, ["source=shapeworld", "output=x"]) == 130
    assert "run the same again" in capsys.readouterr().err


def test_main_help_lists_sources_and_options(capsys):
    assert status_of(main, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert "max_pairs_per_question=4" in shown and "flip_rate=null" in shown and "(no input)" in shown


def real_data(name: str) -> Path:
    root = os.environ.get("MRM_SHARED_DATA")
    folder = (Path(root) if root else Path(__file__).parents[2].parent / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_prepare_real_math_v_accounts_for_every_question(tmp_path):
    result = prepare("math_v", real_data("math_v"), tmp_path / "out", show_progress=False)
    assert (result.read, result.written) == (423, 422)
    assert result.named == {"image count": ["math_v-745"]}  # three markers for one picture


def test_prepare_real_mj_bench_is_balanced_and_counts_the_missing(tmp_path):
    result = prepare("mj_bench", real_data("mj_bench_objects"), tmp_path / "out", show_progress=False)
    assert (result.read, result.written, dict(result.skipped)) == (100, 60, {"image not in this copy": 40})
    assert sum(s.pairs[0].chosen == 0 for s in samples(result.path)) == 30


def test_prepare_from_a_url_reads_it_and_sees_when_it_changes(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/remote/cat.png", png())
    line = '{"prompt": "<image>What?", "images": ["cat.png"], "chosen": "A cat.", "rejected": "A dog."}'
    memory.pipe("/remote/mine.jsonl", line.encode())
    url = "memory://remote/mine.jsonl"
    assert prepare("jsonl", url, tmp_path / "out", show_progress=False).written == 1
    assert prepare("jsonl", url, tmp_path / "out", show_progress=False).reused
    memory.pipe("/remote/mine.jsonl", f"{line} ".encode())
    with pytest.raises(ConfigError, match="was prepared otherwise"):
        prepare("jsonl", url, tmp_path / "out", show_progress=False)
    with pytest.raises(ConfigError, match="no file or folder memory:///remote/none.jsonl"):
        prepare("jsonl", "memory://remote/none.jsonl", tmp_path / "other", show_progress=False)


def test_main_help_tells_licence_size_and_strength_of_every_source(capsys):
    assert status_of(main, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{c.home}; {c.size}; licence: {c.licence}; strength: {c.strength}" in shown for c in CARDS.values())
