"""What the HTML pages share: templates filled with everything escaped, images as data URIs, numbers as cells.

A page is one file that needs nothing else. What it shows is left to those who fill it.
"""

from __future__ import annotations

import base64
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from mrm.errors import RecordError
from mrm.images import decode_image

if TYPE_CHECKING:  # pages without figures need no matplotlib
    from matplotlib.figure import Figure

IMAGE_SIDE = 320  # pixels: enough to judge by, and 24 of them stay below a megabyte
TEXT_LIMIT = 2000  # characters
DPI = 130  # of a drawn figure
# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


@dataclass(frozen=True)
class FigureImage:
    """A drawn figure.

    Args:
        title: of it.
        description: what it shows, in words.
        uri: the picture as a data URI.
        letters: size of its smallest letters in the picture's own pixels; None where nobody measured it.
    """

    title: str
    description: str
    uri: str
    letters: float | None = None


def write_page(path: str | os.PathLike[str], template: Path, **values: Any) -> Path:
    """Fills a template and writes the page; an older one is replaced whole.

    Args:
        path: the HTML file; its folder is made where it is missing.
        template: a Jinja file; a name in it without a value is an error, every value is escaped.
        values: what to fill in.

    Returns:
        The path written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    page = environment.get_template(template.name).render(**values)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target)
    return target


def image_uri(data: bytes, side: int = IMAGE_SIDE) -> str | None:
    """An image as a data URI, no side longer than `side`; None if it does not decode."""
    try:
        image = decode_image(data, name="image")
    except RecordError:
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure_uri(figure: Figure) -> str:
    """A drawn figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def format_number(value: object, form: str = "%.4g") -> str:
    """A table cell: counts in full, other numbers in the given form, a dash for what isn't known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return f"{value:,}" if isinstance(value, int) else form % value


def shorten(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text's first `limit` characters, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"
