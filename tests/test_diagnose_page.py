"""What `mrm.diagnose` shows: a cell for every figure, and its interval beside it where it has one."""

from __future__ import annotations

import numpy as np

from mrm.diagnose_page import tables_of
from mrm.evaluation.diagnostics import Diagnostics, diagnose
from tests.evaluation.test_diagnostics import table


def some_found() -> Diagnostics:
    """Sixty pairs of texts and thirty statements about two images."""
    random, statement = np.random.default_rng(0), np.arange(90) >= 60
    return diagnose(
        table(
            random.normal(0.7, 1, 90).tolist(),
            length=random.integers(5, 90, (90, 2)).astype(float),
            statement=statement,
            swapped=np.where(statement, random.normal(0.5, 1, 90), np.nan),
            first_preferred=np.arange(90) % 2 == 0,
        )
    )


def test_tables_have_an_interval_beside_every_figure_that_has_one() -> None:
    found = some_found()
    tables = {one.title: one for one in tables_of(found)}
    assert list(tables) == ["Accuracy", "Length and markup", "Position bias", "Calibration"]
    rows = {row[0]: row[1:] for one in tables.values() for row in one.rows}
    shown = {
        "length-controlled accuracy": ("length", "accuracy"),
        "correlation of reward and log length, within the prompt": ("correlations", "log length"),
        "right in both orders": ("position", "consistent"),
        "decisions for the image shown first": ("position", "first_image"),
        "expected calibration error (ECE)": ("calibration", "error"),
        "ECE of a calibrated model with as many independent pairs": ("calibration", "error_if_calibrated"),
    }
    for title, (part, name) in shown.items():
        own = found.intervals[part][name]
        assert rows[title] == (f"{own.estimate:.3f}", f"{own.low:.3f} to {own.high:.3f}"), title
    assert rows["Brier score"] == (f"{found.calibration.brier:.3f}", "")
    # No pair has markup: there is no correlation with it, and no interval.
    assert rows["correlation of reward and log (1 + markup), within the prompt"] == ("–", "–")


def test_tables_of_what_the_images_do_have_an_interval_for_accuracies_and_gain() -> None:
    """Three samples right with and wrong without images: the accuracies are exact, and the gain has no interval."""
    found = diagnose(table([1.0] * 3, has_images=np.ones(3, bool), without_images=-np.ones(3)))
    (images,) = [one for one in tables_of(found) if one.title == "What the images do"]
    assert images.rows == (
        ("removed: accuracy as given", "3", "1.000", "0.292 to 1.000"),
        ("removed: accuracy then", "3", "0.000", "0.000 to 0.708"),
        ("removed: gain by the images", "3", "1.000", "–"),
    )
    assert any("A gain without an interval" in note for note in images.notes)


def test_tables_say_where_pairs_are_not_independent() -> None:
    for sample, told in ((np.arange(4), False), (np.arange(4) // 2, True)):
        (fit,) = [one for one in tables_of(diagnose(table([1.0, 2, -1, 3], sample=sample))) if "ECE" in one.rows[0][0]]
        assert any("4 pairs are of 2 samples" in note for note in fit.notes) is told
    (fit,) = [one for one in tables_of(diagnose(table([1.0, 2], sample=np.zeros(2, int)))) if "ECE" in one.rows[0][0]]
    assert fit.rows[1][1:] == ("–", "–") and any("All pairs are of one sample" in note for note in fit.notes)


def test_tables_leave_out_what_there_is_no_figure_of() -> None:
    assert [one.title for one in tables_of(diagnose(table([1.0, -1])))] == [
        "Accuracy",
        "Length and markup",
        "Calibration",
    ]
