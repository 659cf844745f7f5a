"""Images in folders, zip files and columns; and the paths that are refused."""

import base64
import zipfile

import fsspec
import pytest

from datamodules.sources.archives import MAX_FILE_BYTES, ZipImages, find_zips
from datamodules.sources.images import Images, from_base64, image_of, path_after, read_image, safe_path
from datamodules.sources.location import Location
from mrm.errors import ConfigError, RecordError
from tests.datamodules.sources.counting import counting
from tests.datamodules.sources.helpers import png, write_files, write_zip


def images(folder, media_dir=None):
    return Images(Location.of(folder), media_dir)


def reason(call, *arguments):
    with pytest.raises(RecordError) as error:
        call(*arguments)
    return error.value.reason


@pytest.mark.parametrize(
    "path",
    ["../a.png", "a/../../b.png", "/etc/passwd", "~/a.png", "..", "C:\\a.png", "a\\..\\b", "\\\\host\\a", "a\0b"],
)
def test_safe_path_refuses_what_may_lead_out(path):
    assert reason(safe_path, path) == "unsafe path"


@pytest.mark.parametrize(
    ("path", "why"),
    [("https://x.org/a.png", "remote image"), ("data:image/png;base64,AA", "remote image"), (3, "malformed field"),
     ("", "malformed field"), (None, "malformed field")],
)  # fmt: skip
def test_safe_path_refuses_what_is_no_path(path, why):
    assert reason(safe_path, path) == why


def test_safe_path_takes_out_what_changes_nothing():
    assert safe_path("./images//a..b.png") == "images/a..b.png"


def test_read_outside_the_folder_is_refused_though_the_file_is_there(tmp_path):
    write_files(tmp_path, {"secret.png": png(), "data/a.png": png()})
    assert images(tmp_path / "data").read("a.png") == png()
    assert reason(images(tmp_path / "data").read, "../secret.png") == "unsafe path"
    assert reason(images(tmp_path / "data").read, str(tmp_path / "data" / "a.png")) == "unsafe path"


@pytest.mark.parametrize("member", ["a/1.png", "images/a/1.png", "anything/images/a/1.png"])
def test_read_from_a_zip_with_or_without_folders(tmp_path, member):
    write_zip(tmp_path / "images.zip", {member: png()})
    assert images(tmp_path).read("images/a/1.png") == png()


def test_read_folder_comes_before_zip_and_zips_are_all_looked_in(tmp_path):
    write_files(tmp_path, {"a.png": png("red")})
    write_zip(tmp_path / "x.zip", {"a.png": png("blue"), "b.png": png("green")})
    write_zip(tmp_path / "y.zip", {"c.png": png("white")})
    found = images(tmp_path)
    assert [found.read(f"{name}.png") for name in "abc"] == [png("red"), png("green"), png("white")]
    assert reason(found.read, "d.png") == "image missing"


def test_read_never_takes_another_folders_image_of_the_same_name(tmp_path):
    write_zip(tmp_path / "images.zip", {"a/1.png": png(), "b/2.png": png()})
    assert reason(images(tmp_path).read, "b/1.png") == "image missing"
    assert reason(images(tmp_path).read, "1.png") == "image missing"


@pytest.mark.parametrize("ending", ["_a{}", ".part-a{}", ".00{}", "_{}"])
def test_read_parts_of_a_zip_are_one_file(tmp_path, ending):
    data = write_zip(tmp_path / "whole.zip", {f"{i}.png": png(f"rgb({i},0,0)") for i in range(20)}).read_bytes()
    (tmp_path / "whole.zip").unlink()
    names = "123" if "00" in ending else "abc"
    third = len(data) // 3 + 1
    for i, name in enumerate(names):
        (tmp_path / f"images.zip{ending.format(name)}").write_bytes(data[i * third : (i + 1) * third])
    found = images(tmp_path)
    assert all(found.read(f"{i}.png") == png(f"rgb({i},0,0)") for i in range(20))


def test_find_zips_missing_part_is_told(tmp_path):
    write_files(tmp_path, {"images.zip_aa": b"", "images.zip_ac": b""})
    with pytest.raises(ConfigError, match="images.zip_ac is missing"):
        find_zips(Location.of(tmp_path).children())


@pytest.mark.parametrize("names", [("images.zip_ab", "images.zip_ac"), ("images.zip_b",), ("images.zip.002",)])
def test_find_zips_missing_first_part_is_told(tmp_path, names):
    write_files(tmp_path, dict.fromkeys(names, b""))
    with pytest.raises(ConfigError, match=f"part before .*{names[0]} is missing; fetch all parts of images.zip"):
        find_zips(Location.of(tmp_path).children())


def test_read_zip_packed_on_a_mac_is_that_of_its_folder(tmp_path):
    junk = {"__MACOSX/images/._1.png": b"", "__MACOSX/._images": b"", ".DS_Store": b"", "images/._1.png": b""}
    write_zip(tmp_path / "more.zip", {"images/1.png": png(), **junk})
    assert images(tmp_path).read("1.png") == png()
    assert images(tmp_path).within("images") == ["images/1.png"]


