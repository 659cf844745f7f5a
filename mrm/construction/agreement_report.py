"""What all decisions and scorings tell together: who agrees with whom, who is lenient, what is kept, how strong, how right.

Pure; the tables are shown by `construction_report.py`. Position bias needs the order that was shown: see `order.py`.
Dimension letters: S scorings (judge x mode x repeat), B bins.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from mrm.construction.agreement import KEPT, REASONS, PairDecision, Scored
from mrm.construction.style import PATTERNS


@dataclass(frozen=True)
class AgreementMatrix:
    """How often two scorings say the same of a pair: the same winner, or both a tie.

    Args:
        names: S of them, "judge listwise", "judge pointwise", "judge listwise 1" for a repeat.
        share: [S][S] in [0, 1]; NaN where no pair was scored by both.
        pairs: [S][S] pairs that both scored; [i][i]: that i scored.
        ties: [S] of these, pairs on which i sees a tie.
    """

    names: tuple[str, ...]
    share: tuple[tuple[float, ...], ...]
    pairs: tuple[tuple[int, ...], ...]
    ties: tuple[int, ...]


def agreement_matrix(decisions: Iterable[PairDecision]) -> AgreementMatrix:
    """The matrix over all votes, whatever was decided about their pair."""
    same: Counter[tuple[str, str]] = Counter()
    scored: Counter[tuple[str, str]] = Counter()
    ties: Counter[str] = Counter()
    ranks: dict[str, tuple[str, str, int]] = {}
    for decision in decisions:
        said = {}
        for vote in decision.votes:
            ranks[name := scoring_name(vote.judge, vote.mode, vote.repeat)] = (vote.judge, vote.mode, vote.repeat)
            if vote.sign is not None:
                said[name] = vote.sign
        for name, sign in said.items():
            scored[name, name] += 1
            same[name, name] += 1
            ties[name] += sign == 0
        for one, other in combinations(said, 2):
            for key in ((one, other), (other, one)):
                scored[key] += 1
                same[key] += said[one] == said[other]
    names = tuple(sorted(ranks, key=ranks.__getitem__))
    return AgreementMatrix(
        names,
        tuple(tuple(_ratio(same[a, b], scored[a, b]) for b in names) for a in names),
        tuple(tuple(scored[a, b] for b in names) for a in names),
        tuple(ties[name] for name in names),
    )


def scoring_name(judge: str, mode: str, repeat: int = 0) -> str:
    """What a scoring is called in tables."""
    return f"{judge} {mode}" + (f" {repeat}" if repeat else "")


@dataclass(frozen=True)
class JudgeBias:
    """How one judge uses the scale in one mode, over all its repeats.

    Args:
        judge, mode: who.
        scores: how many overall scores it gave.
        missing: how many it did not.
        mean: of its overall scores, 0 to 10; low is severe.
        spread: their standard deviation.
        leniency: mean of its score minus the mean of all scores of the same response; NaN where it is the only scoring.
        length_correlation: Pearson's, within records, of its score with log(1 + words) of the response; NaN where one
            does not vary. To be read beside those of other judges: longer answers may be better.
    """

    judge: str
    mode: str
    scores: int
    missing: int
    mean: float
    spread: float
    leniency: float
    length_correlation: float


def judge_bias(records: Iterable[tuple[Sequence[Scored], Sequence[str]]]) -> list[JudgeBias]:
    """The biases of every judge and mode, by name.

    Args:
        records: scorings and the K responses of each record.
    """
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    relative: dict[tuple[str, str], list[float]] = defaultdict(list)
    within: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    missing: Counter[tuple[str, str]] = Counter()
    for scorings, responses in records:
        lengths = [math.log1p(len(PATTERNS["words"].findall(text))) for text in responses]
        by_response = [[o for s in scorings if (o := s.overalls[i]) is not None] for i in range(len(responses))]
        for scored in scorings:
            who = (scored.judge, scored.mode)
            given = [(i, score) for i, score in enumerate(scored.overalls) if score is not None]
            missing[who] += len(scored.overalls) - len(given)
            scores[who].extend(score for _, score in given)
            relative[who].extend(
                score - float(np.mean(by_response[i])) for i, score in given if len(by_response[i]) > 1
            )
            if len(given) > 1:
                at = np.array([(lengths[i], score) for i, score in given])
                within[who].extend((at - at.mean(axis=0)).tolist())
    return [
        JudgeBias(
            *who,
            len(scores[who]),
            missing[who],
            _mean(scores[who]),
            float(np.std(scores[who])) if scores[who] else math.nan,
            _mean(relative[who]),
            _correlation(np.array(within[who]).reshape(-1, 2)),
        )
        for who in sorted(missing)
    ]


def count_reasons(decisions: Iterable[PairDecision]) -> dict[str, int]:
    """Pairs by reason, in the order of REASONS; only those that occur, "kept" always."""
    counts = Counter(decision.reason for decision in decisions)
    return {reason: counts[reason] for reason in REASONS if counts[reason] or reason == KEPT}


@dataclass(frozen=True)
class Histogram:
    """Counts between edges.

    Args:
        edges: B + 1, rising; the last bin includes its upper one.
        counts: B.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def strength_histogram(strengths: Sequence[float], bins: int = 20) -> Histogram:
    """How strong the kept pairs are, in bins of equal width over [0, 1]."""
    counts, edges = np.histogram(np.asarray(strengths, float), bins=bins, range=(0.0, 1.0))
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


@dataclass(frozen=True)
class TruthCheck:
    """How right pairs are where the truth is known.

    Args:
        pairs: those whose responses truly differ.
        wrong: of these, whose chosen response has more errors.
        wrong_share: in [0, 1]; NaN without pairs.
        equal: further pairs, whose responses have as many errors: neither right nor wrong.
        spearman: rank correlation of strength with the true difference of errors, wrong pairs counting negative, equal
            pairs 0; NaN where one does not vary.
    """

    pairs: int
    wrong: int
    wrong_share: float
    equal: int
    spearman: float


def check_truth(pairs: Iterable[tuple[float, float, float]]) -> TruthCheck:
    """The check.

    Args:
        pairs: (strength, errors of the chosen, errors of the rejected response) each.
    """
    rows = np.array(list(pairs), float).reshape(-1, 3)
    strength, gain = rows[:, 0], rows[:, 2] - rows[:, 1]
    differing, wrong = int((gain != 0).sum()), int((gain < 0).sum())
    return TruthCheck(differing, wrong, _ratio(wrong, differing), len(rows) - differing, spearman(strength, gain))


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's rank correlation in [-1, 1], ties at their mean rank; NaN where one does not vary."""
    return _correlation(np.stack([_ranks(np.asarray(a, float)), _ranks(np.asarray(b, float))], axis=1))


def _ranks(values: npt.NDArray) -> npt.NDArray:
    _, code, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[code]


def _correlation(points: npt.NDArray) -> float:
    """Pearson's of [N, 2] points."""
    if not len(points):
        return math.nan
    x, y = (points - points.mean(axis=0)).T
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip(x @ y / scale, -1, 1)) if scale > 1e-12 else math.nan


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
