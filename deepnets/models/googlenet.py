"""GoogLeNet, Inception v1 (Szegedy et al. 2015): modules with windows of several sizes at once.

Each module runs 1x1, 3x3 and 5x5 convolutions and a pool side by side and stacks their maps. Cheap
1x1 convolutions first reduce the channels that the larger ones see. Two auxiliary classifiers
halfway bring gradient to the early layers.

There are two forms: torchvision's, with batch norm and a 3x3 in the branch called 5x5, and the
published network.
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
# The stages with an auxiliary head, and their channels
AUXILIARY = {"inception4a": 512, "inception4d": 528}
AUXILIARY_WEIGHT = 0.3


class Inception(nn.Module):
    """Turns maps (N, inputs, H, W) into (N, c1 + c3 + c5 + pool, H, W), as in Figure 2b.

    The `large` window is 5x5 as published, 3x3 in torchvision. `norm` are the keywords of `conv`
    that say whether to normalise.
    """

    def __init__(self, widths: tuple[int, ...], large: int, norm: dict[str, Any]) -> None:
        super().__init__()
        inputs, c1, c3_reduce, c3, c5_reduce, c5, pool = widths
        one = conv(inputs, c1, 1, **norm)
        three = conv(inputs, c3_reduce, 1, **norm), conv(c3_reduce, c3, 3, **norm)
        five = conv(inputs, c5_reduce, 1, **norm), conv(c5_reduce, c5, large, **norm)
        pooled = nn.MaxPool2d(3, 1, padding=1), conv(inputs, pool, 1, **norm)
        stacks = [nn.Sequential(*layers) for layers in (three, five, pooled)]
        self.branches = nn.ModuleList([one, *stacks])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class AuxiliaryHead(nn.Module):
    """Classifies a map inside the network (section 5): (N, inputs, H, W) to (N, classes)."""

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
        # The published pool makes 4x4 of the maps of the published image size alone.
        if self.as_published and x.shape[-1] == 14:
            x = F.avg_pool2d(x, 5, 3)
        x = self.reduce(self.to_4x4(x)).flatten(1)
        return self.classifier(self.dropout(F.relu(self.hidden(x))))


class GoogLeNet(Network):
    """GoogLeNet, 22 layers with weights: torchvision's, unless options say otherwise.

    As published it has true 5x5 windows, biases instead of batch norm, local response normalisation
    and 3x3 pools throughout. Where the paper gives no constants, those of the normalisation are
    AlexNet's, and the weights are He's: with narrower ones 22 layers without batch norm stay at
    chance level. The two auxiliary heads, `aux`, count in the loss only. Of the stem see
    `stem_conv`. Dropout is 0.4 as published, else 0.2.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        as_published: bool = False,
        aux: bool = False,
        stem: str = "7x7",
    ) -> None:
        norm: dict[str, Any] = {"bias": False, "batch_norm": True, "eps": 1e-3}
        large, last_pool, dropout = 3, 2, 0.2
        if as_published:
            norm, large, last_pool, dropout = {}, 5, 3, 0.4
        first = norm | {"eps": 1e-5} if stem == "3x3" else norm
        stages: dict[str, nn.Module] = {"conv1": stem_conv(stem, in_channels, **first)}
        stages["pool1"] = nn.MaxPool2d(3, 2, ceil_mode=True)
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
                stages["pool4"] = nn.MaxPool2d(last_pool, 2, ceil_mode=True)
        super().__init__(
            stages,
            head=nn.Sequential(AdaptivePool("avg", 1), nn.Flatten()),
            classifier=nn.Sequential(nn.Dropout(dropout), nn.Linear(1024, num_classes)),
        )
        self.auxiliary = nn.ModuleDict()
        for name, width in AUXILIARY.items() if aux else ():
            self.auxiliary[name] = AuxiliaryHead(width, num_classes, as_published, norm)
        if as_published:
            self.apply(he_initialise)
            return
        # The classifier and a stem of 3x3 keep PyTorch's default, as in Skoularikis 2021, where
        # they replaced layers of torchvision's network.
        for name, part in (*self.stages.named_children(), ("auxiliary", self.auxiliary)):
            if stem == "7x7" or name != "conv1":
                part.apply(_torchvision_initialise)

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Returns the classifier's logits and those of the auxiliary heads (section 5)."""
        maps = self.maps(images)
        logits = self.classifier(self.head(maps["inception5b"]))
        heads = self.auxiliary.items()
        return [(1.0, logits)] + [(AUXILIARY_WEIGHT, head(maps[name])) for name, head in heads]


def _torchvision_initialise(module: nn.Module) -> None:
    """Draws weights from a normal of deviation 0.01.

    Torchvision truncates it at 200 deviations, which has no effect.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
