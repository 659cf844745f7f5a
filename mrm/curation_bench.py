"""How long a round of curation takes over a million pairs, and what it holds in memory. `mrm.bench` prints the figures.

What is measured is all of a round but scoring and asking: reading the ledger before it, every step with the settings that cost most,
the record, and writing the new ledger; in a process of its own, whose memory nothing else has touched.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from callbacks.curation_round import begin_round, decide_round
from callbacks.curation_schedule import RoundSpec
from callbacks.round_inputs import PairScores, Votes
from datamodules.ledger import Decision, Ledger
from datamodules.scale_bench import MILLION, resident_mb
from datamodules.texts import Texts

SPEC = RoundSpec(
    0,
    ("score", "correct", "filter", "annotate"),
    distrust_share=None,
    dead_zone=0.1,
    agreement="unanimous",
    sources={"open-3": {"correct_mode": "drop"}, "open-4": {"distrust_share": 0.25}},
)
SOURCES, TRUSTED, NOISE, PASSES, VOTES = 8, 2, 0.3, 2, 4


def make_ledger(pairs: int, seed: int = 0) -> Ledger:
    """A ledger of round 0: a quarter of the pairs trusted, the others of six open sources and not yet admitted."""
    rng, source = np.random.default_rng(seed), np.arange(pairs) % SOURCES
    names = np.array([f"{'trusted' if n < TRUSTED else 'open'}-{n}" for n in range(SOURCES)], object)
    trusted = source < TRUSTED
    unknown = np.full(pairs, np.nan, np.float32)
    return Ledger(
        key=Texts.of(
            [f"open-{digest:08x}-{number:07d}" for number, digest in enumerate(rng.integers(0, 2**32, pairs))]
        ),
        pair=np.zeros(pairs, np.int16),
        source=names[source],
        decision=np.array([Decision.HELD, Decision.TRUSTED], object)[trusted.astype(np.int64)],
        reason=np.full(pairs, "", object),
        flipped=np.zeros(pairs, bool),
        active=trusted,
        weight=np.ones(pairs, np.float32),
        decided=np.zeros(pairs, np.int32),
        round=0,
        index_fingerprint="made",
        strength=unknown,
        chosen_score=unknown.astype(np.float64),
        rejected_score=unknown.astype(np.float64),
        spread=unknown,
        vote_share=unknown,
    )


def make_scores(pairs: int, wrong: np.ndarray, seed: int = 0) -> PairScores:
    """Scores of a model that ranks nine pairs in ten right, rounded as bfloat16 rounds, so that there are ties."""
    rng = np.random.default_rng(seed)
    strength = rng.standard_normal((PASSES, pairs), dtype=np.float32) + np.float32(1.28)
    strength[:, wrong] *= -1
    chosen = np.round(strength * 128) / 128
    return PairScores(chosen.astype(np.float32), np.zeros_like(chosen), np.full(pairs, "", object))


def measure(directory: Path, repeats: int = 3) -> dict[str, float]:
    """Seconds (median) of a round over the ledger of round 0 in a directory, and megabytes that it takes at most."""
    pairs = len(Ledger.latest(directory, at_most=0) or ())
    rng = np.random.default_rng(1)
    wrong = rng.random(pairs) < NOISE
    scores, truth = make_scores(pairs, wrong), wrong.astype(np.int8)
    gc.collect()
    resident = resident_mb()  # the peak so far may lie above it; then the figure is an upper bound
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        before = Ledger.latest(directory, at_most=0)
        assert before is not None
        opened = before.decision != Decision.TRUSTED
        outcome = decide_round(
            before,
            begin_round(before, 1, "made", {}),
            SPEC,
            opened=opened,
            scores=lambda needed: scores,
            ask=lambda queue: _votes(truth[queue]),
            truth=np.where(opened, truth, -1).astype(np.int8),
        )
        outcome.ledger.write(directory)
        seconds.append(time.perf_counter() - start)
        del before, outcome
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - resident
    return {"round_{}_s": statistics.median(seconds), "round_{}_mb": peak}


def round_figures(pairs: int = MILLION) -> dict[str, float]:
    """Measures a round at a size.

    Returns:
        `round_1m_s` and `round_1m_mb` (or the number of pairs in the place of `1m`): seconds of a round without scoring and
        asking, and megabytes by which the process grows at most, scores left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        make_ledger(pairs).write(folder)
        command = [sys.executable, "-m", "mrm.curation_bench", folder]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    size = "1m" if pairs == MILLION else str(pairs)
    return {name.format(size): value for name, value in json.loads(output.splitlines()[-1]).items()}


def _votes(wrong: np.ndarray) -> Votes:
    """Annotators that are right nine times in ten; one answer in fifty is missing."""
    rng = np.random.default_rng(2)
    right = rng.random((len(wrong), VOTES)) < 0.9
    votes = np.where(right, 1 - wrong[:, None], wrong[:, None]).astype(np.float64)
    votes[rng.random(votes.shape) < 0.02] = np.nan
    return Votes(votes, [""] * len(wrong))


def _warm_up() -> None:
    """Imports and thread pools are there before the memory is measured."""
    with tempfile.TemporaryDirectory() as folder:
        make_ledger(1000).write(folder)
        measure(Path(folder), 1)


if __name__ == "__main__":
    _warm_up()
    print(json.dumps(measure(Path(sys.argv[1]))))
