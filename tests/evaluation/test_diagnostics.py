import json

import numpy as np
import pytest

from mrm.evaluation.diagnostics import PairTable, diagnose, strength_bins
from mrm.evaluation.intervals import Interval, alike_ends

NAN = np.nan


def table(difference: list[float], **changed) -> PairTable:
    pairs = len(difference)
    values = {
        "sample": np.arange(pairs),
        "source": np.full(pairs, "made", object),
        "strength": np.full(pairs, NAN),
        "length": np.full((pairs, 2), 10.0),
        "markup": np.zeros((pairs, 2)),
        "statement": np.zeros(pairs, bool),
        "first_preferred": np.zeros(pairs, bool),
        "has_images": np.zeros(pairs, bool),
        "difference": np.array(difference, float),
        **{name: np.full(pairs, NAN) for name in ("without_images", "others_images", "swapped")},
    }
    return PairTable(**{**values, **changed})


def rows_of(found, group):
    return {row.name: row for row in found.rows if row.group == group}


def test_accuracy_by_style_strength_and_source_by_hand():
    found = diagnose(
        table(
            [1.0, -1, 1, 0],
            length=np.array([[20, 10], [10, 20], [10, 10], [20, 10]]),
            strength=np.array([0.1, 0.25, 1.0, NAN]),
            source=np.array(["a", "a", "b", "b"], object),
        )
    )
    assert rows_of(found, "all")["all pairs"].accuracy.estimate == 0.5 and rows_of(found, "all")["all pairs"].ties == 1
    style = rows_of(found, "style")
    assert [style[name].pairs for name in ("matched", "agreeing", "opposed", "mixed")] == [1, 2, 1, 0]
    assert style["agreeing"].accuracy.estimate == 0.5 and style["mixed"].accuracy is None
    strength = rows_of(found, "strength")
    assert {name: row.pairs for name, row in strength.items()} == {
        "0 to 0.25": 1, "0.25 to 0.5": 1, "0.5 to 0.75": 0, "0.75 to 1": 1, "unknown": 1,
    }  # fmt: skip
    assert {name: row.accuracy.estimate for name, row in rows_of(found, "source").items()} == {"a": 0.5, "b": 0.5}
    assert found.length.longer == 0.5 and found.length.shorter == 0.0


def test_image_use_counts_pairs_that_were_scored_both_ways():
    found = diagnose(
        table(
            [1.0, 1, -1, 1],
            has_images=np.array([True, True, True, False]),
            without_images=np.array([1.0, -1, NAN, NAN]),
            others_images=np.array([-1.0, -1, 1, NAN]),
        )
    )
    removed, others = found.images
    assert (removed.change, removed.pairs, removed.given.estimate, removed.changed.estimate) == ("removed", 2, 1.0, 0.5)
    # Two samples right: exact, 0.025 ** (1 / 2). One right and one wrong: a quarter of the draws has neither.
    assert (removed.given.low, removed.given.high) == (pytest.approx(0.025**0.5), 1.0)
    assert (removed.changed.low, removed.changed.high) == (0.0, 1.0)
    assert (others.change, others.pairs) == ("another sample's", 3)
    assert others.gain.estimate == pytest.approx(1 / 3)  # 2 of 3 right, then 1 of 3


@pytest.mark.parametrize(("without", "gain", "low"), [(1.0, 0.0, 0.025 ** (1 / 3)), (-1.0, 1.0, 0.0)])
def test_image_use_of_samples_that_are_alike_has_exact_accuracies_and_a_gain_without_ends(without, gain, low):
    """Three samples right, and without images all right or all wrong: the gain is the same in each, and in each draw."""
    (use,) = diagnose(table([1.0] * 3, has_images=np.ones(3, bool), without_images=np.full(3, without))).images
    assert use.gain == Interval(3, gain)
    assert (use.given.low, use.given.high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
    assert use.changed.low == pytest.approx(low)


def test_accuracy_of_samples_with_one_right_and_one_wrong_pair_each_is_no_point():
    found = diagnose(table([1.0, -1, 1, -1], sample=np.array([0, 0, 1, 1])))
    expected = Interval(2, 0.5, *alike_ends(0.5, 2))
    assert rows_of(found, "all")["all pairs"].accuracy == expected
    assert rows_of(found, "source")["made"].accuracy == expected


def test_statements_have_a_position_and_no_style():
    found = diagnose(
        table([1.0, -1], statement=np.ones(2, bool), swapped=np.array([1.0, 1]), first_preferred=np.array([True, True]))
    )
    assert found.position.pairs == 2 and found.position.consistent == 0.5
    assert found.length is None and not rows_of(found, "style")
    assert any(reason.startswith("style and length") for reason in found.not_measured)


def test_what_is_not_measured_is_said():
    told = diagnose(table([1.0]), not_measured=["the weather: no window."]).not_measured
    for subject in ("the weather", "accuracy by strength", "what the images do", "position bias"):
        assert any(reason.startswith(subject) for reason in told), subject


def test_figures_are_json_without_nan():
    text = json.dumps(diagnose(table([1.0, 2.0, -0.5])).to_json(), allow_nan=False)
    assert json.loads(text)["pairs"] == 3


def test_strength_bins_edges_belong_to_the_bin_above_but_the_last():
    bins, names = strength_bins(np.array([0.0, 0.25, 0.7499, 0.75, 1.0, NAN]))
    assert bins.tolist() == [0, 1, 2, 3, 3, -1] and names[0] == "0 to 0.25"
