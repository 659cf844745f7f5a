"""The plain format: both forms, and every kind of bad record as a named skip."""

import pytest

from datamodules.sources import jsonl
from datamodules.sources.base import Skipped
from mrm.preference import Message, Pair
from tests.datamodules.sources.helpers import png, write_jsonl

SHORT = {"prompt": "<image>What?", "images": ["cat.png"], "chosen": "A cat.", "rejected": "A dog."}
FULL = {"prompt": "Why?", "responses": ["a", "b", "c"], "pairs": [{"chosen": 2, "rejected": 0, "strength": 1}]}


@pytest.fixture
def read_one(tmp_path):
    (tmp_path / "cat.png").write_bytes(png())

    def read(record):
        (item,) = jsonl.read(write_jsonl(tmp_path / "mine.jsonl", [record]))
        return item

    return read


def test_read_short_form_is_a_pair(read_one):
    sample = read_one({**SHORT, "strength": 0.6})
    assert sample.key == "mine-0000000" and sample.source == "mine"
    assert sample.prompt == (Message("user", "<image>What?"),)
    assert sample.images == (png(),)
    assert sample.responses == ("A cat.", "A dog.") and sample.pairs == (Pair(0, 1, 0.6),)


def test_read_full_form_keeps_key_source_and_meta(read_one):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    sample = read_one({**FULL, "key": "q-1", "source": "other", "prompt": messages, "meta": {"who": 3}})
    assert (sample.key, sample.source, dict(sample.meta)) == ("q-1", "other", {"who": 3})
    assert sample.prompt == (Message("system", "Be brief."), Message("user", "Why?"))
    assert sample.pairs == (Pair(2, 0, 1),)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1]", "not a record"),
        ({**SHORT, "strenght": 0.5}, "unknown field"),
        ({**SHORT, "responses": ["a"]}, "unknown field"),
        ({"prompt": "Q", "chosen": "a"}, "missing field"),
        ({"chosen": "a", "rejected": "b"}, "missing field"),
        ({"prompt": "Q", "responses": ["a", "b"]}, "missing field"),
        ({**SHORT, "chosen": 3}, "malformed field"),
        ({**SHORT, "images": "cat.png"}, "malformed field"),
        ({**SHORT, "images": ["dog.png"]}, "image missing"),
        ({**SHORT, "prompt": "no place"}, "image count"),
        ({**SHORT, "images": []}, "image count"),
        ({**SHORT, "chosen": " "}, "empty response"),
        ({**SHORT, "chosen": "A dog."}, "equal responses"),
        ({**SHORT, "strength": 1.5}, "bad strength"),
        ('{"prompt": "Q", "chosen": "a", "rejected": "b", "strength": NaN}', "bad strength"),
        ({**SHORT, "key": "a.b"}, "bad key"),
        ({**FULL, "pairs": [{"chosen": 3, "rejected": 0}]}, "pair out of range"),
        ({**FULL, "pairs": [{"chosen": 2, "rejected": 0, "strenght": 1}]}, "unknown field"),
        ({**FULL, "meta": []}, "malformed field"),
        ({**FULL, "pairs": []}, "no pair"),
        ({**FULL, "pairs": [{"chosen": 0}]}, "malformed field"),
        ({**FULL, "prompt": [{"role": "user"}]}, "malformed field"),
        ({**FULL, "prompt": [{"role": "assistant", "content": "x"}]}, "no final user turn"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(read_one, record, reason):
    item = read_one(record)
    assert isinstance(item, Skipped)
    assert item.reason == reason and item.key and item.detail


def test_read_name_sets_source_and_keys(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", [FULL, FULL])
    assert [s.key for s in jsonl.read(path, name="other")] == ["other-0000000", "other-0000001"]
