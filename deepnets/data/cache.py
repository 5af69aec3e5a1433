"""Decoded copies of folders of pictures, which need not fit in memory."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from .. import disk
from ..errors import UserError
from . import pictures

CHUNK = 64  # pictures that are decoded, then written


def decoded(files: Sequence[Path], path: Path, root: Path, size: int) -> Tensor:
    """Returns pictures as (N, 3, side, side), uint8, memory-mapped.

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


def _state(file: Path, path: Path) -> tuple[Any, ...]:
    """Returns what changes when the file or what it is changes."""
    # A link to nothing will not be readable either
    found = file.stat() if file.exists() else file.lstat()
    name = str(file.relative_to(path))
    return name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _mapped(copy: Path) -> Tensor:
    """Returns a decoded copy; raises an error of any kind if it is not there or damaged."""
    with warnings.catch_warnings(action="ignore"):  # that nothing can be written to it
        return torch.from_numpy(np.lib.format.open_memmap(copy, mode="r"))


def _decode(files: Sequence[Path], copy: Path, size: int) -> None:
    """Writes pictures (N, 3, side, side) to a `.npy` file, which is whole or not there at all."""
    with ThreadPoolExecutor() as pool:
        # Most that are not readable show it already
        sides = {*_each(pool, pictures.square, files)}
        side = min(sides.pop() or size, size) if len(sides) == 1 else size
        read = partial(pictures.read_image, side=side)
        what = {"descr": "|u1", "fortran_order": False, "shape": (len(files), 3, side, side)}
        bar = {"unit": " images", "unit_scale": CHUNK, "leave": False, "disable": None}
        # Not written through a map: there a full disk would kill the process
        with disk.replacing(copy) as out:
            np.lib.format.write_array_header_1_0(out, what)
            for i in tqdm(range(0, len(files), CHUNK), "decoding", **bar):
                for picture in _each(pool, read, files[i : i + CHUNK]):
                    out.write(picture.transpose(2, 0, 1).tobytes())


def _each(pool: ThreadPoolExecutor, read: Callable[[Path], Any], files: Sequence[Path]) -> list:
    """Returns what `read` returns of each file; raises UserError that names unreadable ones."""

    def attempt(file: Path) -> Any:
        try:
            return read(file)
        except UserError as error:
            return error

    found = [*pool.map(attempt, files)]
    bad = {file: one for file, one in zip(files, found, strict=True) if isinstance(one, UserError)}
    if bad:
        first, *others = sorted(bad)
        names = ", ".join(map(str, others[:3])) + f" and {len(others) - 3} more" * (len(others) > 3)
        raise UserError(f"{bad[first]}" + f"; so with {names}" * bool(others))
    return found
