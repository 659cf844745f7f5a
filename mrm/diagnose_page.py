"""What `mrm.diagnose` shows: tables for the terminal, and an HTML page that needs nothing else.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from rich.console import Console

import callbacks
from mrm.comparing.drawing import dress, image
from mrm.comparing.tables import Table, print_table
from mrm.evaluation.calibration import Calibration
from mrm.evaluation.diagnostics import AccuracyRow, Diagnostics, ImageUse
from mrm.evaluation.intervals import Interval
from mrm.evaluation.position import PositionBias
from mrm.evaluation.shortcuts import LengthControl
from mrm.pages import COLOURS, FigureImage, format_number, write_page

TEMPLATE = Path(callbacks.__file__).parent / "templates" / "diagnostics.html.j2"
INTERVAL = "95 % interval"


def tables_of(found: Diagnostics) -> list[Table]:
    """All figures as tables, those without a row left out."""
    tables = [_accuracy(found.rows)]
    if found.length is not None:
        tables.append(_length(found, found.length))
    if found.images:
        tables.append(_images(found.images))
    if found.position is not None:
        tables.append(_position(found.position, found.intervals["position"]))
    if found.calibration is not None:
        tables.append(_calibration(found.calibration, found.intervals["calibration"]))
    return tables


def _accuracy(rows: Sequence[AccuracyRow]) -> Table:
    groups = list(dict.fromkeys(row.group for row in rows))
    assert [row.group for row in rows] == sorted((row.group for row in rows), key=groups.index)
    names = [row.name if row.group == "all" else f"{row.group}: {row.name}" for row in rows]
    return Table(
        "Accuracy",
        ("pairs of", "pairs", "ties", "accuracy", INTERVAL),
        tuple(
            (name, f"{row.pairs:,}", f"{row.ties:,}", *_interval(row.accuracy))
            for name, row in zip(names, rows, strict=True)
        ),
        (
            "A pair counts as right only if the preferred response has the strictly higher reward. Style goes by length"
            " (within 10 % is equal) and markup: agreeing where the preferred response has more of one and less of"
            " neither, opposed the other way round.",
            "Intervals are by bootstrap over samples; where all samples have the same share right, as large as n samples"
            " that are alike leave it (of all right or all wrong the exact binomial one).",
        ),
    )


def _length(found: Diagnostics, length: LengthControl) -> Table:
    intervals, by_feature = found.intervals["length"], found.intervals["correlations"]
    rows = [
        ("length-controlled accuracy", *_with(length.accuracy, intervals.get("accuracy"))),
        ("pairs that it is of", f"{length.pairs:,}", ""),
        ("left out: equal length, or no counterpart", f"{length.left_out:,}", ""),
        ("accuracy where the preferred response is longer", *_with(length.longer, intervals.get("longer"))),
        ("accuracy where it is shorter", *_with(length.shorter, intervals.get("shorter"))),
    ]
    rows += [
        (f"correlation of reward and {name}, within the prompt", *_with(value, by_feature.get(name)))
        for name, value in found.correlations.items()
    ]
    note = (
        "Length is controlled for by giving pairs whose longer response is preferred, and the others, equal weight at"
        " like ratios of length."
    )
    return Table("Length and markup", ("", "value", INTERVAL), tuple(rows), (note,))


def _images(uses: Sequence[ImageUse]) -> Table:
    rows = tuple(
        (f"{use.change}: {title}", f"{use.pairs:,}", *_interval(value))
        for use in uses
        for title, value in (
            ("accuracy as given", use.given),
            ("accuracy then", use.changed),
            ("gain by the images", use.gain),
        )
    )
    notes = (
        "A gain whose interval holds 0 is not told from none: the images are not looked at, the text alone tells the"
        " winner, or the pairs are too few.",
        "A gain without an interval is the same in every sample, or of one sample: it says nothing of other samples.",
    )
    return Table("What the images do", ("images", "pairs", "value", INTERVAL), rows, notes)


def _position(position: PositionBias, intervals: Mapping[str, Interval]) -> Table:
    shares = {
        "right in both orders": ("consistent", position.consistent),
        "accuracy in the order given": ("given", position.given),
        "accuracy with the images swapped": ("swapped", position.swapped),
        "the same image preferred in both orders": ("same_image", position.same_image),
        "decisions for the image shown first": ("first_image", position.first_image),
    }
    rows = [("pairs scored in both orders", f"{position.pairs:,}", "")]
    rows += [(title, *_with(value, intervals.get(name))) for title, (name, value) in shares.items()]
    note = "Without position bias, 0.5 of the decisions are for the first."
    return Table("Position bias", ("", "value", INTERVAL), tuple(rows), (note,))


def _calibration(fit: Calibration, intervals: Mapping[str, Interval]) -> Table:
    rows = (
        ("expected calibration error (ECE)", *_with(fit.error, intervals.get("error"))),
        ("ECE of a calibrated model with as many independent pairs", *_interval(intervals.get("error_if_calibrated"))),
        ("Brier score", _number(fit.brier), ""),
        ("log loss, nats (0.693 knows nothing)", _number(fit.log_loss), ""),
        ("factor on rewards that fits best", _number(fit.factor), ""),
        ("log loss with it", _number(fit.log_loss_at_factor), ""),
    )
    notes = (
        "Chance alone makes an ECE, the more the fewer pairs: the second row is its mean for a calibrated model with"
        " the same confidences and as many independent pairs, and where 95 % of such models lie. An ECE within it is"
        " no sign of miscalibration. The draws of the first row's interval have such chance once more and lie high.",
        *_not_independent(fit.pairs, intervals["error"].n),
        "A factor below 1: the model is surer than it is right.",
    )
    return Table("Calibration", ("", "value", INTERVAL), rows, notes)


def _not_independent(pairs: int, samples: int) -> Iterator[str]:
    """What is to be known of a calibrated model's ECE where samples have several pairs."""
    if samples == 1:
        yield "All pairs are of one sample: what chance alone would make is not known."
    elif samples < pairs:
        yield (
            f"The second row holds for independent pairs. Here {pairs:,} pairs are of {samples:,} samples, and those of a"
            " sample hang together: it is too low, and an ECE beyond may be chance all the same."
        )


