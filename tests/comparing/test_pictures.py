"""The page's pictures: none of the differences is lost, and letters are large enough for a phone."""

from __future__ import annotations

import numpy as np
import pytest

from mrm.comparing.courses import Course
from mrm.comparing.differences import Difference, Verdict
from mrm.comparing.measures import COST, Measure
from mrm.comparing.pictures import PICTURED, course_image, difference_images, parted
from mrm.evaluation.paired import paired_t

PHONE_COLUMN, PICTURE = 358, 559  # pixels: of a page on a phone, and 4.3 inches at 130 to the inch


def made(group: str, sets: int, kind: str = "accuracy") -> list[Difference]:
    test = paired_t([0.9, 0.8, 0.85], [0.7, 0.75, 0.7])
    measures = [Measure(f"test_{i}", f"set {i}", kind) for i in range(sets)]
    return [Difference(group, "base", measure, (1, 2, 3), Verdict(test, 0.01)) for measure in measures]


def test_parted_keeps_all_in_order_and_groups_together_where_they_fit() -> None:
    groups = [made("a", 3), made("b", 2), made("c", 7), made("d", 1)]
    parts = parted(groups, 4)
    told = [[f"{one.group}{one.measure.key[-1]}" for one in part] for part in parts]
    assert told == [["a0", "a1", "a2"], ["b0", "b1"], ["c0", "c1", "c2", "c3"], ["c4", "c5", "c6", "d0"]]


@pytest.mark.parametrize("groups", [1, 6, 12])
def test_difference_images_name_every_group_and_difference(groups: int) -> None:
    labels = [f"group_{i}_" for i in range(groups)]
    images = difference_images([one for label in labels for one in made(label, 4)])
    assert len(images) == -(-groups * 4 // PICTURED)
    told = " ".join(image.description for image in images)
    assert [told.count(f"{label}: set {i} +0.133") for label in labels for i in range(4)] == [1] * groups * 4
    titles = [image.title for image in images]
    assert titles == (
        ["Differences in accuracy"]
        if len(images) == 1
        else [f"Differences in accuracy ({i} of {len(images)})" for i in range(1, len(images) + 1)]
    )


def test_difference_images_of_cost_alone_are_none() -> None:
    assert difference_images([]) == difference_images(made("a", 2, COST)) == []


def test_pictures_have_letters_of_nine_pixels_on_a_phone() -> None:
    courses = [
        Course(f"a_group_with_a_long_name, flip_rate={i}", np.arange(2), *[np.array([1.0, 0.5])] * 3) for i in range(12)
    ]
    (differences,) = difference_images(made("a_very_long_label_of_a_group, " * 5, 3))
    for image in (differences, course_image("loss", courses)):
        assert image is not None and image.letters is not None
        assert image.letters * PHONE_COLUMN / PICTURE >= 9
