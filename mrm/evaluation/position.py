"""Position bias: whether the place of an image moves the model, by text-to-image pairs scored in both orders.

Pure functions. Dimension letters: P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class PositionBias:
    """What swapping two images does.

    Args:
        pairs: P.
        consistent: share that is right in both orders; the accuracy that does not pay for luck of the place.
        given, swapped: accuracy in the order given, and in the other.
        same_image: share on which the better image is the same one in both orders; 1 without a bias.
        first_image: share of decisions, over both orders, for the image shown first; 0.5 without a bias.
    """

    pairs: int
    consistent: float
    given: float
    swapped: float
    same_image: float
    first_image: float | None


def position_bias(given: Array, swapped: Array, first_preferred: Array) -> PositionBias | None:
    """Compares both orders.

    Args:
        given, swapped: float [P], reward of the statement that names the preferred image minus that of the other statement, in the order
            given and with the images swapped.
        first_preferred: bool [P], whether the preferred image is the first one in the order given.

    Returns:
        None of no pairs.
    """
    given, swapped = np.asarray(given, np.float64), np.asarray(swapped, np.float64)
    if not len(given):
        return None
    for_first, decided = first_image_decisions(given, swapped, first_preferred)
    return PositionBias(
        len(given),
        float(np.mean(right_in_both(given, swapped))),
        float(np.mean(given > 0)),
        float(np.mean(swapped > 0)),
        float(np.mean(same_image(given, swapped))),
        float(for_first.sum() / decided.sum()) if decided.any() else None,
    )


def right_in_both(given: Array, swapped: Array) -> Array:
    """bool [P]: right in either order."""
    return (given > 0) & (swapped > 0)


def same_image(given: Array, swapped: Array) -> Array:
    """bool [P]: the same image is the better one in both orders, or none is in both."""
    return np.sign(given) == np.sign(swapped)


def first_image_decisions(given: Array, swapped: Array, first_preferred: Array) -> tuple[Array, Array]:
    """(int [P], int [P]): of a pair's two orders, in how many the image shown first wins, and how many are decided.

    Args:
        given, swapped, first_preferred: as of `position_bias`.
    """
    side = np.where(np.asarray(first_preferred, bool), 1, -1)
    winner = np.stack([np.sign(given) * side, -np.sign(swapped) * side])
    return (winner > 0).sum(axis=0), (winner != 0).sum(axis=0)
