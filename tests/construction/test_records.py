"""Records between stages: images by name, and texts that are distinct."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mrm.construction.records import ImageStore, PromptRecord, Response, distinct, refer, shuffled
from mrm.errors import RecordError
from tests.construction.helpers import shapeworld_records


def test_record_survives_its_json(tmp_path: Path) -> None:
    (record,) = shapeworld_records(tmp_path, 1)
    assert PromptRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_image_store_keeps_equal_bytes_once_and_gives_them_back(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    one, same, other = store.keep(b"a"), store.keep(b"a"), store.keep(b"b")
    assert one == same != other
    assert (store.read(one), store.read(other)) == (b"a", b"b")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_image_that_changed_or_is_gone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"cat")
    image = refer(file, b"cat")
    assert ImageStore(tmp_path / "elsewhere").read(image) == b"cat"
    file.write_bytes(b"dog")
    with pytest.raises(RecordError, match=r"cat\.png.*another one"):
        ImageStore(tmp_path).read(image)
    file.unlink()
    with pytest.raises(RecordError, match=r"cat\.png") as caught:
        ImageStore(tmp_path).read(image)
    assert caught.value.reason == "image missing"


def test_distinct_leaves_out_what_is_empty_or_said_before() -> None:
    said = [Response("a", "m"), Response(" a\n", "n"), Response(" ", "m"), Response("b", "n")]
    assert distinct(said) == (said[0], said[3])


def test_distinct_makes_half_a_surrogate_pair_a_question_mark() -> None:
    (response,) = distinct([Response("a \ud83d b", "m")])
    assert response.text == "a ? b"


def test_shuffled_depends_on_the_key_and_not_on_the_order_given() -> None:
    responses = [Response(text, "m") for text in "abcd"]
    orders = {shuffled(f"k{number}", responses) for number in range(50)}
    assert len(orders) > 10
    assert all(shuffled(f"k{n}", responses) == shuffled(f"k{n}", responses[::-1]) for n in range(50))
    first = [shuffled(f"k{n}", responses)[0].text for n in range(400)]
    assert all(70 < first.count(text) < 130 for text in "abcd")  # 100 of each, 3.5 standard deviations
