"""Pictures read safely with Pillow: regular files, known formats, sizes that fit memory."""

import ctypes
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError

# What Pillow decodes by itself and in the size that the header tells. Other formats start programs
# (PostScript starts Ghostscript) or hold pictures of another size than they say (icons).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
LARGEST = 89_478_485  # pixels, above which Pillow warns; decoding takes up to 14 bytes each
LARGE = 2**24  # pixels of a picture that is decoded while no other large one is

warnings.filterwarnings("ignore", module="PIL")  # errors say why a picture is not read
# Else what Pillow logs of a damaged file goes to the terminal
logging.getLogger("PIL").addHandler(logging.NullHandler())
# libtiff goes there by itself; on Windows it has no name to call it by
with suppress(AttributeError, OSError):
    for _handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(Image.core.__file__), _handler)(None)


_one_at_a_time = threading.Lock()


def read_image(file: str | Path, side: int | None = None) -> np.ndarray:
    """Reads a picture as (H, W, 3), uint8, upright, on white where it is transparent.

    Args:
        file: a picture in one of `FORMATS`; of several in a file the first.
        side: crop the middle square and scale it to this many pixels.

    Raises:
        UserError: the file is no picture, or too large, or its brightness has no known range.
    """
    with _opened(file) as opened:
        picture = _rgb(opened, file)
        if side is not None:
            picture = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
        return np.asarray(picture)


def square(file: str | Path) -> int:
    """Returns a square picture's side, 0 of another's, from its header; raises as `read_image`."""
    with _opened(file) as picture:
        return picture.width if picture.width == picture.height else 0


@contextmanager
def _opened(file: str | Path) -> Iterator[Image.Image]:
    """Opens a picture; any error, then or when the caller reads its pixels, is a UserError."""
    try:
        # Opening a pipe would wait; a device would be read without end
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise UserError(f"{file} is not a regular file; replace or remove it")
        with Image.open(file, formats=FORMATS) as picture:
            count = picture.width * picture.height
            if count > LARGEST:
                raise Image.DecompressionBombError
            with _one_at_a_time if count > LARGE else nullcontext():
                yield picture
                picture.close()  # frees its pixels now, not when Python collects garbage
    except UserError:
        raise
    except Image.DecompressionBombError:
        much = f"it has more than {LARGEST // 10**6} megapixels"
        raise UserError(f"{file} is too large: {much}; scale it down") from None
    except MemoryError:
        raise UserError(f"{file} needs more memory than there is; scale it down") from None
    except Exception as error:  # a damaged picture fails in dozens of ways
        if why := getattr(error, "strerror", None):  # of the system: it is not there, say
            raise UserError(f"{file} cannot be read: {why}") from None
        known = ", ".join(name.lower() for name in FORMATS)
        raise UserError(f"{file} is not a readable image ({known}); replace or remove it") from None


def _rgb(picture: Image.Image, file: str | Path) -> Image.Image:
    """Returns a picture of any mode in RGB, upright, on white."""
    picture.load()
    with suppress(Exception):  # damaged EXIF is no reason to refuse the picture
        ImageOps.exif_transpose(picture, in_place=True)
    transparent = picture.info.get("transparency")
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        values = np.asarray(picture)  # 16 bits, which Pillow would clip, not scale
        gray = (values >> 8).astype(np.uint8)
        if transparent is not None:
            gray[values == transparent] = 255
        return Image.fromarray(gray).convert("RGB")
    if picture.mode in ("I", "F"):
        wrong = f"{file} has 32 bits a pixel, of which nothing says what is white"
        raise UserError(f"{wrong}; save it with 8 or 16")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        return white
    return picture.convert("RGB")
