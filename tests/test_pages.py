"""Templates, images and cells of the HTML pages."""

import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from mrm.pages import format_number, image_uri, shorten, write_page
from tests.datamodules.making import make_image


def test_write_page_escapes_and_replaces_the_old_page(tmp_path):
    template = tmp_path / "page.j2"
    template.write_text("<p>{{ text }}</p>")
    target = tmp_path / "new" / "page.html"
    write_page(target, template, text="old")
    assert write_page(target, template, text="<script>").read_text() == "<p>&lt;script&gt;</p>"
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]


def test_write_page_refuses_a_name_without_a_value(tmp_path):
    template = tmp_path / "page.j2"
    template.write_text("{{ text }}")
    with pytest.raises(jinja2.UndefinedError, match="text"):
        write_page(tmp_path / "page.html", template)


def test_shorten_says_how_much_is_missing():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcde", 3) == "abc … (2 more characters)"


def test_image_uri_is_a_small_jpeg_and_none_where_nothing_decodes():
    uri = image_uri(make_image(0, size=(1000, 500)))
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert image.size == (320, 160)
    assert image_uri(make_image(0, size=(1000, 500))[:200]) is None
    assert image_uri(b"") is None


def test_image_uri_shows_what_the_model_sees():
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    image = Image.open(io.BytesIO(base64.b64decode(image_uri(buffer.getvalue()).split(",")[1])))
    assert image.size == (20, 40)
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "ICO")  # a format that shards do not hold
    assert image_uri(buffer.getvalue()) is None


def test_format_number_cells():
    cells = [None, np.nan, 12345, 0.123456, "text", ["a", "b"], True]
    assert [format_number(cell) for cell in cells] == ["–", "–", "12,345", "0.1235", "text", "a, b", "True"]
