"""Decoded copies of folders of pictures, which need not fit in memory."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from .. import disk
from ..errors import UserError
from . import pictures
from .images import Rows

CHUNK = 2**26  # bytes decoded at a time


def decoded(files: list[str], path: Path, root: Path, size: int) -> Tensor:
    """Returns pictures as (N, 3, side, side), uint8, `Rows` of a file.

    The file's name tells the folder `path` and the state of its pictures, so a copy of pictures
    that have changed since is not found, and makes room for a new one. `root` and `size` are those
    of `data.load`.
    """
    place, cache = _digest([f"{path.resolve()} {size}"]), root / ".decoded"
    copy = cache / f"{place}-{_digest(_state(file, path) for file in files)}.npy"
    with suppress(Exception):  # it is not there, or damaged, which shows in many ways
        return _mapped(copy)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{place}.lock"):
            with suppress(Exception):  # another process has decoded them meanwhile
                return _mapped(copy)
            for old in cache.glob(f"{place}-*"):
                old.unlink()
            _decode(files, copy, size)
            return _mapped(copy)
    except OSError as error:
        wrong = f"there is no place for the decoded pictures of {path} in {cache}"
        raise UserError(f"{wrong} ({error.strerror}); set DEEPNETS_DATA to another") from None


def _digest(texts: Iterable[Any]) -> str:
    return hashlib.sha256(ascii([*texts]).encode()).hexdigest()[:16]


def _state(file: str, path: Path) -> tuple[Any, ...]:
    """Returns what changes when the file or what it is changes."""
    # A link to nothing will not be readable either
    found = os.stat(file) if os.path.exists(file) else os.lstat(file)
    name = os.path.relpath(file, path)
    return name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _mapped(copy: Path) -> Tensor:
    """Returns a decoded copy; raises an error of any kind if it is not there or damaged."""
    with warnings.catch_warnings(action="ignore"):  # that nothing can be written to it
        images = torch.from_numpy(np.lib.format.open_memmap(copy, mode="r"))
    return cast(Tensor, Rows(images, torch.arange(len(images))))


def _decode(files: list[str], copy: Path, size: int) -> None:
    """Writes pictures (N, 3, side, side) to a `.npy` file, which is whole or not there at all."""
    with ThreadPoolExecutor() as pool:
        # Most that are not readable show it already
        sides = {*_each(pool, pictures.square, files)}
        own = sides.pop() if len(sides) == 1 else 0
        side = own if 0 < own <= size else size
        what = {"descr": "|u1", "fortran_order": False, "shape": (len(files), 3, side, side)}
        step = max(1, CHUNK // (3 * side**2))
        # Not written through a map: there a full disk would kill the process
        with (
            disk.replacing(copy) as out,
            tqdm(None, "decoding", len(files), unit=" images", leave=False, disable=None) as bar,
        ):
            np.lib.format.write_array_header_1_0(out, what)
            for some in (files[i : i + step] for i in range(0, len(files), step)):
                for picture in _each(pool, partial(pictures.read_image, side=side), some):
                    out.write(picture.transpose(2, 0, 1).tobytes())
                    bar.update()


def _each(pool: ThreadPoolExecutor, read: Callable[[str], Any], files: list[str]) -> Iterator[Any]:
    """Yields what `read` returns of each file, and in the end names those that are not readable."""
    bad: dict[str, UserError] = {}

    def attempt(file: str) -> Any:
        try:
            return read(file)
        except UserError as error:
            bad[file] = error

    yield from (found for found in pool.map(attempt, files) if found is not None)
    if bad:
        first, *others = sorted(bad)
        names = ", ".join(others[:3]) + f" and {len(others) - 3} more" * (len(others) > 3)
        raise UserError(f"{bad[first]}" + f"; so with {names}" * bool(others))
