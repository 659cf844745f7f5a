import numpy as np
import pytest

from mrm.curation.accounts import flip_quality, noise, settled

# Published labels: wrong, wrong, right, right, unknown.
TRUTH = np.array([1, 1, 0, 0, -1], np.int8)
ALL = np.ones(5, bool)
NONE = np.zeros(5, bool)


def test_noise_nothing_flipped_is_the_share_of_wrong_published_labels():
    assert noise(TRUTH, NONE, ALL) == 0.5


def test_noise_one_mended_and_one_spoilt_label_counts_the_labels_in_use():
    flipped = np.array([True, False, True, False, False])
    assert noise(TRUTH, flipped, ALL) == 0.5  # pair 0 mended, pair 2 spoilt, pair 1 still wrong: 2 of 4
    assert noise(TRUTH, flipped, np.array([True, False, False, True, True])) == 0.0


def test_noise_truth_unknown_is_none():
    assert noise(TRUTH, NONE, np.array([False, False, False, False, True])) is None


def test_flip_quality_two_selected_one_right_gives_half_and_half():
    selected = np.array([True, False, True, False, True])  # the last has no known truth and doesn't count
    assert flip_quality(TRUTH, NONE, selected, ALL) == (0.5, 0.5)


def test_flip_quality_nothing_selected_has_no_precision():
    assert flip_quality(TRUTH, NONE, NONE, ALL) == (None, 0.0)


def test_flip_quality_nothing_wrong_has_no_recall():
    mended = np.array([True, True, False, False, False])
    assert flip_quality(TRUTH, mended, np.array([False, False, True, False, False]), ALL) == (0.0, None)


def test_settled_counts_what_is_not_in_use_as_published():
    """Wrong: mended, dropped, left as it is. Right: kept, turned, waiting, kept. One of unknown truth."""
    truth = np.array([1, 1, 1, 0, 0, 0, 0, -1], np.int8)
    flipped = np.array([1, 0, 0, 0, 1, 0, 0, 1], bool)
    active = np.array([1, 0, 1, 1, 1, 0, 1, 0], bool)
    mended, lost = settled(truth, flipped, active, np.ones(8, bool))
    assert mended == pytest.approx(2 / 3) and lost == pytest.approx(1 / 2)
    assert settled(truth, flipped, active, truth == -1) == (None, None)
