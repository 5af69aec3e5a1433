"""What a training needs from the machine: a device, a folder of its own, notice of signals; and
what a run says of it.
"""

import ctypes
import errno
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import AcquireReturnProxy, FileLock, SoftFileLock, Timeout

from . import __version__, disk
from .errors import UserError
from .runs import partial_folder

WORTH_IT = 1.2  # how many times as fast bf16 must be to be chosen
# Lustre's default, NFS without its lock daemon
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def hardware(device: str = "auto", precision: str = "auto") -> tuple[torch.device, str]:
    """Chooses the device to train on, and `fp32` or `bf16`, by the words of the command line.

    A precision of `auto` is bf16 where the hardware multiplies it faster: a GPU says so, a
    processor is measured.

    Raises:
        UserError: no such device or precision, or not on this machine.
    """
    target = named_device(device)
    if precision not in ("auto", "fp32", "bf16"):
        raise UserError(f"no precision is called {precision!r}; choose from auto, fp32, bf16")
    if precision == "auto":
        on_gpu = target.type == "cuda"
        faster = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if on_gpu
            else bf16_speedup() >= WORTH_IT
        )
        precision = "bf16" if faster else "fp32"
    return target, precision


def named_device(device: str) -> torch.device:
    """Finds the device that the command line calls `device`.

    Raises:
        UserError: no such device, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    match = re.fullmatch(r"cpu|cuda(?::(0|[1-9][0-9]{0,2}))?", device)
    if not match:
        raise UserError(f"no device is called {device!r}; choose from auto, cpu, cuda, cuda:N")
    if device != "cpu" and int(match[1] or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return torch.device(device)


def set_up(device: torch.device) -> None:
    """What a training changes in its process: results that repeat, memory that is kept, TF32
    products on a GPU.
    """
    torch.backends.cudnn.deterministic = True  # algorithms that give the same bits again
    keep_memory(True)
    # TF32 for a GPU's matrix products; its convolutions have it anyway. The setting is global, and
    # "high" would lower the precision of a processor's products, too: so it is set each time.
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")


@cache
def bf16_speedup() -> float:
    """Measures how many times as fast as fp32 this processor multiplies bf16, once a process.

    Its flags do not tell: with `avx512_bf16` and no AMX one kind multiplies bf16 four times as
    fast, another half as fast.
    """
    fp32, bf16 = product_seconds()
    return round(fp32 / bf16, 2)


def product_seconds(budget: float = 0.05) -> tuple[float, float]:
    """Times a matrix product of a convolution's shape (256 pixels, 3x3 windows of 128 channels, 128
    outputs).

    One thread and the best of many turns, because other processes may be busy.

    Args:
        budget: seconds, after which no further turn begins; one that emulates bf16 takes a tenth of
            a second.

    Returns:
        Seconds in fp32 and in bf16.
    """
    windows, weights = torch.ones(256, 1152), torch.ones(1152, 128)
    pairs = {kind: (windows.to(kind), weights.to(kind)) for kind in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(pairs, math.inf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    end = time.perf_counter() + budget
    while math.inf in best.values() or time.perf_counter() < end:
        for kind, pair in pairs.items():
            start = time.perf_counter()
            torch.mm(*pair)
            best[kind] = min(best[kind], time.perf_counter() - start)
    torch.set_num_threads(threads)
    return best[torch.float32], best[torch.bfloat16]


def keep_memory(keep: bool) -> None:
    """Have the C library keep large blocks that are freed, or else give them back to the system, as
    it does by itself.

    Every step of a training frees and asks for the same blocks; those given back come as new pages,
    one fault each 4 KB, which takes a fifth of a step of the networks of a hundred million weights.
    Only glibc has this setting.
    """
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # names of its mallopt(3)
    kept, default = (
        {mmap_max: 0, trim_threshold: -1},
        {mmap_max: 65_536, mmap_threshold: 32 << 20, trim_threshold: 64 << 20},
    )
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL("libc.so.6")
        for name, value in (kept if keep else default).items():
            library.mallopt(name, value)
        if not keep:
            library.malloc_trim(0)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """The device as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # torch before 2.12 had no way to ask
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return cpu.get("cpu_name") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of what computes the results."""
    packages = {
        name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")
    }
    return {"deepnets": __version__, "python": platform.python_version(), **packages}


def commit() -> str:
    """The commit of the checkout that this file is in, `-dirty` if it was changed.

    Where a copy has no history, or not its own, `$DEEPNETS_COMMIT` says it; else it is `unknown`.
    """
    top = Path(__file__).resolve().parent.parent
    if not (top / ".git").exists() or "DEEPNETS_COMMIT" in os.environ:
        return os.environ.get("DEEPNETS_COMMIT", "unknown")
    command = [
        "git",
        "-C",
        str(top),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class OutOfTime(Exception):
    """The time was up, or whoever asked for the training needs it no more; a checkpoint was
    written.
    """


class Busy(UserError):
    """Another process trains this run."""


@contextmanager
def interruptions(over: Callable[[], bool]) -> Iterator[Callable[[], BaseException | None]]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of letting them tear a step; a second one acts as
    it always does.

    SIGHUP, which Windows lacks, says that the terminal was closed; `nohup` has it ignored, and so
    it stays.

    Off the main thread, where Python allows no handlers, signals act as they always do.

    Args:
        over: whether the time is up; it is asked between any two steps.

    Yields:
        A function that gives what to raise at the next good moment: KeyboardInterrupt,
        SystemExit(143), OutOfTime, or None.
    """
    caught: list[BaseException] = []
    previous: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        caught.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            previous[number] = signal.signal(number, note)
    try:
        yield lambda: caught[0] if caught else OutOfTime() if over() else None
    finally:
        for changed, handler in previous.items():
            signal.signal(changed, handler)


