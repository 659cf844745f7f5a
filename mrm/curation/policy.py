"""The rules of curation: scores and votes in, masks and verdicts out. Pure numpy.

Source: DT2IT-MRM (arXiv 2604.19544), the iterative training section and its released scripts. One round corrects labels (the
more negative half of the negative pairs), filters (only strictly consistent pairs stay), and settles what was queued by vote.
The share, the dead zone and the unanimity of several models go beyond the source; their defaults are the released rules.

Nothing here knows of ledgers, models or files. NaN means "not known", and no rule ever keeps a pair of unknown score:
callers put such pairs aside by name before they decide about the others.

Dimensions: P pairs, S score passes (checkpoints, seeds, models), V expected votes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from mrm.errors import CurationError

CORRECT_MODES = ("flip", "drop", "weight")
AGREEMENTS = ("mean", "unanimous")
MISSING_VOTES = ("wait", "drop")
VOTE_VALUES = (0.0, 0.5, 1.0)
TieBreak = np.ndarray | Callable[[np.ndarray], np.ndarray]


def mean_score(scores: np.ndarray) -> np.ndarray:
    """The mean over the score passes of one response a pair.

    Args:
        scores: float[S, P].

    Returns:
        float64[P], the same to the bit in whatever order the passes are: a rounding must not make a tie of a preference, or one of a tie.
    """
    return np.sort(np.asarray(scores, np.float64), axis=0).sum(axis=0) / len(scores)


def mean_strength(chosen_score: np.ndarray, rejected_score: np.ndarray) -> np.ndarray:
    """The mean over the score passes of (score of chosen - score of rejected).

    Args:
        chosen_score: float[P] of one pass, or float[S, P].
        rejected_score: same shape.

    Returns:
        float64[P]; NaN where any pass has no finite score, because a mean over the rest would hide the missing pass.
    """
    finite, difference = _differences(chosen_score, rejected_score)
    return np.where(finite, difference.mean(axis=0), np.nan)


def spread(chosen_score: np.ndarray, rejected_score: np.ndarray) -> np.ndarray:
    """How far the score passes are apart: the standard deviation over them of (score of chosen - score of rejected).

    Args:
        chosen_score: float[P] of one pass, or float[S, P].
        rejected_score: same shape.

    Returns:
        float64[P], with divisor S, so 0 for one pass; NaN where any pass has no finite score.
    """
    finite, difference = _differences(chosen_score, rejected_score)
    return np.where(finite, difference.std(axis=0), np.nan)


def distrusted(strength: np.ndarray, share: float = 0.5, tie_break: TieBreak | None = None) -> np.ndarray:
    """Selects the most negative of the pairs with negative strength: floor(share * n) of n, most negative first.

    What a smaller share selects, a larger one selects too.

    Args:
        strength: float[P], mean strengths as labelled; NaN is never selected.
        share: in [0, 1], 0.5 as released. The product is that of the decimal number as it is written: 0.29 of 100 are 29.
        tie_break: any sortable array [P] that belongs to the pair and not to its position, or a function that gives it
            for some positions int64[n]; decides among equal strengths at the cut, so that the choice doesn't depend on the
            order of the pairs. Default: position.

    Returns:
        bool[P], the selected pairs.
    """
    if not 0 <= share <= 1:
        raise CurationError(f"the share of the negatives to distrust must be in [0, 1], found {share!r}.")
    strength = np.asarray(strength, np.float64)
    negative = strength[strength < 0]
    wanted = _share_of(share, len(negative))
    if wanted == 0:
        return np.zeros(len(strength), bool)
    cut = np.partition(negative, wanted - 1)[wanted - 1]
    selected, tied = strength < cut, np.flatnonzero(strength == cut)
    missing = wanted - int(selected.sum())
    if tie_break is not None and missing < len(tied):
        order = tie_break(tied) if callable(tie_break) else np.asarray(tie_break)[tied]
        tied = tied[np.argsort(order, kind="stable")]
    selected[tied[:missing]] = True
    return selected


def consistent(chosen_score: np.ndarray, rejected_score: np.ndarray, dead_zone: float | np.ndarray = 0.0) -> np.ndarray:
    """Which pairs the model agrees with: strictly r_chosen - r_rejected > dead_zone. A non-finite score is not agreement.

    Args:
        chosen_score: float[P], score of the response that counts as chosen now.
        rejected_score: float[P].
        dead_zone: differences up to this are no opinion, at least 0; one for all, or float[P]. At 0 a tie is not agreement.

    Returns:
        bool[P]. A larger dead zone never keeps more.
    """
    _check_dead_zone(dead_zone)
    finite, difference = _differences(_of_one_pass(chosen_score), _of_one_pass(rejected_score))
    return finite & (difference[0] > dead_zone)


def uncertain(chosen_score: np.ndarray, rejected_score: np.ndarray, dead_zone: float | np.ndarray = 0.0) -> np.ndarray:
    """Which pairs the model has no opinion on: |r_chosen - r_rejected| <= dead_zone. The others that aren't `consistent` are against.

    Args: as of `consistent`.

    Returns:
        bool[P]; never where a score isn't finite.
    """
    _check_dead_zone(dead_zone)
    finite, difference = _differences(_of_one_pass(chosen_score), _of_one_pass(rejected_score))
    return finite & (np.abs(difference[0]) <= dead_zone)


def _of_one_pass(scores: np.ndarray) -> np.ndarray:
    if np.ndim(scores) != 1:
        raise CurationError(
            f"scores of one pass, float[P], are needed here, found shape {np.shape(scores)}; give their mean."
        )
    return scores


def unanimous(strengths: np.ndarray, dead_zone: float | np.ndarray = 0.0) -> np.ndarray:
    """Peer review: what all models say of a pair, where all say the same.

    Args:
        strengths: float[S, P], each model's (score of chosen - score of rejected).
        dead_zone: as in `consistent`, for each model.

    Returns:
        int8[P]: +1 every model agrees with the label, -1 every model is against it, 0 they differ or one has no opinion
        or no finite score.
    """
    strengths = np.atleast_2d(np.asarray(strengths))
    if len(strengths) == 0:
        raise CurationError("unanimous needs the strengths of at least one model, found none.")
    _check_dead_zone(dead_zone)
    lowest, highest = strengths.min(axis=0), strengths.max(axis=0)  # NaN where one is
    finite = np.isfinite(lowest) & np.isfinite(highest)
    verdict = (lowest > dead_zone).astype(np.int8) - (highest < np.negative(dead_zone)).astype(np.int8)
    return np.where(finite, verdict, np.int8(0))


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


def check_cap(count: int, total: int, cap: float, *, round_number: int, verb: str, setting: str) -> None:
    """A round that overturns most of its pool is more likely wrong than the pool is: it stops instead.

    Args:
        count: pairs that the round would flip, or drop.
        total: pairs of the open pool.
        cap: the largest share allowed, in [0, 1].
        round_number: for the message.
        verb: what would happen to them: `flip` or `drop`.
        setting: the name of the setting that holds the cap.

    Raises:
        CurationError: if count is more than cap * total.
    """
    if count <= _share_of(cap, total):
        return
    raise CurationError(
        f"round {round_number} would {verb} {count} of {total} open pairs ({count / total:.1%}), more than"
        f" {setting}={cap:g} of them; nothing was written. Look at the scores of the round: a scoring model that has learned too"
        f" little contradicts good labels. Train it longer before this round, check the open data, or raise {setting} if the"
        " pool is known to be that bad."
    )


def _differences(chosen_score: np.ndarray, rejected_score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool[P], float64[S, P]): which pairs all passes have finite scores of, and their differences, 0 where they don't."""
    chosen = np.atleast_2d(np.asarray(chosen_score, np.float64))
    rejected = np.atleast_2d(np.asarray(rejected_score, np.float64))
    if chosen.shape != rejected.shape or len(chosen) == 0:
        raise CurationError(
            f"scores of chosen {chosen.shape} and rejected {rejected.shape} must have one shape, [pairs] or [passes, pairs] of at"
            " least one pass."
        )
    finite = np.logical_and.reduce(np.isfinite(chosen) & np.isfinite(rejected), axis=0)
    return finite, np.where(finite, chosen, 0.0) - np.where(finite, rejected, 0.0)


def _share_of(share: float, number: int) -> int:
    """floor(share * number) of the decimal share that is meant; in binary 0.29 * 100 is a little less than 29."""
    return math.floor(Fraction(repr(float(share))) * number)


def _check_dead_zone(dead_zone: float | np.ndarray) -> None:
    if not np.all(np.asarray(dead_zone) >= 0):
        raise CurationError(f"a dead zone must be at least 0, found {dead_zone!r}.")
