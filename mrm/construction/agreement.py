"""From scores to pairs: which response of two is better, how much, and why a pair is not kept.

A scoring votes on each pair of a record's responses by the sign of the difference of its overall scores. A judge names a
winner where all its scorings do, listwise and pointwise, and the same one. A rule between judges decides. Every other pair
has one reason. Pure: texts of answers are read by `scoring.py`, tables are made by `agreement_report.py`.

No scoring contradicts itself, but several of them outvoting each other may: i over j, j over k, k over i. Pairs that more
judges name stand; of those that as many judges name, all that close a circle with them go ("cycle").
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

from mrm.errors import ConfigError, RecordError, suggest

TOP_SCORE = 10.0
MODES = ("listwise", "pointwise")
MODE_RULES = ("both", "either", *MODES)
JUDGE_RULES = ("all", "majority", "any")
_EQUAL = 1e-9  # overall scores have two decimals; what is smaller is rounding

KEPT = "kept"
EQUAL_TEXTS = "equal texts"
MISSING = "score missing"
MODES_DISAGREE = "listwise and pointwise disagree"
REPEATS_DISAGREE = "repeats disagree"
TIE = "tie"
JUDGES_DISAGREE = "judges disagree"
CYCLE = "cycle"
FEW_VOTES = "too few votes"
SMALL = "below the least difference"
REASONS = (
    KEPT,
    EQUAL_TEXTS,
    MISSING,
    MODES_DISAGREE,
    REPEATS_DISAGREE,
    TIE,
    JUDGES_DISAGREE,
    CYCLE,
    FEW_VOTES,
    SMALL,
)


@dataclass(frozen=True)
class Scored:
    """One scoring of a record's responses.

    Args:
        judge: name of who scored.
        mode: "listwise" or "pointwise".
        repeat: 0, 1, ...
        overalls: overall score of each response, 0 to 10, in the record's own order; None where there is none.
        order: place -> response number, as it was shown; None where responses were shown one by one.
    """

    judge: str
    mode: str
    repeat: int
    overalls: tuple[float | None, ...]
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class AgreementRule:
    """When a pair is kept.

    Args:
        modes: "both": a judge needs listwise and pointwise scores; "either": whichever it has; "listwise" or "pointwise":
            that alone, the other is not looked at.
        judges: "all": every judge names the winner; "majority": more than half of them; "any": more judges name it than
            the other. A judge that names none counts as one of them all the same.
        least_difference: of overall scores, 0 to 10, on average over the agreeing scorings.
        least_votes: agreeing scorings, at least.

    Raises:
        ConfigError: for an unknown rule or a number out of range; names all problems.
    """

    modes: str = "both"
    judges: str = "all"
    least_difference: float = 0.0
    least_votes: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"{name}={value!r}: known are {', '.join(known)}.{suggest(value, known)}"
            for name, value, known in (("modes", self.modes, MODE_RULES), ("judges", self.judges, JUDGE_RULES))
            if value not in known
        ]
        if not 0 <= self.least_difference <= TOP_SCORE:
            problems.append(f"least_difference={self.least_difference}: must be in [0, 10], the scale of the scores.")
        if self.least_votes < 1:
            problems.append(f"least_votes={self.least_votes}: must be at least 1.")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True)
class Vote:
    """What one scoring says of a pair.

    Args:
        judge, mode, repeat: of the scoring.
        difference: overall score of the first response minus that of the second; None where one is missing.
    """

    judge: str
    mode: str
    repeat: int
    difference: float | None

    @property
    def sign(self) -> int | None:
        """1 for the first response, -1 for the second, 0 for a tie, None where a score is missing."""
        if self.difference is None:
            return None
        return 0 if abs(self.difference) < _EQUAL else int(math.copysign(1, self.difference))


@dataclass(frozen=True)
class PairDecision:
    """What was decided about two responses of a record.

    Args:
        first, second: their numbers, first < second.
        chosen, rejected: the same numbers by rank; None where the pair is not kept.
        strength: mean difference of the agreeing scorings / 10, in [0, 1]; None where the pair is not kept.
        reason: one of REASONS.
        votes: of all scorings, also those the rule does not look at, by judge, mode and repeat.
    """

    first: int
    second: int
    chosen: int | None
    rejected: int | None
    strength: float | None
    reason: str
    votes: tuple[Vote, ...]


@dataclass(frozen=True)
class _Named:
    """A pair whose winner the judges name, before cycles and the least numbers are looked at."""

    sign: int
    judges: int
    differences: tuple[float, ...]


def agree(
    scorings: Sequence[Scored],
    n_responses: int,
    rule: AgreementRule,
    *,
    judges: Iterable[str] | None = None,
    texts: Sequence[str] | None = None,
) -> list[PairDecision]:
    """Decides about every pair of a record's responses.

    Args:
        scorings: all that there are of the record, in any order.
        n_responses: K.
        rule: when a pair is kept.
        judges: names of those who should have scored; those who did where it is None.
        texts: the K responses; two that are equal make no pair.

    Returns:
        K (K - 1) / 2 decisions, by first and second.

    Raises:
        RecordError: for a scoring that is there twice, has not K scores, or a score outside [0, 10].
    """
    _check(scorings, n_responses, texts)
    expected = sorted({scored.judge for scored in scorings} | set(judges or ()))
    ordered = sorted(scorings, key=lambda scored: (scored.judge, scored.mode, scored.repeat))
    votes = {pair: tuple(_vote(s, *pair) for s in ordered) for pair in combinations(range(n_responses), 2)}
    found: dict[tuple[int, int], _Named | str] = {
        pair: EQUAL_TEXTS if texts is not None and texts[pair[0]] == texts[pair[1]] else _settle(cast, expected, rule)
        for pair, cast in votes.items()
    }
    circular = _cycles({pair: named for pair, named in found.items() if isinstance(named, _Named)})
    return [_decide(pair, found[pair], votes[pair], pair in circular, rule) for pair in votes]


def _vote(scored: Scored, first: int, second: int) -> Vote:
    a, b = scored.overalls[first], scored.overalls[second]
    return Vote(scored.judge, scored.mode, scored.repeat, None if a is None or b is None else a - b)


def _settle(votes: Sequence[Vote], judges: Sequence[str], rule: AgreementRule) -> _Named | str:
    """The winner that the judges name, or the reason why there is none."""
    looked_at = {judge: [v for v in votes if v.judge == judge and _counts(v.mode, rule)] for judge in judges}
    opinions = {judge: _opinion(cast, rule) for judge, cast in looked_at.items()}
    named = [opinion for opinion in opinions.values() if isinstance(opinion, int)]
    ahead, behind = max(named.count(1), named.count(-1)), min(named.count(1), named.count(-1))
    if not _suffices(ahead, behind, len(judges), rule):
        if behind:
            return JUDGES_DISAGREE
        return min((o for o in opinions.values() if isinstance(o, str)), key=REASONS.index, default=MISSING)
    sign = 1 if named.count(1) > named.count(-1) else -1
    agreeing = [vote for judge, opinion in opinions.items() if opinion == sign for vote in looked_at[judge]]
    return _Named(sign, ahead, tuple(abs(v.difference) for v in agreeing if v.difference is not None))


def _counts(mode: str, rule: AgreementRule) -> bool:
    return rule.modes not in MODES or mode == rule.modes


def _opinion(votes: Sequence[Vote], rule: AgreementRule) -> int | str:
    """The sign of one judge's winner, or the reason why it names none."""
    signs = {mode: {vote.sign for vote in votes if vote.mode == mode} for mode in MODES}
    if rule.modes == "either":  # what there is: a mode that brought no score is none
        signs = {mode: found - {None} for mode, found in signs.items()}
    every = set().union(*signs.values())
    needed = MODES if rule.modes == "both" else ()
    if not every or None in every or any(not signs[mode] for mode in needed):
        return MISSING
    if {1, -1} <= every:
        return REPEATS_DISAGREE if any({1, -1} <= of_mode for of_mode in signs.values()) else MODES_DISAGREE
    if 0 in every:
        return TIE
    return 1 if 1 in every else -1