@contextmanager
def deaf() -> Iterator[None]:
    """Have the threads and processes that are started meanwhile hear neither SIGINT nor SIGTERM;
    Windows has no such thing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def working_folder(folder: Path, patience: float = 0) -> Iterator[Path]:
    """Where a run lives until it is finished, held by one process at a time; it is removed unless
    it holds a checkpoint.

    Args:
        folder: of the finished run.
        patience: seconds to wait for a process that holds it.

    Raises:
        Busy: another process holds it, or has just finished the run.
        UserError: it cannot be written.
    """
    work = partial_folder(folder)
    made = [path for path in (work, *work.parents) if not path.exists()]
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = _lock(work, patience)
    except Timeout as held:
        advice = (
            f", or was when its machine stopped: then delete {held.lock_file}"
            * held.lock_file.endswith("soft")
        )
        raise Busy(f"{work} is being trained by another process{advice}") from None
    except OSError as error:
        if folder.exists():
            raise Busy(
                f"{folder} was finished by another process just now; repeat the command"
            ) from None
        _remove_empty(made)
        raise UserError(
            f"{work} cannot be written: {error.strerror}; choose another --out"
        ) from None
    with lock:
        try:
            if folder.exists() or not (work / "lock").exists():
                raise Busy(f"{folder} was finished by another process just now; repeat the command")
            yield work
        finally:
            if work.exists() and not (work / "checkpoint.pt").exists():
                shutil.rmtree(work)
                _remove_empty(made[1:])


def _lock(work: Path, patience: float) -> AcquireReturnProxy:
    """A lock on this folder, held; where the file system has none it is a file that says who holds
    it.
    """
    with warnings.catch_warnings(action="ignore"):  # of a file system without locks
        try:
            return FileLock(work / "lock").acquire(patience)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, Timeout) or getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
                raise
            return SoftFileLock(work / "lock.soft").acquire(patience)


def complete(work: Path, folder: Path) -> None:
    """Give a finished run its place; `disk` has written it, so that a power cut takes nothing
    back.
    """
    disk.sync_folder(work)
    work.rename(folder)
    disk.sync_folder(folder.parent)


def tidy(folder: Path) -> None:
    """Remove from a finished run what only the training needed, where that can be: a finished run
    may be read-only.
    """
    for name in ("checkpoint.pt", "checkpoint.pt.part", "lock", "lock.soft"):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # not there, or another run has come into it meanwhile
        for folder in folders:
            folder.rmdir()
