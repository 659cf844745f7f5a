"""The page's pictures: differences with their intervals, curves, noise over the rounds, figures over a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill, wrap
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.transforms import blended_transform_factory

from mrm.comparing.courses import Course
from mrm.comparing.differences import Difference
from mrm.comparing.drawing import MARKERS, dress, image, legend_beneath
from mrm.comparing.measures import ACCURACY
from mrm.comparing.tables import signed
from mrm.evaluation.intervals import Interval
from mrm.pages import COLOURS, FigureImage

WIDTH = 4.3  # inches: on a phone the letters, of 8 points, are still 9 pixels high
PICTURED = 24  # differences in one picture
ROW, HEADING, GAP = 0.27, 0.19, 0.06  # inches: of a difference, of a line of a group's name, above that
NAME, LABEL = 22, 52  # letters in a line: of a figure's name, of a group's label


def difference_images(differences: Sequence[Difference]) -> list[FigureImage]:
    """Accuracy differences as points with their intervals, filled where beyond noise: all of them, in as many pictures as it takes.

    A group's differences stay together where one picture has room for them; the scale is the same in all pictures.
    """
    shown = [one for one in differences if one.measure.kind == ACCURACY]
    ends = [0.0, *(value for one in shown for value in _values(one))]
    margin = 0.05 * (max(ends) - min(ends)) or 0.01
    limits = min(ends) - margin, max(ends) + margin
    labels = dict.fromkeys(one.group for one in shown)
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    parts = parted([[one for one in shown if one.group == label] for label in labels], PICTURED)
    return [
        _difference_image(
            part, f"Differences in accuracy{f' ({i} of {len(parts)})' if len(parts) > 1 else ''}", limits, colours
        )
        for i, part in enumerate(parts, 1)
    ]


def parted(groups: Sequence[Sequence[Difference]], most: int) -> list[list[Difference]]:
    """All differences in their order, in parts of at most `most`; a group is divided only where it alone is more."""
    parts: list[list[Difference]] = []
    for group in groups:
        for start in range(0, len(group), most):
            piece = group[start : start + most]
            if parts and len(parts[-1]) + len(piece) <= most:
                parts[-1].extend(piece)
            else:
                parts.append(list(piece))
    return parts


def _values(one: Difference) -> list[float]:
    """What is drawn of a difference."""
    intervals = [verdict.test.interval for verdict in (one.over_seeds, one.over_samples) if verdict]
    ends = [end for interval in intervals for end in (interval.low, interval.high) if end is not None]
    return [one.over_seeds.test.interval.estimate, *ends]


def _difference_image(
    shown: Sequence[Difference], title: str, limits: tuple[float, float], colours: Mapping[str, str]
) -> FigureImage:
    headings = {one.group: wrap(one.group, LABEL) for one in shown}
    names = [fill(one.measure.title, NAME) for one in shown]
    canvas, panel = _canvas(3.6)
    across = blended_transform_factory(canvas.transFigure, panel.transData)
    place, places = 0.0, []  # inches from the top of the panel
    for number, one in enumerate(shown):
        if number == 0 or shown[number - 1].group != one.group:
            lines = headings[one.group]
            place += GAP if number else 0
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            text = panel.text(0.015, place, "\n".join(lines), transform=across, fontsize=8, va="top", bbox=box)
            text.set_in_layout(False)  # it has the picture's whole width
            place += HEADING * len(lines)
        height = max(ROW, HEADING * (names[number].count("\n") + 1))
        places.append(place + height / 2)
        place += height
        _draw_difference(panel, one, places[-1], colours[one.group])
    panel.axvline(0, color="#666", linewidth=0.8)
    panel.set_yticks(places, names)
    panel.set_ylim(place, 0)
    panel.set_xlim(limits)
    dress(panel, "", "")
    panel.grid(axis="y", visible=False)
    canvas.set_figheight(place + 1.2)
    canvas.suptitle(title, x=0.015, ha="left", fontsize=10)
    canvas.supxlabel(
        "group minus reference; filled: beyond noise\nsolid: interval over seeds; dotted: over samples", fontsize=8
    )
    told = ", ".join(
        f"{one.group}: {one.measure.title} {signed(one.over_seeds.test.interval.estimate, 3)}" for one in shown
    )
    return image(canvas, title, f"{title} from the reference: {told}")


def _draw_difference(panel: Any, one: Difference, place: float, colour: str) -> None:
    for verdict, offset, style in ((one.over_seeds, -0.045, "-"), (one.over_samples, 0.045, ":")):
        interval = verdict.test.interval if verdict else None
        if interval is not None and interval.low is not None:
            panel.plot([interval.low, interval.high], [place + offset] * 2, style, color=colour, linewidth=1.6)
    fill_colour = colour if one.beyond_noise else "white"
    panel.plot(
        one.over_seeds.test.interval.estimate, place, "o", color=colour, markerfacecolor=fill_colour, markersize=5
    )


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
    if len(courses) > 1:
        legend_beneath(canvas, panel)
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
    if len(known) > 1:
        legend_beneath(canvas, panel)
    ends = ", ".join(f"{label} ends at {points[-1][1].estimate:.3f}" for label, points in known.items())
    return image(canvas, title, f"{title} over the rounds: {ends}")


def _canvas(height: float) -> tuple[Canvas, Any]:
    canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots()
