"""The machine: which device and precision to train in, and what a run records of both."""

import ctypes
import os
import platform
import subprocess
import timeit
from contextlib import suppress
from functools import cache, partial
from importlib import metadata
from pathlib import Path

import torch

from .. import __version__
from ..errors import UserError

WORTH_IT = 1.2  # a CPU trains in bf16 if it multiplies it this many times as fast as fp32


def device_and_precision(device: str = "auto", precision: str = "auto") -> tuple[torch.device, str]:
    """Chooses the device to train on, and `fp32` or `bf16`.

    The device is called `auto`, `cpu`, `cuda` or `cuda:N`. The precision `auto` is bf16 where the
    hardware multiplies it faster: a GPU says so, a CPU is measured. Raises UserError for what is
    not on this machine.
    """
    count = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if count else "cpu"
    if device not in ("cpu", *["cuda"] * count, *(f"cuda:{number}" for number in range(count))):
        choice = f"choose from auto, cpu, cuda, cuda:N (this machine has {count} CUDA devices)"
        raise UserError(f"no device is called {device!r}; {choice}")
    target = torch.device(device)
    if precision not in ("auto", "fp32", "bf16"):
        raise UserError(f"no precision is called {precision!r}; choose from auto, fp32, bf16")
    if precision == "auto":
        if target.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = bf16_speedup() >= WORTH_IT
        precision = "bf16" if fast else "fp32"
    return target, precision


def set_up(device: torch.device) -> None:
    """Sets up this process: repeatable results, kept memory, TF32 matrix products on a GPU."""
    torch.backends.cudnn.deterministic = True
    keep_memory(True)
    # "high" is TF32 for a GPU's matrix products; its convolutions have it anyway. The setting is
    # global and would lower the precision of a CPU's products, too, so it is set each time.
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")


@cache
def bf16_speedup() -> float:
    """Measures, once a process, how many times as fast as fp32 this CPU multiplies bf16.

    CPU flags do not say: of two CPUs with `avx512_bf16` and no AMX, one multiplies bf16 four times
    as fast as fp32, the other half as fast.
    """
    # As in a convolution: 256 pixels, windows of 3x3 with 128 channels, 128 outputs
    windows, weights = torch.ones(256, 1152), torch.ones(1152, 128)
    kinds = (torch.float32, torch.bfloat16)
    products = [partial(torch.mm, windows.to(kind), weights.to(kind)) for kind in kinds]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # In turns, of which the best count: in the others another process may have been busy
    turns = [[timeit.timeit(product, number=1) for product in products] for _ in range(10)]
    torch.set_num_threads(threads)
    fp32, bf16 = map(min, zip(*turns, strict=True))
    return round(fp32 / bf16, 2)


def keep_memory(keep: bool) -> None:
    """Has the C library keep large freed blocks of memory, or return them as it usually does.

    Every training step frees and asks for the same blocks. If they are returned, each 4 KB of them
    is a page fault the next time: a fifth of a step of networks with 100 million weights.
    """
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # from mallopt(3)
    usual = {mmap_max: 65_536, mmap_threshold: 32 << 20, trim_threshold: 64 << 20}
    with suppress(AttributeError, OSError):  # only glibc has these settings
        library = ctypes.CDLL("libc.so.6")
        for name, value in ({mmap_max: 0, trim_threshold: -1} if keep else usual).items():
            library.mallopt(name, value)
        library.malloc_trim(0)


def cores() -> int:
    """Returns how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """Returns the name its maker gave the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # PyTorch before 2.12 has no get_capabilities.
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return cpu.get("cpu_name") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Returns the versions of the packages that results depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn")
    ours = {"deepnets": __version__, "python": platform.python_version()}
    return ours | {name: metadata.version(name) for name in packages}


def commit() -> str:
    """Returns the commit of this checkout, with `-dirty` if files were changed since.

    `$DEEPNETS_COMMIT` overrides it; without either it is `unknown`.
    """
    top = Path(__file__).resolve().parents[2]
    command = ["git", f"--git-dir={top}/.git", f"--work-tree={top}"]
    command += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        found = "unknown"
    return os.environ.get("DEEPNETS_COMMIT", found)
