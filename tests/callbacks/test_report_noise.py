import pytest

from callbacks.report_noise import WIDTH, noise_rows


def test_noise_rows_give_interval_truth_and_places():
    (row,) = noise_rows(
        [{"round": 1, "noise_estimate": 0.3, "noise_estimate_error": 0.05, "noise_before": 0.4, "noise_after": 0.2}]
    )
    assert (row.source, row.estimate, row.true_before, row.true_after) == ("all sources", 0.3, 0.4, 0.2)
    assert (row.low, row.high) == (pytest.approx(0.202), pytest.approx(0.398))
    assert row.x == (60.6, 90.0, 119.4, WIDTH)  # the largest, 0.4, ends the picture


def test_noise_rows_only_of_rounds_that_tried_and_of_their_sources():
    rows = noise_rows(
        [
            {"round": 1},
            {"round": 2, "noise_estimate": None, "noise_estimate_unknown": "too few pairs"},
            {
                "round": 3,
                "noise_estimate": 0.01,
                "noise_estimate_error": 0.1,
                "sources": {"a": {"noise_estimate": 0.5}, "b": {}},
            },
        ]
    )
    assert [(row.round, row.source, row.estimate) for row in rows] == [
        (2, "all sources", None),
        (3, "all sources", 0.01),
        (3, "a", 0.5),
    ]
    assert rows[0].unknown == "too few pairs" and rows[0].x == (None, None, None, None)
    assert rows[1].low == 0 and rows[2].low is None  # no error was recorded: no interval
    assert noise_rows([]) == []