def print_diagnostics(found: Diagnostics, console: Console | None = None) -> None:
    """The tables, and what was not measured."""
    console = console or Console()
    for table in tables_of(found):
        print_table(table, console)
    for reason in found.not_measured:
        console.print(f"Not measured: {reason}", markup=False, highlight=False, soft_wrap=True)


def write_diagnostics(path: Path, title: str, facts: Mapping[str, Any], found: Diagnostics) -> Path:
    """The page."""
    figures = [reliability_figure(found.calibration)] if found.calibration else []
    figures += [accuracy_figure([row for row in found.rows if row.group == group], group) for group in _drawn(found)]
    shown = {name: value for name, value in facts.items() if name not in ("pairs of", "scored by")}
    return write_page(
        path,
        TEMPLATE,
        title=title,
        facts=shown,
        pools=facts["pairs of"],
        scorer=facts["scored by"],
        tables=tables_of(found),
        figures=figures,
        missing=found.not_measured,
    )


def reliability_figure(fit: Calibration) -> FigureImage:
    """Accuracy over confidence, a point a bin, its area by the number of pairs; the diagonal is calibrated."""
    canvas = Canvas(figsize=(4.4, 3.8), layout="constrained")
    FigureCanvasAgg(canvas)
    panel = canvas.subplots()
    panel.plot([0.5, 1], [0.5, 1], color="#888", linewidth=0.8, linestyle=":")
    xs, ys = [each.confidence for each in fit.bins], [each.accuracy for each in fit.bins]
    most = max(each.pairs for each in fit.bins)
    panel.plot(xs, ys, color=COLOURS[0], linewidth=1.2)
    panel.scatter(xs, ys, s=[12 + 50 * each.pairs / most for each in fit.bins], color=COLOURS[0], zorder=3)
    panel.set_xlim(0.49, 1.01)
    panel.set_ylim(min(0.45, *ys) - 0.05, 1.03)
    dress(panel, "Reliability", "confidence: sigmoid of the reward difference")
    panel.set_ylabel("accuracy", fontsize=9)
    told = ", ".join(f"{x:.3f}: {y:.3f}" for x, y in zip(xs, ys, strict=True))
    return image(canvas, "Reliability", f"Reliability: accuracy by confidence, dotted where they are equal: {told}")


def accuracy_figure(rows: Sequence[AccuracyRow], group: str) -> FigureImage:
    """Accuracy with its interval, a bar a row."""
    shown = [row for row in rows if row.accuracy is not None]
    canvas = Canvas(figsize=(5.2, 1.2 + 0.34 * len(shown)), layout="constrained")
    FigureCanvasAgg(canvas)
    panel = canvas.subplots()
    found = [row.accuracy for row in shown if row.accuracy is not None]
    means = [each.estimate for each in found]
    ends = [
        [0.0 if each.low is None else mean - each.low for each, mean in zip(found, means, strict=True)],
        [0.0 if each.high is None else each.high - mean for each, mean in zip(found, means, strict=True)],
    ]
    labels = [f"{row.name} ({row.pairs:,})" for row in shown]
    panel.barh(labels, means, xerr=ends, color=COLOURS[0], height=0.65, error_kw={"elinewidth": 1, "capsize": 2})
    panel.axvline(0.5, color="#666", linewidth=0.8, linestyle=":")
    panel.set_xlim(0, 1.02)
    panel.invert_yaxis()
    dress(panel, f"Accuracy by {group}", "accuracy (pairs in brackets); dotted: chance")
    told = ", ".join(f"{row.name} {mean:.3f}" for row, mean in zip(shown, means, strict=True))
    return image(canvas, f"Accuracy by {group}", f"Accuracy by {group}: {told}")


def _drawn(found: Diagnostics) -> list[str]:
    """Groups of more than one row that has pairs."""
    names = [row.group for row in found.rows if row.accuracy is not None]
    return [group for group in dict.fromkeys(names) if names.count(group) > 1]


def _interval(found: Interval | None) -> tuple[str, str]:
    if found is None:
        return "–", "–"
    if found.low is None or found.high is None:
        return _number(found.estimate), "–"
    return _number(found.estimate), f"{found.low:.3f} to {found.high:.3f}"


def _with(value: float | None, found: Interval | None) -> tuple[str, str]:
    """A figure and its interval, which it need not have."""
    return _number(value), _interval(found)[1]


def _number(value: float | None) -> str:
    return format_number(value, "%.3f")
