"""VGG (Simonyan and Zisserman 2015): deep stacks of 3x3 convolutions, wider behind each pool.

Two 3x3 convolutions see as much as one 5x5, three as much as one 7x7, with fewer weights and more
non-linearities.

At 64x64 the last map is 2x2, and the 7x7 pool before the linear layers repeats its four values. The
improved VGG16 takes a 5x5 max pool, which halves the first linear layer.
"""

from typing import Any

import torch
from torch import nn

from .layers import Network, PooledLinear, conv, narrow_initialise

# Table 1: the widths of the 3x3 convolutions before each of the five 2x2 max pools.
CONFIGURATIONS = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}


class VGG(Network):
    """VGG of 11, 13, 16 or 19 layers with weights (configurations A, B, D and E).

    The pool before the linear layers is `head_pool`, "avg7" or "max5". With `narrow_head` the last
    linear layer is drawn as the others; else as PyTorch does, as the published comparison does for
    its originals.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        batch_norm: bool = False,
        head_pool: str = "avg7",
        dropout: float = 0.5,
        narrow_head: bool = False,
    ) -> None:
        stages: dict[str, nn.Module] = {}
        channels = in_channels
        for block, widths in enumerate(CONFIGURATIONS[depth], start=1):
            for layer, width in enumerate(widths, start=1):
                stages[f"conv{block}_{layer}"] = conv(channels, width, 3, batch_norm=batch_norm)
                channels = width
            stages[f"pool{block}"] = nn.MaxPool2d(2)
        if head_pool not in ("avg7", "max5"):
            raise ValueError(f"head_pool {head_pool!r}: use avg7 or max5")
        with torch.device("meta"):  # drawing 120 million weights twice would take seconds
            fc6 = PooledLinear(512, 4096, head_pool[:3], int(head_pool[3:]))
            fc7, drop = nn.Linear(4096, 4096), nn.Dropout(dropout)
        head = nn.Sequential(fc6, nn.ReLU(), drop, fc7, nn.ReLU(), drop)
        head.to_empty(device=torch.get_default_device())
        super().__init__(stages, head, nn.Linear(4096, num_classes))
        self.stages.apply(narrow_initialise)
        self.head.apply(narrow_initialise)
        if narrow_head:
            self.classifier.apply(narrow_initialise)


def vgg16_improved(num_classes: int = 10, in_channels: int = 3, **options: Any) -> VGG:
    """Builds VGG16 with batch norm, a 5x5 max pool and a narrow head (Skoularikis 2021)."""
    changes: dict[str, Any] = {"batch_norm": True, "head_pool": "max5", "narrow_head": True}
    return VGG(16, num_classes, in_channels, **changes | options)
