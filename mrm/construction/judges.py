"""Judges that compare two responses: the interface, and a judge of settable quality for the embedded world.

A judge sees both responses in a shown order and names the better one. Whoever asks shows both orders, because real judges
favour a position. Counting the votes is left to `mrm.curation.policy.vote`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mrm.construction.draws import uniform
from mrm.errors import ConfigError, CurationError
from mrm.preference import PreferenceSample

Query = tuple[int, int]


@runtime_checkable
class Annotator(Protocol):
    """Anything that judges pairs of responses. `name` is unique among the judges of a run."""

    name: str

    def votes(self, sample: PreferenceSample, queries: Sequence[Query]) -> list[float | None]:
        """Judges pairs of one sample's responses.

        Args:
            sample: prompt, images and responses.
            queries: (first, second) response numbers, in the order in which they are shown.

        Returns:
            One answer a query: the share of the vote for the first response shown (1, 0, or 0.5 for a tie); None for no answer.
        """
        ...


@dataclass(frozen=True)
class ShapeWorldJudge:
    """A judge that knows the true number of errors and reports it with a settable reliability.

    Its opinion of a pair is one draw, the same in both orders; a position-biased answer names the first response whatever
    it is. All randomness is a hash of (seed, name, content), so that asking again, in any order and on any rank, gives the same answer.

    Args:
        name: its name; two judges of one seed err independently if their names differ.
        accuracy: probability that its opinion is right, in [0, 1].
        seed: seed of its errors.
        position_bias: probability, an order, that it just names the first response shown, in [0, 1].
    """

    name: str
    accuracy: float = 0.9
    seed: int = 0
    position_bias: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"{field}={value!r}"
            for field, value in (("accuracy", self.accuracy), ("position_bias", self.position_bias))
            if not 0 <= value <= 1
        ]
        if problems:
            raise ConfigError(f"judge {self.name!r}: {', '.join(problems)} must be in [0, 1].")

    def votes(self, sample: PreferenceSample, queries: Sequence[Query]) -> list[float | None]:
        """See `Annotator.votes`.

        Raises:
            CurationError: if the sample carries no `meta["truth"]["errors"]` for its responses.
        """
        errors = _true_errors(self.name, sample)
        return [self._vote(sample, errors, first, second) for first, second in queries]

    def _vote(self, sample: PreferenceSample, errors: Sequence[float], first: int, second: int) -> float:
        texts = (sample.responses[first], sample.responses[second])
        if self._draw("position", sample.key, texts) < self.position_bias:
            return 1.0
        if errors[first] == errors[second]:
            return 0.5
        right = self._draw("opinion", sample.key, sorted(texts)) < self.accuracy
        return float((errors[first] < errors[second]) == right)

    def _draw(self, *parts: object) -> float:
        return uniform(self.seed, self.name, *parts)


def _true_errors(judge: str, sample: PreferenceSample) -> Sequence[float]:
    truth = sample.meta.get("truth")
    errors = truth.get("errors") if isinstance(truth, dict) else None
    if not isinstance(errors, list) or len(errors) != len(sample.responses):
        raise CurationError(
            f'judge {judge!r}: sample {sample.key!r} has no meta["truth"]["errors"] with one count for each of its {len(sample.responses)} '
            "responses; ShapeWorldJudge judges ShapeWorld data only. Give the run annotators that fit its data, or leave out the `annotate` step."
        )
    return errors
