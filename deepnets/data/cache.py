"""Decoded copies of folders of pictures: memory-mapped files, which need not fit in memory.

A picture is decoded once. Its mark in the copy tells whether its file is new, was changed or took
the place of another; only these are decoded again. An interrupted decoding goes on where it was.
"""

import errno
import hashlib
import math
import os
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import disk
from ..errors import UserError
from . import pictures

CHUNK = 2**25  # bytes decoded between two notes of how far it is


def decoded(files: list[str], path: Path, root: Path, size: int) -> np.ndarray:
    """Returns pictures as (N, C, side, side), uint8, memory-mapped; C is 1 if none has colour.

    Args:
        files: the pictures, below `path`.
        path: the folder, for which there is one copy in `root`/cache for each size.
        root: of all data; if it cannot be written, the copy is a temporary one.
        size: see `folders.load`.

    Raises:
        UserError: a picture is not readable, or there is no room for the copy.
    """
    marks = np.array([_mark(file, path) for file in files], np.uint64)
    key = f"{path.resolve()} {size}".encode("utf-8", "surrogateescape")
    name = hashlib.sha256(key).hexdigest()[:16]
    with suppress(OSError):  # a root that cannot be written only costs the next load its time
        (root / "cache").mkdir(parents=True, exist_ok=True)
        with disk.lock(root / "cache" / f"{name}.lock"):  # a second process finds the pictures done
            return Copy(root / "cache" / name).filled(files, marks, size)
    try:
        # A deleted file stays mapped
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return Copy(Path(folder) / name).filled(files, marks, size)
    except OSError as error:
        wrong = f"there is no place for the decoded pictures of {path} in {root / 'cache'}"
        raise UserError(f"{wrong} or {tempfile.gettempdir()}: {error.strerror}") from None


