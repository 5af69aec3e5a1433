"""Worse pictures of the same things: a few seeded corruptions of test images, of this project's own."""

import torch
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

NAMES = ("noise", "blur", "contrast")
NOISE = 0.1  # deviation, of the range of brightness
BLUR = 1 / 32  # deviation, of the side: one pixel of CIFAR-10
CONTRAST = 0.4  # of what it was
CHUNK = 1000  # images at a time: as floats they take four to eight times the memory


def corrupt(images: Tensor, name: str) -> Tensor:
    """Images (N, C, H, W), uint8, with Gaussian `noise`, with Gaussian `blur`, or with less `contrast`, as `name` says."""
    if name not in NAMES:
        raise ValueError(f"no corruption is called {name!r}")
    generator = Generator().manual_seed(0)
    changed = [_change(part.float(), name, generator) for part in images.split(CHUNK)]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in changed])


def _change(images: Tensor, name: str, generator: Generator) -> Tensor:
    if name == "noise":
        return images + 255 * NOISE * torch.randn(images.shape, generator=generator)
    if name == "blur":
        sigma = BLUR * images.shape[-1]
        return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest"))
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + CONTRAST * (images - mean)
