"""GoogLeNet, Inception v1 (Szegedy et al. 2015): modules that look at every map through windows of
several sizes at once.

Each module runs 1x1, 3x3 and 5x5 convolutions and a pool side by side and stacks their maps; cheap
1x1 convolutions first reduce the channels that the larger ones see. Two auxiliary classifiers
halfway bring gradient to the early layers.

Two forms: the one the field uses today (batch norm, and a 3x3 in the branch called 5x5), and the
network as published. At 64x64 the maps of the auxiliary heads are 4x4, so the heads' own pooling
has nothing to do.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import AdaptivePool, LocalResponseNorm, Network, conv, he_initialise, stem_conv

# Table 1: input, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
INCEPTION = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
# the stages that carry a head, with their channels
AUXILIARY = {"inception4a": 512, "inception4d": 528}
AUXILIARY_WEIGHT = 0.3


class Inception(nn.Module):
    """An Inception module (Figure 2b): (N, inputs, H, W) to (N, c1 + c3 + c5 + pool, H, W).

    Args:
        widths: a row of Table 1: input, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
        large: side of the larger window, 5 as published, 3 as the field has it.
        norm: keywords of `conv` that say whether to normalise.
    """

    def __init__(self, widths: tuple[int, ...], large: int, norm: dict[str, Any]) -> None:
        super().__init__()
        inputs, c1, c3_reduce, c3, c5_reduce, c5, pool = widths
        self.branches = nn.ModuleList(
            [
                conv(inputs, c1, 1, **norm),
                nn.Sequential(conv(inputs, c3_reduce, 1, **norm), conv(c3_reduce, c3, 3, **norm)),
                nn.Sequential(
                    conv(inputs, c5_reduce, 1, **norm), conv(c5_reduce, c5, large, **norm)
                ),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(inputs, pool, 1, **norm)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class AuxiliaryHead(nn.Module):
    """A small classifier on a map inside the network (section 5): (N, inputs, H, W) to logits (N,
    classes).
    """

    def __init__(
        self, inputs: int, num_classes: int, as_published: bool, norm: dict[str, Any]
    ) -> None:
        super().__init__()
        self.as_published = as_published
        self.to_4x4 = AdaptivePool("avg", 4)
        self.reduce = conv(inputs, 128, 1, **norm)
        self.hidden = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        # the published pool fits the published size; other maps go to 4x4
        if self.as_published and x.shape[-1] == 14:
            x = F.avg_pool2d(x, 5, 3)
        x = self.reduce(self.to_4x4(x)).flatten(1)
        return self.classifier(self.dropout(F.relu(self.hidden(x))))


class GoogLeNet(Network):
    """GoogLeNet, 22 layers with weights; without options torchvision's.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images, 1 or 3.
        as_published: true 5x5 windows, biases instead of batch norm, local response normalisation
            (with AlexNet's constants: the paper gives none), 3x3 pools throughout; He's
            initialisation, since the paper gives none and narrower ones leave 22 layers without
            batch norm at chance level.
        aux: build the two auxiliary heads; they count in the loss only, with weight 0.3.
        stem: "7x7", or "3x3" for the stack of three.
        stem_norm: batch norm between the convolutions of the stack.
        dropout: probability of zeroing a unit before the classifier; None for the form's own (0.4
            published, else 0.2).
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        as_published: bool = False,
        aux: bool = False,
        stem: str = "7x7",
        stem_norm: bool = True,
        dropout: float | None = None,
    ) -> None:
        norm: dict[str, Any] = (
            {} if as_published else {"bias": False, "batch_norm": True, "eps": 1e-3}
        )
        large = 5 if as_published else 3
        stages: dict[str, nn.Module] = {
            "conv1": stem_conv(
                stem,
                in_channels,
                stem_norm,
                **norm | ({"eps": 1e-5} if norm and stem == "3x3" else {}),
            ),
            "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        }
        if as_published:
            stages["norm1"] = LocalResponseNorm()
        stages["conv2"] = nn.Sequential(conv(64, 64, 1, **norm), conv(64, 192, 3, **norm))
        if as_published:
            stages["norm2"] = LocalResponseNorm()
        stages["pool2"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, widths in INCEPTION.items():
            stages[f"inception{name}"] = Inception(widths, large, norm)
            if name == "3b":
                stages["pool3"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            if name == "4e":
                stages["pool4"] = nn.MaxPool2d(3 if as_published else 2, 2, ceil_mode=True)
        dropout = (0.4 if as_published else 0.2) if dropout is None else dropout
        super().__init__(
            stages,
            head=nn.Sequential(AdaptivePool("avg", 1), nn.Flatten()),
            classifier=nn.Sequential(nn.Dropout(dropout), nn.Linear(1024, num_classes)),
        )
        heads = {
            name: AuxiliaryHead(width, num_classes, as_published, norm)
            for name, width in AUXILIARY.items()
            if aux
        }
        self.auxiliary = nn.ModuleDict(heads)
        if as_published:
            self.apply(he_initialise)
        # a new stem, and the layer of ten classes in place of a thousand, keep PyTorch's default
        # (Skoularikis 2021)
        else:
            parts = dict(self.stages.named_children()) | {"auxiliary": self.auxiliary}
            for part in (
                module for name, module in parts.items() if stem == "7x7" or name != "conv1"
            ):
                part.apply(_torchvision_initialise)

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """The classifier's logits with weight 1, then each auxiliary head's with 0.3 (section
        5).
        """
        maps = self.maps(images)
        logits = self.classifier(self.head(maps["inception5b"]))
        return [(1.0, logits)] + [
            (AUXILIARY_WEIGHT, head(maps[name])) for name, head in self.auxiliary.items()
        ]


def _torchvision_initialise(module: nn.Module) -> None:
    """Draw weights from a normal of deviation 0.01 (torchvision truncates it at 200 deviations,
    which has no effect).
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.01)


def googlenet_2014(
    num_classes: int = 10, in_channels: int = 3, *, aux: bool = True, **options: Any
) -> GoogLeNet:
    """Build the network as published, with its auxiliary heads. Options: `GoogLeNet`."""
    return GoogLeNet(num_classes, in_channels, as_published=True, aux=aux, **options)


def googlenet_improved(
    num_classes: int = 10, in_channels: int = 3, *, stem: str = "3x3", **options: Any
) -> GoogLeNet:
    """Build GoogLeNet with three 3x3 convolutions for the 7x7 (Skoularikis 2021). Options:
    `GoogLeNet`.
    """
    return GoogLeNet(num_classes, in_channels, stem=stem, **options)
