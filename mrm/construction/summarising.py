"""What a construction's report tells, gathered from the stages' files."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from mrm.construction.agreement import Scored
from mrm.construction.agreement_report import (
    TruthCheck,
    agreement_matrix,
    check_truth,
    count_reasons,
    judge_bias,
    strength_histogram,
)
from mrm.construction.calling.budget import Spent
from mrm.construction.construction_report import ConstructionSummary, StageRow
from mrm.construction.diversity import Diversity, Embed, diversity, mean_diversity
from mrm.construction.embedded import errors_of
from mrm.construction.order import position_bias
from mrm.construction.pairing import Pairs, PairTable, pair_table
from mrm.construction.pipeline import Construction
from mrm.construction.records import PromptRecord
from mrm.construction.rewriting import FATES
from mrm.construction.stage_data import StageData
from mrm.construction.stage_files import StageAccount
from mrm.construction.style_figures import StyleFigures, measure_style

LISTWISE, AGREED, REWRITTEN, BALANCED = "one listwise call", "agreed", "rewritten", "balanced"
States = dict[str, list[tuple[PromptRecord, Pairs]]]


def summarise(construction: Construction, facts: Mapping[str, object]) -> ConstructionSummary:
    """Everything that the report tells; all stages up to `write` are done.

    Args:
        construction: what was done.
        facts: what the run was, for the page's head.
    """
    data, recipe = construction.data, construction.recipe
    decisions = [decision for _, found in data.decisions() for decision in found]
    states = _states(construction)
    style = _style(states, recipe.seed)
    kept = [pair["strength"] for _, pairs in states[BALANCED] for pair in pairs]
    return ConstructionSummary(
        title="Preference construction",
        facts=facts,
        accounts=[row for name, account in construction.accounts.items() for row in _rows(name, account)],
        agreement=agreement_matrix(decisions),
        judges=_judges(data),
        reasons=count_reasons(decisions),
        strengths=strength_histogram(kept),
        style=style,
        style_target=None if recipe.style_mode == "none" else recipe.style_target,
        diversity={
            "responses": _diversity(data.records(), recipe.embed),
            "of the pairs written": _diversity(_used(states[BALANCED]), recipe.embed),
        },
        rewrites=_rewrites(construction),
        truth={name: check for name, found in states.items() if (check := _truth(found)) is not None},
        costs=_costs(construction),
    )


def _states(construction: Construction) -> States:
    """The pairs by way of choosing: what one listwise call of the first judge says, agreed on, rewritten, balanced."""
    data = construction.data
    states: States = {LISTWISE: [(record, _by_first(scorings)) for record, scorings in data.scorings()]}
    states[AGREED] = list(data.pairs("agree"))
    if construction.recipe.rewriter is not None:
        states[REWRITTEN] = list(data.pairs("verify"))
    states[BALANCED] = list(data.pairs("style"))
    return states


def _by_first(scorings: list[Scored]) -> Pairs:
    """The pairs as a pipeline would have them that believes one listwise call."""
    first = next((scored.overalls for scored in scorings if scored.mode == "listwise" and scored.repeat == 0), ())
    known = [(number, score) for number, score in enumerate(first) if score is not None]
    return [
        {"chosen": better, "rejected": worse, "strength": (high - low) / 10}
        for better, high in known
        for worse, low in known
        if high > low
    ]


def _style(states: States, seed: int) -> dict[str, StyleFigures]:
    tables = {name: pair_table(found) for name, found in states.items()}
    first = tables[AGREED]
    return {
        name: measure_style(table.chosen, table.rejected, table.group, first=(first.chosen, first.rejected), seed=seed)
        for name, table in tables.items()
        if _is_measurable(table)
    }


def _is_measurable(table: PairTable) -> bool:
    return len(table.key) > 0


def _rows(name: str, account: StageAccount) -> list[StageRow]:
    """What became of the stage's records or pairs, and of its calls."""
    calls = account.extra.get("calls", [])
    rows = [
        StageRow(f"{name}, calls", "calls", each["calls"], each["answered"] + each["reused"], each["failed"])
        for each in calls
    ]
    return [*rows, StageRow(name, account.unit, account.read, account.written, account.left)]


