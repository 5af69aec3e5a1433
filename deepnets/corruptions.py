"""Worse pictures of the same things: a few seeded corruptions of test images, of this project's
own.
"""

from collections.abc import Iterator

import torch
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

NAMES = ("noise", "blur", "contrast")
NOISE = 0.1  # deviation, of the range of brightness
BLUR = 1 / 32  # deviation, of the side: one pixel of CIFAR-10
CONTRAST = 0.4  # of what it was
CHUNK = 1024  # images at a time: as floats they take four to eight times the memory


def corrupt(images: Tensor, name: str) -> Tensor:
    """Images (N, C, H, W), uint8, with Gaussian `noise`, with Gaussian `blur`, or with less
    `contrast`, as `name` says.
    """
    return torch.cat(list(parts(images, name)))


def parts(images: Tensor, name: str) -> Iterator[Tensor]:
    """What `corrupt` gives for `images` and `name`, so many at a time that they need not all fit in
    memory.
    """
    if name not in NAMES:
        raise ValueError(f"no corruption is called {name!r}")
    generator = Generator().manual_seed(0)
    for part in images.split(CHUNK):
        yield _change(part.float(), name, generator).round().clamp(0, 255).to(torch.uint8)


def _change(images: Tensor, name: str, generator: Generator) -> Tensor:
    if name == "noise":
        return images + 255 * NOISE * torch.randn(images.shape, generator=generator)
    if name == "blur":
        sigma = BLUR * images.shape[-1]
        return torch.from_numpy(
            gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
        )
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + CONTRAST * (images - mean)
