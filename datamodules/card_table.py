"""A card as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from datamodules.card import Card, Spread, histogram_bars
from mrm.pages import format_number

SHOWN = 15  # rows a table; the JSON has them all


def card_tables(card: Card) -> list[RenderableType]:
    """Everything but the samples, in the page's order; tables without rows are left out."""
    return [
        _table(
            f"Sources: {card.samples:,} samples",
            ("data set", "source", "samples", "responses", "pairs", "images", "strength known"),
            ((s.dataset, s.source, s.samples, s.responses, s.pairs, s.images, share(s.strength_known)) for s in card.sources),
        ),
        _table(
            f"Strength: unknown for {card.strength_unknown:,} of {card.pairs:,} pairs",
            ("strength", "pairs"),
            ((label, bar.count) for label, (bar,) in histogram_bars(card.strengths)),
        ),
        _table(
            f"Lengths, {measured(card)}",
            ("length", "mean", "5 %", "median", "95 %"),
            (spread_row(s) for s in card.lengths),
        ),
        *(
            _table(
                f"Style, questions in {language}",
                ("feature", "mean, chosen", "mean, rejected", "pairs that differ", "more wins"),
                ((f.feature.replace("_", " "), f.chosen_mean, f.rejected_mean, f.differing, share(f.more_wins)) for f in rows),
            )
            for language, rows in card.styles.items()
        ),
        _table(
            "Can style alone tell the winner? 50 % is chance",
            ("pairs of", "pairs", "prompts", "longer wins", "style's accuracy", "95 % interval"),
            ((p.name, p.pairs, p.prompts, share(p.longer_wins), share(p.accuracy), interval(p.low, p.high)) for p in card.probes),
        ),
        _table(
            f"Images: {formats(card)}" if card.images else "Images: none",
            ("size", "mean", "5 %", "median", "95 %"),
            (spread_row(s) for s in card.sizes) if card.formats else (),
        ),
        _table("Duplicates", ("what", "number"), duplicate_rows(card)),
        _table(
            f"Unread: {len(card.unread):,} of {card.visited:,} samples visited",
            ("reason", "samples", "first"),
            ((reason, number, first_key(card, reason)) for reason, number in card.unread_reasons.items()),
        ),
    ]  # fmt: skip


def duplicate_rows(card: Card) -> list[tuple[str, int]]:
    """What occurs twice, in words."""
    found = card.duplicates
    return [
        ("images", found.images),
        ("different images", found.images_distinct),
        ("uses of the most frequent image", found.most_used),
        ("samples with the images of another (or, as another, none)", found.samples_sharing_images),
        ("pairs compared: those of these samples, and of samples with several", found.pairs_compared),
        ("pairs whose images, prompt and responses occurred before", found.pairs_surplus),
        ("equal pairs that disagree about the winner", found.contradicting),
        *((f"different images in both {a} and {b}", number) for a, b, number in found.shared_images),
    ]


def measured(card: Card) -> str:
    """How many samples the text and image statistics rest on."""
    return f"{card.measured_pairs:,} pairs of {card.measured:,} samples measured"


def formats(card: Card) -> str:
    """Image formats with their numbers."""
    return ", ".join(f"{number:,} {name}" for name, number in card.formats.items()) or "none readable"


def share(value: float) -> str:
    """A share as a percentage; a dash where it is not known."""
    return "–" if value != value else f"{100 * value:.1f} %"


def interval(low: float, high: float) -> str:
    """An interval of shares."""
    return "–" if low != low else f"{100 * low:.1f} to {100 * high:.1f} %"


def first_key(card: Card, reason: str) -> str:
    """The first sample that was not read for that reason."""
    return next(f"{sample.dataset}/{sample.key}" for sample in card.unread if sample.reason == reason)


def whole(value: float) -> float | int:
    """A number of 1,000 or more without its fraction, so that it is told in full."""
    return round(value) if abs(value) >= 1000 else value


def spread_row(spread: Spread) -> tuple[object, ...]:
    """Name, mean and percentiles."""
    return (spread.name, *(whole(value) for value in (spread.mean, spread.low, spread.median, spread.high)))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    """The title alone where there is no row."""
    cells = [[escape(format_number(cell)) for cell in row] for row in rows]
    heading = Text(title, style="bold")
    if not cells:
        return Group(heading, "")
    table = Table()
    for number, name in enumerate(columns):
        left = number == 0 or name in ("source", "first")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for row in cells[:SHOWN]:
        table.add_row(*row)
    if len(cells) > SHOWN:
        table.add_row(f"... {len(cells) - SHOWN} more", *[""] * (len(columns) - 1))
    return Group(heading, table)
