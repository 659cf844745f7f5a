"""From index and ledger to the epoch's plan: which samples are trained on, how often, how long and how clear each is. Pure.

Dimension letters: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.dataset_spec import DatasetSpec
from datamodules.index import Index
from datamodules.ledger import Ledger
from datamodules.orders import ORDERS
from datamodules.plan import EpochPlan, epoch_plan
from mrm.errors import ConfigError, suggest

Array = npt.NDArray[Any]
_CHARS_PER_TOKEN, _PIXELS_PER_TOKEN = 4, 32 * 32


def sample_lengths(index: Index, max_pixels: int) -> Array:
    """int32 [N]: estimated tokens of each sample, prompt, images and all responses; at least 1.

    Args:
        index: the samples.
        max_pixels: of an image; larger ones are reduced.
    """
    most = np.diff(index.image_start) * max_pixels
    pixels = np.minimum(index.image_pixels, most)
    return np.maximum(index.text_chars // _CHARS_PER_TOKEN + pixels // _PIXELS_PER_TOKEN, 1).astype(np.int32)


def trained_samples(index: Index, ledger: Ledger) -> Array:
    """bool [N]: samples of which a pair is trained on."""
    trained = np.zeros(len(index), bool)
    trained[index.pair_sample[ledger.active & (ledger.weight > 0)]] = True
    return trained


def sample_strength(index: Index, ledger: Ledger) -> Array:
    """float32 [N]: the mean strength of each sample's pairs that are trained on as published; NaN where none is known."""
    known = ledger.active & (ledger.weight > 0) & ~ledger.flipped & ~np.isnan(ledger.strength)
    rows = index.pair_sample[known]
    total = np.bincount(rows, ledger.strength[known], minlength=len(index))
    count = np.bincount(rows, minlength=len(index))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def mixture_weights(index: Index, datasets: Sequence[DatasetSpec]) -> Array:
    """float64 [N]: how often each sample is seen an epoch, on average: its data set's weight times its source's.

    Args:
        index: the samples; its data sets are these, in this order.
        datasets: the data sets.

    Raises:
        ConfigError: if a source is named that a data set does not have.
    """
    assert index.dataset_names == tuple(spec.name for spec in datasets)
    table = np.ones((len(datasets), len(index.source_names)))
    problems = []
    for number, spec in enumerate(datasets):
        table[number] = spec.weight
        if not spec.source_weights:
            continue
        present = np.unique(index.source[index.dataset == number])
        known = [index.source_names[code] for code in present]
        for source, weight in spec.source_weights.items():
            if source in known:
                table[number, index.source_names.index(source)] *= weight
            else:
                problems.append(
                    f"data set {spec.name!r} has no source {source!r}; it has {', '.join(known)}.{suggest(source, known)}"
                )
    if problems:
        raise ConfigError("source_weights: " + " ".join(problems))
    return table[index.dataset, index.source]


def plan_pool(index: Index, ledger: Ledger, lengths: Array, mixture: Array, *, order: str, **shape: Any) -> EpochPlan:
    """The plan of an epoch over all samples of which a pair is trained on.

    Args:
        index, ledger: the pool.
        lengths: int [N], see `sample_lengths`. mixture: float64 [N], see `mixture_weights`.
        order: a name in `orders.ORDERS`. shape: the other settings of `plan.epoch_plan`.

    Raises:
        ConfigError: for an order by strength where no strength is known.
    """
    rows = np.flatnonzero(trained_samples(index, ledger) & (mixture > 0))
    strength = None
    if ORDERS[order].by_strength and len(rows):
        strength = sample_strength(index, ledger)[rows]
        if np.isnan(strength).all():
            raise ConfigError(
                f"data.order={order} goes by strength, but no pair to train on has one; choose data.order=shuffled."
            )
    return epoch_plan(rows, lengths[rows], mixture[rows], order=order, strength=strength, **shape)
