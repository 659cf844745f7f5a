"""A saved model run over the pairs that `mrm.diagnose` looks at: as they are, and with their images changed.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from datamodules.pair_pools import PairPool
from mrm.diagnose_scores import GIVEN, OTHERS, REMOVED, SWAPPED, Bad, Rewards, Rows, readable
from mrm.errors import RecordError
from mrm.evaluation.variants import with_images_swapped, with_others_images, without_images
from mrm.model.encoding import EncodedSample, Encoder
from mrm.model.packing import check_fits
from mrm.model.reward_model import RewardModel
from mrm.preference import PreferenceSample
from mrm.score import score_batch

CHUNK = 256  # samples among which images are dealt out
NOT_FINITE = "reward not finite"
NO_OTHER = "no other sample with as many images"
# What the changed ones are, for people.
CHANGED = {REMOVED: "images removed", OTHERS: "another sample's images", SWAPPED: "images swapped"}


@dataclass(frozen=True)
class ModelScorer:
    """Scores samples with a model, as given and with changed images.

    Args:
        model, encoder: in evaluation mode, on the device.
        device: where the model is.
        batch_size: samples at a time. row_tokens: see `mrm.model.packing.collate`.
        images: whether to score the changed ones too.
        seed: of the dealing of images.
    """

    model: RewardModel
    encoder: Encoder
    device: torch.device
    batch_size: int
    row_tokens: int | None
    images: bool
    seed: int

    def score(
        self, numbered: Sequence[tuple[int, PreferenceSample]], bad: Bad, lost: Mapping[str, Bad]
    ) -> Iterator[tuple[int, PreferenceSample, dict[str, Rewards]]]:
        """(number, sample, variant -> rewards of its responses) of each that can be scored as given; others are noted.

        A variant that cannot be scored, or whose rewards are not finite, is left out of the sample's, and noted among the
        lost of its name; so is one that there is not, for want of another sample with as many images.
        """
        samples = [sample for _, sample in numbered]
        made: list[dict[str, PreferenceSample | None]] = [{GIVEN: sample} for sample in samples]
        if self.images:
            others = with_others_images(samples, self.seed)
            for own, sample, other in zip(made, samples, others, strict=True):
                own |= {REMOVED: without_images(sample), OTHERS: other, SWAPPED: with_images_swapped(sample)}
        work: list[tuple[int, str, PreferenceSample, EncodedSample]] = []
        failed: dict[tuple[int, str], tuple[str, str]] = {}  # place, variant -> reason and detail
        for place, own in enumerate(made):
            for name, variant in own.items():
                if variant is None:
                    if name == OTHERS and samples[place].images:
                        failed[place, name] = (
                            NO_OTHER,
                            f"none of the {len(samples)} samples that images are dealt among",
                        )
                    continue
                try:
                    encoded = self.encoder.encode(variant)
                    check_fits(encoded, self.row_tokens, self.model.layout)
                except RecordError as error:
                    if name == GIVEN:
                        bad.note(numbered[place][0], variant.key, error.reason, str(error))
                        break
                    failed[place, name] = error.reason, str(error)
                    continue
                work.append((place, name, variant, encoded))
        found: dict[int, dict[str, Rewards]] = {}
        for start in range(0, len(work), self.batch_size):
            batch = work[start : start + self.batch_size]
            items = [(sample, encoded) for _, _, sample, encoded in batch]
            lines = score_batch(self.model, self.encoder, items, row_tokens=self.row_tokens, device=self.device)
            for (place, name, _, _), line in zip(batch, lines, strict=True):
                if all(map(math.isfinite, line["rewards"])):
                    found.setdefault(place, {})[name] = line["rewards"]
                else:
                    failed[place, name] = NOT_FINITE, "the model has diverged, or dtype is too narrow for it"
        for place in sorted({place for place, *_ in work}):
            number, given = numbered[place]
            if GIVEN not in found.get(place, {}):
                bad.note(number, given.key, *failed[place, GIVEN])
                continue
            for name in made[place]:
                if (place, name) in failed:
                    lost[name].note(number, given.key, *failed[place, name])
            yield number, given, found[place]


def scored_by_model(
    pools: Sequence[PairPool], scorer: ModelScorer, bad: Bad, lost: Mapping[str, Bad], *, progress: bool
) -> Rows:
    """The pairs of all pools, scored by a model. What cannot be used is noted, and of what can, lost variants.

    Args:
        pools: of the pairs. scorer: the model.
        bad: gets the samples that cannot be used. lost: variant -> gets those that cannot be scored so.
        progress: whether a bar shows how far it is.
    """
    rows, first = Rows(), 0
    for pool in pools:
        for chunk in _chunks(readable(pool, pool.samples, first, bad, progress)):
            for number, sample, found in scorer.score(chunk, bad, lost):
                rows.add(sample, number, found)
        first += len(pool)
    return rows


def _chunks(items: Iterator[tuple[int, PreferenceSample]]) -> Iterator[list[tuple[int, PreferenceSample]]]:
    while chunk := list(itertools.islice(items, CHUNK)):
        yield chunk
