"""The one door for files that others may have made or damaged, and for those that a full disk may
cut short.
"""

import errno
import io
import json
import math
import os
import stat
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError

CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
CHUNK = 4096  # bytes of an archive unpacked at a time: they become 30 MB at most


def read(path: Path, most: int) -> bytes:
    """Returns the content of a file of at most `most` bytes.

    Raises:
        UserError: it is larger, missing, unreadable, or no regular file (a named pipe would never
        end).
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is not a file")
        if found.st_size > most:
            raise UserError(
                f"{path} is damaged, or something else: {found.st_size:,} bytes, where {most:,} are the most"
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_json(path: Path, most: int = 1 << 25) -> Any:
    """Returns what a JSON file of at most `most` bytes holds; its numbers are finite.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        return json.loads(read(path, most), parse_constant=_refused, parse_float=_finite)
    # also a whole number of thousands of digits, and brackets without end
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: it is not JSON") from None


def _refused(word: str) -> None:
    raise ValueError(word)  # NaN and Infinity are not JSON, though Python reads and writes them


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def read_arrays(path: Path, most: int) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, by name; unpacked they have at most `most` bytes.

    Raises:
        UserError: it is missing, damaged, or larger.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read(path, most))) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > most:
                raise ValueError("a zip bomb")
            return {
                entry.filename.removesuffix(".npy"): _array(archive, entry)
                for entry in archive.infolist()
            }
    except Exception:  # a damaged archive fails in a dozen ways
        raise UserError(f"{path} is missing or damaged") from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array of an archive. The size that the `entry` declares is all that is unpacked, whatever
    there is.
    """
    with archive.open(entry) as file:
        content = b"".join(iter(lambda: file.read(CHUNK), b""))
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def write(path: Path, *parts: Any) -> None:
    """Writes the bytes of all `parts` to a file, which is there when they are on the disk; till
    then the one before stays.

    Raises:
        UserError: the disk is full, say.
    """
    unfinished = path.with_name(f"{path.name}.part")
    try:
        try:
            with unfinished.open("wb") as file:
                file.writelines(parts)
                file.flush()
                _sync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def write_all(files: dict[Path, bytes]) -> list[Path]:
    """Writes files that were all made beforehand, so that a mistake leaves none, and the folders
    they are in.

    Returns:
        Their paths.
    """
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path.resolve(), content)  # what a link leads to
    return [*files]


def packed(arrays: dict[str, np.ndarray], compression: int) -> bytes:
    """Returns `arrays` as an `.npz` file has them, by name; `compression` is one of zipfile's."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)
    return file.getvalue()


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, as far as the system can: Windows opens no folders,
    CIFS does not sync them.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
