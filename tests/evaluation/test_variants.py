import dataclasses

from mrm.construction.reformulation import FIRST_IS_BETTER, SECOND_IS_BETTER, T2IPreference, reformulate
from mrm.evaluation.variants import (
    first_image_preferred,
    is_statement,
    with_images_swapped,
    with_others_images,
    without_images,
)
from mrm.preference import Message, Pair, PreferenceSample


def sample(key: str, *images: bytes) -> PreferenceSample:
    prompt = (Message("system", "Judge."), Message("user", "<image>" * len(images) + "What is it?"))
    return PreferenceSample(key, "made", prompt, images, ("A cat.", "A dog."), (Pair(0, 1, 0.5),))


def test_without_images_takes_the_marks_too():
    changed = without_images(sample("a", b"1", b"2"))
    assert changed.images == () and changed.prompt[-1].content == "What is it?"
    assert (changed.responses, changed.pairs) == (("A cat.", "A dog."), (Pair(0, 1, 0.5),))
    assert without_images(sample("a")) is None


def test_others_images_are_never_ones_own_and_as_many():
    samples = [sample("a", b"1"), sample("b", b"2"), sample("c", b"1"), sample("d", b"5", b"6"), sample("e")]
    for seed in range(6):
        made = with_others_images(samples, seed)
        assert made[3] is None and made[4] is None  # nobody else has two images; no images at all
        for own, other in zip(samples[:3], made[:3], strict=True):
            assert other.images != own.images and len(other.images) == 1
            assert dataclasses.replace(other, images=own.images) == own
    assert with_others_images(samples, 3) == with_others_images(samples, 3)
    assert with_others_images([sample("a", b"1"), sample("b", b"1")], 0) == [None, None]


def test_swapped_images_turn_the_statement_and_twice_is_nothing():
    first = reformulate(T2IPreference("k", "made", "a cat", b"good", b"bad"), preferred_first=True)
    assert is_statement(first) and first_image_preferred(first, first.pairs[0])
    swapped = with_images_swapped(first)
    assert swapped.images == (b"bad", b"good")
    pair = swapped.pairs[0]
    assert (swapped.responses[pair.chosen], swapped.responses[pair.rejected]) == (SECOND_IS_BETTER, FIRST_IS_BETTER)
    assert not first_image_preferred(swapped, pair)
    assert with_images_swapped(swapped) == first
    assert with_images_swapped(sample("a", b"1", b"2")) is None
