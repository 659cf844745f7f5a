"""A run that is killed anywhere and started again writes what one left alone does."""

import functools
import os

import pytest

from datamodules import journal, ordered_pool, preparation
from datamodules import prepare as prepare_module
from datamodules import sources as readers
from datamodules.journal import Staging
from datamodules.preparation import Preparation
from datamodules.seen import SeenSamples
from datamodules.shard_tars import ShardTars
from mrm.errors import ConfigError, ResumableError
from tests.datamodules.prepare_runs import SOURCES, contents, killer, make_pairs, run, run_and_die

# (where, method, call, after its work): inside a shard, between shard and journal, in the journal, and while it is finished.
PLACES = {
    "at the first sample": (ShardTars, "write", 1, False),
    "inside the first shard": (ShardTars, "write", 4, True),
    "inside a later shard": (ShardTars, "write", 31, True),
    "between sample and its key": (SeenSamples, "add", 33, False),
    "before a shard is closed": (ShardTars, "close", 2, False),
    "between shard and journal": (ShardTars, "close", 3, True),
    "before the journal's line": (journal, "_sync_folder", 2, True),
    "behind the journal's line": (Staging, "commit", 2, True),
    "behind the last line": (Preparation, "_commit", 5, True),
    "before the index": (prepare_module, "build_index", 1, False),
    "behind the index": (prepare_module, "build_index", 1, True),
    "before it has its name": (prepare_module, "take_name", 1, False),
    "before the rename": (os, "rename", 1, False),
    "behind the rename": (os, "rename", 1, True),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("place", PLACES)
def test_prepare_killed_anywhere_goes_on_to_the_same_output(tmp_path, monkeypatch, source, place):
    data = SOURCES[source](tmp_path / "data")
    expected = run(source, data, tmp_path / "left_alone")
    owner, name, call, after = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killer(getattr(owner, name), call, after=after))
        run_and_die(lambda: run(source, data, tmp_path / "out"))
    result = run(source, data, tmp_path / "out")
    assert result.to_json() == expected.to_json()
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".left_alone.lock", ".out.lock", "data", "left_alone", "out"]


def test_prepare_killed_with_several_wordings_goes_on_to_the_same_output(tmp_path, monkeypatch):
    data = SOURCES["mj_bench"](tmp_path / "data")
    run("mj_bench", data, tmp_path / "left_alone", t2i_wordings=3)
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 2, after=True))
        run_and_die(lambda: run("mj_bench", data, tmp_path / "out", t2i_wordings=3))
    run("mj_bench", data, tmp_path / "out", t2i_wordings=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_killed_again_and_again_ends_with_the_same_output(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "left_alone")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 2, after=True))
        run_and_die(lambda: run("jsonl", data, tmp_path / "out"))
        run_and_die(lambda: run("jsonl", data, tmp_path / "out"))
    run("jsonl", data, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_finished_shards_are_not_written_again(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 3, after=True))
        run_and_die(lambda: run("jsonl", data, tmp_path / "out"))
    shards = tmp_path / ".out.preparing" / "shards"
    before = {p.name: p.stat().st_ino for p in shards.glob("*.tar")}
    result = run("jsonl", data, tmp_path / "out")
    assert len(before) == 3
    assert before.items() <= {p.name: p.stat().st_ino for p in result.path.glob("*.tar")}.items()


@pytest.mark.parametrize("damage", ["torn line", "shard cut off", "list cut off", "no journal", "other recipe"])
def test_prepare_what_a_crash_left_half_written_is_written_again(tmp_path, monkeypatch, damage):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "left_alone")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 3, after=True))
        seed = 5 if damage == "other recipe" else 0
        run_and_die(lambda: run("jsonl", data, tmp_path / "out", seed=seed))
    staging = tmp_path / ".out.preparing"
    lines = (staging / "journal.jsonl").read_bytes()
    match damage:
        case "torn line":
            (staging / "journal.jsonl").write_bytes(lines[:-20])
        case "shard cut off":
            os.truncate(staging / "shards" / "shard-000001.tar", 512)
        case "list cut off":
            os.truncate(staging / "skipped.jsonl", 3)
        case "no journal":
            (staging / "journal.jsonl").unlink()
    run("jsonl", data, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_resume_false_begins_anew(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 3, after=True))
        run_and_die(lambda: run("jsonl", data, tmp_path / "out"))
    first = tmp_path / ".out.preparing" / "shards" / "shard-000000.tar"
    inode = first.stat().st_ino
    held = first.open("rb")  # keeps the number from being given to the new file
    result = run("jsonl", data, tmp_path / "out", resume=False)
    assert (result.path / first.name).stat().st_ino != inode
    held.close()


def test_prepare_source_that_gives_other_records_after_a_kill_is_refused_and_then_begun_anew(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 3, after=True))
        run_and_die(lambda: run("jsonl", data, tmp_path / "out"))
    real = preparation.get_source
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "get_source", lambda name: lambda *a, **k: iter(list(real(name)(*a, **k))[1:]))
        with pytest.raises(ConfigError, match="record .* is .*the input has changed: run again"):
            run("jsonl", data, tmp_path / "out")
    assert not (tmp_path / ".out.preparing").exists()


def test_prepare_killed_worker_keeps_finished_shards_and_the_run_goes_on(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "left_alone")
    monkeypatch.setattr(ordered_pool, "ALONE_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(preparation.ImageChecks, "_check", killer(preparation.ImageChecks._check, 34, after=False))
        with pytest.raises(ResumableError, match="run the same again"):
            run("jsonl", data, tmp_path / "out", workers=2)
    assert (tmp_path / ".out.preparing" / "shards" / "shard-000000.tar").exists()
    run("jsonl", data, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_killed_parent_leaves_no_worker_with_the_lock(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "left_alone")
    monkeypatch.setattr(ordered_pool, "ALONE_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", killer(Staging.commit, 2, after=True))
        run_and_die(lambda: run("jsonl", data, tmp_path / "out", workers=3))
    run("jsonl", data, tmp_path / "out", workers=2)  # would wait for ever
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_full_disk_keeps_finished_shards(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "left_alone")
    real = ShardTars.write
    calls = []

    def full(self, key, members):
        calls.append(key)
        if len(calls) == 30:
            raise OSError(28, "No space left on device")
        return real(self, key, members)

    with monkeypatch.context() as patch:
        patch.setattr(ShardTars, "write", full)
        with pytest.raises(ResumableError, match="No space left.* finished shards are kept: make room"):
            run("jsonl", data, tmp_path / "out")
    run("jsonl", data, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_error_of_the_source_keeps_finished_shards(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "left_alone")
    real = readers.SOURCES["jsonl"]

    @functools.wraps(real)
    def gone(*arguments, **options):
        for number, item in enumerate(real(*arguments, **options)):
            if number == 60:
                raise ConfigError("input: part 2 cannot be opened: 503.")
            yield item

    with monkeypatch.context() as patch:
        patch.setitem(readers.SOURCES, "jsonl", gone)
        with pytest.raises(ResumableError, match="503. . finished shard.* are kept"):
            run("jsonl", data, tmp_path / "out")
    run("jsonl", data, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "left_alone")


def test_prepare_full_disk_at_closing_is_told_in_one_message(tmp_path, monkeypatch):
    data = make_pairs(tmp_path / "data")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datamodules.prepare.write_manifest", full)
    with pytest.raises(ResumableError, match="No space left.*give the same command again"):
        run("jsonl", data, tmp_path / "out")