def _judges(data: StageData) -> list[dict[str, object]]:
    rows = []
    flags = data.flags()
    scorings = [(record.key, found, [r.text for r in record.responses]) for record, found in data.scorings()]
    for bias in judge_bias((found, texts) for _, found, texts in scorings):
        row: dict[str, object] = asdict(bias)
        if bias.mode == "listwise":
            asked = [
                (key, s) for key, found, _ in scorings for s in found if (s.judge, s.mode) == (bias.judge, bias.mode)
            ]
            row |= _position([(key, s) for key, s in asked if s.order is not None and None not in s.overalls])
        rows.append({**row, **flags[bias.judge, bias.mode]})
    return rows


def _position(asked: list[tuple[str, Scored]]) -> dict[str, object]:
    """How a judge favours places, as columns."""
    bias = position_bias([s.order or () for _, s in asked], [s.overalls for _, s in asked], [key for key, _ in asked])
    row: dict[str, object] = {
        "first_wins": bias.first_wins,
        "first_wins_low": bias.low,
        "first_wins_high": bias.high,
        "expected": bias.expected,
    }
    return row | ({"winner_changed": bias.changed} if bias.repeated else {})


def _diversity(records: Iterable[PromptRecord], embed: Embed | None) -> Diversity:
    return mean_diversity(diversity([response.text for response in record.responses], embed) for record in records)


def _rewrites(construction: Construction) -> list[dict[str, object]]:
    """A row for each fate of rewritten responses: how many, and how far the judges' mean score of them moved."""
    if construction.recipe.rewriter is None:
        return []
    moves: dict[str, list[float | None]] = {fate: [] for fate in FATES}
    for line in construction.data.file("verify").read():
        for told in line["fates"]:
            known = told["before"] is not None and told["after"] is not None
            moves[told["fate"]].append(told["after"] - told["before"] if known else None)
    return [_moved(fate, found) for fate, found in moves.items()]


def _moved(fate: str, moves: Sequence[float | None]) -> dict[str, object]:
    known = [move for move in moves if move is not None]
    mean, size = (sum(known) / len(known), sum(map(abs, known)) / len(known)) if known else (math.nan, math.nan)
    return {"fate": fate, "responses": len(moves), "mean_move": mean, "mean_size_of_move": size}


def _used(found: Iterable[tuple[PromptRecord, Pairs]]) -> Iterator[PromptRecord]:
    return (record for record, pairs in found if pairs)


def _truth(found: Iterable[tuple[PromptRecord, Pairs]]) -> TruthCheck | None:
    """How right the pairs are, where the embedded world knows; else None."""
    rows = []
    for record, pairs in found:
        errors = [errors_of(record.meta, response.text) for response in record.responses] if pairs else []
        for pair in pairs:
            chosen, rejected = errors[pair["chosen"]], errors[pair["rejected"]]
            if chosen is not None and rejected is not None:
                rows.append((pair["strength"], chosen[0], rejected[0]))
    return check_truth(rows) if rows else None


def _costs(construction: Construction) -> list[dict[str, object]]:
    """What every model took by kind of call, answers that could not be used included."""
    log = construction.asker.log
    paid: dict[tuple[str, str], Spent] = defaultdict(Spent)
    for answer in log.answers():
        said = answer.answer
        paid[answer.model, answer.kind] += Spent(1, said.input_tokens, said.output_tokens, answer.cost or 0.0)
    for told in log.failures():
        tokens = told.get("input_tokens") or 0, told.get("output_tokens") or 0
        if any(tokens):
            paid[str(told["model"]), str(told["kind"])] += Spent(1, *tokens, told.get("cost") or 0.0)
    return [_cost(model, kind, spent) for (model, kind), spent in sorted(paid.items())]


def _cost(model: str, kind: str, spent: Spent) -> dict[str, object]:
    return {
        "model": model,
        "kind": kind,
        "calls": spent.calls,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost": round(spent.cost, 4),
    }
