"""Batched augmentation on the training device: every geometric change is one 2x3 matrix an image, sampled once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Policy:
    """How far an image may be changed without changing its class.

    Args:
        degrees: largest rotation either way.
        shift: largest shift either way, as a share of the side; drawn in whole pixels of the stored image.
        scale: largest change of size either way, as a share.
        flip: mirror half of the images.
    """

    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    flip: bool = False


POLICIES = {
    "digits": Policy(degrees=10, shift=1 / 8, scale=0.1),  # one pixel of 8
    "mnist": Policy(degrees=10, shift=2 / 28, scale=0.1),  # two pixels of 28; a mirrored digit is another one
    "cifar10": Policy(shift=4 / 32, flip=True),  # four pixels of 32
    "folder": Policy(shift=1 / 8, flip=True),
}


def policy(dataset: str) -> Policy:
    """How images of a dataset of that name are augmented; `folder` stands for every one that is not known by name."""
    return POLICIES.get(dataset, POLICIES["folder"])


def affine(angle: Tensor, shift: Tensor, scale: Tensor, flip: Tensor) -> Tensor:
    """Matrices that take output to input positions, both from -1 to 1 across the image.

    The image is mirrored, scaled and turned about its centre, then shifted, as torchvision's `hflip` and `affine` do.

    Args:
        angle: clockwise, radians (N,).
        shift: to the right and down, in image sides (N, 2).
        scale: (N,).
        flip: whether to mirror (N,), bool.

    Returns:
        (N, 2, 3).
    """
    cos, sin, mirror = torch.cos(angle) / scale, torch.sin(angle) / scale, torch.where(flip, -1.0, 1.0)
    right, down = (2 * shift).unbind(1)  # the image spans 2
    top = [mirror * cos, mirror * sin, -mirror * (cos * right + sin * down)]
    return torch.stack([*top, -sin, cos, sin * right - cos * down], dim=1).view(-1, 2, 3)


def random_matrices(policy: Policy, count: int, side: int, generator: Generator) -> Tensor:
    """Random matrices (count, 2, 3) within a `policy` for images of `side` pixels.

    The `generator` is the CPU's, so every device gets the same.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    angle = torch.deg2rad(policy.degrees * uniform(count))
    pixels = round(policy.shift * side)
    shift = torch.randint(-pixels, pixels + 1, (count, 2), generator=generator) / side
    scale = 1 + policy.scale * uniform(count)
    flip = (uniform(count) < 0) & policy.flip
    return affine(angle, shift, scale, flip)


def warp(images: Tensor, matrices: Tensor | None, size: int) -> Tensor:
    """Sample images (N, C, H, W) through matrices (N, 2, 3), bilinearly: (N, C, size, size). None only resizes.

    Black lies outside the image; a resize alone never mixes it in.
    """
    if matrices is None:
        same = images.shape[-1] == size
        return images if same else F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    grid = F.affine_grid(matrices, [len(images), 1, size, size], align_corners=False)
    sampled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # Outside is black. Across the edge, at 1, the weight falls from 1 to 0 over one output pixel: from 1 - 1/size, where a mere
    # resize has its last centre and so loses nothing, to 1 + 1/size.
    inside = torch.add((size + 1) / 2, grid.abs_(), alpha=-size / 2).clamp_(0, 1)
    return sampled.mul_((inside[..., 0] * inside[..., 1])[:, None])


def cutout(images: Tensor, share: float, centres: Tensor) -> Tensor:
    """Set one square of each of the `images` (N, C, H, H) to zero, a `share` of H wide (DeVries and Taylor 2017).

    Its `centres` (N, 2), row and column in shares of H, may lie anywhere, so part of it may be outside.
    """
    side = images.shape[-1]
    pixels = (torch.arange(side, device=images.device) + 0.5) / side
    rows, columns = ((pixels - centres[:, i, None]).abs() < share / 2 for i in (0, 1))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def send(small: Tensor, device: torch.device) -> Tensor:
    """A `small` tensor on the `device`, without waiting for what that still has to do."""
    return (small.pin_memory() if device.type == "cuda" else small).to(device, non_blocking=True)


@dataclass(frozen=True)
class Transform:
    """From stored images to what a network sees.

    Args:
        size: side of the result.
        mean: of each channel, on the scale 0 to 1.
        std: likewise.
        policy: random changes for training; None for none.
        cut: side of the cutout as a share, 0 for none.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    policy: Policy | None = None
    cut: float = 0.0

    def draw(self, count: int, side: int, generator: Generator) -> list[Tensor]:
        """What is random about `count` images of `side` pixels: matrices, if there is a policy; centres, if it cuts.

        They are the CPU's, like the `generator`.
        """
        matrices = [random_matrices(self.policy, count, side, generator)] if self.policy else []
        return matrices + ([torch.rand(count, 2, generator=generator)] if self.cut else [])

    def __call__(self, images: Tensor, drawn: Sequence[Tensor] = ()) -> Tensor:
        """Stored images (N, C, H, W), uint8, to (N, C, size, size), float32.

        They are changed as `draw` has `drawn` for them, in its order; without that they are not.
        """
        matrices = drawn[0] if drawn and self.policy else None
        x = warp(images.float(), matrices, self.size)  # a new tensor, which may be changed in place
        scales = ((255 * torch.tensor(values)).tolist() for values in (self.mean, self.std))
        for channel, mean, std in zip(x.unbind(1), *scales, strict=True):
            channel.sub_(mean).div_(std)
        return cutout(x, self.cut, drawn[-1]) if drawn and self.cut else x
