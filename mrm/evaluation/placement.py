"""Whether the place of an image moves the model: text-to-image pairs, scored with both images in either order.

Pure functions. Dimension letters: P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class PlaceBias:
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


def place_bias(given: Array, swapped: Array, first_preferred: Array) -> PlaceBias | None:
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
    side = np.where(np.asarray(first_preferred, bool), 1, -1)
    for_first = np.concatenate([np.sign(given) * side, -np.sign(swapped) * side])
    decided = for_first[for_first != 0]
    return PlaceBias(
        len(given),
        float(np.mean((given > 0) & (swapped > 0))),
        float(np.mean(given > 0)),
        float(np.mean(swapped > 0)),
        float(np.mean(np.sign(given) == np.sign(swapped))),
        float(np.mean(decided > 0)) if len(decided) else None,
    )
