"""The gate in front of Pillow: what is read, as what, and what is refused, in one line."""

import io
import os
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fuzz import chunk, good_pictures
from PIL import Image, ImageOps

from deepnets.data import pictures, read_image
from deepnets.errors import UserError

RUN = Path(__file__).parent.parent / "results/main/mnist/resnet20/tuned/seed0"
RANDOM = np.random.default_rng(0)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(image, kind, **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


@pytest.fixture
def read(tmp_path):
    """Reads a picture of these bytes."""

    def written(content, **how):
        (tmp_path / "p.png").write_bytes(content)
        return read_image(tmp_path / "p.png", **how)

    return written


def refused(file, says):
    with pytest.raises(UserError, match=says):
        read_image(file)


# --- what is read


def test_brightness_of_16_bits_is_scaled_and_its_transparent_value_is_white(read):
    gray = encoded(
        Image.fromarray(np.array([[0x8000, 5, 0x0100]], np.uint16)), "PNG", transparency=5
    )
    assert read(gray)[0, :, 0].tolist() == [128, 255, 1]
    pgm = b"P5 2 1 65535 " + np.array([51200, 256], ">u2").tobytes()
    assert read(pgm)[0, :, 0].tolist() == [200, 1]


def test_every_orientation_is_turned_as_pillow_turns_it(read):
    image = Image.fromarray(RANDOM.integers(0, 256, (4, 6, 3), np.uint8))
    exif = image.getexif()
    for tag in range(1, 9):
        exif[0x0112] = tag
        content = encoded(image, "PNG", exif=exif)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(read(content), expected)


@pytest.mark.parametrize(
    ("mode", "transparent"),
    [("RGBA", None), ("LA", None), ("PA", None), ("P", 3), ("L", 7), ("RGB", (1, 2, 3))],
)
def test_what_is_transparent_lies_on_white_as_pillow_does_it(read, mode, transparent):
    pixels = Image.fromarray(RANDOM.integers(0, 256, (70, 50, 4), np.uint8))
    image = pixels.convert("RGBA" if transparent is None else "RGB").convert(mode)
    extra = {} if transparent is None else {"transparency": transparent}
    content = encoded(image, "TIFF" if mode == "PA" else "PNG", **extra)
    colours = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    expected = Image.alpha_composite(white, colours).convert("RGB")
    np.testing.assert_array_equal(read(content), expected)


def test_damaged_exif_is_no_reason_to_refuse_a_picture(read):
    content = encoded(Image.new("RGB", (6, 4), (1, 2, 3)), "PNG")
    for exif in (b"junk", b"II*\0\xff\xff\xff\xff"):
        assert read(content[:33] + chunk(b"eXIf", exif) + content[33:]).shape == (4, 6, 3)


@pytest.mark.parametrize("name", good_pictures())
def test_what_pillow_reads_by_itself_is_read_and_nothing_else(tmp_path, name):
    content, suffix = good_pictures()[name], Path(name).suffix
    (tmp_path / name).write_bytes(content)
    if suffix in pictures.SUFFIXES:
        assert sorted(read_image(tmp_path / name).shape) == [3, 40, 48]
    else:
        refused(tmp_path / name, "is not a readable image")


def test_a_larger_picture_is_scaled_down_on_demand(read):
    """Stripes too fine for the size become gray."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 64))
    content = encoded(Image.fromarray(stripes), "PNG")
    assert read(content, most=128).shape == (64, 128, 3)
    for how, shape in (({"side": 16}, (16, 16, 3)), ({"most": 32}, (16, 32, 3))):
        shown = read(content, **how).astype(int)
        assert shown.shape == shape
        assert abs(shown[:, 2:-2] - 128).max() < 10


def test_of_large_pictures_one_at_a_time_is_decoded(tmp_path, monkeypatch):
    """Which bounds the memory of all threads together."""
    Image.new("L", (100, 100)).save(tmp_path / "p.png")
    monkeypatch.setattr(pictures, "LARGE", 9_999)
    most, decode = [], pictures._rgb

    def counted(*args):
        assert pictures._one_at_a_time.locked()
        most.append(1)
        return decode(*args)

    monkeypatch.setattr(pictures, "_rgb", counted)
    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(read_image, [tmp_path / "p.png"] * 8)]) == 8
    assert len(most) == 8


# --- what is refused


def test_brightness_of_no_known_range_is_refused(tmp_path):
    for kind in (np.float32, np.int32):
        Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "p.tiff")
        refused(tmp_path / "p.tiff", r"p\.tiff has 32 bits a pixel")


def test_no_program_is_started_for_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n{} loop\n%%EOF\n"
    (tmp_path / "x.png").write_bytes(eps)
    refused(tmp_path / "x.png", r"x\.png is not a readable image")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.jpg"))
    for file in tmp_path.iterdir():
        refused(file, "is not a regular file")


@pytest.mark.parametrize("side", [9_500, 40_000])  # below and above what Pillow itself refuses
def test_too_large_a_picture_is_called_so_and_costs_nothing(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    (tmp_path / "p.png").write_bytes(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    refused(tmp_path / "p.png", r"p\.png is too large: it has more than 89 megapixels")


def test_what_is_not_there_or_may_not_be_read_is_said(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "none.png")
    refused(tmp_path / "link.png", r"link\.png cannot be read: No such file")
    if os.geteuid():
        (tmp_path / "closed.png").touch(mode=0)
        refused(tmp_path / "closed.png", r"closed\.png cannot be read: Permission denied")


def test_a_damaged_picture_is_one_line(tmp_path, python):
    """Neither Python's warnings nor what a C library says by itself are beside it."""
    strip = encoded(Image.effect_noise((30, 30), 80), "TIFF", compression="tiff_adobe_deflate")
    bits, white = encoded(Image.new("RGB", (5, 5)), "TIFF"), Image.new("RGB", (20, 20))
    files = {
        "cut.tif": encoded(white, "TIFF", compression="tiff_lzw")[:-60],
        "strip.tif": strip[:8] + b"\xff" * 8 + strip[16:],
        "bits.tif": bits.replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 99, 99, 99)),
        "empty.png": b"",
    }
    files |= {name: content[: len(content) // 2] for name, content in good_pictures().items()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    names = sorted(files)
    code = f"from deepnets import cli; cli.main(['predict', {str(RUN)!r}, *{names!r}])"
    done = python("-c", code, cwd=tmp_path)
    said = "deepnets: {} is not a readable image"
    for line, name in zip(done.stderr.splitlines(), names, strict=True):
        assert line.startswith(said.format(name))
    assert not done.stdout
