"""Batched augmentation on the training device.

All geometry is one 2x3 matrix an image, sampled once; the changes of colour are another step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Policy:
    """How far an image may be changed, either way, without changing its class."""

    degrees: float = 0.0  # of rotation
    shift: float = 0.0  # as a share of the side; drawn in whole pixels
    scale: float = 0.0  # change of size, as a share
    flip: bool = False  # mirror half of the images
    shear: float = 0.0  # horizontal, in degrees
    colour: float = 0.0  # change of brightness, contrast and saturation, as a share
    resized: bool = False  # the shift is in pixels of the resized image, not of the stored one


def affine(angle: Tensor, shear: Tensor, scale: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Returns matrices (N, 2, 3) from output to input positions, both from -1 to 1.

    The image is mirrored, turned about its centre, sheared, scaled, then shifted, as torchvision's
    `hflip` and `affine` do.

    Args:
        angle: clockwise, in radians (N,).
        shear: how far the vertical axis leans, in radians (N,).
        scale: factors (N,).
        shift: to the right and down, in image sides (N, 2).
        flip: whether to mirror (N,), bool.
    """
    cos, sin = torch.cos(angle), torch.sin(angle)
    slant, mirror = torch.tan(shear), torch.where(flip, -1.0, 1.0)
    # The inverse of each change, in reverse order: shift and scale, shear, turn, mirror.
    top, bottom = (mirror * cos, mirror * (cos * slant + sin)), (-sin, cos - sin * slant)
    linear = torch.stack([*top, *bottom], dim=1).view(-1, 2, 2) / scale[:, None, None]
    return torch.cat([linear, -linear @ (2 * shift)[:, :, None]], dim=2)  # the image spans 2


def random_matrices(policy: Policy, count: int, side: int, generator: Generator) -> Tensor:
    """Draws matrices (count, 2, 3) for images of `side` pixels.

    The generator is the CPU's, so every device gets the same.
    """
    angle = torch.deg2rad(policy.degrees * _uniform(generator, count))
    pixels = round(policy.shift * side)
    shift = torch.randint(-pixels, pixels + 1, (count, 2), generator=generator) / side
    scale = 1 + policy.scale * _uniform(generator, count)
    flip = (_uniform(generator, count) < 0) & policy.flip
    shear = torch.deg2rad(policy.shear * _uniform(generator, count))
    return affine(angle, shear, scale, shift, flip)


def _uniform(generator: Generator, *shape: int) -> Tensor:
    """Draws numbers from -1 to 1."""
    return 2 * torch.rand(*shape, generator=generator) - 1


def random_colours(policy: Policy, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draws what `recolour` takes, in random order as torchvision's `ColorJitter`."""
    factors = 1 + policy.colour * _uniform(generator, 3, count)
    order = torch.rand(count, 3, generator=generator).argsort(1)
    return order, factors.T.gather(1, order)


def recolour(images: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Changes brightness (0), contrast (1) and saturation (2) of images (N, 3, H, W).

    Each change blends an image, whose values are from 0 to 255, with another: with black, with its
    mean gray, with its gray picture. The order in which an image has its changes is a row (N, 3);
    beside each of them stands its factor (N, 3), the image's own share, 1 to change nothing.
    """
    for change, own in zip(order.unbind(1), factors.unbind(1), strict=True):
        change, own = change[:, None, None, None], own[:, None, None, None]
        red, green, blue = images.split(1, dim=1)
        gray = 0.2989 * red + 0.587 * green + 0.114 * blue
        other = (change == 1) * gray.mean((2, 3), keepdim=True) + (change == 2) * gray
        images = (own * images + (1 - own) * other).clamp(0, 255)
    return images


def warp(images: Tensor, matrices: Tensor | None, size: int) -> Tensor:
    """Samples images (N, C, H, W) bilinearly to (N, C, size, size).

    Without matrices (N, 2, 3) it only resizes. Outside of the image is black, which a mere resize
    never mixes in.
    """
    if matrices is None:
        return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    grid = F.affine_grid(matrices, [len(images), 1, size, size], align_corners=False)
    sampled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # Across the edge, at 1, the weight falls from 1 to 0 over one output pixel: from 1 - 1/size,
    # where a mere resize has its last centre and so loses nothing, to 1 + 1/size.
    inside = torch.add((size + 1) / 2, grid.abs_(), alpha=-size / 2).clamp_(0, 1)
    return sampled.mul_((inside[..., 0] * inside[..., 1])[:, None])


def cutout(images: Tensor, share: float, centres: Tensor) -> Tensor:
    """Sets one square of each image (N, C, H, H) to zero (DeVries and Taylor 2017).

    Its side, and the row and column of its centre (N, 2), are shares of H; part of it may be
    outside. The images themselves are not changed.
    """
    side = images.shape[-1]
    pixels = (torch.arange(side, device=images.device) + 0.5) / side
    rows, columns = ((pixels - centres[:, i, None]).abs() < share / 2 for i in (0, 1))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def send(small: Tensor, device: torch.device) -> Tensor:
    """Copies a small tensor to a device without waiting for the work that is queued there."""
    return (small.pin_memory() if device.type == "cuda" else small).to(device, non_blocking=True)


@dataclass(frozen=True)
class Transform:
    """Turns stored images into what a network sees."""

    size: int  # side of the result, in pixels
    mean: tuple[float, ...]  # of each channel, from 0 to 1
    std: tuple[float, ...]
    policy: Policy | None = None  # random changes for training
    cut: float = 0.0  # side of the cutout as a share, 0 for none

    def draw(self, count: int, side: int, generator: Generator) -> list[Tensor]:
        """Draws, on the CPU, all that is random about `count` images of `side` pixels.

        Returns:
            Matrices if there is a policy, the order and factors of changes if it changes colours,
            centres if squares are cut.
        """
        drawn = []
        if self.policy:
            shifted = self.size if self.policy.resized else side
            drawn.append(random_matrices(self.policy, count, shifted, generator))
            if self.recolours:
                drawn += random_colours(self.policy, count, generator)
        if self.cut:
            drawn.append(torch.rand(count, 2, generator=generator))
        return drawn

    @property
    def recolours(self) -> bool:
        """Whether the policy changes colours and the images have some."""
        return self.policy is not None and self.policy.colour > 0 and len(self.mean) == 3

    def __call__(self, images: Tensor, drawn: Sequence[Tensor] = ()) -> Tensor:
        """Turns images (N, C, H, W), uint8, into (N, C, size, size), float32, standardised.

        Their random changes come from `draw`; without, there are none. Raises ValueError if the
        images do not have these four axes.
        """
        if images.dim() != 4:
            axes = f"not {images.dim()} axes; images[None] makes a batch of one image (C, H, W)"
            raise ValueError(f"a transform takes images (N, C, H, W), {axes}")
        matrices = drawn[0] if drawn and self.policy else None
        x = warp(images.float(), matrices, self.size)  # a new tensor, which may be changed in place
        if drawn and self.recolours:
            x = recolour(x, drawn[1], drawn[2])
        scales = ((255 * torch.tensor(values)).tolist() for values in (self.mean, self.std))
        for channel, mean, std in zip(x.unbind(1), *scales, strict=True):
            channel.sub_(mean).div_(std)
        return cutout(x, self.cut, drawn[-1]) if drawn and self.cut else x
