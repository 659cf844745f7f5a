"""Tables over decisions and scorings, counted by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.agreement import AgreementRule, Scored, agree
from mrm.construction.agreement_report import (
    agreement_matrix,
    check_truth,
    count_reasons,
    judge_bias,
    spearman,
    strength_histogram,
)


def decisions(*records, modes="both"):
    return [d for scorings in records for d in agree(scorings, len(scorings[0].overalls), AgreementRule(modes=modes))]


def scored(judge, mode, *overalls, repeat=0):
    return Scored(judge, mode, repeat, overalls)


def test_agreement_matrix_counts_same_winners_and_same_ties():
    records = [
        [scored("a", "listwise", 1.0, 2.0), scored("a", "pointwise", 1.0, 3.0), scored("b", "listwise", 5.0, 5.0)],
        [scored("a", "listwise", 2.0, 2.0), scored("a", "pointwise", 4.0, 3.0), scored("b", "listwise", 5.0, 5.0)],
        [scored("a", "listwise", 2.0, 1.0), scored("a", "pointwise", 4.0, None), scored("b", "listwise", 9.0, 5.0)],
    ]
    matrix = agreement_matrix(decisions(*records))
    assert matrix.names == ("a listwise", "a pointwise", "b listwise")
    assert matrix.pairs == ((3, 2, 3), (2, 2, 2), (3, 2, 3))
    assert matrix.share[0] == pytest.approx((1, 1 / 2, 2 / 3))
    assert matrix.share[1] == pytest.approx((1 / 2, 1, 0))
    assert matrix.ties == (1, 0, 2)
    assert all(matrix.share[i][j] == matrix.share[j][i] for i in range(3) for j in range(3))


def test_agreement_matrix_of_scorings_without_a_common_pair_is_unknown():
    matrix = agreement_matrix(decisions([scored("a", "listwise", 1.0, 2.0)], [scored("b", "listwise", 1.0, 2.0)]))
    assert math.isnan(matrix.share[0][1]) and matrix.pairs[0][1] == 0


def test_agreement_matrix_names_repeats():
    records = [[scored("a", "listwise", 1.0, 2.0), scored("a", "listwise", 2.0, 1.0, repeat=1)]]
    matrix = agreement_matrix(decisions(*records))
    assert matrix.names == ("a listwise", "a listwise 1") and matrix.share[0][1] == 0


def test_judge_bias_by_hand():
    # Of three and seven words, log(1 + words) is log 4 and log 8; b scores the longer one lower in one record of two.
    responses = ["a b c", "a b c d e f g"]
    records = [
        ([scored("a", "listwise", 4.0, 6.0), scored("b", "listwise", 2.0, 2.0)], responses),
        ([scored("a", "listwise", 6.0, 8.0), scored("b", "listwise", 4.0, None)], responses),
    ]
    a, b = judge_bias(records)
    assert (a.judge, a.scores, a.missing, a.mean) == ("a", 4, 0, 6.0)
    assert a.spread == pytest.approx(math.sqrt(2))
    # a minus the mean of both: 4 - 3, 6 - 4, 6 - 5; its 8 stands alone.
    assert a.leniency == pytest.approx(4 / 3) and b.leniency == pytest.approx(-4 / 3)
    assert a.length_correlation == pytest.approx(1.0)
    assert (b.scores, b.missing) == (3, 1) and math.isnan(b.length_correlation)


def test_judge_bias_length_is_compared_within_records_only():
    # Across records longer is better, within them it is worse.
    short, long = ["a", "a b"], ["a b c d e f g h", "a b c d e f g h i"]
    records = [([scored("a", "pointwise", 3.0, 2.0)], short), ([scored("a", "pointwise", 9.0, 8.0)], long)]
    assert judge_bias(records)[0].length_correlation < -0.8


def test_judge_bias_of_a_judge_without_scores_is_unknown():
    (bias,) = judge_bias([([scored("a", "listwise", None, None)], ["x", "y"])])
    assert (bias.scores, bias.missing) == (0, 2) and math.isnan(bias.mean) and math.isnan(bias.leniency)


def test_count_reasons_counts_every_pair_once():
    records = [[scored("a", "listwise", 1.0, 2.0, 2.0)], [scored("a", "listwise", 1.0, None, 2.0)]]
    found = count_reasons(decisions(*records, modes="listwise"))
    assert found == {"kept": 3, "score missing": 2, "tie": 1}
    assert count_reasons([]) == {"kept": 0}


def test_strength_histogram_holds_the_ends():
    histogram = strength_histogram([0.0, 0.24, 0.25, 1.0], bins=4)
    assert histogram.edges == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert histogram.counts == (2, 1, 0, 1)


def test_check_truth_by_hand():
    check = check_truth([(0.1, 0, 1), (0.4, 0, 4), (0.2, 2, 1), (0.3, 1, 1)])
    assert (check.pairs, check.wrong, check.equal) == (3, 1, 1)
    assert check.wrong_share == pytest.approx(1 / 3)
    # Ranks of strength 1 4 2 3, of gains 3 4 1 2: 1 - 6 * (4 + 0 + 1 + 1) / (4 * 15) = 0.4
    assert check.spearman == pytest.approx(0.4)


def test_check_truth_of_no_pairs_is_unknown():
    check = check_truth([])
    assert check.pairs == 0 and math.isnan(check.wrong_share) and math.isnan(check.spearman)


def test_spearman_ties_take_their_mean_rank():
    # Ranks 1.5 1.5 3 against 1 2 3: 1.5 / sqrt(1.5 * 2)
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(3))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30, unique=True))
def test_spearman_of_a_rising_function_is_one(values):
    ranks = sorted(values)
    assert spearman(values, [ranks.index(v) * 3 - 7 for v in values]) == pytest.approx(1.0)
