"""What the networks share: the skeleton of a classifier, a convolution with its companions,
pooling, initialisation.
"""

import re
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F


class Network(nn.Module):
    """A classifier of images: named stages of feature maps, a head that reduces the last map to a
    vector, a linear layer.

    Args:
        stages: name to module, in the order of the forward pass; each takes and gives maps (N, C,
            H, W).
        head: takes the last map and gives the representation (N, D).
        classifier: gives the logits (N, classes); its last module is the linear layer.
    """

    def __init__(
        self, stages: dict[str, nn.Module], head: nn.Module, classifier: nn.Module
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(stages))
        self.head = head
        self.classifier = classifier

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The output (N, C, H, W) of every stage, by name, for images (N, C, H, W)."""
        maps, x = {}, checked(images)
        for name, stage in self.stages.named_children():
            x = maps[name] = stage(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """The representation (N, D) before the classifier, for images (N, C, H, W)."""
        return self.head(self.stages(checked(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) for images (N, C, H, W)."""
        return self.classifier(self.features(images))

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Logits to train, each with its weight in the loss; the first are those of `forward`."""
        return [(1.0, self(images))]


# Functions under `fx.wrap` are single steps to torch.fx, and so to torchvision's feature
# extraction: what they do depends on sizes, which fx does not know.
@fx.wrap
def checked(images: Tensor) -> Tensor:
    """Returns the images.

    Raises:
        ValueError: they do not have the four axes (N, C, H, W).
    """
    if images.dim() != 4:
        axes = f"not {images.dim()} axes; images[None] makes a batch of one image (C, H, W)"
        raise ValueError(f"a network takes images (N, C, H, W), {axes}")
    return images


class Conv2d(nn.Conv2d):
    """PyTorch's convolution, which a processor computes as one matrix product where the map is
    tiny.

    The last maps of a network have 2x2 pixels and hundreds of channels. There the libraries'
    convolutions, above all the gradient of their weights, reach a fraction of the speed of a matrix
    product over the gathered windows; on larger maps gathering costs more than it gains, as it does
    for 1x1 windows in fp32. The values are the same up to rounding.
    """

    def forward(self, maps: Tensor) -> Tensor:
        stride, pad = self.stride[0], int(self.padding[0])  # both axes alike
        return convolve(maps, self.weight, self.bias, stride, pad, self.groups)


@fx.wrap
def convolve(
    maps: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int
) -> Tensor:
    """Returns the convolution of maps (N, C, H, W) with windows that are squares.

    Args:
        maps: (N, C, H, W).
        weight: (D, C / groups, kernel, kernel).
        bias: (D,).
        stride: distance between windows.
        pad: zeros around the map.
        groups: parts of the channels that do not see each other.
    """
    kernel = weight.shape[2]
    height = (maps.shape[2] + 2 * pad - kernel) // stride + 1
    width = (maps.shape[3] + 2 * pad - kernel) // stride + 1
    copies = kernel**2 * height * width  # numbers gathered from each channel of an image
    fp32_pixels = kernel == 1
    if not torch.jit.is_scripting():  # there one cannot ask for it
        fp32_pixels = fp32_pixels and not torch.is_autocast_enabled("cpu")
    if (
        maps.device.type != "cpu"
        or groups > 1
        or copies > 64
        or min(height, width) < 1
        or fp32_pixels
    ):
        return F.conv2d(maps, weight, bias, stride, pad, groups=groups)
    padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
    windows = []
    for i in range(kernel):
        for j in range(kernel):
            rows = padded[:, i : i + stride * height : stride]
            windows.append(rows[:, :, j : j + stride * width : stride])
    return F.linear(torch.cat(windows, -1), weight.permute(0, 2, 3, 1).flatten(1), bias).permute(
        0, 3, 1, 2
    )


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
    """Convolution, batch norm if asked for, ReLU.

    Args:
        inputs: channels of the maps (N, inputs, H, W) it takes.
        outputs: channels of the maps (N, outputs, H', W') it gives.
        kernel: side of the window.
        stride: distance between windows.
        padding: zeros around the map; by default as many as keep its size at stride 1.
        groups: parts of the channels that do not see each other.
        bias: of the convolution.
        batch_norm: normalise before the ReLU.
        eps: of the batch norm.
    """
    padding = kernel // 2 if padding is None else padding
    norm = [nn.BatchNorm2d(outputs, eps=eps)] if batch_norm else []
    convolution = Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


def stem_conv(kind: str, in_channels: int, stem_norm: bool, **norm: Any) -> nn.Sequential:
    """Build the first layers of ResNet18 and GoogLeNet, which give 64 maps of about half the side.

    Args:
        kind: "7x7", or "3x3" for the stack of three of the improved forms (Skoularikis 2021): the
            first with stride 2 and padding 3, the others without padding, so that 64x64 pixels
            become maps of 34, 32 and 30. Together they see 11x11 pixels. He et al. 2019 ("Bag of
            Tricks", ResNet-C) have 32, 32 and 64 channels and padding 1.
        in_channels: channels of the images.
        stem_norm: batch norm between the convolutions of the stack, too; behind the last one it is
            as with the 7x7.
        norm: keywords of `conv` that say how the network normalises.
    """
    if kind == "7x7":
        return conv(in_channels, 64, 7, stride=2, **norm)
    if kind != "3x3":
        raise ValueError(f"stem {kind!r}: use 7x7 or 3x3")
    inner = norm if stem_norm else {}
    return nn.Sequential(
        conv(in_channels, 64, 3, stride=2, padding=3, **inner),
        conv(64, 64, 3, padding=0, **inner),
        conv(64, 64, 3, padding=0, **norm),
    )


class LocalResponseNorm(nn.Module):
    """b = a / (2 + 1e-4 * sum of a squared over 5 neighbouring channels) ** 0.75 (Krizhevsky et al.
    2012, section 3.3).

    PyTorch's divides the 1e-4 by 5, and its backward pass has no deterministic CUDA form.
    """

    def forward(self, a: Tensor) -> Tensor:
        squares = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
        total = torch.stack([squares[:, i : i + a.shape[1]] for i in range(5)]).sum(0)
        return a / (2 + 1e-4 * total) ** 0.75


class AdaptivePool(nn.Module):
    """Mean or maximum over size x size windows that cover the map, whatever its side: (N, C, H, W)
    to (N, C, size, size).

    The values are those of PyTorch's adaptive pools; taken one axis at a time and by slices, the
    backward pass is deterministic on CUDA, where PyTorch's is not.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.kind, self.size = kind, size

    def forward(self, maps: Tensor) -> Tensor:
        return pool(maps, self.kind, self.size)


@fx.wrap
def pool(maps: Tensor, kind: str, size: int) -> Tensor:
    """Returns the `kind` ("avg" or "max") over size x size windows of maps (N, C, H, W)."""
    for axis in (2, 3):
        side = maps.shape[axis]
        if side != size:
            windows = []
            for start, end in window_edges(side, size):
                window = maps.narrow(axis, start, end - start)
                windows.append(window.mean(axis) if kind == "avg" else window.amax(axis))
            maps = torch.stack(windows, axis)
    return maps


def window_edges(side: int, size: int) -> list[tuple[int, int]]:
    """Returns where `size` windows that cover a `side` start and end.

    No number is negative: ONNX divides towards zero, Python towards minus infinity.
    """
    return [(i * side // size, ((i + 1) * side + size - 1) // size) for i in range(size)]


def named_pool(spec: str) -> AdaptivePool:
    """The pool that "avg7", "max5" and the like name: the kind, then the side of its output."""
    match = re.fullmatch(r"(avg|max)([1-9]\d?)", spec)
    if not match:
        raise ValueError(f"head_pool {spec!r}: use avg or max and a size, for example avg7")
    return AdaptivePool(match[1], int(match[2]))


def he_initialise(module: nn.Module) -> None:
    """Draw a layer's weights from a normal of variance 2 / fan-in, which keeps the variance of the
    signal through ReLU layers; biases are zero (He et al. 2015, eq. 10).
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def narrow_initialise(module: nn.Module) -> None:
    """Draw convolutions as He over the fan-out, linear layers from a normal of deviation 0.01;
    biases are zero.

    It is torchvision's initialisation of VGG, and that of the improved VGG16 and ResNet18 as
    published.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
