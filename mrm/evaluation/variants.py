"""The same sample with something about its images changed, to see whether a model looks at them. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mrm.construction.reformulation import FIRST_IS_BETTER, VERDICTS
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample


def without_images(sample: PreferenceSample) -> PreferenceSample | None:
    """The sample with its images, and the marks of their places, gone; None if it has none."""
    if not sample.images:
        return None
    prompt = tuple(Message(turn.role, turn.content.replace(IMAGE_MARKER, "")) for turn in sample.prompt)
    return dataclasses.replace(sample, prompt=prompt, images=())


def with_others_images(samples: Sequence[PreferenceSample], seed: int) -> list[PreferenceSample | None]:
    """Each sample with the images of another one that has as many, dealt out at random.

    Args:
        samples: to deal among.
        seed: of the dealing.

    Returns:
        A sample each; None where it has no images, or where no other sample has as many and different ones.
    """
    made: list[PreferenceSample | None] = [None] * len(samples)
    counts = np.array([len(sample.images) for sample in samples])
    random = np.random.default_rng(seed)
    for count in np.unique(counts[counts > 0]).tolist():
        ring = random.permutation(np.flatnonzero(counts == count)).tolist()
        for place, number in enumerate(ring):
            own = samples[number].images
            turned = ring[place + 1 :] + ring[:place]  # the next in the ring whose images differ
            donor = next((other for other in turned if samples[other].images != own), None)
            if donor is not None:
                made[number] = dataclasses.replace(samples[number], images=samples[donor].images)
    return made


def with_images_swapped(sample: PreferenceSample) -> PreferenceSample | None:
    """A statement about two images with these in the other order, so that the other statement is the right one.

    None for any other sample: what a response says of the first of several images is not known.
    """
    if not is_statement(sample):
        return None
    pairs = tuple(Pair(pair.rejected, pair.chosen, pair.strength) for pair in sample.pairs)
    return dataclasses.replace(sample, images=sample.images[::-1], pairs=pairs)


def is_statement(sample: PreferenceSample) -> bool:
    """Whether the responses say which of two images is better, as text-to-image preferences are put here."""
    return len(sample.images) == 2 and len(sample.responses) == 2 and set(sample.responses) == set(VERDICTS)


def first_image_preferred(sample: PreferenceSample, pair: Pair) -> bool:
    """Whether a statement's preferred image is the one shown first."""
    return sample.responses[pair.chosen] == FIRST_IS_BETTER
