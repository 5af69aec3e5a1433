"""Worse pictures of the same things: a few seeded corruptions of test images, of this project's own."""

import torch
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

NOISE = 0.1  # deviation, of the range of brightness
BLUR = 1 / 32  # deviation, of the side: one pixel of CIFAR-10
CONTRAST = 0.4  # of what it was


def corrupt(images: Tensor, name: str) -> Tensor:
    """Images (N, C, H, W), uint8, with Gaussian `noise`, with Gaussian `blur`, or with less `contrast`, as `name` says."""
    if name == "noise":
        changed = images + 255 * NOISE * torch.randn(images.shape, generator=Generator().manual_seed(0))
    elif name == "blur":
        sigma = BLUR * images.shape[-1]
        changed = torch.from_numpy(gaussian_filter(images.float().numpy(), (0, 0, sigma, sigma), mode="nearest"))
    elif name == "contrast":
        mean = images.float().mean((1, 2, 3), keepdim=True)
        changed = mean + CONTRAST * (images - mean)
    else:
        raise ValueError(f"no corruption is called {name!r}")
    return changed.round().clamp(0, 255).to(torch.uint8)


def sample(count: int) -> Tensor:
    """Which of `count` test images are corrupted: a fifth, a thousand at most and one at least, the same in every run."""
    return torch.randperm(count, generator=Generator().manual_seed(0))[: min(1000, max(1, count // 5))]
