"""From scores to pairs: the stages `agree` and `style`, and the samples that are written in the end.

What is decided about one pair stands in `agreement.py`, which pairs stay for the sake of style in `balance.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrm.construction.agreement import AgreementRule, PairDecision, Scored, agree
from mrm.construction.embedded import answers_in, errors_of
from mrm.construction.records import ImageStore, PromptRecord
from mrm.construction.stage_files import Left
from mrm.construction.style import FEATURES, style_features
from mrm.preference import Pair, PreferenceSample

ADDED = "construction"  # what a sample's meta has from here

Pairs = list[dict[str, Any]]  # {"chosen", "rejected", "strength"}


def agreed(
    record: PromptRecord, scorings: Sequence[Scored], judges: Sequence[str], rule: AgreementRule
) -> list[PairDecision]:
    """What is decided about each pair of a record's responses; `judges`: names of those who were asked."""
    texts = [response.text for response in record.responses]
    return agree(scorings, len(texts), rule, judges=judges, texts=texts)


def split(key: str, decisions: Sequence[PairDecision]) -> tuple[Pairs, list[Left]]:
    """The pairs that are agreed on, and the others with their reasons."""
    pairs: Pairs = []
    left = []
    for decision in decisions:
        if decision.chosen is None or decision.strength is None:
            left.append(Left(f"{key} {decision.first}-{decision.second}", decision.reason, ""))
        else:
            strength = round(decision.strength, 4)
            pairs.append({"chosen": decision.chosen, "rejected": decision.rejected, "strength": strength})
    return pairs, left


@dataclass(frozen=True, eq=False)
class PairTable:
    """All pairs of a construction, in the records' order.

    Dimension letters: P pairs, F features.

    Args:
        chosen, rejected: float64 [P, F] counts of style.
        group: int64 [P] number of each pair's record.
        key: P names "KEY chosen-rejected".
    """

    chosen: np.ndarray
    rejected: np.ndarray
    group: np.ndarray
    key: list[str]


def pair_table(records: Iterable[tuple[PromptRecord, Pairs]]) -> PairTable:
    """The style of every pair."""
    chosen, rejected, group, names = [], [], [], []
    for number, (record, pairs) in enumerate(records):
        features = [style_features(response.text) for response in record.responses] if pairs else []
        for pair in pairs:
            chosen.append(features[pair["chosen"]])
            rejected.append(features[pair["rejected"]])
            group.append(number)
            names.append(f"{record.key} {pair['chosen']}-{pair['rejected']}")
    shape = (len(names), len(FEATURES))
    return PairTable(np.reshape(chosen, shape), np.reshape(rejected, shape), np.array(group, np.int64), names)


def sample_of(record: PromptRecord, pairs: Pairs, images: ImageStore) -> PreferenceSample:
    """A record and its pairs as a preference sample, with where each response came from and how it looks.

    Raises:
        RecordError: if it breaks a rule of the record, or an image is gone.
    """
    used = sorted({pair[side] for pair in pairs for side in ("chosen", "rejected")})
    place = {number: place for place, number in enumerate(used)}
    responses = [record.responses[number] for number in used]
    made = tuple(Pair(place[pair["chosen"]], place[pair["rejected"]], pair["strength"]) for pair in pairs)
    meta = dict(record.meta)
    meta[ADDED] = {
        "models": [response.model for response in responses],
        "style": [dict(zip(FEATURES, map(int, style_features(response.text)), strict=True)) for response in responses],
        "reference": record.reference,
    }
    if answers_in(record.meta) is not None:  # of the embedded world, whose reports know what is true
        found = [errors_of(record.meta, response.text) or (0, "") for response in responses]
        errors, styles = [errors for errors, _ in found], [style for _, style in found]
        flipped = [errors[pair.chosen] >= errors[pair.rejected] for pair in made]
        meta["truth"] = {"errors": errors, "flipped": flipped, "styles": styles}
    return PreferenceSample(
        key=record.key,
        source=record.source,
        prompt=record.prompt,
        images=tuple(images.read(image) for image in record.images),
        responses=tuple(response.text for response in responses),
        pairs=made,
        meta=meta,
    )
