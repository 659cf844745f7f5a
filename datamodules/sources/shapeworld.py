"""The embedded world as a source: rendered scenes about which everything is known. Needs no input."""

from __future__ import annotations

from collections.abc import Iterator

from datamodules.sources.base import Card, Counted, Item
from mrm.errors import ConfigError

CARD = Card(
    "made by this project",
    "as this project's",
    "as many as asked for",
    "image-text",
    "difference in errors / 4, where the split has it",
)


def read(
    input: None = None,
    *,
    split: str = "trusted",
    count: int = 1000,
    seed: int = 0,
    flip_rate: float | None = None,
    style_rate: float | None = None,
    true_labels: bool = False,
) -> Iterator[Item]:
    """Makes `count` samples of a split of ShapeWorld.

    Args:
        split: name of the split, as `datamodules.shapeworld` knows them.
        count: number of samples.
        seed: the same seed gives the same samples.
        flip_rate: share of labels published the wrong way round, where the split has noise; None for its default.
        style_rate: share of pairs in which style and winner agree, where the split is biased; None for its default.
        true_labels: the same samples with their flipped labels turned right, where the split has noise.

    Raises:
        ConfigError: at once, for an unknown split, a count below 1 or a rate outside [0, 1].
    """
    from datamodules import shapeworld  # drawing is only needed here: the other readers do without

    rates = {"flip_rate": flip_rate, "style_rate": style_rate}
    options = {name: rate for name, rate in rates.items() if rate is not None}
    problems = [f"{name}={rate} is not in [0, 1]" for name, rate in options.items() if not 0 <= rate <= 1]
    if split not in shapeworld.SPLITS:
        problems.append(f"unknown split {split!r}; known: {', '.join(shapeworld.SPLITS)}")
    if true_labels and split != "open":
        problems.append(f"true_labels has an effect on split open only, not on {split}")
    if count < 1:
        problems.append(f"count={count} is not at least 1")
    if problems:
        raise ConfigError(f"shapeworld: {'; '.join(problems)}.")
    return Counted(shapeworld.generate_split(split, count, seed, **options, true_labels=true_labels), count)