def test_read_cut_zip_is_one_clear_error(tmp_path):
    file = write_zip(tmp_path / "images.zip", {"a.png": png()})
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ConfigError, match="images.zip is no whole zip file"):
        images(tmp_path).read("a.png")


def test_read_damaged_member_is_named_and_the_others_are_read(tmp_path):
    file = write_zip(tmp_path / "images.zip", {"a.png": png("red"), "b.png": png("blue")})
    data = bytearray(file.read_bytes())
    data[data.index(png("red")) + 20] ^= 255
    file.write_bytes(data)
    assert reason(images(tmp_path).read, "a.png") == "image does not decode"
    assert images(tmp_path).read("b.png") == png("blue")


def test_read_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.png", "w", force_zip64=True) as member:
            for _ in range(MAX_FILE_BYTES // (1 << 24) + 1):
                member.write(bytes(1 << 24))
    assert reason(images(tmp_path).read, "a.png") == "image too large"


def test_zip_one_member_is_read_without_the_others(tmp_path):
    members = {f"{i}.png": bytes([i]) * 100_000 for i in range(100)}
    data = write_zip(tmp_path / "images.zip", members).read_bytes()
    fs, file = counting(data, "images.zip")
    assert ZipImages([file], "images.zip").read("50.png") == members["50.png"]
    assert fs.bytes_read < len(data) / 10


def test_media_dir_is_a_folder_or_a_zip_and_the_only_place(tmp_path):
    write_files(tmp_path, {"data/a.png": png("red"), "media/b.png": png("blue")})
    write_zip(tmp_path / "c.zip", {"c.png": png("green")})
    assert images(tmp_path / "data", str(tmp_path / "media")).read("media/b.png") == png("blue")
    assert images(tmp_path / "data", str(tmp_path / "c.zip")).read("c.png") == png("green")
    assert reason(images(tmp_path / "data", str(tmp_path / "media")).read, "a.png") == "image missing"
    with pytest.raises(ConfigError, match="media_dir: there is no"):
        images(tmp_path, str(tmp_path / "none"))


@pytest.mark.parametrize("zipped", [True, False])
def test_within_lists_a_folder_in_order(tmp_path, zipped):
    files = {"videos/v/2.png": png(), "videos/v/1.png": png(), "videos/w/1.png": png()}
    if zipped:
        write_zip(tmp_path / "videos.zip", files)
    else:
        write_files(tmp_path, files)
    assert images(tmp_path).within("videos/v") == ["videos/v/1.png", "videos/v/2.png"]
    assert reason(images(tmp_path).within, "videos/x") == "image missing"


def test_within_sorts_by_number(tmp_path):
    write_files(tmp_path, {f"v/frame_{i}.png": b"" for i in (10, 9, 1)})
    assert images(tmp_path).within("v") == ["v/frame_1.png", "v/frame_9.png", "v/frame_10.png"]


def test_read_missing_image_beside_a_tar_says_what_to_do(tmp_path):
    write_files(tmp_path, {"images.tar.gz.00": b""})
    with pytest.raises(RecordError, match="unpack images.tar.gz.00"):
        images(tmp_path).read("a.png")


def test_read_from_a_url_in_folder_and_zip(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/pictures/a.png", png("red"))
    memory.pipe("/pictures/more.zip", write_zip(tmp_path / "z", {"b.png": png("blue")}).read_bytes())
    found = images("memory://pictures")
    assert (found.read("a.png"), found.read("b.png")) == (png("red"), png("blue"))
    assert reason(found.read, "../a.png") == "unsafe path"
    assert read_image("a.png", Location.of("memory://pictures")) == png("red")
    assert reason(read_image, "/pictures/a.png", Location.of("memory://pictures")) == "unsafe path"


def test_image_of_struct_bytes_or_list(tmp_path):
    write_files(tmp_path, {"a.png": png()})
    forms = [
        {"bytes": png(), "path": None},
        {"bytes": png(), "path": "/x"},
        {"bytes": None, "path": "a.png"},
        png(),
        [png()],
    ]
    assert all(image_of(form, images(tmp_path), "image") == png() for form in forms)


@pytest.mark.parametrize("value", [None, {}, {"bytes": None, "path": None}, "a.png", [], [b"a", b"b"], 3, b""])
def test_image_of_another_form_names_the_column(tmp_path, value):
    with pytest.raises(RecordError, match="'image'") as error:
        image_of(value, images(tmp_path), "image")
    assert error.value.reason == "malformed field"


def test_from_base64_with_and_without_its_header():
    text = base64.b64encode(png()).decode()
    assert from_base64(text, "image") == from_base64(f"data:image/png;base64,{text}", "image") == png()
    assert reason(from_base64, "not base64!", "image") == "malformed field"


def test_path_after_takes_what_follows_the_folder():
    assert path_after("/home/me/merged_images/a/b.jpg", "merged_images") == "a/b.jpg"
    assert path_after("merged_images/b.jpg", "merged_images") == "b.jpg"
    assert path_after("a/b.jpg", "merged_images") == "a/b.jpg"
