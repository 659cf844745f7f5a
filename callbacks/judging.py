"""Shows queued pairs to the judges, each pair in both orders, and collects the votes. Counting them is the policy's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from datamodules.index import Index
from datamodules.reading import read_sample
from mrm.construction.judges import Annotator
from mrm.curation.policy import VOTE_VALUES
from mrm.errors import CurationError, RecordError, ShardError
from mrm.preference import PreferenceSample

log = logging.getLogger(__name__)


def ask_judges(
    annotators: Sequence[Annotator], index: Index, queue: np.ndarray, *, progress: bool
) -> tuple[np.ndarray, list[str]]:
    """Asks every judge about every queued pair in both orders.

    Args:
        annotators: J judges.
        index: where the samples lie.
        queue: int64[Q], rising numbers of pairs in the index.
        progress: whether to show a progress bar.

    Returns:
        float64[Q, 2J], each vote's share for the published choice, NaN where no answer came; and Q texts, why a pair
        could not be shown, "" where it could.

    Raises:
        CurationError: if a judge gives another number of answers than there were questions.
    """
    votes, unreadable = np.full((len(queue), 2 * len(annotators)), np.nan), [""] * len(queue)
    samples, starts = np.unique(index.pair_sample[queue], return_index=True)  # the pairs of a sample stand side by side
    places_of = np.split(np.arange(len(queue)), starts[1:]) if len(samples) else []
    asked = zip(samples.tolist(), places_of, strict=True)
    for row, places in track(asked, "Asking the judges", total=len(samples), transient=True, disable=not progress):
        try:
            sample = read_sample(index, row)
        except (RecordError, ShardError) as error:
            log.warning("not shown to the judges: %s", error)
            for place in places:
                unreadable[place] = getattr(error, "reason", "the sample cannot be read")
            continue
        pairs = [(int(index.pair_chosen[pair]), int(index.pair_rejected[pair])) for pair in queue[places]]
        for j, annotator in enumerate(annotators):
            votes[places, 2 * j : 2 * j + 2] = _both_orders(annotator, sample, pairs)
    return votes, unreadable


def _both_orders(annotator: Annotator, sample: PreferenceSample, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """float64[pairs, 2]: shares for the published choice when it is shown first, and when it is shown second."""
    queries = [query for chosen, rejected in pairs for query in ((chosen, rejected), (rejected, chosen))]
    answers = annotator.votes(sample, queries)
    if len(answers) != len(queries):
        raise CurationError(
            f"judge {annotator.name!r}: {len(answers)} answers to {len(queries)} questions about sample {sample.key!r}; it must "
            "give one answer a question, None where it has none."
        )
    wrong = [answer for answer in answers if answer is not None and answer not in VOTE_VALUES]
    if wrong:
        raise CurationError(
            f"judge {annotator.name!r}: answer {wrong[0]!r} about sample {sample.key!r} is none of 0, 0.5, 1, None."
        )
    shares = np.array([np.nan if answer is None else answer for answer in answers], np.float64).reshape(-1, 2)
    shares[:, 1] = 1 - shares[:, 1]
    return shares
