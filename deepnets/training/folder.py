"""The folder of a run while it is trained: locked by one process, and published when complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError
from ..runs import partial_folder


class Busy(UserError):
    """Says that another process trains this run."""


@contextmanager
def working_folder(folder: Path, patience: float = 0) -> Iterator[Path]:
    """Locks the folder in which a run is trained; removes it at the end if it has no checkpoint.

    The run will be in `folder`. A process that holds the lock is given `patience` seconds.

    Raises:
        Busy: another process holds the lock, or has just finished the run.
        UserError: the folder cannot be written.
    """
    work = partial_folder(folder)
    finished = f"{folder} was finished by another process just now; repeat the command"
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / "lock").acquire(patience)
    except Timeout:
        raise Busy(f"{work} is being trained by another process") from None
    except OSError as error:
        if folder.exists():
            raise Busy(finished) from None
        why = f"{error.strerror}; choose another --out"
        raise UserError(f"{work} cannot be written: {why}") from None
    with lock:
        try:
            if folder.exists() or not (work / "lock").exists():
                raise Busy(finished)
            yield work
        finally:
            if work.exists() and not (work / "checkpoint.pt").exists():
                shutil.rmtree(work)


def tidy(folder: Path) -> None:
    """Removes what only the training needed from a finished run."""
    for name in ("checkpoint.pt", "checkpoint.pt.part", "lock"):
        with suppress(OSError):  # it may be read-only
            (folder / name).unlink(missing_ok=True)
