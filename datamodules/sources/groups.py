"""Several images of one caption with a grade each, as text-to-image preferences between every two.

Grades are grouped by caption before any image is read: what is held in memory is text, not pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datamodules.sources.base import TIE, Skipped, all_pairs
from mrm.construction.reformulation import T2IPreference
from mrm.errors import RecordError

ALONE = "only one image"  # of a caption: nothing to compare it with


@dataclass(frozen=True)
class Graded:
    """One image of a caption.

    Args:
        path: where the image is.
        grade: higher is better.
        meta: what is known of it.
    """

    path: str
    grade: float
    meta: Mapping[str, Any] = field(default_factory=dict)


def pairs_of_group(
    key: str, source: str, caption: str, group: Sequence[Graded], *, scale: float, read: Callable[[str], bytes]
) -> Iterator[T2IPreference | Skipped]:
    """Every two images of a caption: a preference where their grades differ, else a counted tie.

    Args:
        key: beginning of the pairs' keys; the images' numbers in the group follow.
        source: the dataset.
        caption: what the images were made from.
        group: the images.
        scale: the largest possible difference of grades; strength is the difference / scale.
        read: gives an image's bytes by its path.
    """
    for i, j in all_pairs(len(group)):
        name = f"{key}-{i}-{j}"
        if group[i].grade == group[j].grade:
            yield Skipped(name, TIE, f"{name}: images {group[i].path!r} and {group[j].path!r} have the same grade.")
            continue
        better, worse = (group[i], group[j]) if group[i].grade > group[j].grade else (group[j], group[i])
        try:
            yield T2IPreference(
                key=name,
                source=source,
                caption=caption,
                preferred=read(better.path),
                other=read(worse.path),
                strength=(better.grade - worse.grade) / scale,
                meta={
                    "preferred_image": better.path,
                    "other_image": worse.path,
                    **({"preferred_meta": dict(better.meta), "other_meta": dict(worse.meta)} if better.meta else {}),
                },
            )
        except RecordError as error:
            yield Skipped(name, error.reason, f"{name}: {error}")
