"""What a training needs from the machine: a device, a precision, and what a run says of both."""

import ctypes
import math
import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from .. import __version__
from ..errors import UserError

WORTH_IT = 1.2  # how many times as fast bf16 must be to be chosen


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
    """Sets up this process: results that repeat, memory that is kept, TF32 products on a GPU."""
    torch.backends.cudnn.deterministic = True  # algorithms that give the same bits again
    keep_memory(True)
    # TF32 for a GPU's matrix products; its convolutions have it anyway. The setting is global, and
    # "high" would lower the precision of a processor's products, too: so it is set each time.
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")


@cache
def bf16_speedup() -> float:
    """Measures, once a process, how many times as fast as fp32 this processor multiplies bf16.

    Flags do not tell: of two processors with `avx512_bf16` and no AMX, one multiplies bf16 four
    times as fast as fp32, the other half as fast.
    """
    fp32, bf16 = product_seconds()
    return round(fp32 / bf16, 2)


def product_seconds(budget: float = 0.05) -> tuple[float, float]:
    """Times a matrix product of a convolution's shape: 256 pixels, 3x3 of 128 channels, 128 outputs.

    It takes one thread and the best of many turns, because other processes may be busy.

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
    """Makes the C library keep large blocks that are freed, or give them back, as it usually does.

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
    """Returns how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """Returns the device's name as its maker has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # torch before 2.12 had no way to ask
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return cpu.get("cpu_name") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Returns the versions of what computes the results, by package."""
    packages = {
        name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")
    }
    return {"deepnets": __version__, "python": platform.python_version(), **packages}


def commit() -> str:
    """Returns the commit of this file's checkout, with `-dirty` if files were changed since.

    Without a git history it is `$DEEPNETS_COMMIT`, or else `unknown`.
    """
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists() or "DEEPNETS_COMMIT" in os.environ:
        return os.environ.get("DEEPNETS_COMMIT", "unknown")
    command = ["git", "-C", str(top), "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
