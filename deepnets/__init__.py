"""The classic convolutional networks, from scratch, trained and compared."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, and help and mistakes answer at once
    from .models import Network
    from .transforms import Transform

__version__ = "0.1.0"


def load(run: str | Path) -> "tuple[Network, tuple[str, ...], Transform]":
    """Returns the trained network in the folder of a run, in evaluation mode, its class names, its
    transform.

    `network, classes, transform = deepnets.load(run)`; then `network(transform(images))` are logits
    (N, classes) of images (N, C, H, W), uint8.

    Raises:
        UserError: there is no run, or its weights were not kept or are damaged.
    """
    from . import predict
    from .runs import Run

    found = Run.load(run)
    return predict.load_network(found), tuple(found.info.classes), predict.transform(found)
