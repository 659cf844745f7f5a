from dataclasses import replace

import numpy as np
import pytest

from callbacks.report_view import STATES, view_ledgers
from mrm.errors import LedgerError
from tests.callbacks.fakes import make_ledger
from tests.callbacks.reporting import KEEP, TRUSTED, four_rounds


def test_view_ledgers_states_sources_and_the_label_in_use_before_the_round():
    view = view_ledgers(four_rounds())
    assert view.sources == ("b", "a") and view.source.tolist() == [1, 1, 0, 0, 0, 0, 1, 1] and view.curated == 2
    first, second = view.rounds[1:3]
    assert [STATES[code] for code in first.state] == ["trusted"] * 2 + ["flipped"] + ["kept"] * 4 + ["unreadable"]
    assert first.margin[2:7].tolist() == [-4.0, -1.0, 2.0, 1.0, 0.5]  # k2 is flipped by this very round
    assert second.margin[2:7].tolist() == [5.0, -2.0, -3.0, -1.0, -0.5]  # and judged in its new orientation by the next
    assert second.fresh.tolist() == [False] + [True] * 6 + [False] and not view.rounds[0].fresh[:2].any()


def test_view_ledgers_of_different_indexes_are_refused():
    one, two, *_ = four_rounds()
    with pytest.raises(LedgerError, match="round 0 .* round 1 .* different indexes"):
        view_ledgers([one, replace(two, index_fingerprint="other")])
    assert view_ledgers([]).rounds == ()


def test_pictured_folds_the_small_sources_and_tables_keep_them():
    names = [f"s{i:02d}" for i in range(15) for _ in range(15 - i)] + ["only trusted"] * 40
    decision = np.array([KEEP] * (len(names) - 40) + [TRUSTED] * 40, object)
    view = view_ledgers([make_ledger(source=names, decision=decision)])
    assert view.sources == (*(f"s{i:02d}" for i in range(15)), "only trusted") and view.curated == 15
    picture, shown = view.pictured(12)
    assert shown == (*(f"s{i:02d}" for i in range(12)), "other (3 sources)")
    assert picture.tolist() == [*range(12), 12, 12, 12, 12]
    assert view.pictured(15)[1] == view.sources
