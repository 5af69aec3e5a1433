"""The gate in front of Pillow: what is read, as what, and what is refused. Damaged pictures, and
what is no file: test_fuzz.py.
"""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzz import chunk, good_pictures
from PIL import Image, ImageOps

from deepnets.data import pictures, read_image
from deepnets.errors import UserError

RANDOM = np.random.default_rng(0)


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
    """Nor is half of a picture."""
    content, suffix = good_pictures()[name], Path(name).suffix
    (tmp_path / name).write_bytes(content)
    if suffix in pictures.SUFFIXES:
        assert sorted(read_image(tmp_path / name).shape) == [3, 40, 48]
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    refused(tmp_path / name, "is not a readable image")


def test_no_c_library_says_by_itself_what_is_wrong_with_a_picture(tmp_path, capfd):
    content = encoded(Image.effect_noise((30, 30), 80), "TIFF", compression="tiff_adobe_deflate")
    (tmp_path / "strip.tif").write_bytes(content[:8] + b"\xff" * 8 + content[16:])
    refused(tmp_path / "strip.tif", "is not a readable image")
    assert capfd.readouterr().err == ""


def test_a_picture_is_cropped_and_scaled_down(read):
    """Stripes too fine for the size become gray."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 64))
    stripes[:, :32] = stripes[:, -32:] = 0
    shown = read(encoded(Image.fromarray(stripes), "PNG"), side=16).astype(int)
    assert shown.shape == (16, 16, 3)
    assert abs(shown[:, 2:-2] - 128).max() < 10


def test_a_large_picture_is_decoded_while_no_other_is(read, monkeypatch):
    """Which bounds the memory of all threads together."""
    content, held, decode = encoded(Image.new("L", (9, 9)), "PNG"), [], pictures._rgb

    def noted(*given):
        held.append(pictures._one_at_a_time.locked())
        return decode(*given)

    monkeypatch.setattr(pictures, "_rgb", noted)
    for large in (81, 80):
        monkeypatch.setattr(pictures, "LARGE", large)
        read(content)
    assert held == [False, True]


# --- what is refused


def test_brightness_of_no_known_range_is_refused(tmp_path):
    for kind in (np.float32, np.int32):
        Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "p.tiff")
        refused(tmp_path / "p.tiff", r"p\.tiff has 32 bits a pixel")


@pytest.mark.parametrize("side", [9_500, 40_000])  # below and above what Pillow itself refuses
def test_too_large_a_picture_is_called_so_and_costs_nothing(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    (tmp_path / "p.png").write_bytes(content)
    refused(tmp_path / "p.png", r"p\.png is too large: it has more than 89 megapixels")
