"""Diversity of responses, counted by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.diversity import (
    WORD_LIMIT,
    Diversity,
    distinct_n,
    diversity,
    lexical_distances,
    mean_diversity,
    most_diverse,
    semantic_distances,
)

TEXTS = st.lists(st.text("abc 猫", max_size=12), max_size=6)


def test_distinct_n_by_hand():
    # a b a | a c: words a b a a c, three of five; pairs ab ba ac, all different.
    assert distinct_n(["A b a", "a c"], 1) == pytest.approx(3 / 5)
    assert distinct_n(["A b a", "a c"], 2) == 1.0
    assert distinct_n(["a b", "a b"], 2) == 0.5


def test_distinct_n_chinese_counts_characters():
    assert distinct_n(["猫和猫"], 1) == pytest.approx(2 / 3)


def test_distinct_n_without_words_is_unknown():
    assert math.isnan(distinct_n(["!", ""], 1)) and math.isnan(distinct_n(["word"], 2))


def test_distinct_n_refuses_zero():
    with pytest.raises(ValueError, match="n=0"):
        distinct_n(["a"], 0)


def test_lexical_distances_by_hand():
    # {a b} and {b c d}: one of four in common.
    assert lexical_distances(["a b", "B c d", "e"]).tolist() == [[0, 0.75, 1], [0.75, 0, 1], [1, 1, 0]]
    assert lexical_distances(["", "!"]).tolist() == [[0, 0], [0, 0]]


def test_lexical_distances_look_at_the_first_words_only():
    start = "a " * WORD_LIMIT
    assert lexical_distances([start + "b", start + "c"])[0, 1] == 0


def test_semantic_distances_by_hand():
    vectors = {"x": [2.0, 0.0], "y": [0.0, 1.0], "-x": [-1.0, 0.0], "0": [0.0, 0.0]}
    distances = semantic_distances(list(vectors), lambda texts: [vectors[text] for text in texts])
    assert distances.tolist() == [[0, 1, 2, 1], [1, 0, 1, 1], [2, 1, 0, 1], [1, 1, 1, 0]]


@pytest.mark.parametrize("made", [[[1.0]], [1.0, 2.0], [[1.0], [math.nan]]])
def test_semantic_distances_of_wrong_embeddings_are_refused(made):
    with pytest.raises(ValueError, match="for 2 texts"):
        semantic_distances(["a", "b"], lambda texts: made)


def test_diversity_by_hand():
    found = diversity(["a b", "b c d"], lambda texts: [[1, 0], [0, 1]])
    assert (found.distinct_1, found.distinct_2, found.lexical, found.semantic) == (4 / 5, 1.0, 0.75, 1.0)


def test_diversity_of_one_response_has_no_distance():
    found = diversity(["a b"], lambda texts: [[1.0]])
    assert found.distinct_1 == 1.0 and math.isnan(found.lexical) and math.isnan(found.semantic)


def test_mean_diversity_leaves_out_what_is_unknown():
    mean = mean_diversity([Diversity(0.5, math.nan, 0.2, math.nan), Diversity(1.0, 0.4, 0.4, math.nan)])
    assert (mean.distinct_1, mean.distinct_2, mean.prompts) == (0.75, 0.4, 2)
    assert mean.lexical == pytest.approx(0.3) and math.isnan(mean.semantic)


def test_most_diverse_takes_the_farthest_and_then_the_farthest_from_those():
    responses = ["a b c", "a b d", "x y z", "x y c b", "a b c d"]
    # Farthest apart, at 1: "a b c" and "x y z" first of several; then "a b d" (1/2 from "a b c", 1 from "x y z"),
    # "x y c b" (3/5 and 3/5), "a b c d" (1/4): the nearest is farthest for "x y c b".
    assert most_diverse(responses, 2) == [0, 2]
    assert most_diverse(responses, 3) == [0, 2, 3]


def test_most_diverse_of_one_is_the_farthest_from_all():
    assert most_diverse(["a b", "a c", "z"], 1) == [2]


def test_most_diverse_by_meaning_asks_the_embedding():
    vectors = {"a b": [1.0, 0.0], "a c": [-1.0, 0.0], "x y": [1.0, 0.1]}
    assert most_diverse(list(vectors), 2, embed=lambda texts: [vectors[t] for t in texts]) == [0, 1]


def test_most_diverse_of_copies_and_of_few_gives_the_number_asked_for():
    assert most_diverse(["a", "a", "a"], 2) == [0, 1]
    assert most_diverse(["a", "b"], 5) == [0, 1]
    with pytest.raises(ValueError, match="k=0"):
        most_diverse(["a"], 0)


@given(TEXTS)
def test_lexical_distances_are_a_symmetric_table_in_range(texts):
    distances = lexical_distances(texts)
    assert (distances == distances.T).all() and (np.diag(distances) == 0).all()
    assert ((0 <= distances) & (distances <= 1)).all()


@given(TEXTS, st.integers(1, 6), st.randoms())
def test_most_diverse_chooses_the_same_texts_in_any_order(texts, k, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    chosen = sorted(texts[i] for i in most_diverse(texts, k))
    assert sorted([texts[i] for i in order][j] for j in most_diverse([texts[i] for i in order], k)) == chosen
    assert len(chosen) == min(k, len(texts))


@given(st.lists(st.text("abcdef ", max_size=12), min_size=4, max_size=6), st.integers(2, 3))
def test_most_diverse_is_at_least_half_as_good_as_the_best(texts, k):
    distances = lexical_distances(texts)

    def least(chosen):
        return min(distances[i, j] for i, j in combinations(chosen, 2))

    assert least(most_diverse(texts, k)) >= max(map(least, combinations(range(len(texts)), k))) / 2 - 1e-9
