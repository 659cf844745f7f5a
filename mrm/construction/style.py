"""Style: what a response looks like, whatever it says; and whether that alone tells the winner.

Features are counts over one text. The probe is a logistic regression on how the features of chosen and rejected
responses differ, without a constant: it has no notion of a side, and swapping the sides of a pair mirrors all it says.
It finds what is linear in the (logarithmic) counts; "neither too long nor too short" escapes it. Pure functions.

Dimension letters: P pairs, F features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.S)
_INLINE = re.compile(r"`[^`\n]+`")
# English and Chinese together: an answer is not always in its question's language. A count of matches each.
PATTERNS = {
    # A Chinese character is a word of its own, as it is about one token.
    "words": re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:['’-][^\W_{_HAN}]+)*"),
    "headers": re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.M),
    "list_items": re.compile(r"^[ \t]*(?:[-*+•][ \t]+|\d{1,3}[.)][ \t]+|\d{1,3}、)(?=\S)", re.M),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
    "first_person": re.compile(r"\bI\b|\b(?:[Mm]y|[Mm]e|[Mm]ine|[Ww]e|[Oo]ur|us)\b|(?<!自)我|咱|本人"),
    "refusals": re.compile(
        r"\bI(?:['’]m| am) (?:very |really |so )?sorry\b|\bI apologi[sz]e\b|\bas an AI\b"
        r"|\bI (?:can(?:['’]t|not| not)|won['’]t|will not)\b|\b(?:not able|unable) to\b"
        r"|\bcannot (?:be determined|determine|tell|answer|assist|help|provide)\b"
        r"|抱歉|对不起|无法|不能(?:回答|提供|确定|判断|协助|帮助)|作为(?:一个|一名)?(?:AI|人工智能)",
        re.I,
    ),
}
FEATURES = ("characters", "words", "headers", "list_items", "bold", "code", "first_person", "refusals")
_Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


def style_features(text: str) -> Array:
    """float64 [F]: the counts named in `FEATURES`; `code` counts inline pieces and fenced blocks."""
    counts = {name: len(pattern.findall(text)) for name, pattern in PATTERNS.items()}
    outside, blocks = _BLOCK.subn("", text)
    counts["characters"] = len(text)
    counts["code"] = blocks + len(_INLINE.findall(outside))
    return np.array([counts[name] for name in FEATURES], np.float64)


def style_differences(chosen: Array, rejected: Array) -> Array:
    """[P, F]: log(1 + count) of the chosen minus that of the rejected response.

    The logarithm, since ten words more mean much beside five and nothing beside a thousand.

    Args:
        chosen, rejected: [P, F] counts.
    """
    return np.log1p(np.asarray(chosen, np.float64)) - np.log1p(np.asarray(rejected, np.float64))


@dataclass(frozen=True)
class FeatureBalance:
    """How one feature goes with winning.

    Args:
        feature: its name.
        chosen_mean, rejected_mean: mean counts.
        differing: pairs in which the two counts differ.
        more_wins: share of these whose chosen response has more, in [0, 1]; 0.5 is balanced, NaN without such pairs.
    """

    feature: str
    chosen_mean: float
    rejected_mean: float
    differing: int
    more_wins: float


def feature_balance(chosen: Array, rejected: Array, names: Sequence[str] = FEATURES) -> list[FeatureBalance]:
    """The balance of each feature.

    Args:
        chosen, rejected: [P, F] counts.
        names: F names.
    """
    table = []
    for name, c, r in zip(names, np.asarray(chosen).T, np.asarray(rejected).T, strict=True):
        differing = int((c != r).sum())
        more = float((c > r).sum() / differing) if differing else math.nan
        means = (float(c.mean()), float(r.mean())) if len(c) else (math.nan, math.nan)
        table.append(FeatureBalance(name, *means, differing, more))
    return table


@dataclass(frozen=True, eq=False)
class StyleModel:
    """A logistic regression on differences, without a constant: P(a wins over b) = sigmoid(margin(a - b)).

    Args:
        scale: [F] root mean square of each difference in training; 1 where it was always 0.
        weights: [F] of the scaled differences.
    """

    scale: Array
    weights: Array

    def margin(self, differences: Array) -> Array:
        """[P] log-odds that the first response of each pair wins, for [P, F] differences first minus second."""
        return (differences / self.scale) @ self.weights


def fit_style(differences: Array, *, l2: float = 1.0) -> StyleModel:
    """Fits the regression: minimises sum log(1 + exp(-margin)) + l2 / 2 * |weights|^2, by Newton's method.

    Args:
        differences: [P, F] of `style_differences`, chosen minus rejected.
        l2: > 0; keeps the weights finite where style separates the winners.
    """
    scale = np.sqrt(np.mean(np.square(differences), axis=0)) if len(differences) else np.zeros(differences.shape[1])
    scale = np.where(scale > 0, scale, 1.0)
    x = differences / scale
    weights = np.zeros(x.shape[1])
    for _ in range(100):
        miss = 0.5 - 0.5 * np.tanh(x @ weights / 2)  # sigmoid(-margin), without overflow
        gradient = x.T @ miss - l2 * weights
        hessian = (x * (miss * (1 - miss))[:, None]).T @ x + l2 * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        while _penalised(x, weights + step, l2) > _penalised(x, weights, l2) and np.abs(step).max() > 1e-10:
            step /= 2  # a full step can overshoot where the sigmoid is flat
        weights = weights + step
        if np.abs(step).max() <= 1e-10:
            break
    return StyleModel(scale, weights)


@dataclass(frozen=True)
class ProbeResult:
    """How well style alone tells the winner of pairs that the probe was not fitted on.

    Args:
        accuracy: in [0, 1]; a tie (no difference in style) is half right. 0.5 is chance; NaN with less than two groups.
        low, high: its 95 % interval; pairs of one group count as what they are, not as independent.
        pairs: P.
        groups: how many different ones.
        weights: by feature, of a fit on all pairs: the effect of a typical difference on the log-odds of winning.
    """

    accuracy: float
    low: float
    high: float
    pairs: int
    groups: int
    weights: dict[str, float]


def style_probe(
    differences: Array,
    groups: Array,
    *,
    folds: int = 5,
    seed: int = 0,
    l2: float = 1.0,
    names: Sequence[str] = FEATURES,
) -> ProbeResult:
    """Accuracy of the regression in cross-validation over groups.

    Args:
        differences: [P, F] of `style_differences`, chosen minus rejected.
        groups: [P] numbers; pairs of one prompt share one, and never stand on both sides of a split.
        folds: at least 2; as many as there are groups where those are fewer.
        seed: of the split.
        l2: as in `fit_style`.
        names: F names.
    """
    fold, code, n_groups = _folds(groups, folds, seed)
    weights = dict(zip(names, fit_style(differences, l2=l2).weights.tolist(), strict=True))
    if n_groups < 2:
        return ProbeResult(math.nan, math.nan, math.nan, len(differences), n_groups, weights)
    right = np.empty(len(differences))
    for number in range(int(fold.max()) + 1):
        held_out = fold == number
        margin = fit_style(differences[~held_out], l2=l2).margin(differences[held_out])
        right[held_out] = 0.5 + 0.5 * np.sign(margin)
    return ProbeResult(float(right.mean()), *accuracy_interval(right, code), len(right), n_groups, weights)


def accuracy_interval(right: Array, groups: Array) -> tuple[float, float]:
    """The 95 % interval (Wilson's) of a mean of values in [0, 1], with as many observations as the groups are worth.

    Their worth: the number that would give independent values the variance that the groups' sums have.

    Args:
        right: [P] in [0, 1].
        groups: [P] numbers from 0.
    """
    total = len(right)
    sizes = np.bincount(groups)
    counted = int((sizes > 0).sum())
    mean = float(np.mean(right))
    spread = mean * (1 - mean)
    residual = np.bincount(groups, right) - mean * sizes
    variance = counted / max(counted - 1, 1) * float(np.sum(np.square(residual))) / total**2
    # Where all groups agree, the variance says nothing, and each group counts once.
    worth = min(float(total), spread / variance) if variance > 1e-15 and spread > 0 else float(counted)
    center = (mean + _Z**2 / (2 * worth)) / (1 + _Z**2 / worth)
    half = _Z / (1 + _Z**2 / worth) * math.sqrt(spread / worth + _Z**2 / (4 * worth**2))
    return max(0.0, center - half), min(1.0, center + half)


def _folds(groups: Array, folds: int, seed: int) -> tuple[Array, Array, int]:
    """([P] fold of each pair, [P] its group from 0, number of groups): groups dealt out in random order."""
    if folds < 2:
        raise ValueError(f"folds={folds}: cross-validation needs at least 2.")
    _, code = np.unique(groups, return_inverse=True)
    n_groups = int(code.max()) + 1 if len(code) else 0
    dealt = np.random.default_rng(seed).permutation(n_groups) % min(folds, max(n_groups, 1))
    return dealt[code], code, n_groups


def _penalised(x: Array, weights: Array, l2: float) -> float:
    return float(np.logaddexp(0, -(x @ weights)).sum() + l2 / 2 * np.square(weights).sum())
