import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.calling.answer_log import ANSWERS, FAILURES, AnswerLog
from mrm.construction.calling.calls import Answer
from mrm.construction.calling.log_lines import is_sound, sealed_line
from mrm.errors import ConfigError, MrmError, ResumableError
from tests.construction.asking_helpers import make_call


def keep(log: AnswerLog, record: str, text: str = "text", **answer) -> None:
    log.append(make_call(record), Answer(text, **answer), seconds=1.0, attempts=2, cost=0.5)


def filled(folder, records=("a", "b", "c")):
    with AnswerLog(folder) as log:
        for record in records:
            keep(log, record, f"text of {record}", input_tokens=10, output_tokens=5)
    return folder / ANSWERS


def test_get_gives_what_was_appended(tmp_path):
    with AnswerLog(tmp_path) as log:
        keep(log, "a", "one\ntwo", input_tokens=10, output_tokens=5, model="m-1", finish="stop")
        logged = log.get(make_call("a").key)
    assert logged.answer == Answer("one\ntwo", 10, 5, "m-1", "stop")
    assert (logged.record, logged.kind, logged.model, logged.repeat) == ("a", "listwise", "judge", 0)
    assert (logged.seconds, logged.attempts, logged.cost) == (1.0, 2, 0.5) and logged.time.endswith("+00:00")


def test_get_finds_answers_of_an_earlier_process(tmp_path):
    filled(tmp_path)
    with AnswerLog(tmp_path) as log:
        assert log.get(make_call("b").key).answer.text == "text of b"
        assert log.get(make_call("z").key) is None and make_call("z").key not in log
        assert len(log) == 3 and [logged.record for logged in log.answers()] == ["a", "b", "c"]


@given(text=st.text(st.characters(exclude_categories=()), max_size=200), record=st.text(max_size=20))
def test_any_text_comes_back_as_it_was(tmp_path_factory, text, record):
    folder = tmp_path_factory.mktemp("log")
    with AnswerLog(folder) as log:
        keep(log, record, text)
    with AnswerLog(folder) as log:
        logged = log.get(make_call(record).key)
        assert (logged.answer.text, logged.record) == (text, record) and not log.damaged


def test_a_long_answer_is_read_whole(tmp_path):
    text = "long " * 20_000
    with AnswerLog(tmp_path) as log:
        keep(log, "a", text)
        keep(log, "b")
        assert log.get(make_call("a").key).answer.text == text


def test_a_torn_last_line_is_cut_off_at_every_byte(tmp_path):
    path = filled(tmp_path)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        with AnswerLog(tmp_path) as log:
            assert log.torn == (end > last) and not log.damaged and len(log) == 2
            keep(log, "c", "text of c", input_tokens=10, output_tokens=5)
        assert path.read_bytes().count(b"\n") == 3
        with AnswerLog(tmp_path) as log:
            assert len(log) == 3


def test_a_damaged_line_is_named_and_asked_again(tmp_path, caplog):
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"text of b")] ^= 1
    path.write_bytes(bytes(data))
    with AnswerLog(tmp_path) as log:
        assert log.damaged == [(ANSWERS, 2)] and f"{path}: line 2" in caplog.text
        assert make_call("b").key not in log and make_call("c").key in log
        keep(log, "b", "again")
    with AnswerLog(tmp_path) as log:
        assert log.get(make_call("b").key).answer.text == "again"
        assert [logged.record for logged in log.answers()] == ["a", "c", "b"]


def test_lines_of_anything_else_are_named(tmp_path):
    path = filled(tmp_path)
    path.write_bytes(b'{"key":"x"}\n\n\0\0\xff\n' + path.read_bytes())
    with AnswerLog(tmp_path) as log:
        assert log.damaged == [(ANSWERS, 1), (ANSWERS, 2), (ANSWERS, 3)] and len(log) == 3


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_every_changed_byte_of_a_line_is_seen(place, change):
    line = bytearray(sealed_line({"key": "k", "input_tokens": 3}, "ä text"))
    assert is_sound(bytes(line))
    line[place % len(line)] ^= change
    assert not is_sound(bytes(line))


def test_get_of_a_line_damaged_since_opening_is_an_error(tmp_path):
    path = filled(tmp_path)
    with AnswerLog(tmp_path) as log:
        data = bytearray(path.read_bytes())
        data[data.index(b"text of b")] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(ResumableError, match="damaged"):
            log.get(make_call("b").key)


