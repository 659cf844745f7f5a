import pytest

from mrm.errors import ConfigError
from mrm.model.schedules import cycle_peak, lr_factor


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0), (1.3, 0.0)],
)
def test_lr_factor_cosine_rises_in_warmup_then_falls(progress, expected):
    assert lr_factor(progress, schedule="cosine", warmup=0.1) == pytest.approx(expected, abs=1e-9)


def test_lr_factor_constant_stays_after_warmup():
    assert [lr_factor(p, schedule="constant", warmup=0.5) for p in (0.25, 0.5, 0.9)] == [0.5, 1.0, 1.0]


def test_lr_factor_floor_is_where_the_cosine_ends():
    assert lr_factor(1.0, schedule="cosine", warmup=0.0, floor=0.1) == pytest.approx(0.1)


def test_lr_factor_unknown_schedule_names_the_known():
    with pytest.raises(ConfigError, match="cosine, constant"):
        lr_factor(0.5, schedule="linear", warmup=0.0)


def test_cycle_peak_the_last_one_holds_and_none_is_one():
    assert [cycle_peak([1.0, 0.5], cycle) for cycle in range(4)] == [1.0, 0.5, 0.5, 0.5]
    assert cycle_peak([], 3) == 1.0
