"""ResNet (He, Zhang, Ren and Sun 2016): blocks that add what they compute to their input.

A block learns the difference from the identity, so more blocks need not make the network harder to
fit, and gradients reach the first layers through the additions.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .layers import AdaptivePool, Conv2d, Network, conv, narrow_initialise, stem_conv

# Builds what stands beside a block that changes the shape: from inputs, outputs and stride
Shortcut = Callable[[int, int, int], nn.Module]


class PaddedShortcut(nn.Module):
    """Takes every stride-th row and column, adds channels of zeros: option A (section 4.2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.missing, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


def projection_shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Builds a 1x1 convolution with batch norm: option B (section 3.3)."""
    return nn.Sequential(Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Turns maps (N, inputs, H, W) into (N, outputs, H/stride, W/stride), as in Figure 2.

    Where the shape changes, `shortcut` builds the shortcut; elsewhere it is the identity. A plain
    block has none.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut | None) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv(inputs, outputs, 3, stride=stride, bias=False, batch_norm=True),
            Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module | None = None
        if shortcut is not None:
            same = inputs == outputs and stride == 1
            self.shortcut = nn.Identity() if same else shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.residual(x)
        return F.relu(y if self.shortcut is None else self.shortcut(x) + y)


class ResNet(Network):
    """ResNet of basic blocks: a stem, stages of blocks, the mean of the last maps, a linear layer.

    Args:
        blocks: number of blocks of each stage.
        widths: channels of each stage; every stage but the first halves the maps.
        stem: the layers before the stages, by name.
        shortcut: `PaddedShortcut` (option A) or `projection_shortcut` (option B).
        num_classes: number of logits.
        shortcuts: False for the paper's plain networks (Table 2; Figure 6, left).
        dropout: probability before the classifier.
        narrow_head: draw the linear layer as `narrow_initialise` does, else as PyTorch does.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        stem: dict[str, nn.Module],
        shortcut: Shortcut,
        num_classes: int,
        *,
        shortcuts: bool = True,
        dropout: float = 0.0,
        narrow_head: bool = False,
    ) -> None:
        around = shortcut if shortcuts else None
        stages = dict(stem)
        channels = widths[0]
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), start=2):
            first = BasicBlock(channels, width, 1 if number == 2 else 2, around)
            others = (BasicBlock(width, width, 1, around) for _ in range(count - 1))
            stages[f"conv{number}_x"] = nn.Sequential(first, *others)
            channels = width
        super().__init__(
            stages,
            head=nn.Sequential(AdaptivePool("avg", 1), nn.Flatten()),
            classifier=nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes)),
        )
        (self if narrow_head else self.stages).apply(narrow_initialise)


def cifar_resnet(depth: int, num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResNet:
    """Builds the CIFAR form of 6n+2 layers (section 4.2): three stages of n blocks, option A.

    The options are those of `ResNet`.
    """
    n = (depth - 2) // 6
    stem: dict[str, nn.Module] = {"conv1": conv(in_channels, 16, 3, bias=False, batch_norm=True)}
    return ResNet((n, n, n), (16, 32, 64), stem, PaddedShortcut, num_classes, **options)


def imagenet_resnet(
    blocks: tuple[int, ...],
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    stem: str = "7x7",
    stem_norm: bool = True,
    **options: Any,
) -> ResNet:
    """Builds the ImageNet form of basic blocks (Table 1), option B.

    18 layers have (2, 2, 2, 2) blocks, 34 layers (3, 4, 6, 3). Of the `stem`, and `stem_norm`
    between its convolutions, see `stem_conv`; the other options are those of `ResNet`.
    """
    first = stem_conv(stem, in_channels, norm_between=stem_norm, bias=False, batch_norm=True)
    layers = {"conv1": first, "pool1": nn.MaxPool2d(3, 2, padding=1)}
    return ResNet(blocks, (64, 128, 256, 512), layers, projection_shortcut, num_classes, **options)