def test_another_process_is_told_who_has_the_log(tmp_path):
    code = f"from mrm.construction.calling.answer_log import AnswerLog; AnswerLog({str(tmp_path)!r})"
    with AnswerLog(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and f"in use by process {os.getpid()}" in done.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_second_log_in_this_process_is_refused_and_a_reader_is_not(tmp_path):
    with AnswerLog(tmp_path) as log:
        with pytest.raises(ConfigError, match="in use"):
            AnswerLog(tmp_path)
        keep(log, "a")
        with AnswerLog(tmp_path, write=False) as reader:
            assert len(reader) == 1
            with pytest.raises(MrmError, match="reading only"):
                keep(reader, "b")


def test_a_reader_changes_nothing(tmp_path):
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    before = path.read_bytes()
    with AnswerLog(tmp_path, write=False) as reader:
        assert reader.torn == 1 and len(reader) == 2
    assert path.read_bytes() == before


def test_a_reader_of_no_log_finds_nothing(tmp_path):
    with AnswerLog(tmp_path / "none", write=False) as reader:
        assert len(reader) == 0 and not list(reader.answers()) and not list(reader.failures())
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        AnswerLog(tmp_path / "file" / "log")


def test_failures_are_listed_and_never_answered(tmp_path):
    call = make_call("a")
    with AnswerLog(tmp_path) as log:
        for final in (False, True):
            log.append_failure(
                call, reason="no JSON", message="it is none", final=final, attempts=1 + final,
                answer=Answer("raw", 10, 5), cost=0.25,
            )  # fmt: skip
        assert call.key not in log and len(log) == 0
    with AnswerLog(tmp_path) as log:
        lines = list(log.failures())
        assert call.key not in log
    assert [(line["final"], line["attempts"]) for line in lines] == [(False, 1), (True, 2)]
    assert {(line["reason"], line["message"], line["text"]) for line in lines} == {("no JSON", "it is none", "raw")}
    assert (tmp_path / FAILURES).exists()


def test_spent_counts_answers_and_failures_of_all_runs(tmp_path):
    filled(tmp_path)
    with AnswerLog(tmp_path) as log:
        log.append_failure(
            make_call("d"), reason="r", message="m", final=True, attempts=1, answer=Answer("x", 100, 50), cost=2.0
        )
        log.append_failure(make_call("e"), reason="connection", message="m", final=True, attempts=6)
        first = log.spent
    with AnswerLog(tmp_path) as log:
        assert log.spent == first
        assert (first.calls, first.input_tokens, first.output_tokens, first.cost) == (4, 130, 65, 3.5)
        known = log.answered_by("judge", "listwise")
        assert (known.calls, known.output_tokens) == (3, 15) and log.answered_by("judge", "rewrite").calls == 0


def test_a_full_disk_leaves_no_torn_line_and_stops_the_run(tmp_path, monkeypatch):
    path = filled(tmp_path)
    before = path.read_bytes()
    write = os.write
    with AnswerLog(tmp_path) as log:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(ResumableError, match="10 of"):
            keep(log, "d")
        assert path.read_bytes() == before and make_call("d").key not in log
        monkeypatch.undo()
        keep(log, "d")
    assert path.read_bytes().count(b"\n") == 4


def test_a_key_that_is_none_is_refused(tmp_path):
    with AnswerLog(tmp_path) as log, pytest.raises(ValueError, match="32 hex digits"):
        log.get("abcd")


def test_a_file_of_the_log_that_is_a_folder_is_one_clear_error(tmp_path):
    (tmp_path / "answers.jsonl").mkdir()
    with pytest.raises(ConfigError, match="answers.jsonl cannot be opened"):
        AnswerLog(tmp_path)
    (tmp_path / "answers.jsonl").rmdir()
    AnswerLog(tmp_path).close()  # the lock was given back


def test_lines_of_failures_are_bounded(tmp_path):
    with AnswerLog(tmp_path) as log:
        answer = Answer("t" * 10**6, model="m" * 10**6, finish="f" * 10**6)
        log.append_failure(make_call("r0"), reason="x", message="y" * 10**6, final=True, attempts=1, answer=answer)
    assert (tmp_path / "failures.jsonl").stat().st_size < 250_000


def test_a_log_that_failed_to_sync_is_given_back_and_the_next_sync_tries_again(tmp_path, monkeypatch):
    log = AnswerLog(tmp_path)
    log.append(make_call("r0"), Answer("x"), seconds=0, attempts=1, cost=None)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("input/output error")))
        for end in (log.sync, log.close):
            with pytest.raises(OSError, match="input/output"):
                end()
    AnswerLog(tmp_path).close()
