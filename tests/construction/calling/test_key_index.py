import random

import mrm.construction.calling.key_index as key_index
from mrm.construction.calling.key_index import KeyIndex


def test_find_gives_the_last_offset_of_a_key_through_all_merges(monkeypatch):
    monkeypatch.setattr(key_index, "_MERGE_AT", 7)
    rng, index, known = random.Random(0), KeyIndex(), {}
    # Few different bytes, zeros among them: neighbours and ends that numpy's strings would drop.
    keys = [bytes(rng.choice((0, 1, 255)) for _ in range(4)) * 4 for _ in range(300)]
    for offset, key in enumerate(keys):
        index.add(key, offset)
        known[key] = offset
        assert len(index) == len(known)
    assert all(index.find(key) == offset for key, offset in known.items())


def test_find_of_an_unknown_key_gives_none(monkeypatch):
    monkeypatch.setattr(key_index, "_MERGE_AT", 2)
    index = KeyIndex()
    for number in (1, 3, 5):
        index.add(bytes([number] * 16), number)
    assert [index.find(bytes([number] * 16)) for number in range(7)] == [None, 1, None, 3, None, 5, None]