def _suffices(ahead: int, behind: int, judges: int, rule: AgreementRule) -> bool:
    if rule.judges == "all":
        return 0 < ahead == judges
    return 2 * ahead > judges if rule.judges == "majority" else ahead > behind


def _cycles(named: dict[tuple[int, int], _Named]) -> set[tuple[int, int]]:
    """The pairs that close a circle with pairs that as many judges or more name.

    From the most judges downwards, so that what fewer of them name never costs what more of them do.
    """
    edges = {pair: pair if n.sign > 0 else pair[::-1] for pair, n in named.items()}
    below: dict[int, set[int]] = defaultdict(set)
    circular = set()
    ranked = sorted(named, key=lambda pair: -named[pair].judges)
    for _, level in groupby(ranked, key=lambda pair: named[pair].judges):
        added = [edges[pair] for pair in level]
        for winner, loser in added:
            below[winner].add(loser)
        closing = [(winner, loser) for winner, loser in added if winner in _reached(loser, below)]
        for winner, loser in closing:
            below[winner].discard(loser)
            circular.add((min(winner, loser), max(winner, loser)))
    return circular


def _reached(start: int, below: dict[int, set[int]]) -> set[int]:
    reached, waiting = {start}, [start]
    while waiting:
        new = below[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached


def _decide(
    pair: tuple[int, int], found: _Named | str, votes: tuple[Vote, ...], circular: bool, rule: AgreementRule
) -> PairDecision:
    if isinstance(found, str):
        return PairDecision(*pair, None, None, None, found, votes)
    mean = math.fsum(found.differences) / len(found.differences)
    if circular:
        reason = CYCLE
    elif len(found.differences) < rule.least_votes:
        reason = FEW_VOTES
    elif mean < rule.least_difference - _EQUAL:
        reason = SMALL
    else:
        chosen, rejected = pair if found.sign > 0 else pair[::-1]
        return PairDecision(*pair, chosen, rejected, min(1.0, mean / TOP_SCORE), KEPT, votes)
    return PairDecision(*pair, None, None, None, reason, votes)


def _check(scorings: Sequence[Scored], n_responses: int, texts: Sequence[str] | None) -> None:
    if texts is not None and len(texts) != n_responses:
        raise RecordError("malformed scoring", f"{len(texts)} texts for {n_responses} responses; give one each.")
    seen = set()
    for scored in scorings:
        name = f"scoring of judge {scored.judge!r}, {scored.mode}, repeat {scored.repeat}"
        if scored.mode not in MODES:
            raise RecordError("malformed scoring", f"{name}: the mode must be one of {', '.join(MODES)}.")
        if (scored.judge, scored.mode, scored.repeat) in seen:
            raise RecordError("malformed scoring", f"{name}: is there twice; give each its own repeat.")
        seen.add((scored.judge, scored.mode, scored.repeat))
        if len(scored.overalls) != n_responses:
            raise RecordError(
                "malformed scoring", f"{name}: has {len(scored.overalls)} scores for {n_responses} responses."
            )
        if wrong := [score for score in scored.overalls if score is not None and not 0 <= score <= TOP_SCORE]:
            raise RecordError("malformed scoring", f"{name}: score {wrong[0]} is not in [0, 10].")
