"""One pass over samples for a card: reads each, decodes its images, and keeps numbers only.

Nothing of a sample stays but its style counts, sizes and digests, so that a pass needs little memory. What cannot be
read is named. Making sense of the numbers is left to `card.py`.

Dimension letters: V visits, P pairs measured, C pairs compared, F style features, I images, M images of the index.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.duplicates import image_set_digests, pair_digests, prompt_digest, repeated
from datamodules.index import Index
from datamodules.shards import read_record, read_sample, sniff_extension
from mrm.construction.style import FEATURES, style_features
from mrm.errors import RecordError, ShardError
from mrm.images import decode_image
from mrm.preference import PreferenceSample, language_of

Array = npt.NDArray[Any]
LANGUAGES = ("en", "zh")
DAMAGED = "unreadable in its shard"


@dataclass(frozen=True)
class UnreadSample:
    """A sample that cannot be used: where it lies, a short reason, and all that is known."""

    dataset: str
    key: str
    shard: str
    reason: str
    detail: str


@dataclass(frozen=True, eq=False)
class Visits:
    """Where to go, in the order of the shards.

    Args:
        part: int [V], number of the data set. row: int [V], in its index.
        whole: bool [V]: measured; the others are only compared.
        alike: bool [V]: has the same images as another sample (or none, as another).
        compared: bool [V]: its pairs are compared: it is alike, or has pairs of three responses or more among itself.
    """

    part: Array
    row: Array
    whole: Array
    alike: Array
    compared: Array

    def __len__(self) -> int:
        return len(self.row)


@dataclass
class Measures:
    """What was measured, pair by pair and image by image.

    Args:
        chosen, rejected: [P * F] style counts.
        prompt: [P] a digest of prompt and images: pairs that share it are not independent.
        language: [P] into LANGUAGES. part, row: [P] where the pair's sample lies.
        width, height: [I] as a person sees the image. formats: of images.
        read, compared_only: number of samples measured, and of those of which only the record was looked at.
        digest, first_won: [C] of each pair compared, see `pair_digests`. digest_part, digest_row: [C] where it lies.
        unread: samples that could not be read.
    """

    chosen: array[float] = field(default_factory=lambda: array("d"))
    rejected: array[float] = field(default_factory=lambda: array("d"))
    prompt: array[int] = field(default_factory=lambda: array("Q"))
    language: array[int] = field(default_factory=lambda: array("b"))
    part: array[int] = field(default_factory=lambda: array("i"))
    row: array[int] = field(default_factory=lambda: array("i"))
    width: array[int] = field(default_factory=lambda: array("i"))
    height: array[int] = field(default_factory=lambda: array("i"))
    formats: Counter[str] = field(default_factory=Counter)
    read: int = 0
    compared_only: int = 0
    digest: array[int] = field(default_factory=lambda: array("Q"))
    first_won: array[int] = field(default_factory=lambda: array("b"))
    digest_part: array[int] = field(default_factory=lambda: array("i"))
    digest_row: array[int] = field(default_factory=lambda: array("i"))
    unread: list[UnreadSample] = field(default_factory=list)

    def features(self) -> tuple[Array, Array]:
        """float64 [P, F] style counts of chosen and of rejected responses."""
        shape = (-1, len(FEATURES))
        return np.asarray(self.chosen).reshape(shape), np.asarray(self.rejected).reshape(shape)


def plan_visits(indexes: Sequence[Index], limit: int | None, seed: int) -> Visits:
    """Which samples are measured, and which must be compared beside them: those that share their images with another, and
    those whose own pairs can be equal, since two of their responses may be.

    Args:
        indexes: one a data set.
        limit: samples to measure, of all data sets together, drawn at random; None for all.
        seed: of the draw.
    """
    sets = [image_set_digests(index.image_digest, index.image_start) for index in indexes]
    alike = repeated(np.concatenate(sets))
    total = len(alike)
    whole = np.ones(total, bool)
    if limit is not None and limit < total:
        whole[:] = False
        whole[np.random.default_rng(seed).choice(total, limit, replace=False)] = True
    part = np.repeat(np.arange(len(sets)), [len(digests) for digests in sets])
    row = np.concatenate([np.arange(len(digests)) for digests in sets])
    several = [(np.diff(index.pair_start) > 1) & (index.n_responses > 2) for index in indexes]
    compared = alike | np.concatenate(several)
    going = whole | compared
    return Visits(part[going], row[going], whole[going], alike[going], compared[going])


def measure(
    indexes: Sequence[Index],
    visits: Visits,
    *,
    names: Sequence[str],
    max_pixels: int,
    advance: Callable[[], object] = lambda: None,
) -> Measures:
    """Goes to each row.

    Args:
        indexes: one a data set.
        visits: of `plan_visits`.
        names: of the data sets.
        max_pixels: a sample with an image of more is not read.
        advance: called after each visit.
    """
    found = Measures()
    columns = (visits.part, visits.row, visits.whole, visits.compared)
    for part, row, whole, compared in zip(*(column.tolist() for column in columns), strict=True):
        index = indexes[part]
        try:
            if whole:
                sample = read_sample(index, row)
                sizes = [_image_size(sample, number, max_pixels) for number in range(len(sample.images))]
            else:
                sample = _record_alone(index, row)
        except (RecordError, ShardError) as error:
            reason = error.reason if isinstance(error, RecordError) else DAMAGED
            shard = index.shard_files[index.shard[row]].name
            found.unread.append(UnreadSample(names[part], str(index.keys[row]), shard, reason, str(error)))
        else:
            image_digests = index.image_digest[index.image_start[row] : index.image_start[row + 1]].tolist()
            if whole:
                _add(found, sample, image_digests, sizes, part, row)
            found.read += whole
            found.compared_only += not whole
            for digest, first_won in pair_digests(sample, image_digests) if compared else ():
                found.digest.append(digest)
                found.first_won.append(first_won)
                found.digest_part.append(part)
                found.digest_row.append(row)
        advance()
    assert found.read + found.compared_only + len(found.unread) == len(visits)
    return found


def _image_size(sample: PreferenceSample, number: int, max_pixels: int) -> tuple[int, int]:
    name = f"sample {sample.key!r}: image {number}"
    return decode_image(sample.images[number], name=name, max_pixels=max_pixels).size


def _record_alone(index: Index, row: int) -> PreferenceSample:
    """The sample with empty images: only their digests count in comparing."""
    images = int(index.image_start[row + 1] - index.image_start[row])
    return PreferenceSample.from_json(read_record(index, row), [b""] * images)


def _add(
    found: Measures,
    sample: PreferenceSample,
    image_digests: list[int],
    sizes: list[tuple[int, int]],
    part: int,
    row: int,
) -> None:
    features = [style_features(response) for response in sample.responses]
    prompt = prompt_digest(sample, image_digests)
    language = LANGUAGES.index(language_of(sample.prompt))
    for pair in sample.pairs:
        found.chosen.extend(features[pair.chosen])
        found.rejected.extend(features[pair.rejected])
        found.prompt.append(prompt)
        found.language.append(language)
        found.part.append(part)
        found.row.append(row)
    for (width, height), data in zip(sizes, sample.images, strict=True):
        found.width.append(width)
        found.height.append(height)
        found.formats[sniff_extension(data) or "unknown"] += 1
