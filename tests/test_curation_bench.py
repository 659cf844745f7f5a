"""The figures are of a round with every step; no time is asserted."""

from datamodules.ledger import Ledger
from mrm.curation_bench import SPEC, make_ledger, measure, round_figures


def test_measure_writes_the_round_it_times(tmp_path):
    make_ledger(2000).write(tmp_path)
    figures = measure(tmp_path, 1)
    assert figures.keys() == {"round_{}_s", "round_{}_mb"} and figures["round_{}_s"] > 0
    ledger = Ledger.latest(tmp_path)
    accounts = ledger.accounts()
    assert ledger.round == 1 and accounts["held"] == 0 and accounts["dropped"] > 0 and accounts["queued"] > 0
    assert {"trusted", "keep", "flip", "drop", "queue", "restore"} == set(ledger.decision)
    assert SPEC.distrust_share is None


def test_round_figures_are_named_by_their_size():
    assert round_figures(1000).keys() == {"round_1000_s", "round_1000_mb"}
