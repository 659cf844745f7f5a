"""The rules of curation: scores and votes in, masks and verdicts out. Pure numpy.

Source: DT2IT-MRM (arXiv 2604.19544), the iterative training section and its released scripts. One round corrects labels (the
more negative half of the negative pairs), filters (only strictly consistent pairs stay), and settles what was queued by vote.

Nothing here knows of ledgers, models or files. NaN means "not known", and no rule ever keeps a pair of unknown score:
callers put such pairs aside by name before they decide about the others.

Dimensions: P pairs, S score passes, V expected votes.
"""

from __future__ import annotations

import numpy as np

from mrm.errors import CurationError

CORRECT_MODES = ("flip", "drop", "weight")
VOTE_VALUES = (0.0, 0.5, 1.0)


def mean_strength(chosen_score: np.ndarray, rejected_score: np.ndarray) -> np.ndarray:
    """The mean over the score passes of (score of chosen - score of rejected).

    Args:
        chosen_score: float[P] of one pass, or float[S, P].
        rejected_score: same shape.

    Returns:
        float64[P]; NaN where any pass has no finite score, because a mean over the rest would hide the missing pass.
    """
    chosen, rejected = (
        np.atleast_2d(np.asarray(chosen_score, np.float64)),
        np.atleast_2d(np.asarray(rejected_score, np.float64)),
    )
    if chosen.shape != rejected.shape:
        raise CurationError(
            f"scores of chosen {chosen.shape} and rejected {rejected.shape} must have one shape, [pairs] or [passes, pairs]."
        )
    finite = (np.isfinite(chosen) & np.isfinite(rejected)).all(axis=0)
    difference = np.where(finite, chosen, 0.0) - np.where(finite, rejected, 0.0)
    return np.where(finite, difference.mean(axis=0), np.nan)


def lower_half(strength: np.ndarray, tie_break: np.ndarray | None = None) -> np.ndarray:
    """Selects the more negative half of the pairs with negative strength: floor(n / 2) of n, most negative first.

    Args:
        strength: float[P], mean strengths as labelled; NaN is never selected.
        tie_break: any sortable array [P] that belongs to the pair and not to its position; decides among equal strengths at
            the cut, so that the choice doesn't depend on the order of the pairs. Default: position.

    Returns:
        bool[P], the selected pairs.
    """
    strength = np.asarray(strength, np.float64)
    negative = np.flatnonzero(strength < 0)
    order = np.arange(len(strength)) if tie_break is None else np.asarray(tie_break)
    most_negative_first = negative[np.lexsort((order[negative], strength[negative]))]
    selected = np.zeros(len(strength), bool)
    selected[most_negative_first[: len(negative) // 2]] = True
    return selected


def consistent(chosen_score: np.ndarray, rejected_score: np.ndarray) -> np.ndarray:
    """Which pairs the model agrees with: strictly r_chosen > r_rejected. A tie or a non-finite score is not agreement.

    Args:
        chosen_score: float[P], score of the response that counts as chosen now.
        rejected_score: float[P].

    Returns:
        bool[P].
    """
    chosen, rejected = np.asarray(chosen_score), np.asarray(rejected_score)
    return np.isfinite(chosen) & np.isfinite(rejected) & (chosen > rejected)


def vote(votes: np.ndarray) -> np.ndarray:
    """Settles pairs by vote. A pair is settled only if every expected vote arrived and the sum isn't tied.

    Args:
        votes: float[P, V], each judgement's share for the chosen response: 1, 0, or 0.5 for a tie; NaN where it is missing.

    Returns:
        int8[P]: +1 the chosen response won, -1 the rejected one did, 0 unsettled (a missing vote or a tie).

    Raises:
        CurationError: for a vote that is none of 0, 0.5, 1, or when no vote is expected at all.
    """
    votes = np.asarray(votes, np.float64)
    if votes.ndim != 2 or votes.shape[1] == 0:
        raise CurationError(
            f"votes must be [pairs, expected votes] with at least one expected vote, found shape {votes.shape}."
        )
    missing = np.isnan(votes)
    wrong = ~missing & ~np.isin(votes, VOTE_VALUES)
    if wrong.any():
        raise CurationError(f"a vote is 0, 0.5 or 1 (NaN where it is missing), found {votes[wrong][0]}.")
    balance = np.where(missing, 0.0, votes - 0.5).sum(axis=1)  # halves: exact in floating point
    return np.where(missing.any(axis=1), 0, np.sign(balance)).astype(np.int8)
