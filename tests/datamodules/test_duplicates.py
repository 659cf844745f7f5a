"""Equal images and equal pairs."""

import numpy as np

from datamodules.duplicates import (
    find_pair_duplicates,
    image_set_digests,
    pair_digests,
    prompt_digest,
    repeated,
    shared_counts,
)
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import make_image, make_sample


def sets(*rows: list[int]):
    digests = np.array([digest for row in rows for digest in row], np.uint64)
    return image_set_digests(digests, np.cumsum([0, *map(len, rows)])).tolist()


def test_image_set_digests_are_equal_for_the_same_images_in_the_same_order():
    large = 2**64 - 59
    a, b, c, d, none, last = sets([large, 7], [large], [large, 7], [7, large], [], [7])
    assert a == c
    assert len({a, b, d, none, last}) == 5
    assert none == 0


def test_image_set_digests_without_any_image():
    assert sets([], []) == [0, 0]


def test_repeated_marks_all_occurrences():
    assert repeated(np.array([3, 1, 3, 2])).tolist() == [True, False, True, False]


def test_shared_counts_counts_different_images():
    assert shared_counts([np.array([1, 1, 2, 3]), np.array([2, 3, 3]), np.array([9])]) == {(0, 1): 2}


def sample(key: str, chosen: str, rejected: str, prompt: str = "Q", extra: tuple[str, ...] = ()) -> PreferenceSample:
    responses = (*extra, chosen, rejected)
    return PreferenceSample(
        key, "s", (Message("user", prompt),), (), responses, (Pair(len(extra), len(extra) + 1),), {"key": key}
    )


def test_pair_digests_know_neither_key_nor_place_but_all_that_is_said():
    ((one, won),) = pair_digests(sample("a", "yes", "no"), [])
    assert list(pair_digests(sample("b", "yes", "no", extra=("maybe",)), [])) == [(one, won)]
    assert list(pair_digests(sample("c", "no", "yes"), [])) == [(one, not won)]
    others = [
        list(pair_digests(sample("d", "yes", "no", prompt="Q?"), []))[0][0],
        list(pair_digests(sample("e", "yes", "never"), []))[0][0],
        list(pair_digests(sample("f", "yes", "no"), [5]))[0][0],
    ]
    assert len({one, *others}) == 4


def test_prompt_digest_is_that_of_prompt_and_images():
    one, other = make_sample("a", images=[make_image()]), make_sample("b", images=[make_image()])
    assert prompt_digest(one, [1]) == prompt_digest(one, [1])
    assert len({prompt_digest(one, [1]), prompt_digest(one, [2]), prompt_digest(other, [1])}) == 3


def test_find_pair_duplicates_counts_surplus_and_contradiction():
    # 5 three times and in agreement, 8 twice and not, 9 once: 2 + 1 too many
    digests = np.array([5, 8, 5, 9, 8, 5], np.uint64)
    found = find_pair_duplicates(digests, np.array([True, True, True, False, False, True]))
    assert (found.compared, found.surplus, found.contradicting) == (6, 3, 1)
    assert found.groups == ((0, 2, 5), (1, 4))
    assert find_pair_duplicates(digests, np.ones(6, bool), named=1).groups == ((0, 2, 5),)
    assert find_pair_duplicates(digests[:0], np.ones(0, bool)).surplus == 0
