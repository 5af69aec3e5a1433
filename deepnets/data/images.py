"""Images with their labels, which may be larger than memory, and how they are split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from ..errors import UserError


class Rows:
    """Stands for a tensor of some images (N, C, H, W), but reads them only when asked.

    Args:
        images: (M, C, H, W), uint8, memory-mapped.
        rows: which of them (N,), int64.
        device: where to put what is asked for.
    """

    def __init__(self, images: Tensor, rows: Tensor, device: torch.device | str = "cpu") -> None:
        self.images, self.rows, self.device = images, rows, device
        self.shape = torch.Size((len(rows), *images.shape[1:]))

    def __getitem__(self, index: Tensor | np.ndarray | slice) -> Tensor:
        """Returns the images at an index."""
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        return self.images.index_select(0, rows).to(self.device)  # twice as fast as brackets

    def split(self, count: int) -> Iterator[Tensor]:
        """Returns all images in their order, `count` at a time."""
        return (self[rows] for rows in torch.arange(len(self.rows)).split(count))

    def numpy(self) -> np.ndarray:
        """Reads all images."""
        return self[:].numpy()

    def to(self, device: torch.device) -> "Tensor | Rows":
        """Copies the images to a GPU if they fill less than half of its free memory."""
        size = self.shape.numel()
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
            return torch.cat([part.to(device) for part in self.split(4096)])
        return Rows(self.images, self.rows, device)


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W), uint8, and their labels (N,), int64."""

    images: Tensor  # or `Rows`, of a folder
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | np.ndarray) -> "Images":
        """Returns the images at an index of numbers."""
        return Images(self.images[index], self.labels[index])

    def part(self, index: Tensor | np.ndarray) -> "Images":
        """Returns the same, but `Rows` stay unread."""
        if not isinstance(self.images, Rows):
            return self[index]
        rows = Rows(self.images.images, self.images.rows[index])
        return Images(cast(Tensor, rows), self.labels[index])

    def to(self, device: torch.device) -> "Images":
        """Returns the same on a device; `Rows` that do not fit there are sent when asked for."""
        return Images(self.images.to(device), self.labels.to(device))


def stratified(
    labels: Tensor, first: int | None, second: int, seed: int, what: str, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the indices of two parts of images of `labels` (N,), in the classes' proportions.

    So many are in the `first` part, or all others if it is None, and so many in the `second`.
    Messages call the images `what`. Raises UserError as `Dataset.split`.
    """
    rare = [repr(classes[k]) for k, count in enumerate(labels.bincount().tolist()) if count == 1]
    if rare:
        named = ", ".join(rare[:3]) + f" and {len(rare) - 3} more" * (len(rare) > 3)
        wrong = f"there is a single image of class {named}, which cannot be divided"
        raise UserError(f"{what}: {wrong}: add some, or remove it")
    how = {"train_size": first, "test_size": second, "stratify": labels, "random_state": seed}
    try:
        chosen, others = train_test_split(np.arange(len(labels)), **how)
    except ValueError:
        sought = f"{first or 'the rest'} and {second} with all classes in both"
        raise UserError(f"{what}: {len(labels)} images do not split into {sought}") from None
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