def _mark(file: str, path: Path) -> int:
    """Returns a number of 64 bits, not 0, that changes when the file or what it is changes."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        raise UserError(f"{file} is a link to nothing; replace or remove it") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{file} is not a regular file; replace or remove it")
    name = file.removeprefix(str(path)).lstrip(os.sep)
    what = name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
    digest = hashlib.blake2b(ascii(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _mapped(file: Path) -> np.ndarray | None:
    """Maps a stored array, to be changed in memory only; None if it is missing or damaged."""
    for mode in ("c", "r"):  # some systems promise no memory for changes to so much
        try:
            return np.load(file, mmap_mode=mode)
        except (ValueError, EOFError):
            return None
        except OSError:
            continue
    return None


def _side(files: list[str], size: int, pool: ThreadPoolExecutor) -> int:
    """Returns the side of the pictures if all are squares of one side up to `size`, else `size`."""
    # Those that are not readable are named when they are decoded
    sizes = {found for found in pool.map(pictures.size, files) if found}
    width, height = sizes.pop() if len(sizes) == 1 else (size + 1, 0)
    return width if width == height <= size else size


class Copy:
    """Decoded pictures on disk: images (N, C, side, side) in one file, their marks in another.

    The mark of an image that is not there yet is 0.

    Args:
        place: path of the two files, without suffix.
    """

    def __init__(self, place: Path) -> None:
        self.images, self.marks = place.with_suffix(".npy"), place.with_suffix(".marks.npy")
        self.old_images = place.with_suffix(".old.npy")
        self.old_marks = place.with_suffix(".old.marks.npy")

    def filled(self, files: list[str], marks: np.ndarray, size: int) -> np.ndarray:
        """Returns the images, memory-mapped, after decoding the files whose marks are missing.

        Raises:
            OSError: there is no room, or no right to write.
            UserError: some pictures are not readable; all others are done.
        """
        try:
            images, there = _mapped(self.images), _mapped(self.marks)
            damaged = images is None or there is None or len(images) != len(there)
            if damaged or not np.array_equal(there, marks):  # type: ignore[arg-type]
                with ThreadPoolExecutor() as pool:
                    side = _side(files, size, pool)
                    self._prepare(images, there, marks, side)
                    self._decode(files, marks, side, pool)
            self._drop_colour()
            images = _mapped(self.images)
            assert images is not None
            return images
        except OSError:
            for file in (self.images, self.marks, self.old_images, self.old_marks):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            raise

    def _prepare(
        self, images: np.ndarray | None, there: np.ndarray | None, marks: np.ndarray, side: int
    ) -> None:
        """Makes empty files, unless there are some to go on with; others become the old copy."""
        shape = (len(marks), 3, side, side)
        if images is not None and there is not None:
            fits = images.shape == shape and there.shape == marks.shape
            if fits and ((there == marks) | (there == 0)).all():
                return
            self.images.replace(self.old_images)
            self.marks.replace(self.old_marks)
        if shutil.disk_usage(self.images.parent).free < math.prod(shape):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.images))
        np.save(self.marks, np.zeros_like(marks))
        np.lib.format.open_memmap(self.images, "w+", np.uint8, shape)

    def _decode(
        self, files: list[str], marks: np.ndarray, side: int, pool: ThreadPoolExecutor
    ) -> None:
        """Fills in what is missing, from the old copy where that has it."""
        images, there = np.load(self.images, mmap_mode="r"), np.load(self.marks, mmap_mode="r+")
        old_images, old_marks = _mapped(self.old_images), _mapped(self.old_marks)
        if old_images is None or old_marks is None or old_images.shape[2:] != (side, side):
            known = {}
        else:
            known = dict(zip(old_marks.tolist(), old_images, strict=True))

        def pixels(row: int) -> np.ndarray | UserError:
            mark = int(marks[row])
            try:
                if mark in known:
                    return known[mark]
                return pictures.read_image(files[row], side).transpose(2, 0, 1)
            except UserError as error:
                return error

        todo, bad = np.flatnonzero(there != marks), {}
        step = min(4096, max(1, CHUNK // images[0].nbytes))
        done = len(files) - len(todo)
        bar = tqdm(
            None, "decoding", len(files), initial=done, unit=" images", leave=False, disable=None
        )
        # Not written through the map: there a full disk would kill the process
        with self.images.open("r+b") as file, bar:
            for rows in (todo[i : i + step] for i in range(0, len(todo), step)):
                for row, found in zip(rows.tolist(), pool.map(pixels, rows), strict=True):
                    if isinstance(found, UserError):
                        bad[row] = found
                    else:
                        in_colour = np.broadcast_to(found, images.shape[1:])
                        file.seek(images.offset + row * images[0].nbytes)
                        file.write(np.ascontiguousarray(in_colour).data)
                    bar.update()
                file.flush()
                os.fsync(file.fileno())  # the images before the marks that vouch for them
                good = [row for row in rows.tolist() if row not in bad]
                there[good] = marks[good]
                there.flush()
        if bad:
            first, *others = bad
            names = ", ".join(files[row] for row in others[:3])
            names += f" and {len(others) - 3} more" * (len(others) > 3)
            raise UserError(f"{bad[first]}" + f"; so with {names}" * bool(others))
        self.old_images.unlink(missing_ok=True)
        self.old_marks.unlink(missing_ok=True)

    def _drop_colour(self) -> None:
        """Keeps one channel if no picture has colour."""
        images = np.load(self.images, mmap_mode="r")
        step = max(1, CHUNK // images[0].nbytes)
        parts = [images[i : i + step] for i in range(0, len(images), step)]
        if images.shape[1] == 1 or not all((part[:, :1] == part[:, 1:]).all() for part in parts):
            return
        shape = (len(images), 1, *images.shape[2:])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        gray = self.images.with_suffix(".gray.npy")
        try:
            with gray.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for part in parts:
                    file.write(np.ascontiguousarray(part[:, 0]).data)
            gray.replace(self.images)
        finally:
            gray.unlink(missing_ok=True)
