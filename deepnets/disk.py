"""Reads files that others may have made or damaged, and writes files whole or not at all."""

import errno
import io
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import AcquireReturnProxy, FileLock, SoftFileLock, Timeout

from .errors import UserError

LARGEST = 1 << 28  # bytes that a file may have
CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # what file systems without it answer
# What file systems without locks answer: Lustre by default, NFS without its lock daemon
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
CHUNK = 4096  # bytes of an archive read at a time: unpacked they are 30 MB at most


def read(path: Path, most: int = LARGEST) -> bytes:
    """Returns the content of a file.

    Raises:
        UserError: it is missing, unreadable, larger than `most` bytes, or no regular file (reading
            a named pipe would never end).
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is not a file")
        if found.st_size > most:
            size = f"{found.st_size:,} bytes, where {most:,} are the most"
            raise UserError(f"{path} is damaged, or something else: {size}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_arrays(path: Path, most: int = LARGEST) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` file, by name.

    Raises:
        UserError: it is missing, damaged, or larger than `most` bytes, unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read(path, most))) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > most:
                raise ValueError("a zip bomb")
            found = {}
            for entry in entries:  # no more is unpacked than the declared size
                with archive.open(entry) as file:
                    content = io.BytesIO(b"".join(iter(partial(file.read, CHUNK), b"")))
                values = np.lib.format.read_array(content, allow_pickle=False)
                found[entry.filename.removesuffix(".npy")] = values
            return found
    except Exception:  # a damaged archive fails in a dozen ways
        raise UserError(f"{path} is missing or damaged") from None


@contextmanager
def replacing(path: Path, resume: bool = False) -> Iterator[BinaryIO]:
    """Opens a new file; the old one stays until all of the new one is on the disk.

    With `resume`, what an interruption leaves stays, and the next call appends to it.
    """
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("ab" if resume else "wb") as file:
            yield file
            sync(file)
        unfinished.replace(path)
    except BaseException as error:
        if not resume or isinstance(error, OSError):  # a full disk, say
            with suppress(OSError):
                unfinished.unlink()
        raise


def write(path: Path, *parts: Any) -> None:
    """Writes bytes to a file, or leaves it as it was.

    Raises:
        UserError: the disk is full, say.
    """
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


def remove_empty(folders: list[Path]) -> None:
    """Removes those of these folders that are there and hold nothing."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    with suppress(OSError):  # Windows opens no folders, CIFS does not sync them
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync(file: BinaryIO) -> None:
    """Makes what was written to a file survive a power cut."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def lock(file: Path, patience: float = -1) -> AcquireReturnProxy:
    """Takes a lock, to be used in `with`; waits so many seconds, or if negative any time.

    Where the file system has no locks, `file`.soft is one while it exists.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be made.
    """
    with warnings.catch_warnings(action="ignore"):  # that the file system has no locks
        try:
            return FileLock(file).acquire(patience)
        # The latter is what filelock raises where the system has no `flock`
        except (OSError, NotImplementedError) as error:
            if isinstance(error, Timeout) or getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
                raise
            return SoftFileLock(file.with_name(f"{file.name}.soft")).acquire(patience)
