"""Images with their labels, in memory or larger than it, and how they are divided."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast, overload

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from ..errors import UserError

LARGE = 2**28  # bytes; a part of larger images is not copied out of them


class Rows:
    """Some of many images, read when they are asked for; it stands where a tensor of them (N, C, H,
    W) would.

    Args:
        images: (M, C, H, W), uint8, usually memory-mapped.
        rows: which of them (N,), int64.
        device: where to put what is asked for.
    """

    def __init__(self, images: Tensor, rows: Tensor, device: torch.device | str = "cpu") -> None:
        self.images, self.rows, self.device = images, rows, device
        self.shape = torch.Size((len(rows), *images.shape[1:]))
        self.nbytes = images.nbytes // max(1, len(images)) * len(rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images at an `index`, of numbers or truth values."""
        return self.images[self.rows[index.cpu()]].to(self.device)

    def split(self, count: int) -> Iterator[Tensor]:
        """All images in their order, so many at a time."""
        return (self.images[rows].to(self.device) for rows in self.rows.split(count))

    def to(self, device: torch.device) -> "Tensor | Rows":
        """The images on a GPU, as a tensor if they fill less than half of what is free there;
        elsewhere they stay unread.
        """
        if device.type == "cuda" and self.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            return torch.cat([part.to(device) for part in self.split(4096)])
        return Rows(self.images, self.rows, device)


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W), uint8, and their labels (N,), int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    @overload
    def __getitem__(self, index: Tensor | np.ndarray) -> "Images": ...

    def __getitem__(self, index: int | Tensor | np.ndarray) -> "tuple[Tensor, int] | Images":
        """The images at an index, or of a number one image (C, H, W) and its label, as a DataLoader
        takes them.
        """
        if isinstance(index, int):
            found = self[torch.tensor([index])]
            return found.images[0], int(found.labels[0])
        return Images(self.images[index], self.labels[index])

    def part(self, index: np.ndarray) -> "Images":
        """The images at an `index` of numbers: copied, or `Rows` if all images are more than memory
        should hold twice.
        """
        if self.images.nbytes <= LARGE:
            return self[index]
        rows = torch.from_numpy(index)
        return Images(cast(Tensor, Rows(self.images, rows)), self.labels[rows])

    def to(self, device: torch.device) -> "Images":
        """The same on a `device`; `Rows` that do not fit there are sent as they are asked for."""
        return Images(self.images.to(device), self.labels.to(device))


def stratified(
    labels: Tensor, first: int | None, second: int, seed: int, what: str, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `first` (None: of all other) and of `second` images, both with the classes'
    proportions.

    Args:
        labels: (N,), int64.
        first: how many images.
        second: likewise.
        seed: decides the draw.
        what: the images' name, for messages.
        classes: their names.

    Raises:
        UserError: there are not that many images, or fewer than classes in one part, or a class has
        a single one.
    """
    counts = labels.bincount(minlength=len(classes))
    if (single := counts == 1).any():
        rare = [name for name, is_rare in zip(classes, single.tolist(), strict=True) if is_rare]
        named = ", ".join(map(repr, rare[:3])) + f" and {len(rare) - 3} more" * (len(rare) > 3)
        raise UserError(
            f"{what}: there is a single image of class {named}, which cannot be divided: add some, or remove it"
        )
    sizes = {"train_size": first, "test_size": second}
    try:
        chosen, others = train_test_split(
            np.arange(len(labels)), **sizes, stratify=labels, random_state=seed
        )
    except ValueError:
        sought = (
            f"{first or 'the rest'} and {second} with all {len(labels.unique())} classes in both"
        )
        raise UserError(f"{what}: {len(labels)} images do not split into {sought}") from None
    return chosen, others


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images (N, C, H, W), uint8, on the scale 0 to
    1.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(1024):
        counts += torch.stack(
            [channel.flatten().bincount(minlength=256) for channel in part.unbind(1)]
        )
    shares, levels = (
        counts / counts.sum(1, keepdim=True).double(),
        torch.arange(256, dtype=torch.float64) / 255,
    )
    mean = shares @ levels
    std = (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
