"""Images with their labels, which may be larger than memory, and how they are split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from ..errors import UserError

LARGE = 2**28  # bytes of images above which a part of them is not copied into memory


class Rows:
    """Stands for a tensor of some of these images, but reads them only when asked.

    Args:
        images: (M, C, H, W), uint8, memory-mapped.
        rows: which of them (N,), int64.
    """

    def __init__(self, images: Tensor, rows: Tensor) -> None:
        self.images, self.rows, self.device = images, rows, images.device
        self.shape = torch.Size((len(rows), *images.shape[1:]))

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.images.index_select(0, self.rows[index])  # twice as fast as brackets

    def split(self, count: int) -> Iterator[Tensor]:
        """Returns all images in their order, `count` at a time."""
        return (self.images.index_select(0, rows) for rows in self.rows.split(count))


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W), uint8, and their labels (N,), int64."""

    images: Tensor  # or `Rows`
    labels: Tensor  # on the device on which images are asked for

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | np.ndarray) -> "Images":
        """Returns the images at an index of numbers."""
        index = torch.as_tensor(index)
        images = self.images[index.to(self.images.device)]
        return Images(images.to(self.labels.device), self.labels[index])

    def part(self, index: np.ndarray) -> "Images":
        """Returns the same as the brackets do, but leaves large images where they are."""
        if self.images.numel() < LARGE:
            return self[index]
        rows = Rows(self.images, torch.from_numpy(index))
        return Images(cast(Tensor, rows), self.labels[index])

    def to(self, device: torch.device) -> "Images":
        """Returns the same on a device.

        Images that fill half of a GPU's free memory or more are sent there when asked for.
        """
        images = self.images
        if device.type == "cuda" and images.shape.numel() < torch.cuda.mem_get_info(device)[0] / 2:
            images = torch.cat([some.to(device) for some in images.split(4096)])
        return Images(images, self.labels.to(device))


def stratified(
    labels: Tensor, first: int | None, second: int, seed: int, what: str, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the indices of two parts of images of `labels` (N,), in the classes' proportions.

    So many are in the `first` part, or all others if it is None, and so many in the `second`.
    Messages call the images `what`. Raises UserError as `Dataset.split`.
    """
    how = {"train_size": first, "test_size": second, "stratify": labels, "random_state": seed}
    try:
        chosen, others = train_test_split(np.arange(len(labels)), **how)
    except ValueError:
        sought = f"{first or 'the rest'} and {second} with all classes in both"
        wrong = f"{len(labels)} images do not split into {sought}"
        rarest = classes[int(labels.bincount().argmin())]
        raise UserError(f"{what}: {wrong}; class {rarest!r} has the fewest") from None
    return chosen, others


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, from 0 to 1.

    The images are (N, C, H, W), uint8. Their levels are counted, so that the result is exact.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(1024):
        channels = [channel.flatten() for channel in part.unbind(1)]
        counts += torch.stack([channel.bincount(minlength=256) for channel in channels])
    shares = counts / counts.sum(1, keepdim=True).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ levels
    std = (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
