"""Each judge's own figures in a round: what it answered, whether the order moved it, and whom it agrees with.

For reporting only: votes are counted by `policy.vote`, whoever cast them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrm.curation.accounts import UNKNOWN


def judge_accounts(
    names: Sequence[str], votes: np.ndarray, margin: np.ndarray, truth: np.ndarray
) -> dict[str, dict[str, float | int | None]]:
    """What J judges said of Q pairs, each pair shown to each in both orders.

    Args:
        names: of the judges.
        votes: float[Q, 2J], judge by judge, the published choice shown first, then second: each vote's share for the published choice
            (1, 0, or 0.5 for a tie); NaN where none came.
        margin: float[Q], the model's score of the published choice minus the other's; NaN where unknown.
        truth: int8[Q], 1 where the published label is wrong, 0 where it is right, -1 unknown.

    Returns:
        name -> figures. `votes`, `missing` and `ties` are counts of votes; the others are shares in [0, 1], None of nothing:
        `same_in_both_orders` of the pairs with both votes; `first_place` of the votes for a response (0.5 where the order moves nobody);
        `with_model`, `with_other_judges` and `right`, of the pairs on which the judge, over both orders, and the model, the other
        judges together, or the truth each have a side.
    """
    sides = _sides(votes.reshape(len(votes), len(names), 2))  # [Q, J]
    figures: dict[str, dict[str, float | int | None]] = {}
    for number, name in enumerate(names):
        own = votes[:, 2 * number : 2 * number + 2]
        came, both = ~np.isnan(own), ~np.isnan(own).any(axis=1)
        for_one = came & (own != 0.5)
        first = np.stack([own[:, 0] == 1, own[:, 1] == 0], axis=1)
        others = np.sign(np.delete(sides, number, axis=1).sum(axis=1))
        right = np.select([truth == 0, truth == 1], [1, -1], 0)
        figures[name] = {
            "votes": int(came.sum()),
            "missing": int((~came).sum()),
            "ties": int((own == 0.5).sum()),
            "same_in_both_orders": _share(own[both, 0] == own[both, 1]),
            "first_place": _share(first[for_one]),
            "with_model": _agreement(sides[:, number], np.sign(np.nan_to_num(margin))),
            "with_other_judges": _agreement(sides[:, number], others),
            "right": _agreement(sides[:, number], right),
        }
        if not (truth != UNKNOWN).any():
            del figures[name]["right"]
    return figures


def _sides(votes: np.ndarray) -> np.ndarray:
    """int[..., J] of float[..., J, 2]: 1 for the published choice, -1 for the other response, 0 for neither or nothing said."""
    return np.sign(np.nansum(np.where(np.isnan(votes), np.nan, votes - 0.5), axis=-1)).astype(int)


def _agreement(first: np.ndarray, second: np.ndarray) -> float | None:
    told = (first != 0) & (second != 0)
    return _share(first[told] == second[told])


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if hits.size else None
