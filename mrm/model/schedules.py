"""Learning-rate schedules as pure functions of training progress.

Steps cannot carry the schedule: the pool, and with it the number of batches, changes from epoch to epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mrm.errors import ConfigError

SCHEDULES = ("cosine", "constant")
CYCLES = ("run", "stage")


def lr_factor(progress: float, *, schedule: str, warmup: float, floor: float = 0.0) -> float:
    """The factor on the base learning rate.

    Args:
        progress: share of the training done, in [0, 1].
        schedule: `cosine` (falls to `floor`) or `constant`.
        warmup: share of the training in which the factor rises linearly from 0 to 1.
        floor: where the cosine ends.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"optim.schedule={schedule!r} is unknown; known: {', '.join(SCHEDULES)}.")
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    rest = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * rest))


def cycle_peak(peaks: Sequence[float], cycle: int) -> float:
    """The factor on the rate in a cycle.

    Args:
        peaks: one a cycle; the last one holds for all further ones. Empty: 1 always.
        cycle: its number, from 0.
    """
    return peaks[min(cycle, len(peaks) - 1)] if peaks else 1.0
