"""Reads files that may be damaged, and writes files whole or not at all."""

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import UserError


def read(path: Path) -> bytes:
    """Returns the content of a file; raises UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, by name; raises UserError if it cannot be read."""
    try:
        with np.load(io.BytesIO(read(path))) as archive:
            return dict(archive)
    except Exception:  # a damaged archive fails in a dozen ways
        raise UserError(f"{path} is missing or damaged") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file; the old one stays until all of the new one is on the disk."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def write(path: Path, *parts: Any) -> None:
    """Writes bytes to a file, or leaves it as it was; raises UserError if the disk is full, say."""
    try:
        with replacing(path) as file:
            file.writelines(parts)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def write_all(files: dict[Path, bytes]) -> list[Path]:
    """Writes files and makes their folders; returns the paths.

    It takes finished contents, so that a mistake in making one leaves no files behind.
    """
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path.resolve(), content)  # what a link leads to
    return [*files]


def packed(arrays: dict[str, np.ndarray], compression: int) -> bytes:
    """Returns the content of an `.npz` file; `compression` is one of zipfile's constants."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)
    return file.getvalue()
