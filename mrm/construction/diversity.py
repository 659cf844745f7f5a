"""How different a prompt's responses are, in words and in meaning; and which of many differ most.

Words are those of the style features, in small letters: a Chinese character is a word of its own. Only the first WORD_LIMIT
words of a text are looked at, so that no text costs more than its share. What a text means is told by an embedding model
that the caller brings. Pure functions.

Dimension letters: K responses, D numbers of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from mrm.construction.style import PATTERNS

WORD_LIMIT = 4096
Array = npt.NDArray[np.float64]
Embed = Callable[[Sequence[str]], npt.ArrayLike]  # K texts -> [K, D]


def words(text: str) -> list[str]:
    """The text's words in small letters, at most WORD_LIMIT."""
    return [match.group().lower() for match in islice(PATTERNS["words"].finditer(text), WORD_LIMIT)]


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Share of different word n-grams among all of them (Li et al. 2016, arXiv 1510.03055); NaN without any.

    Args:
        texts: K of them, taken together; n-grams do not cross from one to the next.
        n: words, at least 1.
    """
    grams = [gram for text in texts for gram in _grams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def lexical_distances(texts: Sequence[str]) -> Array:
    """[K, K] 1 minus Jaccard's index of the texts' sets of words: 0 for the same words, 1 without a common one."""
    sets = [frozenset(words(text)) for text in texts]
    distances = np.zeros((len(sets), len(sets)))
    for i, one in enumerate(sets):
        for j in range(i):
            union = len(one | sets[j])
            distances[i, j] = distances[j, i] = 1 - len(one & sets[j]) / union if union else 0.0
    return distances


def semantic_distances(texts: Sequence[str], embed: Embed) -> Array:
    """[K, K] 1 minus the cosine of the texts' embeddings, in [0, 2]; 1 from an embedding of zeros.

    Raises:
        ValueError: where the embeddings are not K rows of finite numbers.
    """
    vectors = np.asarray(embed(texts), np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise ValueError(
            f"embed gave an array of shape {vectors.shape} for {len(texts)} texts; it must be [{len(texts)}, D] and finite."
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)
    distances = np.clip(1 - unit @ unit.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return distances


@dataclass(frozen=True)
class Diversity:
    """How different responses are; of one prompt, or on average over prompts.

    Args:
        distinct_1, distinct_2: shares of different words and pairs of words, in [0, 1].
        lexical: mean over pairs of `lexical_distances`, in [0, 1].
        semantic: mean over pairs of `semantic_distances`, in [0, 2]; NaN without an embedding model.
        prompts: how many.
    """

    distinct_1: float
    distinct_2: float
    lexical: float
    semantic: float
    prompts: int = 1


def diversity(responses: Sequence[str], embed: Embed | None = None) -> Diversity:
    """The diversity of one prompt's responses; distances are NaN with less than two."""
    return Diversity(
        distinct_n(responses, 1),
        distinct_n(responses, 2),
        _mean_pair(lexical_distances(responses)),
        _mean_pair(semantic_distances(responses, embed)) if embed is not None and len(responses) > 1 else math.nan,
    )


def mean_diversity(found: Iterable[Diversity]) -> Diversity:
    """The mean over prompts, of each figure over those where it is known."""
    rows = list(found)
    return Diversity(
        _mean_known([row.distinct_1 for row in rows]),
        _mean_known([row.distinct_2 for row in rows]),
        _mean_known([row.lexical for row in rows]),
        _mean_known([row.semantic for row in rows]),
        sum(row.prompts for row in rows),
    )


def most_diverse(responses: Sequence[str], k: int, *, embed: Embed | None = None) -> list[int]:
    """The numbers of k responses that differ most, in rising order; all where there are no more than k.

    Greedy: the two that are farthest apart, then always the one whose nearest of those chosen is farthest. At least half
    as good as the best choice (Ravi et al. 1994). Of equals, the text that is first by its characters, then the first.

    Args:
        responses: the texts.
        k: at least 1; of one, the text with the largest mean distance to all others is chosen.
        embed: distances are those of meaning where it is given, else of words.

    Raises:
        ValueError: for k below 1.
    """
    if k < 1:
        raise ValueError(f"k={k}: at least one response must stay.")
    if k >= len(responses):
        return list(range(len(responses)))
    # Looked at in the order of the texts, so that the choice does not depend on their places.
    places = sorted(range(len(responses)), key=lambda i: (responses[i], i))
    texts = [responses[i] for i in places]
    distances = np.round(semantic_distances(texts, embed) if embed is not None else lexical_distances(texts), 12)
    if k == 1:
        return [places[int(distances.sum(axis=1).argmax())]]
    chosen = [int(i) for i in np.unravel_index(distances.argmax(), distances.shape)]
    if chosen[0] == chosen[1]:  # all are the same
        return sorted(places[:k])
    while len(chosen) < k:
        nearest = distances[chosen].min(axis=0)
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return sorted(places[i] for i in chosen)


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ValueError(f"n={n}: an n-gram has at least one word.")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _mean_pair(distances: Array) -> float:
    k = len(distances)
    return float(distances.sum() / (k * (k - 1))) if k > 1 else math.nan


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
