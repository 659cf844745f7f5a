"""What a round is told: the scores of its pairs, and the votes on its queue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrm.errors import CurationError

NOT_FINITE = "the reward is not a finite number"


@dataclass(frozen=True, eq=False)
class PairScores:
    """What the score passes say of the pairs. Dimensions: S passes (checkpoints, seeds, models), at least one; P pairs.

    Args:
        chosen: float[S, P], score of the response published as chosen; NaN where not asked for or unknown.
        rejected: float[S, P], of the other one.
        reasons: object[P], why a pair's sample could not be read; "" where it could.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    reasons: np.ndarray

    def __post_init__(self) -> None:
        shape = self.chosen.shape
        if len(shape) != 2 or shape[0] == 0 or self.rejected.shape != shape or self.reasons.shape != shape[1:]:
            raise CurationError(
                f"scores of chosen {shape}, of rejected {self.rejected.shape} and reasons {self.reasons.shape} must be"
                " [passes, pairs] twice, of at least one pass, and [pairs]."
            )


@dataclass(frozen=True, eq=False)
class Votes:
    """What annotators say of the queued pairs. Dimensions: Q queued pairs in ledger order, V expected votes.

    Args:
        votes: float[Q, V], each vote's share for the published choice: 1, 0, 0.5 for a tie; NaN where it did not arrive.
        unreadable: Q texts, why a pair could not be shown to the annotators; "" where it could.
        asked: bool[Q], which pairs annotators were asked about; the others keep waiting as they are. None: all.
    """

    votes: np.ndarray
    unreadable: list[str]
    asked: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.votes) != len(self.unreadable):
            raise CurationError(
                f"{len(self.votes)} rows of votes, but {len(self.unreadable)} reasons; give one of each a pair."
            )
