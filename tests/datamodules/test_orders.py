import numpy as np
import pytest

from datamodules.orders import ORDERS, easy_first

NAN = float("nan")


@pytest.mark.parametrize("name", ORDERS)
def test_order_is_a_permutation_that_the_generator_decides(name: str) -> None:
    strength = np.array([0.5, NAN, 0.1, 0.9, 0.5, 0.5, 0.5, 0.5])
    runs = [ORDERS[name].arrange(strength, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert sorted(runs[0]) == list(range(8)) and runs[0] == runs[1] != runs[2]


def test_easy_first_goes_from_strong_to_weak_and_unknown_in_the_middle() -> None:
    """The median of 0.9, 0.6, 0.1 is 0.6."""
    found = easy_first(np.array([0.1, NAN, 0.9, 0.6]), np.random.default_rng(0)).tolist()
    assert found[0] == 2 and found[3] == 0 and set(found[1:3]) == {1, 3}


def test_easy_first_nothing_known_is_shuffled() -> None:
    assert sorted(easy_first(np.full(5, NAN), np.random.default_rng(0))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_nothing_is_nothing(name: str) -> None:
    assert len(ORDERS[name].arrange(np.zeros(0), np.random.default_rng(0))) == 0
