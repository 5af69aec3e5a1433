"""The gate in front of Pillow: what is read, as what, and what is refused, in one line."""

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from deepnets import data
from deepnets.data import pictures
from deepnets.errors import UserError


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(pixels, *chunks, depth=16, colour=2):
    """The bytes of a PNG of `pixels` (H, W, ...), which Pillow itself would not write with 16 bits
    a channel.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunks)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def refused(file, says):
    with pytest.raises(UserError, match=says) as error:
        data.read_image(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["transparent", "palette", "gray16", "pgm16", "rotated"])
def test_pictures_of_every_form_become_rgb(tmp_path, form):
    path = tmp_path / "picture.png"
    if form == "transparent":
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(path)
        assert data.read_image(path).min() == 255
    elif form == "palette":
        Image.new("RGB", (4, 4), (9, 9, 9)).convert("P").save(path)
        assert data.read_image(path).shape == (4, 4, 3)
    elif form == "gray16":
        Image.fromarray(np.full((4, 4), 51200, np.uint16)).save(path)
        assert data.read_image(path).max() == 200
    elif form == "pgm16":
        (tmp_path / "picture.pgm").write_bytes(
            b"P5 2 1 65535 " + np.array([51200, 256], ">u2").tobytes()
        )
        assert data.read_image(tmp_path / "picture.pgm")[0, :, 0].tolist() == [200, 1]
    else:
        image = Image.new("RGB", (6, 4))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "picture.jpg", exif=exif)
        assert data.read_image(tmp_path / "picture.jpg").shape == (6, 4, 3)


def test_the_transparent_gray_of_16_bits_is_white_and_no_other(tmp_path):
    Image.fromarray(np.array([[0x8000, 5, 0x0100]], np.uint16)).save(
        tmp_path / "p.png", transparency=5
    )
    assert data.read_image(tmp_path / "p.png")[0, :, 0].tolist() == [128, 255, 1]


def test_the_transparent_colour_of_16_bits_is_white_and_no_other(tmp_path):
    pixels = np.array([[[0x8000, 0x4000, 0], [0x1234, 0, 0xFF00]]], ">u2")
    (tmp_path / "p.png").write_bytes(
        png(pixels, chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0, 0xFF00)))
    )
    assert data.read_image(tmp_path / "p.png")[0].tolist() == [[128, 64, 0], [255, 255, 255]]


@pytest.mark.parametrize("tag", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, tag):
    from PIL import ImageOps

    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = tag
    image.save(tmp_path / "p.png", exif=exif)
    with Image.open(tmp_path / "p.png") as stored:
        np.testing.assert_array_equal(
            data.read_image(tmp_path / "p.png"), ImageOps.exif_transpose(stored)
        )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
def test_what_is_transparent_lies_on_white_as_pillow_does_it(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 4), np.uint8)
    image = (
        Image.fromarray(pixels)
        .convert("RGB" if mode in ("P", "L", "RGB") else "RGBA")
        .convert(mode)
    )
    extra = {
        "P": {"transparency": 3},
        "L": {"transparency": 7},
        "RGB": {"transparency": (1, 2, 3)},
    }.get(mode, {})
    image.save(tmp_path / "p.tif" if mode == "PA" else tmp_path / "p.png", **extra)
    file = next(tmp_path.iterdir())
    with Image.open(file) as stored:
        colours = stored.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert(
        "RGB"
    )
    np.testing.assert_array_equal(data.read_image(file), expected)


def test_damaged_exif_is_no_reason_to_refuse_a_picture(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (1, 2, 3)).save(buffer, "PNG")
    content = buffer.getvalue()
    for exif in (
        b"junk",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\xff\xff\0\0\0\0\0\0",
    ):
        (tmp_path / "p.png").write_bytes(content[:33] + chunk(b"eXIf", exif) + content[33:])
        assert data.read_image(tmp_path / "p.png").shape == (4, 6, 3)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_brightness_of_no_known_range_is_refused(tmp_path, kind):
    Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "picture.tiff")
    refused(tmp_path / "picture.tiff", r"picture\.tiff has 32 bits a pixel")


@pytest.mark.parametrize(
    "suffix",
    [
        "avif",
        "bmp",
        "dib",
        "gif",
        "jfif",
        "jpe",
        "jpg",
        "jp2",
        "pbm",
        "pcx",
        "png",
        "qoi",
        "sgi",
        "tga",
        "tif",
        "webp",
    ],
)
def test_what_pillow_reads_by_itself_is_read(tmp_path, suffix):
    file = tmp_path / f"p.{suffix}"
    try:
        Image.new("1" if suffix == "pbm" else "RGB", (40, 40), "white").save(file)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow does not write it: {error}")
    assert f".{suffix}" in pictures.suffixes()
    assert data.read_image(file).min() > 250


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n{} loop\n%%EOF\n"


def test_no_program_is_started_for_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "x.png").write_bytes(POSTSCRIPT)
    refused(tmp_path / "x.png", r"x\.png is not a readable image")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "link to a pipe"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, kind):
    file = tmp_path / "x.jpg"
    if kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(file))
    else:
        os.mkfifo(tmp_path / "pipe" if kind.startswith("link") else file)
        if kind.startswith("link"):
            file.symlink_to(tmp_path / "pipe")
    refused(file, "is not a regular file")


def test_too_large_a_picture_is_called_so_and_costs_nothing(tmp_path):
    for side in (9_500, 13_300, 40_000):  # below and above what Pillow itself refuses
        pixels = np.zeros((1, 1), np.uint8)
        content = png(pixels, depth=1, colour=0).replace(
            struct.pack(">II", 1, 1), struct.pack(">II", side, side), 1
        )
        (tmp_path / "p.png").write_bytes(
            content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
        )
        refused(tmp_path / "p.png", r"p\.png is too large: it has more than 89 megapixels")


def test_large_pictures_are_decoded_a_few_at_a_time(tmp_path, monkeypatch):
    """So many pixels at a time: the memory of all threads together."""
    Image.new("L", (100, 100)).save(tmp_path / "p.png")
    monkeypatch.setattr(pictures, "LARGEST", 25_000)
    within, most, decode = [], [], pictures._rgb
    both = threading.Barrier(2, timeout=10)

    def counted(*args):
        within.append(1)
        most.append(len(within))
        if len(most) < 3:
            both.wait()
        result = decode(*args)
        within.pop()
        return result

    monkeypatch.setattr(pictures, "_rgb", counted)
    threads = [
        threading.Thread(target=pictures.read_image, args=(tmp_path / "p.png",)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8
    assert max(most) == 2


def damaged_files():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(buffer, "TIFF", compression="tiff_lzw")
    yield "cut.tif", buffer.getvalue()[:-60]
    buffer = io.BytesIO()
    Image.effect_noise((30, 30), 80).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    yield "strip.tif", buffer.getvalue()[:8] + b"\xff" * 8 + buffer.getvalue()[16:]
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[258] = (99, 99, 99)
    buffer = io.BytesIO()
    Image.new("RGB", (5, 5)).save(buffer, "TIFF", tiffinfo=info)
    yield (
        "bits.tif",
        buffer.getvalue().replace(struct.pack("<HHH", 8, 8, 8), struct.pack("<HHH", 99, 99, 99)),
    )
    for suffix in ("png", "jpg", "gif", "webp", "bmp", "tga", "jp2"):
        buffer = io.BytesIO()
        Image.effect_noise((30, 30), 80).convert("RGB").save(
            buffer, {"jpg": "JPEG", "jp2": "JPEG2000"}.get(suffix, suffix)
        )
        yield f"half.{suffix}", buffer.getvalue()[: len(buffer.getvalue()) // 2]
    yield "empty.png", b""
    yield "text.jpg", b"hello"


@pytest.mark.parametrize(
    ("name", "content"), [pytest.param(*case, id=case[0]) for case in damaged_files()]
)
def test_a_damaged_picture_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, f"{name} is not a readable image")


READ = """
import pathlib
from deepnets import data
from deepnets.errors import UserError
for file in pathlib.Path().iterdir():
    try:
        data.read_image(file)
    except UserError:
        print(file)
"""


def test_nothing_else_is_printed_of_damaged_pictures(tmp_path):
    """Neither Python's warnings nor what a C library says by itself."""
    files = dict(damaged_files())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    where = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", READ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=where)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == set(files)


def test_what_is_not_there_or_may_not_be_read_is_said(tmp_path):
    refused(tmp_path / "none.png", "does not exist")
    (tmp_path / "link.png").symlink_to(tmp_path / "none.png")
    refused(tmp_path / "link.png", "does not exist")
    if os.geteuid():
        (tmp_path / "closed.png").touch(mode=0)
        refused(tmp_path / "closed.png", "permission denied")


def test_a_larger_picture_is_scaled_down_on_demand(tmp_path):
    Image.new("RGB", (300, 100), (5, 6, 7)).save(tmp_path / "p.png")
    assert pictures.read_image(tmp_path / "p.png", most=150).shape == (50, 150, 3)
    assert pictures.read_image(tmp_path / "p.png", most=300).shape == (100, 300, 3)
