"""What the networks share: the skeleton of a classifier, a convolution with its companions, pooling, initialisation."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Network(nn.Module):
    """A classifier of images: named stages of feature maps, a head that makes one vector of the last map, a linear layer.

    Args:
        stages: name to module, in the order of the forward pass; each takes and gives maps (N, C, H, W).
        head: takes the last map and gives the representation (N, D).
        classifier: gives the logits (N, classes); its last module is the linear layer.
    """

    def __init__(self, stages: dict[str, nn.Module], head: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(stages))
        self.head = head
        self.classifier = classifier

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The output (N, C, H, W) of every stage, by name, for images (N, C, H, W)."""
        maps, x = {}, images
        for name, stage in self.stages.named_children():
            x = maps[name] = stage(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """The representation (N, D) before the classifier, for images (N, C, H, W)."""
        return self.head(self.stages(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) for images (N, C, H, W)."""
        return self.classifier(self.features(images))

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Logits to train, each with its weight in the loss; the first are those of `forward`."""
        return [(1.0, self(images))]


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = True,
    batch_norm: bool = False,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution, batch norm if asked for, ReLU: (N, inputs, H, W) to (N, outputs, H', W'); `padding` keeps H by default."""
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outputs, eps=eps))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def stem_3x3(in_channels: int, batch_norm: bool = True, eps: float = 1e-5) -> nn.Sequential:
    """Three 3x3 convolutions, 64 wide, the first with stride 2, in place of a 7x7 with stride 2.

    They see as much of the image (7x7 at the first one's stride) through two more non-linearities (He et al. 2019, "Bag of
    Tricks", ResNet-C). Without `batch_norm` only the last is normalised, as the 7x7 it replaces.
    """
    last: dict[str, Any] = {"bias": False, "batch_norm": True, "eps": eps}
    inner: dict[str, Any] = last if batch_norm else {}
    return nn.Sequential(conv(in_channels, 64, 3, stride=2, **inner), conv(64, 64, 3, **inner), conv(64, 64, 3, **last))


class LocalResponseNorm(nn.Module):
    """b = a / (k + alpha * sum of a squared over n neighbouring channels) ** beta (Krizhevsky et al. 2012, section 3.3).

    alpha is not divided by n, as it is in PyTorch's own, whose backward pass has no deterministic CUDA form either.
    """

    def __init__(self, n: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.n, self.alpha, self.beta, self.k = n, alpha, beta, k

    def forward(self, a: Tensor) -> Tensor:
        channels = a.shape[1]
        squares = F.pad(a.square(), (0, 0, 0, 0, self.n // 2, (self.n - 1) // 2))
        total = torch.stack([squares[:, i : i + channels] for i in range(self.n)]).sum(0)
        return a / (self.k + self.alpha * total) ** self.beta


class AdaptivePool(nn.Module):
    """Mean or maximum over size x size windows that cover the map, whatever its side: (N, C, H, W) to (N, C, size, size).

    The values are those of PyTorch's adaptive pools; taken one axis at a time and by slices, the backward pass is
    deterministic on CUDA, where PyTorch's is not.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        if kind not in ("avg", "max"):
            raise ValueError(f"pool {kind!r}: use avg or max")
        self.size = size
        self.reduce: Callable[..., Tensor] = torch.mean if kind == "avg" else torch.amax

    def forward(self, maps: Tensor) -> Tensor:
        for axis in (2, 3):
            side = maps.shape[axis]
            if side != self.size:
                edges = [(i * side // self.size, -(-(i + 1) * side // self.size)) for i in range(self.size)]
                windows = [self.reduce(maps.narrow(axis, a, b - a), dim=axis) for a, b in edges]
                maps = torch.stack(windows, dim=axis)
        return maps


def named_pool(spec: str) -> AdaptivePool:
    """The pool that "avg7", "max5" and the like name: the kind, then the side of its output."""
    if not spec[3:].isdigit():
        raise ValueError(f"head_pool {spec!r}: use avg or max and a size, for example avg7")
    return AdaptivePool(spec[:3], int(spec[3:]))


def initialise(network: nn.Module, init: str, field: Callable[[nn.Module], None] | None = None) -> None:
    """Draw every convolution's and linear layer's weights anew, from torch's generator.

    Args:
        network: any.
        init: "he": normal with variance 2 / fan-in, which keeps the variance of the signal through ReLU layers (He et al.
            2015, eq. 10), biases normal with deviation 0.01. "field": what the implementations in common use do.
        field: does so to one module; None keeps PyTorch's defaults.
    """
    if init not in ("he", "field"):
        raise ValueError(f"init {init!r}: use he or field")
    for module in network.modules():
        if init == "field" and field is not None:
            field(module)
        elif init == "he" and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.01)
