"""The report of a construction: report.json with every number, and one HTML page that needs nothing else.

It shows what it is given: accounts by stage and reason, how judges agree and lean, what is kept and how strong, style
before and after, diversity, how right the pairs are where the truth is known, and what it cost. Counting is left to
`agreement_report.py`, `style_figures.py` and `diversity.py`; which run, which files, is the caller's.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrm.construction.agreement_report import AgreementMatrix, Histogram, TruthCheck
from mrm.construction.diversity import Diversity
from mrm.construction.report_figures import leaning_figure, reason_figure, strength_figure
from mrm.construction.style_figures import StyleFigures
from mrm.pages import write_page

TEMPLATE = Path(__file__).parent / "templates" / "construction_report.html.j2"
JSON_NAME, PAGE_NAME = "report.json", "report.html"


@dataclass(frozen=True)
class StageRow:
    """What went into a stage, what came out, and why the rest did not.

    Args:
        stage: its name.
        unit: what is counted: "records", "calls", "pairs".
        taken: how many went in.
        made: how many came out.
        lost: how many did not, by reason.
    """

    stage: str
    unit: str
    taken: int
    made: int
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def unaccounted(self) -> int:
        """Taken, and neither made nor lost for a reason; 0 where the account balances."""
        return self.taken - self.made - sum(self.lost.values())


@dataclass(frozen=True)
class ConstructionSummary:
    """All that a report tells. What is empty or None was not done, and the page says so.

    Args:
        title: heading of the page.
        facts: what the run was (input, judges, seed, seconds, ...), shown in this order.
        accounts: of each stage, in order.
        agreement: of `agreement_matrix`.
        judges: a row of figures for each judge and mode: of `judge_bias` as dicts, with the position bias beside them. All
            keys become columns, in the order in which they are first met.
        reasons: pairs by reason, of `count_reasons`.
        strengths: of the pairs that are written.
        style: figures by state: {"as judged": ..., "balanced": ...}; one table, a column each.
        style_target: accuracy of the style probe at most; None where none was set.
        diversity: by what it was measured on: {"responses": ..., "pairs kept": ...}.
        rewrites: a row of figures for each fate of rewritten responses; columns as for `judges`.
        truth: wrong winners by way of choosing: {"listwise alone": ..., "agreed": ...}.
        costs: a row of figures for each model: calls, tokens, cost, ...; columns as for `judges`.
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    accounts: Sequence[StageRow] = ()
    agreement: AgreementMatrix | None = None
    judges: Sequence[Mapping[str, object]] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    strengths: Histogram | None = None
    style: Mapping[str, StyleFigures] = field(default_factory=dict)
    style_target: float | None = None
    diversity: Mapping[str, Diversity] = field(default_factory=dict)
    rewrites: Sequence[Mapping[str, object]] = ()
    truth: Mapping[str, TruthCheck] = field(default_factory=dict)
    costs: Sequence[Mapping[str, object]] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON types; None for what is not known."""
        made = _plain(self)
        for account, told in zip(self.accounts, made["accounts"], strict=True):
            told["unaccounted"] = account.unaccounted
        return made


def write_construction_report(folder: str | os.PathLike[str], summary: ConstructionSummary) -> tuple[Path, Path]:
    """Writes the report; an older one is replaced whole.

    Args:
        folder: where report.json and report.html go; made where it is missing.
        summary: what is told.

    Returns:
        The paths of the JSON file and the page.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    temporary = target / (JSON_NAME + ".tmp")
    text = json.dumps(summary.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, target / JSON_NAME)
    differing = any(row.differing for figures in summary.style.values() for row in figures.features)
    figures = [
        strength_figure(summary.strengths) if summary.strengths and sum(summary.strengths.counts) else None,
        reason_figure(summary.reasons) if sum(summary.reasons.values()) else None,
        leaning_figure(summary.style, summary.style_target) if differing else None,
    ]
    page = write_page(
        target / PAGE_NAME,
        TEMPLATE,
        summary=summary,
        judge_columns=_columns(summary.judges),
        rewrite_columns=_columns(summary.rewrites),
        cost_columns=_columns(summary.costs),
        style_rows=style_rows(summary.style),
        figures=[figure for figure in figures if figure is not None],
        share=_share,
    )
    return target / JSON_NAME, page


def style_rows(style: Mapping[str, StyleFigures]) -> list[tuple[str, list[str]]]:
    """(what, a cell for each state): the table of style before and after."""
    columns = list(style.values())
    if not columns:
        return []
    rows = [
        ("pairs", [f"{c.probe.pairs:,}" for c in columns]),
        ("prompts", [f"{c.groups:,}" for c in columns]),
        ("probe accuracy", [_share(c.probe.accuracy) for c in columns]),
        ("its 95 % interval", [_span(c.probe.low, c.probe.high) for c in columns]),
        ("over several foldings", [_span(c.lowest, c.highest) for c in columns]),
        ("accuracy of the first state's probe", [_share(c.former) for c in columns]),
        ("distance in style", [_share(c.distance, 3) for c in columns]),
    ]
    names = list(dict.fromkeys(f.feature for c in columns for f in c.features))
    for name in names:
        found = [next((f for f in c.features if f.feature == name), None) for c in columns]
        rows.append(
            (
                f"more {name.replace('_', ' ')} wins",
                [f"{_share(f.more_wins)} of {f.differing:,}" if f and f.differing else "–" for f in found],
            )
        )
    return rows


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _share(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _span(low: float, high: float) -> str:
    return f"{_share(low)} to {_share(high)}" if math.isfinite(low) else "–"


def _plain(value: Any) -> Any:
    """JSON types: dataclasses as objects, what is not finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
