"""What makes two preference pairs the same, and the table that remembers them."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from datamodules.digests import DigestTable, digest, pair_digests, part_of
from datamodules.sources.base import Skipped
from mrm.construction.reformulation import T2IPreference
from mrm.preference import Message, Pair
from tests.datamodules.making import make_image, make_sample

IMAGES = [b"digest of an image"]


@given(st.lists(st.binary(max_size=3), max_size=60, unique=True), st.binary(min_size=4, max_size=4))
def test_digest_table_finds_each_by_its_number_and_nothing_else(texts, other):
    table = DigestTable()
    assert [table.add(digest(text)) for text in texts] == list(range(len(texts)))
    assert [table.find(digest(text)) for text in texts] == list(range(len(texts)))
    assert table.find(digest(other)) is None
    assert len(table) == len(texts)


def test_digest_table_grows_without_losing_any():
    digests = [digest(str(n).encode()) for n in range(5000)]
    table = DigestTable(b"".join(digests))
    assert [table.find(made) for made in digests] == list(range(5000))


def test_digest_tells_where_a_part_ends():
    assert digest(b"ab", b"c") != digest(b"a", b"bc")


def test_pair_digests_key_source_strength_and_meta_do_not_count():
    sample = make_sample("a")
    other = dataclasses.replace(sample, key="b", source="other", meta={"x": 1}, pairs=(Pair(0, 1, None),))
    assert pair_digests(sample, IMAGES) == pair_digests(other, IMAGES)


def test_pair_digests_differ_with_images_prompt_responses_and_direction():
    sample = make_sample("a")
    changed = [
        pair_digests(sample, [b"another image"]),
        pair_digests(dataclasses.replace(sample, prompt=(Message("user", "<image>Q"),)), IMAGES),
        pair_digests(dataclasses.replace(sample, responses=("x", sample.responses[1])), IMAGES),
        pair_digests(dataclasses.replace(sample, pairs=(Pair(1, 0),)), IMAGES),
        pair_digests(sample, IMAGES),
    ]
    assert len({tuple(made) for made in changed}) == 5


def test_pair_digests_of_a_ranking_are_those_of_its_pairs_alone():
    ranking = make_sample("a", responses=3, pairs=[Pair(0, 1), Pair(2, 1)])
    swapped = dataclasses.replace(ranking, responses=ranking.responses[::-1], pairs=(Pair(0, 1),))
    assert pair_digests(swapped, IMAGES) == pair_digests(ranking, IMAGES)[1:]


def test_part_of_same_prompt_and_images_is_the_same_part():
    sample = make_sample("a", images=[make_image(1)])
    twin = dataclasses.replace(sample, key="b", responses=("x", "y"))
    assert all(part_of(sample, n) == part_of(twin, n) for n in (1, 2, 7, 16))


def test_part_of_spreads_records_over_all_parts():
    items = [make_sample(f"k{n}") for n in range(50)]
    items += [Skipped(f"s{n}", "r", "d") for n in range(50)]
    items += [T2IPreference(f"t{n}", "made", f"caption {n}", b"a", b"b") for n in range(50)]
    for third in (items[:50], items[50:100], items[100:]):
        assert {part_of(item, 4) for item in third} == {0, 1, 2, 3}
