"""The page's pictures: differences with their intervals, curves, noise over the rounds, figures over a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from mrm.comparing.courses import Course
from mrm.comparing.differences import Difference
from mrm.comparing.drawing import MARKERS, dress, image, legend_columns
from mrm.comparing.measures import ACCURACY
from mrm.comparing.tables import signed
from mrm.evaluation.intervals import Interval
from mrm.pages import COLOURS, FigureImage

PICTURED = 40  # differences in one picture; the table has all
LEGEND = 10  # lines a legend is readable with


def difference_image(differences: Sequence[Difference]) -> FigureImage | None:
    """Accuracy differences as points with their intervals, filled where beyond noise; None where there is none."""
    shown = [one for one in differences if one.measure.kind == ACCURACY][:PICTURED]
    if not shown:
        return None
    labels = dict.fromkeys(one.group for one in shown)
    several = len(labels) > 1
    canvas, panel = _canvas(1.4 + (0.4 if several else 0.27) * len(shown), width=7.5)
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    for row, one in enumerate(shown):
        colour = colours[one.group]
        for verdict, offset, style in ((one.over_seeds, -0.13, "-"), (one.over_samples, 0.13, ":")):
            interval = verdict.test.interval if verdict else None
            if interval is not None and interval.low is not None:
                panel.plot([interval.low, interval.high], [row + offset] * 2, style, color=colour, linewidth=1.6)
        fill = colour if one.beyond_noise else "white"
        panel.plot(one.over_seeds.test.interval.estimate, row, "o", color=colour, markerfacecolor=fill, markersize=5)
    panel.axvline(0, color="#666", linewidth=0.8)
    panel.set_yticks(range(len(shown)), [_row_name(one, several) for one in shown], fontsize=8)
    panel.set_ylim(len(shown) - 0.5, -0.5)
    title = "Differences in accuracy"
    dress(panel, title, "group minus reference\nsolid: interval over seeds; dotted: over samples; filled: beyond noise")
    panel.grid(axis="y", visible=False)
    told = ", ".join(
        f"{one.group}: {one.measure.title} {signed(one.over_seeds.test.interval.estimate, 3)}" for one in shown
    )
    return image(canvas, title, f"{title} from the reference: {told}")


def _row_name(one: Difference, several: bool) -> str:
    return f"{one.group}:\n{one.measure.title}" if several else one.measure.title


def course_image(name: str, courses: Sequence[Course]) -> FigureImage | None:
    """A metric over the steps, a line a group with the range of its seeds; None without lines."""
    if not courses:
        return None
    canvas, panel = _canvas(3.6)
    for number, one in enumerate(courses):
        colour, style = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
        panel.plot(one.steps, one.mean, style, color=colour, linewidth=1.3, label=one.label)
        panel.fill_between(one.steps, one.low, one.high, color=colour, alpha=0.12, linewidth=0)
    dress(panel, name, "optimizer step; band: range of the seeds")
    _legend(canvas, panel, len(courses))
    ends = ", ".join(f"{one.label} ends at {one.mean[-1]:.4g}" for one in courses)
    return image(canvas, name, f"{name} over the optimizer step: {ends}")


def noise_image(courses: Mapping[str, Sequence[tuple[int, Interval]]]) -> FigureImage | None:
    """Noise over the rounds, a line a group with its interval over seeds; None where no group knows it."""
    known = {label: points for label, points in courses.items() if points}
    if not known:
        return None
    canvas, panel = _canvas(3.6)
    for number, (label, points) in enumerate(known.items()):
        colour, style = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
        rounds, means = [point[0] for point in points], [point[1].estimate for point in points]
        marker = MARKERS[number % len(MARKERS)]
        panel.plot(rounds, means, style, marker=marker, markersize=4, color=colour, linewidth=1.3, label=label)
        bands = [(x, one.low, one.high) for x, one in points if one.low is not None]
        if bands:
            x, low, high = zip(*bands, strict=True)
            panel.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    panel.set_xticks(sorted({x for points in known.values() for x, _ in points}))
    panel.set_ylim(bottom=0)
    title = "Noise of the open pool in use"
    dress(panel, title, "after round (0: as published)")
    _legend(canvas, panel, len(known))
    ends = ", ".join(f"{label} ends at {points[-1][1].estimate:.3f}" for label, points in known.items())
    return image(canvas, title, f"{title} over the rounds: {ends}")


def _canvas(height: float, width: float = 6) -> tuple[Canvas, Any]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots()


def _legend(canvas: Canvas, panel: Any, lines: int) -> None:
    if 1 < lines <= LEGEND:
        handles, labels = panel.get_legend_handles_labels()
        columns = legend_columns(labels, canvas.get_figwidth())
        canvas.legend(handles, labels, loc="outside lower center", fontsize=7, frameon=False, ncols=columns)
    elif lines > LEGEND:
        canvas.legend(*panel.get_legend_handles_labels(), loc="outside right upper", fontsize=6, frameon=False)
