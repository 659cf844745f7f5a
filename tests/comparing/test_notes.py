"""What a comparison says beside its figures."""

from __future__ import annotations

from mrm.comparing.comparison import provenance_notes
from mrm.comparing.grouping import align
from tests.comparing.making import made_run


def test_notes_name_the_runs_that_went_on_after_a_stop() -> None:
    once, twice = (made_run("a", seed, {"t": 0.5}, metrics={"starts": starts}) for seed, starts in ((1, 1.0), (2, 2.0)))
    unknown = made_run("a", 3, {"t": 0.5})  # of an earlier version
    (note,) = provenance_notes(align([once, twice, unknown]).groups)
    assert note.startswith("1 run(s) went on after a stop") and note.endswith(f"the last start: {twice.told}.")
