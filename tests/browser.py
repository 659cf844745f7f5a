"""Looks at an HTML page in headless Chromium: what its console says, which images are shown, whether it fits a width.

Chromium is driven by its command line alone: the page stands in frames of the widths asked for, and a script of the frames' own page
writes down what it finds there.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

PHONE, DESKTOP = 390, 1280
SMALLEST_LETTERS = 9  # pixels, of a picture as it is shown
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (  # no sandbox: containers have none to give; the others keep it from calling home
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
LONGEST_S = 120
_SCRIPT = """
const look = (frame) => {
  const page = frame.contentDocument, images = [];
  for (const image of page.images) {
    const box = image.getBoundingClientRect();
    images.push({alt: image.alt, shown: image.naturalWidth > 0, width: box.width, height: box.height,
                 ratio: image.naturalHeight ? image.naturalWidth / image.naturalHeight : 0,
                 letters: image.dataset.letters ? image.dataset.letters * box.width / image.naturalWidth : null});
  }
  const text = [...page.querySelectorAll("body, td, th, p, dd, dt, li")].filter((one) => one.textContent.trim());
  return {width: page.documentElement.clientWidth, needs: page.documentElement.scrollWidth, images,
          smallest: Math.min(...text.map((one) => parseFloat(getComputedStyle(one).fontSize))), title: page.title};
};
addEventListener("load", () => {  // by then the frames and their pictures are loaded, or have failed
  const seen = [...document.querySelectorAll("iframe")].map(look);
  document.body.setAttribute("data-seen", JSON.stringify(seen));
});
"""


@dataclass(frozen=True)
class Image:
    """A picture as the browser shows it: whether it decodes, its size there in pixels, width / height as encoded, the size of its
    smallest letters there (None where the page does not tell them)."""

    alt: str
    shown: bool
    width: float
    height: float
    ratio: float
    letters: float | None = None


@dataclass(frozen=True)
class Seen:
    """A page at one width, in pixels: what it has, what it needs, its pictures, the smallest text, its title."""

    width: int
    needs: int
    images: tuple[Image, ...]
    smallest: float
    title: str


@dataclass(frozen=True)
class Look:
    """A page at several widths, and what the console said."""

    at: dict[int, Seen]
    console: tuple[str, ...]


def find_browser() -> str:
    """The browser's path; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium on the path (apt-get install chromium)")
    return found


def look_at(page: Path, widths: tuple[int, ...] = (PHONE, DESKTOP)) -> Look:
    """Opens a page that needs nothing else."""
    browser = find_browser()
    inner = html.escape(page.read_text(encoding="utf-8"))
    frames = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{inner}"></iframe>' for width in widths
    )
    with tempfile.TemporaryDirectory() as folder:
        outer = Path(folder) / "outer.html"
        outer.write_text(f"<!doctype html><script>{_SCRIPT}</script><body>{frames}</body>", encoding="utf-8")
        words = [
            browser, *QUIET, f"--user-data-dir={folder}/profile", f"--window-size={sum(widths)},900", "--enable-logging=stderr",
            "--dump-dom", outer.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_S)
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, f"the browser ended with {done.returncode} and saw nothing:\n{done.stderr[-2000:]}"
    seen = [
        Seen(
            one["width"], one["needs"], tuple(Image(**image) for image in one["images"]), one["smallest"], one["title"]
        )
        for one in json.loads(html.unescape(found[1]))
    ]
    console = tuple(line for line in done.stderr.splitlines() if ":CONSOLE" in line)
    return Look(dict(zip(widths, seen, strict=True)), console)


def check_page(page: Path, *, images: int) -> Look:
    """Asserts that a page is fit to be read at phone and desktop widths.

    Args:
        page: the file.
        images: how many it has.
    """
    look = look_at(page)
    assert not look.console, look.console
    for width, seen in look.at.items():
        assert seen.needs <= seen.width, f"at {width} pixels the page is {seen.needs} wide and scrolls sideways"
        assert seen.smallest >= 11, f"text of {seen.smallest} pixels at {width}"
        assert seen.title and len(seen.images) == images, (seen.title, len(seen.images))
        for image in seen.images:
            assert image.shown and image.alt, f"not shown at {width}: {image}"
            assert 0 < image.width <= width and image.height > 0, f"at {width}: {image}"
            assert abs(image.width / image.height / image.ratio - 1) < 0.02, f"out of shape at {width}: {image}"
            if image.letters is not None:
                assert image.letters >= SMALLEST_LETTERS, f"letters of a picture too small at {width}: {image}"
    return look
