"""The report of a run: one HTML file that needs nothing else, for a phone as for a desk.

Accuracies, curves, and all of curation: the rounds, how pairs moved between states, counts by source with the means to check
them, scores, annotators against the model, and a gallery of the decisions the model was surest of, so that a person can see
whether it was right. It shows what it is given; which run, which files, is the caller's. Each part has a module of its own.

It is written once, at a run's end: of a million pairs it takes 6 s of processor time, and even a page of one round without pictures
1.3 s, more than the fixed second that a boundary may cost. A run that was stopped has its ledgers, from which all of it follows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from callbacks.report_agreement import agreement, judge_figures, judged_pairs
from callbacks.report_alluvial import flow_plot
from callbacks.report_figures import curve_figures
from callbacks.report_flow import flow_tables, ledger_flows
from callbacks.report_gallery import DISPUTED, GALLERIES, disputed, gallery, with_contents
from callbacks.report_histograms import round_panels
from callbacks.report_noise import noise_rows
from callbacks.report_sources import BY_THE_ROUND, CHECK_PROGRAM, COLUMNS, round_tables
from callbacks.report_view import LedgerView, view_ledgers
from datamodules.ledger import Ledger
from mrm.pages import write_page
from mrm.preference import PreferenceSample

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
NOT_IN_ROUNDS = ("round", "noise_estimate", "noise_estimate_error", "noise_estimate_unknown")  # shown apart


def build_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    facts: Mapping[str, object],
    tests: Mapping[str, Mapping[str, float] | float],
    rounds: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    ledgers: Sequence[Ledger],
    ledger_dir: Path | None,
    read: Callable[[str], PreferenceSample],
    gallery_size: int = 8,
) -> Path:
    """Writes the report.

    Args:
        path: the HTML file; an older one is replaced whole.
        title: heading of the page.
        facts: what the run was: experiment, seed, commit, data, seconds; shown in this order.
        tests: test set -> accuracy in [0, 1], or a mapping with `accuracy` and any of `n`, `tie_rate`, `length_baseline`.
        rounds: `IterativeCuration.rounds`.
        metrics: the history, `{"step", "name", "value"}` each.
        ledgers: the snapshots by rising round, round 0 included or not.
        ledger_dir: where their files lie, within the run's folder; None: no file is named.
        read: key -> sample, for the gallery.
        gallery_size: pairs a kind of decision.

    Returns:
        The path written.
    """
    view = view_ledgers(ledgers)
    judged = judged_pairs(view)
    galleries = [(heading, note, gallery(ledgers, decision, gallery_size)) for decision, heading, note in GALLERIES]
    galleries.append((*DISPUTED, disputed(ledgers, judged, gallery_size)))
    return write_page(
        path,
        TEMPLATE,
        title=title,
        facts=facts,
        tests={name: dict(row) if isinstance(row, Mapping) else {"accuracy": row} for name, row in tests.items()},
        rounds=rounds,
        round_names=_round_names(rounds),
        noise=noise_rows(rounds),
        **_flow(view),
        tables=round_tables(view, ledger_dir) if rounds else [],
        count_columns=COLUMNS,
        by_the_round=len(BY_THE_ROUND),
        check_program=CHECK_PROGRAM,
        curves=curve_figures(metrics),
        panels=round_panels(view),
        agreement=agreement(view, judged),
        judges=judge_figures(rounds),
        galleries=[
            (heading, note, [with_contents(item, read) for item in items]) for heading, note, items in galleries
        ],
    )


def _round_names(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table of the rounds shows: all that any round recorded, but for what has a table of its own."""
    names = dict.fromkeys(name for record in rounds for name in record)
    grouped = {name for record in rounds for name, value in record.items() if isinstance(value, Mapping)}
    return [name for name in names if name not in grouped and name not in NOT_IN_ROUNDS]


def _flow(view: LedgerView) -> dict[str, Any]:
    flows, lost = ledger_flows(view)
    numbers = [seen.number for seen in view.rounds]
    return {"flow": flow_plot(flows, numbers), "flow_tables": flow_tables(flows, numbers), "trusted_lost": lost}
