"""What the networks share: the base class, convolutions, pooling, initialisation."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F


class Network(nn.Module):
    """A classifier of images: stages of feature maps, a head, a linear layer.

    Args:
        stages: modules by name, in the order of the forward pass, from maps to maps (N, C, H, W).
        head: turns the last maps into the representation (N, D).
        classifier: turns that into logits (N, classes); its last module is the linear layer.
    """

    def __init__(
        self, stages: dict[str, nn.Module], head: nn.Module, classifier: nn.Module
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(stages))
        self.head = head
        self.classifier = classifier

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the output (N, C, H, W) of every stage, by name, for images (N, C, H, W)."""
        maps, x = {}, images
        for name, stage in self.stages.named_children():
            x = maps[name] = stage(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Returns the representation (N, D) of images (N, C, H, W), before the classifier."""
        return self.head(self.stages(images))

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (N, classes) for images (N, C, H, W)."""
        return self.classifier(self.features(images))

    def weighted_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Returns weights in the loss with logits to train; the first logits are `forward`'s."""
        return [(1.0, self(images))]


class Conv2d(nn.Conv2d):
    """PyTorch's convolution, but faster on a CPU where maps are tiny."""

    def forward(self, maps: Tensor) -> Tensor:
        stride, pad = self.stride[0], int(self.padding[0])  # both axes alike
        return convolve(maps, self.weight, self.bias, stride, pad, self.groups)


# What a function under `fx.wrap` does depends on sizes. torch.fx, and so torchvision's feature
# extraction, does not know these and takes the function as a single step.
@fx.wrap
def convolve(
    maps: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int
) -> Tensor:
    """Convolves maps (N, C, H, W) with weights (D, C / groups, kernel, kernel).

    The last maps of a network have 2x2 pixels and hundreds of channels. There a matrix product over
    the gathered windows is several times as fast on a CPU as PyTorch's convolution, above all for
    the gradient of the weights. On larger maps, and for 1x1 windows in fp32, gathering costs more
    than it gains. The values are the same up to rounding.
    """
    kernel = weight.shape[2]
    height = (maps.shape[2] + 2 * pad - kernel) // stride + 1
    width = (maps.shape[3] + 2 * pad - kernel) // stride + 1
    copies = kernel**2 * height * width  # numbers gathered from each channel of an image
    tiny = copies <= 64 and min(height, width) >= 1
    fp32_1x1 = kernel == 1
    if not torch.jit.is_scripting():  # TorchScript cannot ask for autocast
        fp32_1x1 = fp32_1x1 and not torch.is_autocast_enabled("cpu")
    if maps.device.type != "cpu" or groups > 1 or fp32_1x1 or not tiny:
        return F.conv2d(maps, weight, bias, stride, pad, groups=groups)
    padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
    windows = []
    for i in range(kernel):
        for j in range(kernel):
            rows = padded[:, i : i + stride * height : stride]
            windows.append(rows[:, :, j : j + stride * width : stride])
    product = F.linear(torch.cat(windows, -1), weight.permute(0, 2, 3, 1).flatten(1), bias)
    return product.permute(0, 3, 1, 2)


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
    """Builds a convolution, batch norm if asked for, and ReLU.

    The default padding keeps the size of the maps at stride 1.
    """
    padding = kernel // 2 if padding is None else padding
    norm = [nn.BatchNorm2d(outputs, eps=eps)] if batch_norm else []
    convolution = Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


def stem_conv(
    kind: str, in_channels: int, *, norm_between: bool = True, **norm: Any
) -> nn.Sequential:
    """Builds the first layers of ResNet18 and GoogLeNet: 64 maps of about half the side.

    The stack of three 3x3 convolutions is that of the improved networks (Skoularikis 2021). The
    first has stride 2 and padding 3, the others no padding: 64x64 pixels become 34, 32, then 30.
    ResNet-C (He et al. 2019, "Bag of Tricks") has 32, 32 and 64 channels and padding 1.

    Args:
        kind: "7x7", or "3x3" for the stack.
        in_channels: of the images.
        norm_between: normalise after each convolution of the stack, else after the last alone.
        norm: keywords of `conv` that say how the network normalises.
    """
    if kind == "7x7":
        return conv(in_channels, 64, 7, stride=2, **norm)
    if kind != "3x3":
        raise ValueError(f"stem {kind!r}: use 7x7 or 3x3")
    inner = norm if norm_between else {}
    return nn.Sequential(
        conv(in_channels, 64, 3, stride=2, padding=3, **inner),
        conv(64, 64, 3, padding=0, **inner),
        conv(64, 64, 3, padding=0, **norm),
    )


class LocalResponseNorm(nn.Module):
    """Divides by the activity of five neighbouring channels (Krizhevsky et al. 2012, section 3.3).

    PyTorch's divides the 1e-4 by 5, and its backward pass has no deterministic CUDA form.
    """

    def forward(self, a: Tensor) -> Tensor:
        squares = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
        total = torch.stack([squares[:, i : i + a.shape[1]] for i in range(5)]).sum(0)
        return a / (2 + 1e-4 * total) ** 0.75


class AdaptivePool(nn.Module):
    """Pools maps (N, C, H, W) to (N, C, size, size) by mean or maximum, whatever their side.

    The values are those of PyTorch's adaptive pools. Taken one axis at a time and by slices, the
    backward pass is deterministic on CUDA, where PyTorch's is not.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.kind, self.size = kind, size

    def forward(self, maps: Tensor) -> Tensor:
        return pool(maps, self.kind, self.size)


@fx.wrap
def pool(maps: Tensor, kind: str, size: int) -> Tensor:
    """Pools maps (N, C, H, W) to (N, C, size, size); `kind` is "avg" or "max"."""
    for axis in (2, 3):
        side = maps.shape[axis]
        if side != size:
            windows = []
            for i in range(size):
                # Only positive numbers are divided: ONNX rounds towards zero, Python down
                start, end = i * side // size, ((i + 1) * side + size - 1) // size
                window = maps.narrow(axis, start, end - start)
                windows.append(window.mean(axis) if kind == "avg" else window.amax(axis))
            maps = torch.stack(windows, axis)
    return maps


class PooledLinear(nn.Linear):
    """Pools maps (N, C, H, W) to (N, C, size, size) by `kind`, then applies a linear layer."""

    def __init__(self, channels: int, outputs: int, kind: str, size: int) -> None:
        super().__init__(channels * size**2, outputs)
        self.kind, self.size = kind, size

    def forward(self, maps: Tensor) -> Tensor:
        sum_first = self.training and self.kind == "avg"
        return linear_of_pooled(maps, self.weight, self.bias, self.kind, self.size, sum_first)


@fx.wrap
def linear_of_pooled(
    maps: Tensor, weight: Tensor, bias: Tensor, kind: str, size: int, sum_first: bool
) -> Tensor:
    """Applies a linear layer to maps (N, C, H, W) pooled to (N, C, size, size).

    A mean is a product with a matrix. Where a pool by mean makes more values than there are pixels,
    49 of 4 for images of 64x64, `sum_first` multiplies the weights by it instead: on a CPU training
    that layer takes a third of the time. The values are the same up to rounding.
    """
    height, width = maps.shape[2], maps.shape[3]
    pixels = height * width
    if not sum_first or maps.device.type != "cpu" or pixels >= size * size:
        return F.linear(pool(maps, kind, size).flatten(1), weight, bias)
    each = torch.eye(pixels, dtype=weight.dtype, device=weight.device)
    means = pool(each.view(pixels, 1, height, width), kind, size).flatten(1)
    summed = weight.view(-1, size * size) @ means.T
    return F.linear(maps.flatten(1), summed.view(len(weight), -1), bias)


def he_initialise(module: nn.Module) -> None:
    """Draws weights from a normal of variance 2 / fan-in; biases are zero (He et al. 2015, eq. 10).

    That keeps the variance of the signal through ReLU layers.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def narrow_initialise(module: nn.Module) -> None:
    """Draws convolutions as He et al. do, but by fan-out, and linear layers with deviation 0.01.

    Biases are zero. Torchvision's VGG and the published improved VGG16 and ResNet18 do the same.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
