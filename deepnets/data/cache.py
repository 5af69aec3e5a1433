"""Decoded copies of folders of pictures, which need not fit in memory.

A copy grows only: a picture is decoded once, to the end of a file of pixels. Its mark, in a second
file, tells whether the picture is new, was changed or took the place of another. So only these are
decoded again, and an interrupted decoding goes on where it was.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import disk
from ..errors import UserError
from . import pictures
from .images import Rows

CHUNK = 2**26  # bytes decoded at a time
NOTED = 5  # seconds between two notes of how far it is


def decoded(files: list[str], path: Path, root: Path, size: int) -> Tensor:
    """Returns pictures as (N, C, side, side), uint8, `Rows` of a file; C is 1 if none has colour.

    Args:
        files: the pictures, below `path`.
        path: the folder, for which there is one copy in `root`/cache for each size.
        root: of all data; if it cannot be written, the copy is a temporary one.
        size: see `folders.load`.

    Raises:
        UserError: a picture is not readable, or there is no room for the copy.
    """
    marked = {_mark(file, path): file for file in files}
    key = f"{path.resolve()} {size}".encode("utf-8", "surrogateescape")
    name = hashlib.sha256(key).hexdigest()[:16]
    with suppress(OSError):  # a root that cannot be written only costs the next load its time
        (root / "cache").mkdir(parents=True, exist_ok=True)
        with disk.lock(root / "cache" / f"{name}.lock"):  # a second process finds them decoded
            return Copy(root / "cache" / name).rows(marked, size)
    try:
        # A deleted file stays mapped
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return Copy(Path(folder) / name).rows(marked, size)
    except OSError as error:
        wrong = f"there is no place for the decoded pictures of {path} in {root / 'cache'}"
        raise UserError(f"{wrong} or {tempfile.gettempdir()}: {error.strerror}") from None


def _mark(file: str, path: Path) -> int:
    """Returns a number of 64 bits that changes when the file or what it is changes."""
    try:
        found = os.stat(file)
    except FileNotFoundError:  # a link to nothing, which will not be readable either
        found = os.lstat(file)
    name = file.removeprefix(str(path)).lstrip(os.sep)
    what = name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
    digest = hashlib.blake2b(ascii(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class Copy:
    """Decoded pictures on disk: a file of pixels (N, 3, side, side), and an index of what they are.

    Attributes:
        side: of the decoded pictures, in pixels.
        known: by mark, in the order of the pixels: the picture's own side if it is a square, else
            0; and whether it has no colour.
    """

    def __init__(self, place: Path) -> None:
        self.pixels, self.index = place.with_suffix(".pixels"), place.with_suffix(".npz")
        self.side = 0
        self.known: dict[int, tuple[int, bool]] = {}
        with suppress(UserError, OSError, KeyError, ValueError, TypeError):  # missing or damaged
            stored = {name: a.tolist() for name, a in disk.read_arrays(self.index, 1 << 32).items()}
            marks, each = stored["marks"], zip(stored["squares"], stored["gray"], strict=True)
            if self.pixels.stat().st_size >= len(marks) * 3 * stored["side"] ** 2:
                self.side, self.known = stored["side"], dict(zip(marks, each, strict=True))

    def rows(self, files: dict[int, str], size: int) -> Tensor:
        """Returns pictures, given by their marks, as `Rows`; decodes what is missing.

        Raises:
            OSError: there is no room, or no right to write.
            UserError: some pictures are not readable; all others are done.
        """
        try:
            with ThreadPoolExecutor() as pool:
                self.complete(files, size, pool)
        except OSError:
            with suppress(OSError):
                self.clear()
            raise
        shape = (len(self.known), 3, self.side, self.side)
        channels = 1 if all(self.known[mark][1] for mark in files) else 3
        array = np.memmap(self.pixels, np.uint8, "r", shape=shape)[:, :channels]
        with warnings.catch_warnings(action="ignore"):  # that nothing can be written to it
            images = torch.from_numpy(array)
        places = {mark: row for row, mark in enumerate(self.known)}
        return cast(Tensor, Rows(images, torch.tensor([places[mark] for mark in files])))

    def clear(self) -> None:
        """Removes the files; the pixels may be in use, so they are not overwritten."""
        self.index.unlink(missing_ok=True)
        self.pixels.unlink(missing_ok=True)

    def complete(self, files: dict[int, str], size: int, pool: ThreadPoolExecutor) -> None:
        """Decodes the pictures that are missing, or all if most of what is there is not needed."""
        new = [mark for mark in files if mark not in self.known]
        squares: dict[int, int | None] = {mark: own for mark, (own, _) in self.known.items()}
        squares |= zip(new, pool.map(pictures.square, map(files.get, new)), strict=True)
        # Those that are not readable are named when they are decoded
        sides = {squares[mark] for mark in files} - {None}
        own = sides.pop() if len(sides) == 1 else 0
        side = own if own and own <= size else size
        if side != self.side or len(self.known) > 2 * len(files):
            self.clear()
            self.side, self.known, new = side, {}, [*files]
        if shutil.disk_usage(self.pixels.parent).free < len(new) * 3 * side**2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        bad: dict[str, UserError] = {}

        def read(mark: int) -> np.ndarray | None:
            try:
                return pictures.read_image(files[mark], side)
            except UserError as error:
                bad[files[mark]] = error
                return None

        step, noted = min(4096, max(1, CHUNK // (3 * side**2))), time.monotonic()
        with tqdm(None, "decoding", len(new), unit=" images", leave=False, disable=None) as bar:
            for marks in (new[i : i + step] for i in range(0, len(new), step)):
                found = {}
                for mark, picture in zip(marks, pool.map(read, marks), strict=True):
                    bar.update()
                    if picture is not None:
                        found[mark] = squares[mark] or 0, picture
                self.append(found)
                if time.monotonic() - noted > NOTED:
                    self.note()
                    noted = time.monotonic()
        if new:
            self.note()
        if bad:
            first, *others = sorted(bad)
            names = ", ".join(others[:3]) + f" and {len(others) - 3} more" * (len(others) > 3)
            raise UserError(f"{bad[first]}" + f"; so with {names}" * bool(others))

    def append(self, found: dict[int, tuple[int, np.ndarray]]) -> None:
        """Stores pictures (side, side, 3), each with its own side, under their marks."""
        self.pixels.touch()
        # Not written through a map: there a full disk would kill the process
        with self.pixels.open("r+b") as file:
            file.seek(len(self.known) * 3 * self.side**2)
            for _, picture in found.values():
                file.write(picture.transpose(2, 0, 1).tobytes())
        for mark, (own, picture) in found.items():
            self.known[mark] = own, bool((picture == picture[..., :1]).all())

    def note(self) -> None:
        """Writes the index; raises OSError if there is no room."""
        with self.pixels.open("r+b") as file:
            os.fsync(file.fileno())  # the pixels before the index that vouches for them
        index = {
            "side": np.array(self.side),
            "marks": np.array([*self.known], int),
            "squares": np.array([own for own, _ in self.known.values()], int),
            "gray": np.array([gray for _, gray in self.known.values()], bool),
        }
        try:
            disk.write(self.index, disk.packed(index, zipfile.ZIP_STORED))
        except UserError as error:
            raise OSError(errno.ENOSPC, str(error)) from None
